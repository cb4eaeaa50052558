package ws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// flood sends count messages in memory, as fast as the server reads, while it reads everything. It returns when all are
// sent, or the connection has ended.
func flood(conn net.Conn, count int, message func(i int) string) (sent *atomic.Int32) {
	sent = new(atomic.Int32)
	go io.Copy(io.Discard, conn)
	go func() {
		for i := range count {
			if _, err := io.WriteString(conn, wstest.Masked(message(i))); err != nil {
				return
			}
			sent.Add(1)
		}
	}()
	return sent
}

// TestEventPause: a client's events are handled at the rate, in order, and none is lost. Reading goes on until
// EventBytes wait.
func TestEventPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		began := time.Now()
		var got []int
		var at []time.Duration
		s := newServer(t, n, ws.Options{
			EventRate: 10, EventBurst: 5, EventBytes: 20 * (256 + len("n") + len("000")), OnDisconnect: gone,
			Events: ws.Events{"n": ws.Typed(func(_ context.Context, _ *crosscast.Socket, i int) error {
				got, at = append(got, i-100), append(at, time.Since(began))
				return nil
			})},
		})
		_, conn := dialInMemory(t, s)
		sent := flood(conn, 200, func(i int) string { return fmt.Sprintf(`{"event":"n","data":%d}`, i+100) })
		synctest.Wait()
		if got := sent.Load(); got < 25 || got > 26+4096/30 {
			t.Errorf("%d events were read at once", got)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for i := range 200 {
			if i >= len(got) || got[i] != i || at[i] != max(0, time.Duration(i-4)*100*time.Millisecond) {
				t.Fatalf("handled %v at %v", got, at)
			}
		}
		if len(ended) > 0 {
			t.Errorf("closed: %v", <-ended)
		}
		if st := s.Stats(); st.Paused != 195 || len(st.Refused) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestEventRefuse: each event above the rate is answered with an error in its place, also a malformed one and a join.
// Replies do not count.
func TestEventRefuse(t *testing.T) {
	var log strings.Builder
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s := newServer(t, n, ws.Options{
			EventRate: 1, EventBurst: 2, EventPolicy: ws.EventRefuse,
			Events: ws.Events{"echo": ws.Answered(func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) (any, error) {
				return data, nil
			})},
		})
		c, _ := dialInMemory(t, s)
		write := func(m string) { c.Write(websocket.MessageText, []byte(m)) }
		for range 10 {
			write(`{"id":7}`) // nobody waits for these replies
		}
		write(`{"event":"echo","id":1,"data":1}`)
		write(`{"event":"echo","id":2,"data":2}`)
		write(`{"event":"echo","id":3,"data":3}`)
		write(`{"event":"echo","data":4}`)
		write(`{`)
		write(`{"join":"room1","id":6}`)
		c.Expect(`{"id":1,"data":1}`, `{"id":2,"data":2}`, `{"id":3,"error":"too many events"}`, errorEvent("too many events"),
			errorEvent("too many events"), `{"id":6,"error":"too many events","retry":true}`)
		time.Sleep(time.Second)
		write(`{"event":"echo","id":7,"data":7}`)
		write(`{"event":"echo","id":8,"data":8}`)
		c.Expect(`{"id":7,"data":7}`, `{"id":8,"error":"too many events"}`)
		if st := s.Stats(); st.Refused["events"] != 5 || st.Paused != 0 {
			t.Errorf("%+v", st)
		}
	})
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "larger Options.EventRate") {
		t.Errorf("logged %s", got)
	}
}

