package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// An earlyConn fails the test when it is called after its Connect has failed.
type earlyConn struct {
	recorder
	t    *testing.T
	gate chan struct{} // what Send waits for; nil: nothing
	ends chan struct{} // what Done returns
	over bool          // its Connect has failed; guarded by recorder.mu
}

func (c *earlyConn) Send(m *crosscast.Message) error {
	c.check("Send")
	if c.gate != nil {
		<-c.gate
	}
	c.check("the end of Send")
	return c.recorder.Send(m)
}

func (c *earlyConn) Close(r crosscast.Reason) {
	c.check("Close")
	c.recorder.Close(r)
	close(c.ends)
}

func (c *earlyConn) Done() <-chan struct{} { return c.ends }

func (c *earlyConn) check(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		c.t.Errorf("%s after Connect has failed", what)
	}
}

func (c *earlyConn) failed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

// connecting begins to connect a conn to the room "r", and returns when Connect waits for a driver that never confirms.
func connecting(
	t *testing.T, with context.Context, c *earlyConn,
) (n *crosscast.Node, s *crosscast.Socket, result chan error, got **crosscast.Socket) {
	n, d := interestNode(t, crosscast.Options{})
	d.answer(func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() })
	c.t, c.ends = t, make(chan struct{})
	result, got = make(chan error, 1), new(*crosscast.Socket)
	go func() {
		socket, err := n.Connect(with, c, crosscast.ConnectOptions{
			User: "u", Rooms: []string{"r"}, OnClose: func(_ *crosscast.Socket, why crosscast.Reason) { c.Send(message(why)) },
		})
		if err != nil {
			c.failed()
		}
		*got = socket
		result <- err
	}()
	synctest.Wait()
	return n, n.Members("r")[0], result, got
}

func message(why crosscast.Reason) *crosscast.Message {
	return &crosscast.Message{Event: "OnClose: " + string(why)}
}

// After an error of Connect the conn is untouched: nothing that was under way to it goes on, and nothing comes later.
func TestConnectThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &earlyConn{gate: make(chan struct{})}
		with, cancel := context.WithCancel(ctx)
		n, s, result, got := connecting(t, with, c)
		var wg sync.WaitGroup
		wg.Go(func() { ok(t, n.To("r").Emit(ctx, "early", nil)) })
		synctest.Wait() // in Send
		cancel()
		synctest.Wait()
		equal(t, "Connect has returned while Send runs", len(result), 0)
		if err := s.Emit(ctx, "late", nil); !errors.Is(err, crosscast.ErrClosed) {
			t.Errorf("Emit: %v", err)
		}
		close(c.gate)
		if err := <-result; !errors.Is(err, context.Canceled) || *got != nil {
			t.Errorf("Connect: %v, %v", *got, err)
		}
		wg.Wait()
		ok(t, n.To("r").Emit(ctx, "late", nil))
		if err := s.Join(ctx, "s"); !errors.Is(err, crosscast.ErrClosed) {
			t.Errorf("Join: %v", err)
		}
		s.Close(crosscast.ReasonServer)
		equal(t, "sent", c.take(), "early")
		equal(t, "closed for", c.reasons(), "")
		equal(t, "sockets", n.Stats().Sockets, 0)
		equal(t, "memberships", n.Stats().Memberships, 0)
		ok(t, n.Close(ctx)) // waits for nobody
	})
}

// A Connect might get the signal of another one, because signals are used again. It waits on.
func TestConnectIsWokenForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with, cancel := context.WithCancel(ctx)
		defer cancel()
		for _, with := range []context.Context{ctx, with} {
			n, s, result, _ := connecting(t, with, new(earlyConn))
			s.WakeConnect()
			synctest.Wait()
			equal(t, "Connect has returned", len(result), 0)
			s.Close(crosscast.ReasonServer)
			ok(t, <-result)
			ok(t, n.Close(ctx))
		}
	})
}

