package socketio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// steps are the calls that a test has seen, in order.
type steps struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (s *steps) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprintf(format, args...))
}

// take returns the steps since the last call.
func (s *steps) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.all, ", ")
	s.all = nil
	return all
}

// recorded is a namespace "/chat" whose clients name their user, and which records all calls.
func recorded(seen *steps, authenticate func(ctx context.Context, user string) error) map[string]*socketio.Namespace {
	return map[string]*socketio.Namespace{"/": {Events: echo}, "/chat": {
		Authenticate: func(ctx context.Context, h *socketio.Handshake) (socketio.Client, error) {
			var auth struct{ User string }
			if err := json.Unmarshal(h.Auth, &auth); err != nil {
				return socketio.Client{}, err
			}
			seen.add("authenticate %s", auth.User)
			if authenticate != nil {
				if err := authenticate(ctx, auth.User); err != nil {
					return socketio.Client{}, err
				}
			}
			return socketio.Client{User: auth.User}, nil
		},
		OnConnect: func(_ context.Context, s *crosscast.Socket) { seen.add("connect %s", s.User()) },
		OnDisconnect: func(_ context.Context, s *crosscast.Socket, r crosscast.Reason) {
			seen.add("disconnect %s %s", s.User(), r)
		},
		Events: socketio.Events{"n": func(ctx context.Context, s *crosscast.Socket, args socketio.Args) error {
			var n int
			err := args.Decode(0, &n)
			seen.add("%s does %d", s.User(), n)
			return err
		}},
	}}
}

// chat reads the answer to a connect to "/chat", and returns the socket's ID.
func (c *client) chat() string {
	c.T.Helper()
	m, err := c.Read()
	if err != nil || !strings.HasPrefix(m, `40/chat,{"sid":"`) {
		c.T.Fatalf("%s, %v", m, err)
	}
	return m[len(`40/chat,{"sid":"`) : len(m)-2]
}

// TestConnectAgain: a client that connects to a namespace in which it is already has left, and gets another socket,
// with the same auth or another one. Its earlier events are handled first.
func TestConnectAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen steps
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{Namespaces: recorded(&seen, nil)})
		c, _ := dialInMemory(t, s)
		c.join("/")
		var ids []string
		for i, user := range []string{"u1", "u1", "u2"} {
			c.send(`40/chat,{"user":"`+user+`"}`, fmt.Sprintf(`42["echo",%d]`, i))
			var told []string
			for range 2 { // two namespaces have no order
				m, err := c.Read()
				if err != nil {
					t.Fatal(err)
				}
				told = append(told, m)
			}
			slices.Sort(told)
			if !strings.HasPrefix(told[0], `40/chat,{"sid":"`) || told[1] != fmt.Sprintf(`42["echo",%d]`, i) {
				t.Fatalf("told %q", told)
			}
			ids = append(ids, told[0][len(`40/chat,{"sid":"`):len(told[0])-2])
			c.send(fmt.Sprintf(`42/chat,["n",%d]`, i))
		}
		synctest.Wait()
		slices.Sort(ids)
		if len(slices.Compact(ids)) != 3 {
			t.Errorf("IDs %q", ids)
		}
		const want = "authenticate u1, connect u1, u1 does 0, disconnect u1 client left, " +
			"authenticate u1, connect u1, u1 does 1, disconnect u1 client left, authenticate u2, connect u2, u2 does 2"
		if got := seen.take(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		chat, err := n.Of("/chat")
		if err != nil {
			t.Fatal(err)
		}
		if count, err := chat.Everyone().Count(t.Context()); count != 1 || err != nil {
			t.Errorf("%d sockets, %v", count, err)
		}
		c.send("41/chat,")
		synctest.Wait()
		if got := seen.take(); got != "disconnect u2 client left" || s.Stats().Malformed > 0 {
			t.Errorf("%s, %+v", got, s.Stats())
		}
	})
}

// TestConnectAgainEarly: a client that leaves before the answer came does not tell the server. When it comes back, the
// first Authenticate is abandoned, and the client gets one answer, for its last socket. It might take that for the
// first socket's answer, so its events are handled by the last socket.
func TestConnectAgainEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen steps
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{
			OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
			Namespaces: recorded(&seen, func(ctx context.Context, user string) error {
				if user != "u1" && user != "slow" {
					return nil
				}
				if user == "slow" {
					ctx = context.WithoutCancel(ctx) // it does not look
				}
				select {
				case <-ctx.Done():
				case <-time.After(15 * time.Second):
				}
				seen.add("%v", ctx.Err())
				return ctx.Err()
			}),
		})
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.send(`40/chat,{"user":"u1"}`, `42["echo"]`)
		c.Expect(`42["echo"]`)
		synctest.Wait() // Authenticate runs for u1
		c.send(`40/chat,{"user":"u2"}`, `42/chat,["n",1]`)
		c.chat()
		synctest.Wait()
		const want = "authenticate u1, context canceled, authenticate u2, connect u2, u2 does 1"
		if got := seen.take(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if s := s.Stats(); s.Malformed > 0 || len(s.Refused) > 0 {
			t.Errorf("%+v", s)
		}

		// For sockets that have not begun, Authenticate is never called, however many there are.
		c.send(`40/chat,{"user":"slow"}`)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range 1000 {
			c.send(`40/chat,{"user":"nobody"}`, "41/chat,", `40/chat,{"user":"nobody"}`)
		}
		c.send(`40/chat,{"user":"u3"}`, `42/chat,["n",3]`)
		synctest.Wait()
		if more := runtime.NumGoroutine() - before; more > 3 {
			t.Errorf("%d more goroutines", more)
		}
		c.chat()
		synctest.Wait()
		const then = "disconnect u2 client left, authenticate slow, <nil>, authenticate u3, connect u3, u3 does 3"
		if got := seen.take(); got != then {
			t.Errorf("got  %s\nwant %s", got, then)
		}

		// One that leaves while it waits is not connected.
		c.send(`40/chat,{"user":"slow"}`)
		synctest.Wait()
		c.send(`40/chat,{"user":"nobody"}`, "41/chat,")
		time.Sleep(16 * time.Second)
		c.Expect("2")
		c.send("3", `42["echo"]`)
		c.Expect(`42["echo"]`)
		if got := seen.take(); got != "disconnect u3 client left, authenticate slow, <nil>" {
			t.Error(got)
		}

		// So does one whose connection ends.
		c.send(`40/chat,{"user":"slow"}`)
		synctest.Wait()
		c.send(`40/chat,{"user":"nobody"}`)
		c.Conn.Close(websocket.StatusNormalClosure, "")
		synctest.Wait()
		time.Sleep(time.Minute)
		if got := seen.take(); got != "authenticate slow, <nil>" {
			t.Error(got)
		}
	})
}
