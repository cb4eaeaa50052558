package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// closings records when conns are closed, and why.
type closings struct {
	mu    sync.Mutex
	began time.Time
	all   []closing
	stall func(after time.Duration) // makes the drain stand still; nil: never
}

type closing struct {
	conn   int
	after  time.Duration
	reason crosscast.Reason
}

type closingConn struct {
	n int
	c *closings
}

func (closingConn) Send(*crosscast.Message) error { return nil }

func (v closingConn) Close(reason crosscast.Reason) {
	after := time.Since(v.c.began)
	v.c.mu.Lock()
	v.c.all = append(v.c.all, closing{v.n, after, reason})
	v.c.mu.Unlock()
	if v.c.stall != nil {
		v.c.stall(after)
	}
}

func (c *closings) connect(t *testing.T, ns *crosscast.Namespace, n int) *crosscast.Socket {
	t.Helper()
	s, err := ns.Connect(ctx, closingConn{n, c}, crosscast.ConnectOptions{Rooms: []string{"r"}})
	ok(t, err)
	return s
}

// so returns what was recorded so far.
func (c *closings) so() []closing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]closing(nil), c.all...)
}

// even fails if a part of a time in the drain has many more closings than the mean.
func (c *closings) even(t *testing.T, from, window time.Duration) {
	t.Helper()
	all := slices.DeleteFunc(c.so(), func(e closing) bool {
		return e.reason != crosscast.ReasonDrained || e.after < from || e.after >= from+window
	})
	for _, stretch := range []struct {
		of   time.Duration
		most float64 // times the mean
	}{{time.Second, 1.3}, {100 * time.Millisecond, 2.5}} {
		mean := float64(len(all)) * float64(stretch.of) / float64(window)
		count := make(map[time.Duration]int)
		for _, e := range all {
			count[(e.after-from)/stretch.of]++
		}
		for i, n := range count {
			if float64(n) > max(stretch.most*mean, 1) {
				t.Errorf("%d closings in a stretch of %v, %v after the notice; the mean is %.1f", n, stretch.of, i*stretch.of, mean)
			}
		}
	}
}

// drainBubble drains a node in fake time: 5 s of notice, and a window of 20 s.
func drainBubble(t *testing.T, sockets int, test func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error)) {
	synctest.Test(t, func(t *testing.T) {
		n, err := crosscast.Start(ctx, crosscast.Options{})
		ok(t, err)
		chat, err := n.Of("/chat")
		ok(t, err)
		c := &closings{began: time.Now()}
		for i := range sockets {
			ns := n.Namespace
			if i%3 == 0 {
				ns = chat
			}
			c.connect(t, ns, i)
		}
		ok(t, n.Ready())
		drained := make(chan error, 1)
		go func() { drained <- n.Drain(ctx, crosscast.DrainOptions{}) }()
		synctest.Wait()
		test(t, n, c, drained)
	})
}

// After the process has stood still, even over the end of the window, no 100 ms has many more closings than the mean.
func TestDrainStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := crosscast.Start(ctx, crosscast.Options{})
		ok(t, err)
		const sockets, window = 10_000, 20 * time.Second
		stalls := []time.Duration{5 * time.Second, window - 300*time.Millisecond}
		c := &closings{began: time.Now(), stall: func(after time.Duration) {
			if len(stalls) > 0 && after >= stalls[0] {
				stalls = stalls[1:]
				time.Sleep(600 * time.Millisecond) // lasts
			}
		}}
		for i := range sockets {
			c.connect(t, n.Namespace, i)
		}
		ok(t, n.Drain(ctx, crosscast.DrainOptions{Notice: -1, Window: window}))
		counts, most := make(map[time.Duration]int), 0
		for _, e := range c.so() {
			counts[e.after/(100*time.Millisecond)]++
			most = max(most, counts[e.after/(100*time.Millisecond)])
			if e.after > window+time.Second {
				t.Fatalf("closed after %v", e.after)
			}
		}
		if mean := sockets / 200; most > mean*5/2 || len(stalls) > 0 {
			t.Errorf("%d closings in 100 ms, and the mean is %d", most, mean)
		}
		equal(t, "closed sockets", len(c.so()), sockets)
	})
}

