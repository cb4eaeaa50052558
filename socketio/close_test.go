package socketio_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	"github.com/crosscast/crosscast/socketio"
)

// TestServerCloses: most reasons end one namespace with a disconnect. Some end the whole connection.
func TestServerCloses(t *testing.T) {
	for _, tt := range []struct {
		reason   crosscast.Reason
		told     []string // sorted
		code     websocket.StatusCode
		whole    bool
		otherEnd crosscast.Reason
	}{
		{"enough", []string{"41"}, 0, false, ""},
		{crosscast.ReasonServer, []string{"41"}, 0, false, ""},
		{crosscast.ReasonLeft, []string{"41"}, 0, false, ""},
		{socketio.ReasonForced, []string{"41", "41/chat,"}, websocket.StatusNormalClosure, true, ""},
		{crosscast.ReasonShutdown, nil, websocket.StatusGoingAway, true, ""},
		{crosscast.ReasonSlow, nil, websocket.StatusPolicyViolation, true, ""},
		{crosscast.ReasonTimeout, nil, websocket.StatusPolicyViolation, true, ""},
		{crosscast.ReasonProtocol, nil, websocket.StatusProtocolError, true, ""},
	} {
		t.Run(string(tt.reason), func(t *testing.T) {
			ended := make(chan string, 2)
			gone := func(_ context.Context, s *crosscast.Socket, r crosscast.Reason) {
				ended <- s.Namespace().Name() + " " + string(r)
			}
			n := wstest.StartNode(t, crosscast.Options{})
			c := dial(t, wstest.Serve(t, newServer(t, n, socketio.Options{Namespaces: map[string]*socketio.Namespace{
				"/": {OnDisconnect: gone}, "/chat": {Events: echo, OnDisconnect: gone},
			}})).URL)
			s := n.Socket(c.join("/"))
			c.join("/chat")
			if err := s.Emit(t.Context(), "bye", nil); err != nil {
				t.Error(err)
			}
			s.Close(tt.reason)
			c.Expect(`42["bye"]`)
			if !tt.whole {
				c.Expect(tt.told...)
				c.send(`42/chat,["echo"]`)
				c.Expect(`42/chat,["echo"]`)
				if r := wstest.Wait(t, ended, "OnDisconnect"); r != "/ "+string(tt.reason) {
					t.Error(r)
				}
				return
			}
			told := c.ExpectClose(tt.code, string(tt.reason))
			if slices.Sort(told); !slices.Equal(told, tt.told) {
				t.Errorf("told %q", told)
			}
			all := []string{wstest.Wait(t, ended, "OnDisconnect"), wstest.Wait(t, ended, "OnDisconnect")}
			if slices.Sort(all); !slices.Equal(all, []string{"/ " + string(tt.reason), "/chat " + string(tt.reason)}) {
				t.Errorf("ended: %q", all)
			}
		})
	}
}

// TestServerClosesHandler: the handler's context ends, and the waiting events are dropped.
func TestServerClosesHandler(t *testing.T) {
	var handled atomic.Int32
	began, ended := make(chan *crosscast.Socket, 1), make(chan crosscast.Reason, 1)
	c, _ := connect(t, socketio.Options{Namespaces: namespaces(socketio.Namespace{
		Events: socketio.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ socketio.Args) error {
			handled.Add(1)
			began <- s
			<-ctx.Done()
			return nil
		}},
		OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- r },
	})})
	c.join("/chat")
	for i := range 100 {
		c.send(fmt.Sprintf(`42%d["n"]`, i))
	}
	c.send(`42/chat,["echo"]`)
	c.Expect(`42/chat,["echo"]`) // all are read
	wstest.Wait(t, began, "the handler").Close("enough")
	c.Expect("41") // and no acknowledgement
	c.send(`42/chat,["echo"]`)
	c.Expect(`42/chat,["echo"]`)
	if r := wstest.Wait(t, ended, "OnDisconnect"); r != "enough" || handled.Load() != 1 {
		t.Errorf("reason %q after %d events", r, handled.Load())
	}
}

// TestClientLeaves: the client's events are handled in all namespaces, then OnDisconnect, which still emits.
func TestClientLeaves(t *testing.T) {
	for _, how := range []string{"packet", "handshake", "broken"} {
		t.Run(how, func(t *testing.T) {
			const count = 300
			var handled atomic.Int32
			begin, last := make(chan struct{}), make(chan error, 3)
			n := wstest.StartNode(t, crosscast.Options{})
			s := newServer(t, n, socketio.Options{
				OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
				Namespaces: namespaces(socketio.Namespace{
					Authenticate: func(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
						return socketio.Client{User: "u1", Rooms: []string{"lobby"}}, nil
					},
					Events: socketio.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ socketio.Args) error {
						<-begin
						handled.Add(1)
						return errors.Join(ctx.Err(), s.Join(ctx, "more"))
					}},
					OnDisconnect: func(ctx context.Context, s *crosscast.Socket, r crosscast.Reason) {
						if r != crosscast.ReasonLeft || handled.Load() != count || ctx.Err() != nil || len(s.Rooms()) != 2 {
							last <- fmt.Errorf("reason %q after %d events, ctx %v", r, handled.Load(), ctx.Err())
						}
						last <- n.To(s.Rooms()...).Emit(ctx, "left", s.User())
					},
				}),
			})
			url := wstest.Serve(t, s).URL
			other := dial(t, url)
			if err := n.Socket(other.join("/")).Join(t.Context(), "lobby"); err != nil {
				t.Fatal(err)
			}
			c := dial(t, url)
			id := c.join("/")
			for range count {
				c.send(`42["n"]`)
			}
			switch how {
			case "packet":
				c.send("41")
			case "handshake":
				go c.Conn.Close(websocket.StatusNormalClosure, "bye")
			default:
				c.Conn.CloseNow()
			}
			close(begin)
			if err := wstest.Wait(t, last, "OnDisconnect"); err != nil {
				t.Fatal(err)
			}
			other.Expect(`42["left","u1"]`)
			if n.Socket(id) != nil {
				t.Error("still there")
			}
			if how == "packet" {
				c.join("/chat") // the connection goes on
			}
			other.Conn.Close(websocket.StatusNormalClosure, "")
			if err := wstest.Wait(t, last, "OnDisconnect"); err == nil {
				t.Error("the other has left as the first one did")
			}
		})
	}
}

