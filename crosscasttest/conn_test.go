package crosscasttest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recording is a testing.TB that keeps failures instead of failing.
type recording struct {
	testing.TB
	mu       sync.Mutex // guards what follows
	failures []string
	cleanups []func()
}

func (r *recording) Helper() {}

func (r *recording) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recording) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recording) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// run calls f with a recording TB, and returns the failures.
func run(f func(tb testing.TB)) string {
	var r recording
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(r.cleanups) - 1; i >= 0; i-- {
				r.cleanups[i]()
			}
		}()
		f(&r)
	}()
	<-done
	return strings.Join(r.failures, "\n")
}

// fails fails unless f fails with each of texts.
func fails(t *testing.T, f func(tb testing.TB), texts ...string) {
	t.Helper()
	got := run(f)
	if got == "" {
		t.Error("did not fail")
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("the failure %q does not say %q", got, text)
		}
	}
}

func passes(t *testing.T, f func(tb testing.TB)) {
	t.Helper()
	if got := run(f); got != "" {
		t.Error(got)
	}
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// soon is a context that ends soon, in a bubble at once.
func soon(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	tb.Cleanup(cancel)
	return ctx
}

var ctx = context.Background()

// inBubble runs f with a cluster of two nodes, and a client of the user "u" in room "r" of the second.
func inBubble(t *testing.T, f func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		c := crosscasttest.NewCluster(t, 2)
		f(t, c, c.Connect(ctx, 1, crosscast.ConnectOptions{User: "u", Rooms: []string{"r"}}))
	})
}

// TestLines is that each encoding has a text of its own.
func TestLines(t *testing.T) {
	inBubble(t, func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn) {
		for _, p := range []any{
			nil, map[string]int{"n": 1}, crosscast.Bytes{0},
			crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\xc4\x01\x00")},
		} {
			if err := c.Nodes[0].To("r").Emit(ctx, "e", p); err != nil {
				t.Fatal(err)
			}
		}
		c.Settle(ctx)
		conn.Want("e", `e {"n":1}`, `e "\x00"`, `e [1,"AA=="]`)
	})
}

// as returns a helper that has a failing test of its own: a client like conn, of tb.
func as(tb testing.TB, c *crosscasttest.Cluster) *crosscasttest.Conn {
	return crosscasttest.Connect(ctx, tb, c.Nodes[1].Namespace, crosscast.ConnectOptions{User: "v", Rooms: []string{"r"}})
}

func TestWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn) {
		go func() {
			time.Sleep(5 * time.Second)
			c.Nodes[0].To("r").Emit(ctx, "one", 1)
			time.Sleep(time.Second)
			c.Nodes[0].To("r").Emit(ctx, "two", crosscast.Bytes{0})
			c.Nodes[0].To("r").Emit(ctx, "two", nil)
		}()
		if m := conn.Event(ctx, "two"); string(m.Payload.Data) != "\x00" || m.From != c.Nodes[0].ID() {
			t.Errorf("Event: %+v", m)
		}
		if m := conn.Nth(ctx, 3); m.Event != "two" || m.Payload.Encoding != crosscast.EncodingNone {
			t.Errorf("Nth: %+v", m)
		}
		if m := conn.Nth(ctx, 1); m.Event != "one" {
			t.Errorf("Nth: %+v", m)
		}
		m := conn.Find(ctx, "nothing", func(m *crosscast.Message) bool { return m.Payload.Encoding == crosscast.EncodingNone })
		if m.Event != "two" || len(conn.Messages()) != 3 {
			t.Errorf("Find: %+v", m)
		}
		conn.Want("one 1", `two "\x00"`, "two")
		conn.Want() // forgotten
	})
}

func TestWaitingFails(t *testing.T) {
	inBubble(t, func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn) {
		with := func(f func(tb testing.TB, conn *crosscasttest.Conn)) func(testing.TB) {
			return func(tb testing.TB) {
				conn := as(tb, c)
				ok(t, c.Nodes[0].ToUser("v").Emit(ctx, "one", 1))
				c.Settle(ctx)
				f(tb, conn)
				conn.HangUp()
			}
		}
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Nth(soon(t), 2) }),
			`the user "v" waited for message 2`, "deadline", "one 1")
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Nth(ctx, 0) }), "the first is 1")
		before := time.Now()
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Event(ctx, "two") }), `the event "two"`)
		if took := time.Since(before); took != 10*time.Second {
			t.Error("without a deadline it takes", took)
		}
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) {
			conn.Find(soon(t), "rain", func(*crosscast.Message) bool { return false })
		}), "waited for rain")
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.WaitClosed(soon(t)) }), "the end of the conn")
		before = time.Now()
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) {
			conn.HangUp()
			conn.Event(ctx, "two")
		}), "closed (client left)")
		if took := time.Since(before); took != 0 {
			t.Error("waiting for what a closed client cannot get takes", took)
		}
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Want() }), "one 1", "want nothing")
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Want("one 1", "one 1") }), "want")
		passes(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Want("one 1") }))
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.WantNone(ctx, c.Nodes[0]) }), "one 1")
		fails(t, func(tb testing.TB) { crosscasttest.NewConn(tb).Socket() }, "Bind")
		fails(t, func(tb testing.TB) {
			crosscasttest.Connect(ctx, tb, c.Nodes[0].Namespace, crosscast.ConnectOptions{User: strings.Repeat("x", 256)})
		}, "connecting")
		fails(t, with(func(tb testing.TB, conn *crosscasttest.Conn) { conn.Reply(conn.Nth(ctx, 1), nil) }), "EmitAck")
	})
}

