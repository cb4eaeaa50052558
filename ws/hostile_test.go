package ws_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestHostileClients tries everything that a client can make a server keep (see "Memory per client" in the package
// documentation), for 3 seconds or the time in CROSSCAST_HOSTILE. The heap stays bounded meanwhile, and has its old
// size when the clients have left.
func TestHostileClients(t *testing.T) {
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv("CROSSCAST_HOSTILE"), "3s"))
	if err != nil {
		t.Fatal(err)
	}
	n := wstest.StartNode(t, crosscast.Options{MaxRooms: 100, Linger: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	o := ws.Options{
		ReadLimit: 64 << 10, EventBytes: 16 << 10, LeaveTimeout: time.Second, WriteTimeout: time.Second, PingInterval: time.Second,
		Queue: crosscast.QueueOptions{Limit: 32 << 10}, AllowJoin: allowAll,
		Events: ws.Events{
			"slow": func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				return nil
			},
			"join": ws.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error { return s.Join(ctx, room) }),
			"echo": ws.Answered(func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) (any, error) { return data, nil }),
			"ask": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
				ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				for range s.Namespace().ToSocket(s.ID()).EmitAck(ctx, "ask", nil).All() {
				}
				return nil
			},
		},
	}
	servers := map[string]*ws.Server{"/": newServer(t, n, o)}
	o.EventRate, o.EventBurst = 20, 2 // so few that they also come on a busy machine
	for path, policy := range map[string]ws.EventPolicy{"/pause": ws.EventPause, "/refuse": ws.EventRefuse, "/close": ws.EventClose} {
		o.EventPolicy = policy
		servers[path] = newServer(t, n, o)
	}
	servers["/crowd"] = newServer(t, n, ws.Options{MaxClients: 2, MaxUserClients: 1, HandshakeRate: 50})
	s := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client := ws.Client{}
		switch r.URL.Path {
		case "/pause":
			if servers["/pause"].Stats().Paused > 0 { // on a busy machine the first ones might expire before their first pause
				client.Expires = time.Now().Add(500 * time.Millisecond)
			}
		case "/crowd":
			client.User = "ann"
		}
		_, _ = servers[r.URL.Path].Accept(w, r, client)
	}))
	address := strings.TrimPrefix(s.URL, "http://")
	large := strings.Repeat("1", 60<<10)
	attacks := map[string]func(i int) string{ // messages to send again and again, without reading
		"slow handler": func(int) string { return wstest.Masked(`{"event":"slow","data":"` + large[:1000] + `"}`) },
		"rooms":        func(i int) string { return wstest.Masked(fmt.Sprintf(`{"event":"join","data":"%p %d"}`, t, i)) },
		"joins":        func(i int) string { return wstest.Masked(fmt.Sprintf(`{"join":"%p %d","id":1}`, t, i)) },
		"come and go": func(i int) string {
			return wstest.Masked(fmt.Sprintf(`{"join":"%d"}`, i)) + wstest.Masked(fmt.Sprintf(`{"leave":"%d"}`, i))
		},
		"replies":     func(int) string { return wstest.Masked(`{"event":"echo","id":1,"data":"` + large + `"}`) },
		"error texts": func(int) string { return wstest.Masked(`{"event":"x","id":` + large + `}`) },
		"unknown":     func(i int) string { return wstest.Masked(fmt.Sprintf(`{"event":"%d"}`, i)) },
		"acks":        func(i int) string { return wstest.Masked(fmt.Sprintf(`{"id":%d,"data":"`+large+`"}`, i+1)) },
		"questions":   func(int) string { return wstest.Masked(`{"event":"ask"}`) },
		"pings":       func(int) string { return "\x89\xfd\x00\x00\x00\x00" + large[:125] },
		"too large":   func(int) string { return "\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00" + large },
		"fragments":   func(int) string { return "\x00\x80\x00\x00\x00\x00" },
		"half":        func(int) string { return "\x81\xfe\xff\x00\x00\x00\x00\x00" + large[:1000] },
		"headers":     nil, // only those
		"msgpack": func(int) string {
			return packedFrame("\x82\xa5event\xa4echo\xa4data\xdc\xea\x60" + strings.Repeat("\xc0", 60000))
		},
		"promises": func(int) string {
			return packedFrame("\x82\xa5event\xa4echo\xa4data" + strings.Repeat("\xdd\xff\xff\xff\xff", 10000))
		},
		"depth":   func(int) string { return packedFrame("\x82\xa5event\xa4echo\xa4data" + strings.Repeat("\x91", 60000)) },
		"/pause":  func(int) string { return wstest.Masked(`{"event":"echo","id":1,"data":"` + large[:1000] + `"}`) },
		"/refuse": func(int) string { return wstest.Masked(`{"event":"echo","id":1,"data":"` + large[:1000] + `"}`) },
		"/close":  func(int) string { return wstest.Masked(`{"event":"echo","id":1}`) },
		"/crowd":  func(int) string { return wstest.Masked(`{"event":"x"}`) },
	}
	formOf := map[string][]string{"msgpack": {pack}, "promises": {pack}, "depth": {pack}}
	counted := func(name string) bool {
		switch name {
		case "/pause":
			return servers[name].Stats().Paused > 0 && n.Stats().Disconnects[crosscast.ReasonExpired] > 0
		case "/refuse", "/close":
			return servers[name].Stats().Refused["events"] > 0
		case "/crowd":
			return servers[name].Stats().Refused["user clients"] > 0
		}
		return true
	}
	before := memtest.Heap()
	until := time.Now().Add(lasts)
	var wg sync.WaitGroup
	for name, attack := range attacks {
		for range 3 {
			wg.Go(func() {
				var failed error
				connected := name == "/crowd" // or refused
				for time.Now().Before(until) || !(connected && counted(name)) && time.Since(until) < wstest.Patience {
					header := http.Header{}
					if attack == nil {
						header.Set("X-Large", strings.Repeat("x", 900<<10))
					}
					var raw net.Conn
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
						raw, err = new(net.Dialer).DialContext(ctx, "tcp", address)
						return raw, err
					}}
					url := s.URL
					if servers[name] != nil {
						url += name
					}
					c, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{
						Subprotocols: formOf[name], HTTPHeader: header, HTTPClient: &http.Client{Transport: transport},
					})
					cancel()
					if name == "/crowd" && resp != nil && resp.Header.Get("Retry-After") != "" {
						transport.CloseIdleConnections()
						continue
					}
					if resp != nil && err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					if err != nil { // on a busy machine the answer might take longer than a WriteTimeout
						failed = err
						transport.CloseIdleConnections()
						continue
					}
					connected = true
					_ = raw.SetWriteDeadline(time.Now().Add(time.Second))
					for i := 0; attack != nil && i < 5000 && err == nil; i++ {
						_, err = io.WriteString(raw, attack(i))
					}
					_ = c.CloseNow()
				}
				if !connected {
					t.Errorf("%s never connected: %v", name, failed)
				}
			})
		}
	}
	most := 0
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	for attacking := true; attacking; {
		select {
		case <-ended:
			attacking = false
		case <-time.After(200 * time.Millisecond):
			most = max(most, memtest.Heap()-before)
		}
	}
	for deadline := time.Now().Add(lasts + time.Minute); n.Stats().Sockets > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets are still there", n.Stats().Sockets)
		}
		time.Sleep(10 * time.Millisecond) // poll
	}
	for path, s := range servers {
		if !counted(path) {
			t.Errorf("%s: the flood was not counted", path)
		}
		t.Logf("%s: %+v", path, s.Stats())
	}
	kept := 0
	for range 100 { // of sockets, handlers and timers that are about to end
		if kept = memtest.Heap() - before; kept < 1<<20 {
			break
		}
		time.Sleep(100 * time.Millisecond) // poll
	}
	t.Logf("at most %d KiB, and %d KiB afterwards", most>>10, kept>>10)
	if most > 256<<20 || kept > 1<<20 {
		t.Errorf("the heap grew by %d bytes, and kept %d", most, kept)
	}
}

// packedFrame is a client's frame with a binary message.
func packedFrame(message string) string { return "\x82" + wstest.Masked(message)[1:] }
