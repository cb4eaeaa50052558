package socketio_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// floods are servers with one limit each.
type floods struct {
	n       *crosscast.Node
	servers map[string]*socketio.Server // by the path in front of theirs
	url     string
}

// serveFloods makes the servers. Their clients join any room that they name, and are of one user.
func serveFloods(t *testing.T) *floods {
	f := &floods{
		n:       wstest.StartNode(t, crosscast.Options{MaxRooms: 100, Linger: time.Millisecond, Logger: quiet.Logger}),
		servers: make(map[string]*socketio.Server),
	}
	for path, o := range map[string]socketio.Options{
		"/pause":   {EventRate: 20, EventBurst: 2, EventPolicy: socketio.EventPause},
		"/refuse":  {EventRate: 20, EventBurst: 2, EventPolicy: socketio.EventRefuse},
		"/close":   {EventRate: 20, EventBurst: 2, EventPolicy: socketio.EventClose},
		"/joins":   {},
		"/expires": {},
		"/clients": {MaxClients: 2},
		"/user":    {MaxUserClients: 1},
		"/rate":    {HandshakeRate: 0.5, HandshakeBurst: 1},
	} {
		authenticate := func(context.Context, *socketio.Handshake) (socketio.Client, error) {
			client := socketio.Client{User: "ann"}
			if path == "/expires" {
				client.Expires = time.Now().Add(50 * time.Millisecond)
			}
			return client, nil
		}
		o.Namespaces = map[string]*socketio.Namespace{
			"/": {Authenticate: authenticate, Events: socketio.Events{
				"echo": echo["echo"],
				"join": socketio.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error { return s.Join(ctx, room) }),
			}},
			"/chat": {},
		}
		o.OnError = func(*crosscast.Socket, string, error) {}
		o.EventBytes, o.LeaveTimeout, o.WriteTimeout = 16<<10, time.Second, time.Second
		o.PingInterval, o.PingTimeout = 2*time.Second, 2*time.Second
		o.Queue = crosscast.QueueOptions{Limit: 32 << 10, CloseGrace: 100 * time.Millisecond}
		f.servers[path] = newServer(t, f.n, o)
	}
	f.url = wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.URL.Path[1:], "/")
		f.servers["/"+path].ServeHTTP(w, r)
	})).URL
	return f
}

// dial connects to a server and a namespace, unless that refuses it. The client reads nothing any more.
func (f *floods) dial(path string) (write func(m string) bool, end func(), ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	conn, _, err := websocket.Dial(ctx, f.url+path+query, nil)
	if err != nil {
		cancel()
		return nil, func() {}, false
	}
	write = func(m string) bool { return conn.Write(ctx, websocket.MessageText, []byte(m)) == nil }
	end = func() {
		_ = conn.CloseNow()
		cancel()
	}
	ok = write("40")
	for range 2 { // the first packet, and the answer
		_, _, err := conn.Read(ctx)
		ok = ok && err == nil
	}
	return write, end, ok
}

// uncounted names the floods that no statistic shows.
func (f *floods) uncounted() (none []string) {
	refused := func(path, cause string) uint64 { return f.servers[path].Stats().Refused[cause] }
	for name, n := range map[string]uint64{
		"paused events":  f.servers["/pause"].Stats().Paused,
		"refused events": refused("/refuse", "events"),
		"closed":         refused("/close", "events"),
		"clients":        refused("/clients", "clients"),
		"user clients":   refused("/user", "user clients"),
		"handshakes":     refused("/rate", "handshakes"),
		"expired":        f.n.Stats().Disconnects[crosscast.ReasonExpired],
		"flood":          f.n.Stats().Disconnects[crosscast.ReasonFlood],
	} {
		if n == 0 {
			none = append(none, name)
		}
	}
	return none
}

// TestHostileFloods: floods of events, joins, connects and handshakes, and clients whose credentials have expired, are
// refused or held back, and counted. Then the node drains, which clients that read nothing ignore. Memory stays bounded,
// and none is left.
func TestHostileFloods(t *testing.T) {
	f := serveFloods(t)
	before := memtest.Heap()
	large := strings.Repeat("x", 1000)
	floods := map[string]func(i int) string{
		"/pause":   func(int) string { return `421["echo","` + large + `"]` },
		"/refuse":  func(int) string { return `421["echo","` + large + `"]` },
		"/close":   func(int) string { return "40/chat," },
		"/joins":   func(i int) string { return fmt.Sprintf(`421["join","%s%d"]`, large[:200], i) },
		"/expires": func(int) string { return `421["echo","` + large + `"]` },
		"/clients": func(int) string { return `42["x"]` },
		"/user":    func(int) string { return `40` },
		"/rate":    func(int) string { return `42["x"]` },
	}
	var enough atomic.Bool
	var all sync.WaitGroup
	for path, message := range floods {
		for range 3 {
			all.Go(func() {
				for !enough.Load() {
					write, end, ok := f.dial(path)
					if !ok {
						time.Sleep(10 * time.Millisecond) // lasts: refusals must not take all of the machine
					}
					// A client whose credentials expire stays until it is closed.
					for i := 0; ok && (i < 200 || path == "/expires") && !enough.Load(); i++ {
						ok = write(message(i))
					}
					end()
				}
			})
		}
	}
	most, rooms := 0, 0
	for began := time.Now(); !enough.Load(); time.Sleep(20 * time.Millisecond) { // poll
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most, rooms = max(most, int(m.HeapAlloc)-before), max(rooms, f.n.Stats().Rooms)
		lasts := time.Since(began)
		enough.Store(lasts > time.Second && len(f.uncounted()) == 0 || lasts > 2*wstest.Patience)
	}
	all.Wait()
	if none := f.uncounted(); len(none) > 0 {
		t.Errorf("not counted: %q", none)
	}
	if most > 128<<20 || rooms > 3*100+10 {
		t.Errorf("the heap grew by %d MiB, and there were %d rooms", most>>20, rooms)
	}

	deaf := 0
	for range 20 {
		_, end, ok := f.dial("/joins")
		defer end()
		if ok {
			deaf++
		}
	}
	for began := time.Now(); f.servers["/joins"].Stats().Connections != deaf; time.Sleep(10 * time.Millisecond) { // poll
		if time.Since(began) > wstest.Patience {
			t.Fatalf("%d connections, want %d", f.servers["/joins"].Stats().Connections, deaf)
		}
	}
	began := time.Now()
	drained := make(chan error, 1)
	go func() {
		drained <- f.n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: 100 * time.Millisecond})
	}()
	for done := false; !done; {
		select {
		case err := <-drained:
			if done = true; err != nil || time.Since(began) > wstest.Patience {
				t.Errorf("Drain: %v after %v", err, time.Since(began))
			}
		default:
			_, end, _ := f.dial("/joins") // comes back at once, again and again
			end()
		}
	}
	_, end, _ := f.dial("/joins")
	end()
	for path, s := range f.servers {
		if st := s.Stats(); st.Connections > 0 || path == "/joins" && st.Refused["draining"] == 0 {
			t.Errorf("%s: %+v", path, st)
		}
	}
	kept := 0
	for range 100 { // of timers that are about to end
		if kept = memtest.Heap() - before; kept < 1<<20 {
			break
		}
		time.Sleep(100 * time.Millisecond) // poll
	}
	t.Logf("%d deaf clients; the heap grew by at most %d KiB, and kept %d KiB", deaf, most>>10, kept>>10)
	if kept > 1<<20 {
		t.Errorf("the heap kept %d bytes", kept)
	}
}