// A fence finds what is under way.
func TestWantNone(t *testing.T) {
	inBubble(t, func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn) {
		emit := func(room, event string) {
			for range 100 {
				ok(t, c.Nodes[0].To(room).Emit(ctx, event, nil))
			}
		}
		emit("other", "x")
		conn.WantNone(ctx, c.Nodes[0])
		conn.WantNone(ctx, c.Nodes[1]) // the client's own node
		emit("r", "y")
		conn.WantNone(ctx, c.Nodes[0], "x", "z")
		conn.Clear()
		conn.WantNone(ctx, c.Nodes[0], "y")
		if got := conn.Lines(); len(got) != 0 {
			t.Errorf("a fence came as a message: %q", got)
		}
		fails(t, func(tb testing.TB) {
			conn := as(tb, c)
			emit("r", "y")
			conn.WantNone(ctx, c.Nodes[0], "x", "y")
		}, `"v" got what it should not`, "y\n\ty")
		other, err := c.Nodes[1].Of("other")
		ok(t, err)
		conn = crosscasttest.Connect(ctx, t, other, crosscast.ConnectOptions{})
		conn.Stall(0)
		conn.WantNone(ctx, c.Nodes[0])
		conn.HangUp()
		conn.WantNone(ctx, c.Nodes[0])
		fails(t, func(tb testing.TB) {
			conn := as(tb, c)
			ok(t, c.Nodes[0].Close(ctx))
			conn.WantNone(ctx, c.Nodes[0])
		}, "fence", crosscast.ErrClosed.Error())
	})
}

// The fence holds over a bus, where frames are packed by topic.
func TestWantNoneOverWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		var nodes []*crosscast.Node
		ports := []*membus.Port{hub.Port("a"), hub.Port("b")}
		for _, p := range ports {
			n, err := crosscast.Start(ctx, crosscast.Options{Adapter: wire.New(p, wire.Options{})})
			ok(t, err)
			defer n.Close(ctx)
			nodes = append(nodes, n)
		}
		ports[0].SetLatency(10 * time.Millisecond)
		passes(t, func(tb testing.TB) {
			conn := crosscasttest.Connect(ctx, tb, nodes[1].Namespace, crosscast.ConnectOptions{Rooms: []string{"a", "b"}})
			ok(t, nodes[0].To("c").Emit(ctx, "x", nil))
			conn.WantNone(ctx, nodes[0])
		})
		// What goes to the rooms takes its time, so that a fence that overtook it would be seen first.
		_, err := nodes[1].Connect(ctx, slowly{}, crosscast.ConnectOptions{Rooms: []string{"a", "b"}})
		ok(t, err)
		for _, room := range []string{"a", "b"} {
			fails(t, func(tb testing.TB) {
				conn := crosscasttest.Connect(ctx, tb, nodes[1].Namespace, crosscast.ConnectOptions{Rooms: []string{"a", "b"}})
				// The first opens a frame for this client's node, which the fence must not ride on.
				ok(t, nodes[0].ToSocket(conn.Socket().ID()).Emit(ctx, "first", nil))
				ok(t, nodes[0].To(room).Emit(ctx, "x", nil))
				conn.WantNone(ctx, nodes[0], "x")
			}, "\n\tx")
		}
	})
}

// slowly is a conn that takes a while for each message, which a conn must not.
type slowly struct{}

func (slowly) Send(*crosscast.Message) error { time.Sleep(time.Second); return nil }
func (slowly) Close(crosscast.Reason)        {}