// A socket that somebody else closes while Connect waits was a socket: its conn is closed, and OnClose called.
func TestConnectOfASocketThatIsClosed(t *testing.T) {
	for name, v := range map[string]struct {
		do   func(t *testing.T, n *crosscast.Node, s *crosscast.Socket, c *earlyConn)
		want string
	}{
		"by a command": {func(t *testing.T, n *crosscast.Node, _ *crosscast.Socket, _ *earlyConn) {
			ok(t, n.To("r").Disconnect(ctx, "out"))
		}, "out"},
		"by its node": {func(t *testing.T, n *crosscast.Node, _ *crosscast.Socket, _ *earlyConn) {
			ok(t, n.Close(ctx))
		}, string(crosscast.ReasonShutdown)},
		"by a conn that failed": {func(t *testing.T, n *crosscast.Node, _ *crosscast.Socket, c *earlyConn) {
			c.fail(crosscast.ErrSlow)
			ok(t, n.To("r").Emit(ctx, "e", nil))
		}, string(crosscast.ReasonSlow)},
		"by whoever found it": {func(_ *testing.T, _ *crosscast.Node, s *crosscast.Socket, _ *earlyConn) {
			s.Close(crosscast.ReasonServer)
		}, string(crosscast.ReasonServer)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := new(earlyConn)
				began := time.Now()
				n, s, result, got := connecting(t, ctx, c)
				v.do(t, n, s, c)
				ok(t, <-result)
				if *got != s || !s.Closed() {
					t.Errorf("Connect: %v", *got)
				}
				synctest.Wait()
				equal(t, "closed for", c.reasons(), v.want)
				c.fail(nil)
				if want := "OnClose: " + v.want; name != "by a conn that failed" {
					equal(t, "sent", c.take(), want)
				}
				equal(t, "took", time.Since(began), 0)
			})
		})
	}
}

// Many sockets connect while others emit to them, commands disconnect them, and contexts end. The conns of those that
// failed are not called any more, and the others are closed once, or stay.
func TestConnectUnderConcurrency(t *testing.T) {
	withCrowds(t, func(t *testing.T) { synctest.Test(t, testConnectUnderConcurrency) })
}

func testConnectUnderConcurrency(t *testing.T) {
	n, d := interestNode(t, crosscast.Options{Linger: time.Millisecond})
	d.answer(func(ctx context.Context, names []string) error {
		time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
		return refuse(crosscast.ErrDenied, fmt.Sprint("r", rand.IntN(20)))(ctx, names)
	})
	quit := make(chan struct{})
	var emitters sync.WaitGroup
	for range 4 {
		emitters.Go(func() {
			for {
				select {
				case <-quit:
					return
				case <-time.After(time.Duration(1+rand.IntN(1000)) * time.Microsecond):
				}
				room := n.To(fmt.Sprint("r", rand.IntN(20)))
				if rand.IntN(8) == 0 {
					room.Disconnect(ctx, "out")
				} else {
					room.Emit(ctx, "e", nil)
				}
			}
		})
	}
	var mu sync.Mutex
	open, failed := 0, 0
	var wg sync.WaitGroup
	for range 3000 {
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(1_000_000)) * time.Microsecond)
			c := &earlyConn{t: t, ends: make(chan struct{})}
			with, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(6))*time.Millisecond)
			defer cancel()
			s, err := n.Connect(with, c, crosscast.ConnectOptions{Rooms: []string{fmt.Sprint("r", rand.IntN(20))}})
			if err != nil {
				c.failed()
			}
			if (s == nil) != (err != nil) {
				t.Errorf("Connect: %v, %v", s, err)
			}
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failed++
				equal(t, "closed for", c.reasons(), "")
			case s.Closed():
				equal(t, "closed for", c.reasons(), "out")
			default:
				open++
				s.Close(crosscast.ReasonLeft)
			}
		})
	}
	wg.Wait()
	close(quit)
	emitters.Wait()
	if open == 0 || failed == 0 || open+failed == 3000 {
		t.Errorf("%d open, %d failed of 3000: nothing was tried", open, failed)
	}
	equal(t, "sockets", n.Stats().Sockets, 0)
	ok(t, n.Close(ctx))
	d.answer(nil)
}

// A subscription that was not waited for hears nothing any more.
func TestSubscribeThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		d.answer(func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var l log
		step := make(chan struct{})
		result := make(chan error, 1)
		go func() {
			s, err := n.Subscribe(short, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
				l.add("%s", m.Event)
				<-step
			}}, "r")
			if s != nil {
				t.Error("a subscription beside an error")
			}
			result <- err
		}()
		synctest.Wait()
		ok(t, n.To("r").Emit(ctx, "early", nil))
		ok(t, n.To("r").Emit(ctx, "queued", nil))
		synctest.Wait()
		if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Subscribe: %v", err)
		}
		close(step)
		ok(t, n.To("r").Emit(ctx, "late", nil))
		synctest.Wait()
		equal(t, "got", l.take(), "early")
	})
}