// All sockets of all namespaces go one after the other, in another order than they came, and none is late.
func TestDrainIsEvenAndRandom(t *testing.T) {
	for _, sockets := range []int{0, 1, 500, 10_000} {
		t.Run(fmt.Sprint(sockets), func(t *testing.T) {
			drainBubble(t, sockets, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
				ok(t, <-drained)
				all := c.so()
				equal(t, "closed sockets", len(all), sockets)
				c.even(t, 5*time.Second, 20*time.Second)
				rises := 0
				for i, e := range all {
					if e.after < 5*time.Second || e.after > 25*time.Second || e.reason != crosscast.ReasonDrained {
						t.Fatalf("the closing of socket %d: %+v", i, e)
					}
					if i > 0 && e.conn > all[i-1].conn {
						rises++
					}
				}
				// In a random order about half of the steps rise. Another tenth is dozens of standard deviations away.
				if sockets == 10_000 && (rises < sockets*4/10 || rises > sockets*6/10) {
					t.Errorf("%d of %d steps rise: this is no random order", rises, sockets)
				}
				if sockets == 10_000 && time.Since(c.began) < 24*time.Second {
					t.Errorf("drained after %v", time.Since(c.began))
				}
			})
		})
	}
}

// During the notice the node is not ready, and takes sockets all the same. Then it refuses them.
func TestDrainNotice(t *testing.T) {
	drainBubble(t, 100, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
		if err := n.Ready(); !errors.Is(err, crosscast.ErrDraining) {
			t.Error("Ready:", err)
		}
		time.Sleep(4900 * time.Millisecond)
		ok(t, n.Accepts())
		late := new(recorder)
		connect(t, n.Namespace, late, "r")
		equal(t, "sockets that are closed in the notice", len(c.so()), 0)
		time.Sleep(time.Second)
		if err := n.Accepts(); !errors.Is(err, crosscast.ErrDraining) {
			t.Error("Accepts:", err)
		}
		_, err := n.Connect(ctx, new(recorder), crosscast.ConnectOptions{})
		if !errors.Is(err, crosscast.ErrDraining) {
			t.Error("Connect:", err)
		}
		ok(t, n.To("r").Emit(ctx, "e", nil)) // the node is what it was for its clients
		ok(t, <-drained)
		equal(t, "the last socket's end", late.reasons(), string(crosscast.ReasonDrained))
		for _, err := range []error{n.Ready(), n.Accepts()} {
			if !errors.Is(err, crosscast.ErrClosed) {
				t.Error("after the drain:", err)
			}
		}
	})
}

// Sockets that leave by themselves do not make the rest faster at first, or slower later, than what is left of the window.
func TestDrainWhileSocketsLeave(t *testing.T) {
	drainBubble(t, 0, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
		var leavers []*crosscast.Socket
		for i := range 2000 {
			if s := c.connect(t, n.Namespace, i); i%2 == 0 {
				leavers = append(leavers, s)
			}
		}
		time.Sleep(15*time.Second - time.Millisecond) // almost the middle of the window
		equal(t, "sockets that are closed in the first half", len(c.so()), 999)
		for _, s := range leavers {
			s.Close(crosscast.ReasonLeft)
		}
		ok(t, <-drained)
		all := c.so()
		equal(t, "closed sockets", len(all), 2000)
		c.even(t, 5*time.Second, 10*time.Second)
		c.even(t, 15*time.Second, 10*time.Second)
		if last := all[len(all)-1].after; last < 24*time.Second {
			t.Errorf("the last socket was closed after %v", last)
		}
	})
}