func TestBadClients(t *testing.T) {
	inBubble(t, func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn) {
		room := c.Nodes[0].To("r")
		conn.Refuse(crosscast.ErrDropped)
		ok(t, room.Emit(ctx, "dropped", nil))
		c.Settle(ctx)
		conn.Refuse(nil)
		ok(t, room.Emit(ctx, "taken", nil))
		c.Settle(ctx)
		conn.Want("taken")

		conn.Stall(2)
		for _, event := range []string{"a", "b"} {
			ok(t, room.Emit(ctx, event, nil))
		}
		ok(t, room.Volatile().Emit(ctx, "volatile", nil))
		c.Settle(ctx)
		conn.Want()
		conn.Resume()
		ok(t, room.Emit(ctx, "c", nil))
		c.Settle(ctx)
		conn.Want("a", "b", "c")

		conn.Stall(1)
		for range 2 {
			ok(t, room.Emit(ctx, "much", nil))
		}
		if reason := conn.WaitClosed(ctx); reason != crosscast.ReasonSlow {
			t.Error("too slow:", reason)
		}
		conn.Resume()
		conn.Want()
		if err := conn.Send(&crosscast.Message{Event: "x"}); !errors.Is(err, crosscast.ErrClosed) {
			t.Error("after Close:", err)
		}

		broken := c.Connect(ctx, 1, crosscast.ConnectOptions{Rooms: []string{"r"}})
		broken.Refuse(errors.New("broken pipe"))
		ok(t, room.Emit(ctx, "x", nil))
		c.Settle(ctx)
		if reason, closed := broken.Closed(); !closed || reason != crosscast.ReasonLeft || !broken.Socket().Closed() {
			t.Error("broken:", reason, closed)
		}
		gone := c.Connect(ctx, 1, crosscast.ConnectOptions{})
		gone.HangUp()
		if reason, closed := gone.Closed(); !closed || reason != crosscast.ReasonLeft {
			t.Error("gone:", reason, closed)
		}
	})
}

func TestReplies(t *testing.T) {
	inBubble(t, func(t *testing.T, c *crosscasttest.Cluster, conn *crosscasttest.Conn) {
		bound := crosscasttest.NewConn(t) // gets a message before it knows its socket
		bound.ReplyWith(func(m *crosscast.Message) (any, bool) { return m.Event + "!", m.Event == "yes" })
		s, err := c.Nodes[0].Connect(ctx, bound, crosscast.ConnectOptions{Rooms: []string{"r"}})
		ok(t, err)
		answers := c.Nodes[0].To("r").EmitAck(ctx, "yes", nil)
		ok(t, conn.Reply(conn.Event(ctx, "yes"), "by hand"))
		bound.Bind(s)
		got := map[crosscast.SocketID]string{}
		for r := range answers.All() {
			got[r.Socket] = string(r.Payload.Data)
		}
		if err := answers.Err(); err != nil || got[s.ID()] != `"yes!"` || got[conn.Socket().ID()] != `"by hand"` {
			t.Error(got, err)
		}
		if err := conn.Reply(conn.Event(ctx, "yes"), "again"); !errors.Is(err, crosscast.ErrDropped) {
			t.Error("a second reply:", err)
		}
		conn.HangUp()
		answers = c.Nodes[0].To("r").EmitAck(soon(t), "no", nil)
		for r := range answers.All() {
			t.Error("a reply:", r)
		}
		if answers.Err() == nil {
			t.Error("nobody is silent")
		}
	})
}

func TestCluster(t *testing.T) {
	passes(t, func(tb testing.TB) { // outside of a bubble
		c := crosscasttest.NewCluster(tb, 3, crosscast.Options{Heartbeat: time.Minute})
		c.Add(crosscast.Options{Name: "late"})
		for i, n := range c.Nodes {
			if len(n.Nodes()) != 3 {
				t.Errorf("%s knows %d peers", n.Name(), len(n.Nodes()))
			}
			if name := []string{"node-0", "node-1", "node-2", "late"}[i]; n.Name() != name {
				t.Errorf("%s is called %s", name, n.Name())
			}
		}
		conn := c.Connect(ctx, 0, crosscast.ConnectOptions{Rooms: []string{"r"}})
		ok(t, c.Nodes[1].To("r").Emit(ctx, "x", nil))
		c.Settle(ctx)
		conn.Want("x")
		ok(t, c.Nodes[2].Close(ctx))
	})
	passes(t, func(tb testing.TB) {
		c := crosscasttest.NewCluster(tb, 2, crosscast.Options{Name: "a"}, crosscast.Options{Name: "b"})
		if c.Nodes[0].Name() != "a" || c.Nodes[1].Name() != "b" {
			t.Error("the names of the nodes:", c.Nodes[0].Name(), c.Nodes[1].Name())
		}
	})
	fails(t, func(tb testing.TB) {
		crosscasttest.NewCluster(tb, 3, crosscast.Options{}, crosscast.Options{})
	}, "2 Options for 3")
	fails(t, func(tb testing.TB) {
		crosscasttest.NewCluster(tb, 1, crosscast.Options{Adapter: crosscast.NewCluster().Adapter()})
	}, "Adapter")
	fails(t, func(tb testing.TB) { crosscasttest.NewCluster(tb, 1, crosscast.Options{Linger: -1}) }, "starting node-0")
}

func TestClusterThatDoesNotSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		fails(t, func(tb testing.TB) {
			c := crosscasttest.NewCluster(tb, 1, crosscast.Options{
				OnRoom: func(*crosscast.Node, crosscast.RoomEvent) { <-open },
			})
			c.Connect(ctx, 0, crosscast.ConnectOptions{Rooms: []string{"r"}})
			c.Settle(soon(t))
		}, "does not settle", "closing node-0") // the hook also holds up the node's end
		close(open)
	})
}

// The example's test, as tests are run.
func TestChat(t *testing.T) { testChat(t) }

func TestChatInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { testChat(t) })
}