// TestNodeClose: connections are closed with 1001, with sockets and without; Close waits for handlers, Authenticate and
// OnDisconnect, which may still emit.
func TestNodeClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := crosscast.Start(t.Context(), crosscast.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var steps []string // guarded by mu
		add := func(step ...string) {
			mu.Lock()
			defer mu.Unlock()
			steps = append(steps, step...)
		}
		var connected atomic.Bool
		s := newServer(t, n, socketio.Options{Namespaces: map[string]*socketio.Namespace{
			"/": {
				Events: socketio.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ socketio.Args) error {
					<-ctx.Done()
					add("handler")
					return nil
				}},
				OnDisconnect: func(ctx context.Context, _ *crosscast.Socket, r crosscast.Reason) {
					add(string(r), fmt.Sprint(n.Emit(ctx, "left", nil)))
				},
			},
			"/slow": {
				Authenticate: func(ctx context.Context, _ *socketio.Handshake) (socketio.Client, error) {
					<-ctx.Done()
					add("Authenticate")
					return socketio.Client{}, nil
				},
				OnConnect: func(context.Context, *crosscast.Socket) { connected.Store(true) },
			},
		}})
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.send(`42["n"]`)
		idle, _ := dialInMemory(t, s)
		connecting, _ := dialInMemory(t, s)
		connecting.send("40/slow,")
		empty, _ := dialInMemory(t, s)
		empty.join("/")
		empty.send("41")
		synctest.Wait()
		if got := s.Stats().Connections; got != 4 {
			t.Errorf("%d connections", got)
		}
		add("Close")
		closed := make(chan error, 1)
		go func() { closed <- n.Close(t.Context()) }()
		for _, c := range []*client{c, idle, connecting, empty} {
			c.ExpectClose(websocket.StatusGoingAway, "server shutting down")
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		want := []string{"client left", "<nil>", "Close", "Authenticate", "handler", "server shutting down", "<nil>"}
		if slices.Sort(steps[3:]); !slices.Equal(steps[:3], want[:3]) ||
			strings.Join(steps[3:], ", ") != "<nil>, Authenticate, handler, server shutting down" {
			t.Errorf("%q", steps)
		}
		if got := s.Stats().Connections; got != 0 || connected.Load() {
			t.Errorf("%d connections are left, connected: %v", got, connected.Load())
		}

		// A client that comes too late is sent to another server.
		refused(t, s, http.StatusServiceUnavailable, `{"code":4,"message":"server shutting down"}`)
		if st := s.Stats(); st.Refused["draining"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestNodeCloseWaits: when Close returns, nothing is left of connections whose clients take no part in closing. This
// takes a bounded time.
func TestNodeCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{})
		c, _ := dialInMemory(t, s)
		c.join("/")
		dialInMemory(t, s)
		start := time.Now()
		if err := n.Close(t.Context()); err != nil || time.Since(start) > 10*time.Second {
			t.Errorf("Close took %v: %v", time.Since(start), err)
		}
		if got := s.Stats().Connections; got != 0 {
			t.Errorf("%d connections are left", got)
		}
	})
}

// TestQueuesOfConnections: the sums over open and former connections, whatever their number of namespaces.
func TestQueuesOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{})
		c, _ := dialInMemory(t, s)
		c.join("/", "/chat")
		synctest.Wait()
		open := s.Stats().Queues
		if open.WrittenFrames != 3 || open.WrittenBytes == 0 || n.Stats().Queues.WrittenFrames != 0 {
			t.Errorf("%+v", open)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if closed := s.Stats().Queues; closed.WrittenFrames < 3 || closed.WrittenBytes < open.WrittenBytes {
			t.Errorf("%+v, and before %+v", closed, open)
		}
	})
}

// TestCloseDuringConnect: a node that closes while clients connect forgets none; OnDisconnect follows each OnConnect.
func TestCloseDuringConnect(t *testing.T) {
	for range 20 {
		n, err := crosscast.Start(t.Context(), crosscast.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var open atomic.Int32
		s := newServer(t, n, socketio.Options{
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
			Namespaces: namespaces(socketio.Namespace{
				OnConnect:    func(context.Context, *crosscast.Socket) { open.Add(1) },
				OnDisconnect: func(context.Context, *crosscast.Socket, crosscast.Reason) { open.Add(-1) },
			}),
		})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				conn, status := wstest.TryDial(t, "ws://example.com"+query, s)
				if conn == nil {
					if status != http.StatusServiceUnavailable {
						t.Errorf("refused with status %d", status)
					}
					return
				}
				go conn.Write(context.Background(), websocket.MessageText, []byte("40")) // may come too late
				(&client{&wstest.Client{T: t, Conn: conn}}).ExpectClose(websocket.StatusGoingAway, "server shutting down")
			})
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if open.Load() != 0 {
			t.Errorf("%d sockets connected and did not disconnect", open.Load())
		}
		wg.Wait()
	}
}