// TestEventClose: one event above the rate closes the connection.
func TestEventClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
		gone, ended := wstest.Disconnects()
		s := newServer(t, n, ws.Options{EventRate: 1, EventBurst: 2, EventPolicy: ws.EventClose, OnDisconnect: gone})
		c, _ := dialInMemory(t, s)
		for range 3 {
			c.send("x", nil)
		}
		c.ExpectClose(websocket.StatusPolicyViolation, "too many events")
		if e := <-ended; e.Reason != crosscast.ReasonFlood {
			t.Errorf("%+v", e)
		}
		if st := s.Stats(); st.Refused["events"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestLeaveAndCloseDuringPause: a paused client that leaves is gone after LeaveTimeout, and one that the server closes is
// gone at once.
func TestLeaveAndCloseDuringPause(t *testing.T) {
	for _, leaves := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
			gone, ended := wstest.Disconnects()
			handled := 0
			c, conn := dialInMemory(t, newServer(t, n, ws.Options{
				EventRate: 1, EventBurst: 1, LeaveTimeout: 5 * time.Second, OnDisconnect: gone,
				Events: ws.Events{"n": ws.Typed(func(context.Context, *crosscast.Socket, int) error { handled++; return nil })},
			}))
			for range 100 {
				c.send("n", nil)
			}
			synctest.Wait()
			want, after := crosscast.ReasonLeft, 5*time.Second
			if leaves {
				conn.Close()
			} else {
				want, after = crosscast.ReasonShutdown, 0
				go n.Close(context.Background())
				c.ExpectClose(websocket.StatusGoingAway, "server shutting down")
			}
			if e := <-ended; e.Reason != want || e.After != after {
				t.Errorf("%+v", e)
			}
			if most := 1 + int(after/time.Second); handled > most || handled < most-1 {
				t.Errorf("%d were handled", handled)
			}
		})
	}
}

// status returns the answer to a request for a websocket.
func status(t *testing.T, h http.Handler) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = wstest.Upgrade()
	h.ServeHTTP(w, r)
	return w.Result()
}

func expectRefused(t *testing.T, h http.Handler, code int) {
	t.Helper()
	if got := status(t, h); got.StatusCode != code || got.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q; want %d", got.Status, got.Header.Get("Retry-After"), code)
	}
}

// TestMaxClients: whatever ends a connection or a handshake gives its place back, once.
func TestMaxClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
		s := newServer(t, n, ws.Options{MaxClients: 2, Events: echo})
		h := accept(s, ws.Client{User: "ann"})
		for name, end := range map[string]func(c *client, conn net.Conn){
			"leaves":           func(c *client, _ net.Conn) { c.Conn.Close(websocket.StatusNormalClosure, "") },
			"breaks":           func(_ *client, conn net.Conn) { conn.Close() },
			"closed":           func(*client, net.Conn) { n.ToUser("ann").Disconnect(t.Context(), "enough") },
			"breaks the rules": func(_ *client, conn net.Conn) { io.WriteString(conn, "\xff\x80\x00\x00\x00\x00") },
			"too large": func(_ *client, conn net.Conn) {
				io.WriteString(conn, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00")
			},
			"takes no part": func(*client, net.Conn) { n.ToUser("ann").Disconnect(t.Context(), "enough") },
		} {
			_, conn := dialInMemory(t, h)
			if got := s.Stats().Connections; got != 1 {
				t.Fatalf("%s: %d connections", name, got)
			}
			second, other := dialInMemory(t, h)
			expectRefused(t, h, http.StatusServiceUnavailable)
			end(second, other)
			if name == "closed" {
				go io.Copy(io.Discard, other)
			}
			conn.Close()
			other.SetDeadline(time.Now().Add(time.Minute))
			time.Sleep(10 * time.Second)
			other.Close()
			synctest.Wait()
			if got := s.Stats().Connections; got != 0 {
				t.Fatalf("%s: %d connections are left", name, got)
			}
		}
		for range 10 { // no handshake
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != http.StatusUpgradeRequired {
				t.Errorf("status %d", w.Code)
			}
		}
		for range 10 { // Connect refuses, and the marshalling of Data panics
			c, _ := dialInMemory(t, accept(s, ws.Client{Data: make(chan int)}))
			c.ExpectClose(websocket.StatusInternalError, "internal error")
			c, _ = dialInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { _ = recover() }()
				s.Accept(w, r, ws.Client{Data: marshaler(func() { panic("data") })})
			}))
			c.ExpectClose(websocket.StatusInternalError, "internal error")
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if st := s.Stats(); st.Connections != 0 || st.Refused["clients"] != 6 || st.Refused["websocket"] != 10 || st.Refused["connect"] != 10 {
			t.Errorf("%+v", st)
		}
	})
}

