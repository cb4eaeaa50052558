package socketio_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

var quiet = crosscast.Options{Logger: slog.New(slog.DiscardHandler)}

// as returns a namespace whose clients are a user's.
func as(user string) socketio.Namespace {
	return socketio.Namespace{Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
		return socketio.Client{User: user}, nil
	}}
}

// TestEventPause: the events of all sockets of a client are handled at one rate, and none is lost. Connects count.
func TestEventPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		began := time.Now()
		var at []time.Duration
		count := make(chan time.Duration, 1000)
		events := socketio.Events{"n": socketio.Typed(func(context.Context, *crosscast.Socket, int) error {
			count <- time.Since(began)
			return nil
		})}
		s := newServer(t, n, socketio.Options{
			EventRate: 10, EventBurst: 4,
			Namespaces: map[string]*socketio.Namespace{"/": {Events: events}, "/chat": {Events: events}},
		})
		c, conn := dialInMemory(t, s)
		c.join("/", "/chat")
		go io.Copy(io.Discard, conn)
		for range 20 {
			io.WriteString(conn, wstest.Masked(`42["n"]`))
			io.WriteString(conn, wstest.Masked(`42/chat,["n"]`))
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for range len(count) {
			at = append(at, <-count)
		}
		if len(at) != 40 {
			t.Fatalf("%d were handled", len(at))
		}
		for i, at := range at {
			if want := max(0, time.Duration(i-1)*100*time.Millisecond); at != want {
				t.Errorf("the %d. was handled after %v, want %v", i+1, at, want)
			}
		}
		if st := s.Stats(); st.Paused < 38 || len(st.Refused) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestFloodOfConnects: a client that connects to a namespace and leaves it again and again keeps to the rate, too:
// each time costs a call of Authenticate.
func TestFloodOfConnects(t *testing.T) {
	for _, policy := range []socketio.EventPolicy{socketio.EventPause, socketio.EventRefuse} {
		synctest.Test(t, func(t *testing.T) {
			n := wstest.StartNode(t, quiet)
			calls := 0
			s := newServer(t, n, socketio.Options{
				EventRate: 1, EventBurst: 2, EventPolicy: policy,
				Namespaces: map[string]*socketio.Namespace{"/": {
					Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
						calls++
						return socketio.Client{}, nil
					},
				}},
			})
			_, conn := dialInMemory(t, s)
			go io.Copy(io.Discard, conn)
			for range 500 {
				if _, err := io.WriteString(conn, wstest.Masked("40")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			if calls < 3 || calls > 7 {
				t.Errorf("policy %d: %d calls in 5 s", policy, calls)
			}
		})
	}
}

// TestEventRefuse: an event above the rate is acknowledged with an error, in its place.
func TestEventRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		s := newServer(t, n, socketio.Options{
			EventRate: 1, EventBurst: 3, EventPolicy: socketio.EventRefuse,
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
			Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{
				"x": socketio.Answered(func(_ context.Context, _ *crosscast.Socket, args socketio.Args) (any, error) { return args, nil }),
			}}),
		})
		c, _ := dialInMemory(t, s)
		c.join("/")
		for range 10 {
			c.send(`439["nobody waits for this"]`)
		}
		c.send(`421["x",1]`, `422["x",2]`, `423["x",3]`, `42["x",4]`, `40/chat,`)
		got := []string{}
		for range 4 { // a connect_error comes at once
			m, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		slices.Sort(got)
		if want := []string{`431[1]`, `432[2]`, `433[{"error":"too many events"}]`, `44/chat,{"message":"too many events"}`}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		time.Sleep(time.Second)
		c.send(`425["x",5]`)
		c.Expect(`435[5]`)
		if st := s.Stats(); st.Refused["events"] != 3 || st.Paused != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestEventClose: one event above the rate closes the connection, without a disconnect.
func TestEventClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		gone, ended := wstest.Disconnects()
		s := newServer(t, n, socketio.Options{
			EventRate: 1, EventBurst: 3, EventPolicy: socketio.EventClose,
			Namespaces: namespaces(socketio.Namespace{OnDisconnect: gone}),
		})
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.send(`42["x"]`, `42["x"]`, `42["x"]`)
		if got := c.ExpectClose(websocket.StatusPolicyViolation, "too many events"); len(got) > 0 {
			t.Errorf("got %q", got)
		}
		if e := <-ended; e.Reason != crosscast.ReasonFlood {
			t.Errorf("%+v", e)
		}
		if st := s.Stats(); st.Refused["events"] != 1 || st.Malformed != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// refused sends a request, and expects that a limit refuses it.
func refused(t *testing.T, h http.Handler, code int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, query, nil)
	r.Header = wstest.Upgrade()
	h.ServeHTTP(w, r)
	if w.Code != code || w.Body.String() != body || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
	}
}

