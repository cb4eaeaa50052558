package crosscast_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// settled starts three nodes of one cluster, the last one with hooks of its own.
func settled(t *testing.T, o crosscast.Options) (c *crosscast.Cluster, a, b, last *crosscast.Node) {
	c = crosscast.NewCluster()
	a = start(t, crosscast.Options{Adapter: c.Adapter()})
	b = start(t, crosscast.Options{Adapter: c.Adapter()})
	o.Adapter = c.Adapter()
	last = start(t, o)
	ok(t, c.Settle(ctx))
	return c, a, b, last
}

// gate lets a function of the application that is under way go on when the test says so.
type gate struct{ entered, open chan struct{} }

func newGate() gate { return gate{make(chan struct{}), make(chan struct{})} }

func (g gate) pass() {
	close(g.entered)
	<-g.open
}

// unsettled fails unless Settle waits for what is inside of g, and returns once that is let go.
func (g gate) unsettled(t *testing.T, what string, c *crosscast.Cluster) {
	t.Helper()
	<-g.entered
	done := make(chan error, 1)
	go func() { done <- c.Settle(ctx) }()
	synctest.Wait()
	select {
	case <-done:
		t.Errorf("Settle did not wait for %s", what)
	default:
	}
	close(g.open)
	ok(t, <-done)
}

func TestSettleWaitsForEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hook, message, gap, request := newGate(), newGate(), newGate(), newGate()
		sending, failing, closing := newGate(), newGate(), newGate()
		var hooked atomic.Bool
		c, a, b, last := settled(t, crosscast.Options{OnRoom: func(*crosscast.Node, crosscast.RoomEvent) {
			if hooked.CompareAndSwap(false, true) {
				hook.pass()
			}
		}})

		s := connectUser(t, last.Namespace, &recorder{}, "u", "x")
		hook.unsettled(t, "a hook", c)

		first := true
		_, err := b.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			if first {
				first = false
				message.pass()
			}
		}, OnGap: func(*crosscast.Subscription, crosscast.Gap) { gap.pass() }, QueueBytes: 1 << 10}, "sub")
		ok(t, err)
		ok(t, a.To("sub").Emit(ctx, "e", nil))
		message.unsettled(t, "a subscription", c)
		ok(t, a.To("sub").Emit(ctx, "e", make(crosscast.Bytes, 2<<10)))
		gap.unsettled(t, "the gap of a subscription", c)

		ok(t, b.OnRequest("r", func(context.Context, *crosscast.Request) (any, error) { request.pass(); return nil, nil }))
		ok(t, a.Servers().Only(b.ID()).Tell(ctx, "r", nil))
		request.unsettled(t, "a request", c)

		blocks := connFunc(func(*crosscast.Message) error { sending.pass(); return nil })
		connect(t, b.Namespace, blocks, "blocks")
		ok(t, a.To("blocks").Emit(ctx, "e", nil))
		sending.unsettled(t, "an instruction that is being handled", c)

		slow := connFunc(func(*crosscast.Message) error { return crosscast.ErrSlow })
		_, err = b.Connect(ctx, slow, crosscast.ConnectOptions{
			Rooms: []string{"slow"}, OnClose: func(*crosscast.Socket, crosscast.Reason) { failing.pass() },
		})
		ok(t, err)
		ok(t, a.To("slow").Emit(ctx, "e", nil))
		failing.unsettled(t, "the OnClose of a conn that failed", c)

		_, err = b.Connect(ctx, &recorder{}, crosscast.ConnectOptions{
			Rooms: []string{"bye"}, OnClose: func(*crosscast.Socket, crosscast.Reason) { closing.pass() },
		})
		ok(t, err)
		ok(t, a.To("bye").Disconnect(ctx, crosscast.ReasonServer))
		closing.unsettled(t, "the OnClose of a disconnected socket", c)
		equal(t, "closed", s.Closed(), false)
	})
}

// connFunc is a conn that is its Send.
type connFunc func(*crosscast.Message) error

func (f connFunc) Send(m *crosscast.Message) error { return f(m) }
func (connFunc) Close(crosscast.Reason)            {}

// What comes of something is under way, too: here a commanded join, whose interest is asked for, and an echo across the
// nodes.
func TestSettleWaitsForWhatComesOfIt(t *testing.T) {
	for range 200 { // outside of a bubble, where goroutines race
		c, a, b, last := settled(t, crosscast.Options{})
		got := &recorder{}
		connectUser(t, last.Namespace, got, "u")
		ok(t, a.ToUser("u").Join(ctx, "x"))
		ok(t, c.Settle(ctx))
		ok(t, b.To("x").Emit(ctx, "joined", nil))
		left := 20
		relay := func(n *crosscast.Node, from, to string) {
			_, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(*crosscast.Subscription, *crosscast.Message) {
				if left--; left > 0 {
					n.To(to).Emit(ctx, "ping", nil)
				} else {
					n.To("x").Emit(ctx, "end", nil)
				}
			}}, from)
			ok(t, err)
		}
		relay(a, "ping", "pong")
		relay(b, "pong", "ping")
		ok(t, last.To("ping").Emit(ctx, "ping", nil))
		ok(t, c.Settle(ctx))
		equal(t, "after Settle", got.take(), "joined end")
		for _, n := range []*crosscast.Node{a, b, last} {
			ok(t, n.Close(ctx))
		}
		ok(t, c.Settle(ctx))
	}
}

func TestSettleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a, b, _ := settled(t, crosscast.Options{})
		g := newGate()
		s := connect(t, b.Namespace, connFunc(func(*crosscast.Message) error { g.pass(); return nil }), "x")
		ok(t, a.To("x").Emit(ctx, "e", nil))
		<-g.entered
		ok(t, a.To("x").Emit(ctx, "discarded", nil))
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := c.Settle(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("with a context that ends:", err)
		}
		s.Close("")
		closed := make(chan error)
		go func() { closed <- b.Close(ctx) }()
		synctest.Wait()
		close(g.open)
		ok(t, <-closed)
		ok(t, c.Settle(ctx)) // what was queued for a node that closed is not under way any more
		ok(t, crosscast.NewCluster().Settle(ctx))
	})
}

// Settle waits for what watches are told of, also on other nodes.
func TestSettleWaitsForWatches(t *testing.T) {
	c, a, b, last := settled(t, crosscast.Options{})
	var told atomic.Int64
	for _, n := range []*crosscast.Node{a, b} {
		w, err := n.Watch(ctx, "r", crosscast.WatchOptions{OnChange: func(_ *crosscast.Watch, e crosscast.PresenceEvent) {
			told.Add(int64(len(e.Joined) - len(e.Left)))
		}})
		ok(t, err)
		defer w.Close()
	}
	for range 200 {
		s := connect(t, last.Namespace, &recorder{}, "r")
		ok(t, c.Settle(ctx))
		equal(t, "joined", told.Load(), 2)
		s.Close(crosscast.ReasonServer)
		ok(t, c.Settle(ctx))
		equal(t, "left", told.Load(), 0)
	}
}