// What ends a drain early: its context, and Close.
func TestDrainEndsEarly(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 10 * time.Second} {
		t.Run(fmt.Sprint("context/", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, crosscast.Options{})
				c := &closings{began: time.Now()}
				for i := range 100 {
					c.connect(t, n.Namespace, i)
				}
				short, cancel := context.WithTimeout(ctx, after)
				defer cancel()
				if err := n.Drain(short, crosscast.DrainOptions{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				equal(t, "the time", time.Since(c.began), after)
				synctest.Wait()
				all := c.so()
				equal(t, "closed sockets", len(all), 100)
				for _, e := range all {
					if e.reason != crosscast.ReasonDrained {
						t.Fatalf("%+v", e)
					}
				}
			})
		})
		t.Run(fmt.Sprint("Close/", after), func(t *testing.T) {
			drainBubble(t, 100, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
				time.Sleep(after)
				ok(t, n.Close(ctx))
				ok(t, <-drained)
				equal(t, "the time", time.Since(c.began), after)
				all := c.so()
				equal(t, "closed sockets", len(all), 100)
				equal(t, "the last one's reason", all[99].reason, crosscast.ReasonShutdown)
			})
		})
	}
}

// A second Drain waits for the first, whatever its options are, and one after Close is a Close.
func TestDrainTwice(t *testing.T) {
	drainBubble(t, 100, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := n.Drain(short, crosscast.DrainOptions{}); err != context.DeadlineExceeded {
			t.Error("with a short context:", err)
		}
		ok(t, n.Drain(ctx, crosscast.DrainOptions{Notice: -1, Window: -1}))
		ok(t, <-drained)
		if d := time.Since(c.began); d < 24*time.Second || d > 25*time.Second {
			t.Error("drained after", d)
		}
		ok(t, n.Drain(ctx, crosscast.DrainOptions{}))
	})
}

func TestDrainOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		for _, o := range []crosscast.DrainOptions{{Notice: 2 * time.Hour}, {Window: 2 * time.Hour}} {
			if n.Drain(ctx, o) == nil || n.Ready() != nil {
				t.Errorf("%+v", o)
			}
		}
		c := &closings{began: time.Now()}
		for i := range 100 {
			c.connect(t, n.Namespace, i)
		}
		ok(t, n.Drain(ctx, crosscast.DrainOptions{Notice: -1, Window: -1}))
		equal(t, "the time without notice and window", time.Since(c.began), 0)
		equal(t, "closed sockets", len(c.so()), 100)
	})
}

// A function of the application's that waits in OnClose does not hold up the other sockets.
func TestDrainDoesNotWaitForOnClose(t *testing.T) {
	drainBubble(t, 100, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
		_, err := n.Connect(ctx, new(recorder), crosscast.ConnectOptions{
			OnClose: func(*crosscast.Socket, crosscast.Reason) { time.Sleep(time.Minute) },
		})
		ok(t, err)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		equal(t, "closed sockets", len(c.so()), 100)
		ok(t, <-drained)
	})
}

// After a time in which the drain could not go on, it does not make up for it at once.
func TestDrainAfterAStandstill(t *testing.T) {
	drainBubble(t, 0, func(t *testing.T, n *crosscast.Node, c *closings, drained <-chan error) {
		var once sync.Once
		for i := range 2000 {
			_, err := n.Connect(ctx, standstill{closingConn{i, c}, &once}, crosscast.ConnectOptions{})
			ok(t, err)
		}
		ok(t, <-drained)
		equal(t, "closed sockets", len(c.so()), 2000)
		c.even(t, 17*time.Second, 8*time.Second) // the rest of the window
	})
}

// A standstill is a conn that breaks the rule that Close does not block: one of them does, for 2 s, in the middle.
type standstill struct {
	closingConn
	once *sync.Once
}

func (v standstill) Close(reason crosscast.Reason) {
	v.closingConn.Close(reason)
	if time.Since(v.c.began) > 15*time.Second {
		v.once.Do(func() { time.Sleep(2 * time.Second) })
	}
}