// TestMaxClients: whatever ends a connection or a handshake gives its place back.
func TestMaxClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		s := newServer(t, n, socketio.Options{MaxClients: 2})
		for range 3 {
			_, first := dialInMemory(t, s)
			second, _ := dialInMemory(t, s)
			refused(t, s, http.StatusServiceUnavailable, `{"code":4,"message":"too many clients"}`)
			first.Close()
			second.send("nonsense")
			second.ExpectClose(websocket.StatusProtocolError, "unknown packet type")
			synctest.Wait()
		}
		for range 5 {
			r := httptest.NewRequest(http.MethodGet, query, nil)
			r.Header = wstest.Upgrade()
			r.Header.Del("Sec-Websocket-Key")
			s.ServeHTTP(httptest.NewRecorder(), r)
		}
		for range 2 {
			dialInMemory(t, s)
		}
		if st := s.Stats(); st.Refused["clients"] != 3 || st.Refused["websocket"] != 5 || st.Connections != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestHandshakeFlood: more handshakes than the rate are refused before the upgrade, and before Authenticate.
func TestHandshakeFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, wstest.StartNode(t, quiet), socketio.Options{HandshakeRate: 2})
		for range 2 {
			dialInMemory(t, s)
		}
		for range 500 {
			refused(t, s, http.StatusTooManyRequests, `{"code":4,"message":"too many handshakes"}`)
		}
		if st := s.Stats(); st.Refused["handshakes"] != 500 || st.Connections != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestThousandConnectionsOfOneUser: all but the first few are refused, in each namespace, until one leaves.
func TestThousandConnectionsOfOneUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		ann, chat := as("ann"), as("ann")
		s := newServer(t, n, socketio.Options{
			MaxUserClients: 3, Namespaces: map[string]*socketio.Namespace{"/": &ann, "/chat": &chat},
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
		})
		var clients []*client
		for range 3 {
			c, _ := dialInMemory(t, s)
			c.join("/", "/chat")
			clients = append(clients, c)
		}
		for range 997 {
			c, conn := dialInMemory(t, s)
			c.send("40")
			c.Expect(`44{"message":"too many clients of this user"}`)
			conn.Close()
		}
		clients[1].send("41")
		synctest.Wait()
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.send("40/chat,")
		c.Expect(`44/chat,{"message":"too many clients of this user"}`)
		if st := s.Stats(); st.Refused["user clients"] != 998 || st.Refused["authenticate"] != 0 || n.Stats().Sockets != 6 {
			t.Errorf("%+v, %d sockets", st, n.Stats().Sockets)
		}
	})
}

// TestKickOldest: a user's newest client takes the place of the oldest, which does not come back by itself.
func TestKickOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		gone, ended := wstest.Disconnects()
		ann := as("ann")
		ann.OnDisconnect = gone
		s := newServer(t, n, socketio.Options{MaxUserClients: 1, KickOldest: true, Namespaces: namespaces(ann)})
		former, _ := dialInMemory(t, s)
		former.join("/", "/chat")
		for range 3 {
			c, _ := dialInMemory(t, s)
			c.join("/")
			former.Expect("41")
			former = c
			if e := <-ended; e.Reason != crosscast.ReasonReplaced {
				t.Errorf("%+v", e)
			}
		}
		if st := s.Stats(); st.Connections != 4 || n.Stats().Sockets != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestPlacesOfUsersComeBack: those of sockets that cannot be made.
func TestPlacesOfUsersComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, quiet)
		var data any
		s := newServer(t, n, socketio.Options{MaxUserClients: 1, OnError: func(*crosscast.Socket, string, error) {}, Namespaces: namespaces(
			socketio.Namespace{Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
				return socketio.Client{User: "ann", Data: data}, nil
			}},
		)})
		c, _ := dialInMemory(t, s)
		for _, data = range []any{make(chan int), panics{}} {
			c.send("40")
			c.Expect(`44{"message":"internal error"}`)
		}
		data = nil
		c.join("/")
	})
}

// panics panics when it is marshalled.
type panics struct{}

func (panics) MarshalJSON() ([]byte, error) { panic("data") }

// TestLimitOptions: mistakes in options are errors that name them.
func TestLimitOptions(t *testing.T) {
	n := wstest.StartNode(t, quiet)
	bad := map[string]socketio.Options{
		"EventRate":           {EventRate: -1},
		"EventBurst":          {EventBurst: 5},
		"EventPolicy":         {EventPolicy: 3},
		"MaxClients":          {MaxClients: -1},
		"MaxUserClients":      {MaxUserClients: -1},
		"MaxUserClientsTotal": {MaxUserClientsTotal: -1},
		"KickOldest":          {KickOldest: true},
		"HandshakeRate":       {HandshakeRate: 1e9},
		"HandshakeBurst":      {HandshakeRate: 1, HandshakeBurst: -1},
	}
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		o := bad[name]
		o.Namespaces = namespaces(socketio.Namespace{})
		if _, err := socketio.New(n, o); err == nil || !strings.Contains(err.Error(), "crosscast/socketio: Options."+name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