// TestMaxClientsIsExact: requests that come at once over the network do not exceed the limit, and all places come back.
func TestMaxClientsIsExact(t *testing.T) {
	const most = 5
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
	var open, highest atomic.Int64
	type connOf struct{}
	s := newServer(t, n, ws.Options{
		MaxClients: most,
		OnConnect: func(ctx context.Context, _ *crosscast.Socket) {
			if !ctx.Value(connOf{}).(*placedConn).state.CompareAndSwap(connNew, connPlaced) {
				return
			}
			now := open.Add(1)
			for h := highest.Load(); now > h && !highest.CompareAndSwap(h, now); h = highest.Load() {
			}
		},
	})
	server := httptest.NewUnstartedServer(s)
	server.Listener = placingListener{server.Listener, &open}
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connOf{}, c)
	}
	server.Start()
	t.Cleanup(server.Close)
	var accepted, refused atomic.Int64
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			for range 5 {
				c, resp, err := websocket.Dial(t.Context(), server.URL, nil)
				if err != nil {
					if resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
						t.Error(err)
					}
					refused.Add(1)
					continue
				}
				accepted.Add(1)
				c.Close(websocket.StatusNormalClosure, "")
			}
		})
	}
	all.Wait()
	for deadline := time.Now().Add(wstest.Patience); s.Stats().Connections > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // poll
	}
	if st := s.Stats(); st.Connections != 0 || highest.Load() > most || accepted.Load() == 0 || st.Refused["clients"] != uint64(refused.Load()) {
		t.Errorf("%d at once, %d accepted, %d refused: %+v", highest.Load(), accepted.Load(), refused.Load(), st)
	}
}

// A placedConn counts the connections that have a place, until they are closed. OnDisconnect might come later.
type placedConn struct {
	*net.TCPConn
	open  *atomic.Int64
	state atomic.Int32
}

const connNew, connPlaced, connClosed = 0, 1, 2

func (c *placedConn) Close() error {
	if c.state.Swap(connClosed) == connPlaced {
		c.open.Add(-1)
	}
	return c.TCPConn.Close()
}

type placingListener struct {
	net.Listener
	open *atomic.Int64
}

func (l placingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &placedConn{TCPConn: c.(*net.TCPConn), open: l.open}, nil
}

// TestThousandConnectionsOfOneUser: all but the first few are refused before the upgrade, and other users are not
// affected.
func TestThousandConnectionsOfOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
		s := newServer(t, n, ws.Options{MaxUserClients: 3})
		ann := accept(s, ws.Client{User: "ann"})
		var conns []net.Conn
		for range 3 {
			_, conn := dialInMemory(t, ann)
			conns = append(conns, conn)
		}
		for range 997 {
			expectRefused(t, ann, http.StatusTooManyRequests)
		}
		dialInMemory(t, accept(s, ws.Client{User: "ben"}))
		for range 5 {
			dialInMemory(t, accept(s, ws.Client{}))
		}
		if n := n.Stats().Sockets; n != 9 {
			t.Errorf("%d sockets", n)
		}
		conns[1].Close()
		synctest.Wait()
		dialInMemory(t, ann)
		expectRefused(t, ann, http.StatusTooManyRequests)
		if st := s.Stats(); st.Refused["user clients"] != 998 || st.Connections != 9 {
			t.Errorf("%+v", st)
		}
	})
}

// TestKickOldest: a user's newest client takes the place of the oldest, which learns that it should not come back. A
// request from a page that may not connect takes nobody's place.
func TestKickOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
		gone, ended := wstest.Disconnects()
		s := newServer(t, n, ws.Options{MaxUserClients: 2, KickOldest: true, OnDisconnect: gone, Events: echo})
		h := accept(s, ws.Client{User: "ann"})
		var clients []*client
		for range 2 {
			c, _ := dialInMemory(t, h)
			clients = append(clients, c)
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = wstest.Upgrade()
		r.Header.Set("Origin", "https://evil.example")
		h.ServeHTTP(w, r)
		synctest.Wait()
		if len(ended) > 0 {
			t.Error("a request from another page has closed a client")
		}
		for i := range 3 {
			c, _ := dialInMemory(t, h)
			clients = append(clients, c)
			clients[i].ExpectClose(4001, "replaced")
			if e := <-ended; e.Reason != crosscast.ReasonReplaced {
				t.Errorf("%+v", e)
			}
			if sockets := n.Stats().Sockets; sockets != 2 {
				t.Errorf("%d sockets", sockets)
			}
		}
		if st := s.Stats(); st.Refused["user clients"] != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestMaxUserClientsTotal: a user's clients on other nodes count.
func TestMaxUserClientsTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var servers []http.Handler
		for range 2 {
			n := wstest.StartNode(t, crosscast.Options{Adapter: cluster.Adapter(), Logger: slog.New(slog.DiscardHandler)})
			servers = append(servers, accept(newServer(t, n, ws.Options{MaxUserClientsTotal: 2}), ws.Client{User: "ann"}))
		}
		for _, h := range servers {
			dialInMemory(t, h)
		}
		for _, h := range servers {
			expectRefused(t, h, http.StatusTooManyRequests)
		}
	})
}

// TestHandshakeFlood: more handshakes than the rate are refused before the upgrade, and cost no socket.
func TestHandshakeFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
		s := newServer(t, n, ws.Options{HandshakeRate: 10, HandshakeBurst: 20})
		for range 20 {
			dialInMemory(t, s)
		}
		for range 1000 {
			expectRefused(t, s, http.StatusTooManyRequests)
		}
		time.Sleep(100 * time.Millisecond)
		dialInMemory(t, s)
		expectRefused(t, s, http.StatusTooManyRequests)
		if st := s.Stats(); st.Refused["handshakes"] != 1001 || st.Connections != 21 {
			t.Errorf("%+v", st)
		}
	})
}

// TestConnectTimeout: a request whose Connect hangs is closed in time, and gives its place back.
func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler), Adapter: answering(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})})
		s := newServer(t, n, ws.Options{ConnectTimeout: 3 * time.Second, MaxClients: 1})
		began := time.Now()
		var c *client
		go func() { c, _ = dialInMemory(t, accept(s, ws.Client{Rooms: []string{"room1"}})) }()
		time.Sleep(time.Second)
		expectRefused(t, s, http.StatusServiceUnavailable)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		c.ExpectClose(websocket.StatusTryAgainLater, "try again later")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closed after %v", took)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Connections != 0 || st.Refused["connect"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestUnreadAnswer: a client that does not read the answer to its request does not hold the server up for longer than a
// WriteTimeout, and is sent nothing behind the answer that it did not get.
func TestUnreadAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
		s := newServer(t, n, ws.Options{WriteTimeout: 3 * time.Second, PingInterval: time.Second})
		began := time.Now()
		accepted := make(chan time.Duration, 1)
		listener := &pipes{conns: make(chan net.Conn, 1)}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.Accept(w, r, ws.Client{})
			accepted <- time.Since(began)
		})}
		go server.Serve(listener)
		conn, end := net.Pipe()
		listener.conns <- wstest.Resuming{Conn: end}
		if _, err := io.WriteString(conn, upgradeRequest("example.com")); err != nil {
			t.Fatal(err)
		}
		if took := <-accepted; took > 3*time.Second {
			t.Errorf("the answer took %v", took)
		}
		if b, err := io.ReadAll(conn); len(b) > 0 || err != nil {
			t.Errorf("then it got %q, %v", b, err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Connections != 0 {
			t.Errorf("%+v", st)
		}
		conn.Close()
		close(listener.conns)
		server.Close()
	})
}

// pipes is a listener.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// TestLimitOptions: mistakes in options are errors that name them.
func TestLimitOptions(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	bad := map[string]ws.Options{
		"EventRate":           {EventRate: -1},
		"EventBurst":          {EventBurst: 5},
		"EventPolicy":         {EventPolicy: 3},
		"MaxClients":          {MaxClients: -1},
		"MaxUserClients":      {MaxUserClients: -1},
		"MaxUserClientsTotal": {MaxUserClientsTotal: -1},
		"KickOldest":          {KickOldest: true},
		"HandshakeRate":       {HandshakeRate: 1e9},
		"HandshakeBurst":      {HandshakeRate: 1, HandshakeBurst: -1},
		"ConnectTimeout":      {ConnectTimeout: 2 * time.Hour},
	}
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		if _, err := ws.New(n.Namespace, bad[name]); err == nil || !strings.Contains(err.Error(), "crosscast/ws: Options."+name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
