package crosscast_test

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"go.uber.org/goleak"
)

// A pumpedClient takes what is tried as far as free goes: so many frames, or all of them if it is negative. What it does
// not take is written with a wait for the gate.
type pumpedClient struct {
	batchClient
	free  atomic.Int32
	err   error         // of a try
	hold  chan struct{} // if set, a try waits for it
	tries atomic.Int32
}

func newPumpedClient(t *testing.T, free int, o crosscast.QueueOptions) *pumpedClient {
	c := &pumpedClient{batchClient: batchClient{client: client{t: t}, gate: make(chan outcome)}}
	c.free.Store(int32(free))
	o.BurstTime = -1
	o.OnClose = func(reason crosscast.Reason) {
		c.client.mu.Lock()
		defer c.client.mu.Unlock()
		c.closed = append(c.closed, reason)
	}
	o.TryWrite, o.Budget = c.try, cmp.Or(o.Budget, testBudget)
	c.q = crosscast.NewBatchQueue(c.write, o)
	return c
}

func (c *pumpedClient) try(frames [][]byte) (int, error) {
	c.tries.Add(1)
	if c.hold != nil {
		<-c.hold
	}
	n := len(frames)
	if free := int(c.free.Load()); free >= 0 {
		n = min(n, free)
		c.free.Store(int32(free - n))
	}
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	for _, f := range frames[:n] {
		c.got = append(c.got, string(f))
	}
	return n, c.err
}

func TestPump(t *testing.T) {
	run := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { bubble(t, f) })
	}
	run("a client that keeps up has no goroutine", func(t *testing.T) {
		c := newPumpedClient(t, -1, crosscast.QueueOptions{})
		for range 2 {
			c.send("a", nil)
			synctest.Wait()
		}
		c.wantGot("a", "a")
		c.wantBatches()
		c.wantStats(crosscast.QueueStats{WrittenFrames: 2, WrittenBytes: 2, HighWater: 1 + cost, Starts: 2})
		c.end()
	})
	run("what cannot be tried is written", func(t *testing.T) {
		c := newPumpedClient(t, 0, crosscast.QueueOptions{})
		c.stall()
		c.send("a", nil)
		c.send("bb", nil)
		c.let(all, nil) // of the first; then both others wait for one write
		c.wantBatches("first", "a bb")
		c.let(1, nil)
		c.wantBatches("first", "a bb", "bb")
		c.wantStats(crosscast.QueueStats{WrittenFrames: 2, WrittenBytes: 6, HighWater: 3 + 2*cost, Starts: 1})
		c.let(all, nil)
		if n := c.tries.Load(); n != 1 {
			t.Errorf("%d tries while there is a goroutine", n)
		}
		c.free.Store(-1)
		c.send("c", nil)
		synctest.Wait()
		c.wantGot("first", "a", "bb", "c")
		c.wantBatches("first", "a bb", "bb")
		c.end()
	})
	run("the others are written", func(t *testing.T) {
		var queues []*crosscast.Queue
		stuck := newPumpedClient(t, 0, crosscast.QueueOptions{})
		stuck.stall()
		for range 100 {
			c := newPumpedClient(t, -1, crosscast.QueueOptions{})
			c.send("a", nil)
			stuck.send("a", nil)
			synctest.Wait()
			c.wantGot("a")
			queues = append(queues, c.q)
		}
		for _, q := range queues {
			q.Close(crosscast.ReasonServer)
		}
		stuck.end()
	})
	run("a part of a batch", func(t *testing.T) {
		c := newPumpedClient(t, -1, crosscast.QueueOptions{})
		c.hold = make(chan struct{})
		c.stall()
		for _, s := range []string{"a", "b", "c", "d"} {
			c.send(s, nil)
		}
		c.hold <- struct{}{} // "first" is written
		synctest.Wait()
		c.free.Store(2)
		close(c.hold)
		synctest.Wait()
		c.wantGot("first", "a", "b")
		c.wantBatches("c d")
		c.wantStats(crosscast.QueueStats{
			QueuedFrames: 1, QueuedBytes: 1 + cost, BatchFrames: 1, BatchBytes: 1 + cost,
			WrittenFrames: 3, WrittenBytes: 7, HighWater: 4 + 4*cost, Starts: 1,
		})
		c.let(all, nil)
		c.wantGot("first", "a", "b", "c", "d")
		c.end()
	})
	run("a notice is in its place", func(t *testing.T) {
		c := newPumpedClient(t, -1, crosscast.QueueOptions{
			Limit: 2 * (1 + cost), Policy: crosscast.QueueDropOldest, DropNotice: notice,
		})
		c.hold = make(chan struct{})
		c.stall()
		for _, s := range []string{"a", "b", "c", "d"} {
			c.send(s, nil)
		}
		close(c.hold)
		synctest.Wait()
		c.wantBatches("-2-") // DropNotice might block, so a goroutine goes on
		close(c.gate)
		synctest.Wait()
		c.wantGot("first", "-2-", "c", "d")
		c.q.Close(crosscast.ReasonServer)
	})
	run("a notice behind all that waits", func(t *testing.T) {
		c := newPumpedClient(t, -1, crosscast.QueueOptions{Policy: crosscast.QueueDropOldest, DropNotice: notice})
		c.hold = make(chan struct{})
		c.stall()
		if err := c.q.SendNotice([]byte("sent"), time.Now()); !errors.Is(err, crosscast.ErrDropped) {
			t.Error(err)
		}
		close(c.hold)
		close(c.gate)
		synctest.Wait()
		c.wantGot("first", "-0-")
		c.q.Close(crosscast.ReasonServer)
	})
	run("an error ends the queue", func(t *testing.T) {
		c := newPumpedClient(t, 1, crosscast.QueueOptions{})
		c.err = errors.New("broken pipe")
		c.send("a", nil)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonLeft)
		c.wantDone(true)
		c.send("b", c.err)
		c.wantStats(crosscast.QueueStats{WrittenFrames: 1, WrittenBytes: 1, HighWater: 1 + cost, Starts: 1})
	})
	run("a close", func(t *testing.T) {
		c := newPumpedClient(t, -1, crosscast.QueueOptions{})
		c.send("a", nil)
		c.q.Close(crosscast.ReasonServer) // the frame is written all the same
		<-c.q.Done()
		c.wantGot("a")
		c.wantClosed(crosscast.ReasonServer)
		c.wantStats(crosscast.QueueStats{WrittenFrames: 1, WrittenBytes: 1, HighWater: 1 + cost, Starts: 1})
	})
	run("a close while something is stuck", func(t *testing.T) {
		c := newPumpedClient(t, 0, crosscast.QueueOptions{})
		c.stall()
		c.send("a", nil)
		c.q.Close(crosscast.ReasonServer)
		synctest.Wait()
		c.wantClosed()
		close(c.gate)
		<-c.q.Done()
		c.wantGot("first", "a")
		c.wantClosed(crosscast.ReasonServer)
	})
}

// TestPumpAfterTheEnd: the rest of a tried frame is written even if the queue has ended meanwhile, and counts as nothing
// that waits.
func TestPumpAfterTheEnd(t *testing.T) {
	run := func(name string, o crosscast.QueueOptions, end func(c *pumpedClient), reason crosscast.Reason) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newPumpedClient(t, -1, o)
				c.hold = make(chan struct{})
				c.stall()
				for _, s := range []string{"a", "b", "c", "d"} {
					c.send(s, nil)
				}
				c.hold <- struct{}{}
				synctest.Wait()
				c.free.Store(1) // the second one might have been written in part
				end(c)
				time.Sleep(time.Minute)
				c.wantClosed(reason)
				c.wantDone(false)
				c.hold <- struct{}{}
				synctest.Wait()
				c.wantBatches("b c d")
				c.wantDone(false)
				c.let(1, nil)
				c.wantBatches("b c d")
				c.wantGot("first", "a", "b")
				c.wantClosed(reason)
				c.wantDone(true)
				got := c.q.Stats()
				if got.WrittenFrames != 3 || got.Dropped < 2 || got.QueuedFrames != 0 || got.QueuedBytes != 0 || got.BatchBytes != 0 {
					t.Errorf("stats %+v", got)
				}
			})
		})
	}
	run("closed", crosscast.QueueOptions{CloseGrace: -1}, func(c *pumpedClient) {
		c.q.Close(crosscast.ReasonServer)
	}, crosscast.ReasonServer)
	run("the grace is over", crosscast.QueueOptions{}, func(c *pumpedClient) {
		c.q.Close(crosscast.ReasonServer)
	}, crosscast.ReasonServer)
	run("too slow", crosscast.QueueOptions{Limit: 4000}, func(c *pumpedClient) {
		c.send("e", nil)
		c.send(strings.Repeat("f", 4000), crosscast.ErrSlow)
	}, crosscast.ReasonSlow)
}

// TestPumpStats: a queue has nothing of one that was served before it.
func TestPumpStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ends := newPumpedClient(t, -1, crosscast.QueueOptions{CloseGrace: -1})
		ends.hold = make(chan struct{})
		ends.stall()
		for range 3 {
			ends.send("a", nil)
		}
		ends.hold <- struct{}{}
		synctest.Wait()
		making := make(chan struct{})
		c := newPumpedClient(t, -1, crosscast.QueueOptions{
			Limit: 2 * (1 + cost), Policy: crosscast.QueueDropOldest,
			DropNotice: func(crosscast.QueueDrop) []byte { <-making; return nil },
		})
		for range 3 {
			c.send("a", nil)
		}
		ends.q.Close(crosscast.ReasonServer)
		close(ends.hold)
		synctest.Wait()
		if got := c.q.Stats(); got.BatchFrames != 0 || got.BatchBytes != 0 {
			t.Errorf("stats %+v", got)
		}
		close(making)
		c.end()
	})
}

// TestPumpInBubble: a budget has its own goroutines, so a bubble of synctest does not depend on what else runs.
func TestPumpInBubble(t *testing.T) {
	trying, end := make(chan struct{}), make(chan struct{})
	outside := crosscast.NewQueue(func([]byte) error { panic("written") }, crosscast.QueueOptions{
		TryWrite: func([][]byte) (int, error) { close(trying); <-end; return 1, nil },
	})
	_ = outside.SendFrame([]byte("outside"))
	<-trying
	bubble(t, func(t *testing.T) {
		c := newPumpedClient(t, -1, crosscast.QueueOptions{})
		c.send("a", nil)
		synctest.Wait()
		c.wantGot("a")
		close(end) // so that a failure is not a deadlock
		c.end()
	})
	outside.Close(crosscast.ReasonServer)
	<-outside.Done()
}

// TestPumpGuards: a TryWrite that panics, or ends its goroutine, ends its queue only.
func TestPumpGuards(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for name, fail := range map[string]func(){"panic": func() { panic("no luck") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var all []*pumpedClient
				for range 10 {
					all = append(all, newPumpedClient(t, -1, crosscast.QueueOptions{}))
				}
				closed := make(chan crosscast.Reason, 2)
				q := crosscast.NewBatchQueue(func([][]byte) (int, error) { panic("written") }, crosscast.QueueOptions{
					Budget:   testBudget,
					TryWrite: func([][]byte) (int, error) { fail(); return 0, nil },
					OnClose:  func(r crosscast.Reason) { closed <- r },
				})
				for i, c := range all {
					c.send("a", nil)
					if i == 5 {
						_ = q.SendFrame([]byte("x"))
					}
				}
				<-q.Done()
				if r := <-closed; r != crosscast.ReasonInternal {
					t.Errorf("closed with %q", r)
				}
				if s := q.Stats(); s.Dropped != 1 || s.QueuedFrames != 0 {
					t.Errorf("stats %+v", s)
				}
				synctest.Wait()
				for _, c := range all {
					c.wantGot("a")
					c.end()
				}
			})
		})
	}
}

// TestPumpsAreFew: however many queues there are, few goroutines write for them, and none is left.
func TestPumpsAreFew(t *testing.T) {
	before := goleak.IgnoreCurrent()
	const n = 1000
	most := int32(runtime.GOMAXPROCS(0))
	var written sync.WaitGroup
	var trying atomic.Int32
	var queues []*crosscast.Queue
	for range n {
		queues = append(queues, crosscast.NewBatchQueue(
			func([][]byte) (int, error) { panic("written") },
			crosscast.QueueOptions{TryWrite: func(frames [][]byte) (int, error) {
				if k := trying.Add(1); k > most {
					t.Errorf("%d pumps", k)
				}
				runtime.Gosched()
				trying.Add(-1)
				written.Add(-len(frames))
				return len(frames), nil
			}}))
	}
	for range 10 {
		for _, q := range queues {
			written.Add(1)
			if err := q.SendFrame([]byte("frame")); err != nil {
				t.Fatal(err)
			}
		}
	}
	written.Wait()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// TestPumpLeavesAProcessor: the pumps are as many as the processors, and one less while many frames wait. A few queues do
// not change that.
func TestPumpLeavesAProcessor(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	synctest.Test(t, func(t *testing.T) {
		trying := make(chan chan struct{}, 1000)    // of each call that waits: what ends it
		budget := crosscast.NewQueueBudget(1 << 20) // its pumps serve no other test, and have not seen one
		var queues []*crosscast.Queue
		for range cap(trying) {
			queues = append(queues, crosscast.NewBatchQueue(func([][]byte) (int, error) { panic("written") }, crosscast.QueueOptions{
				Budget: budget,
				TryWrite: func(frames [][]byte) (int, error) {
					written := make(chan struct{})
					trying <- written
					<-written
					return len(frames), nil
				},
			}))
		}
		serve := func(queues []*crosscast.Queue, frames int) (pumps int) {
			for range frames {
				for _, q := range queues {
					if err := q.SendFrame([]byte("frame")); err != nil {
						t.Fatal(err)
					}
				}
			}
			synctest.Wait()
			pumps = len(trying)
			for len(trying) > 0 {
				close(<-trying)
				synctest.Wait()
			}
			return pumps
		}
		all, less, unchecked := procs, max(procs-1, 1), 0
		for i, step := range []struct{ queues, frames, pumps int }{
			{1000, 1, all},        // at first
			{1000, 10, all},       // ten are not many
			{1000, 100, all},      // nobody has seen yet that many wait
			{600, 1, less},        // seen
			{1000, 1, all},        // forgotten
			{100, 100, unchecked}, // too few queues for as many pumps as a large machine might have
			{1000, 1, all},        // they do not count
		} {
			if n := serve(queues[:step.queues], step.frames); step.pumps != unchecked && n != step.pumps {
				t.Errorf("step %d: %d pumps, want %d", i, n, step.pumps)
			}
		}
	})
}

// TestPumpTakesTurns: a queue that always has more does not keep the others waiting.
func TestPumpTakesTurns(t *testing.T) {
	served := make(chan struct{})
	var busy []*crosscast.Queue
	var over atomic.Bool
	for i := range 3 {
		busy = append(busy, crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{
			TryWrite: func(frames [][]byte) (int, error) {
				if !over.Load() {
					_ = busy[i].SendFrame(frames[0])
				}
				return len(frames), nil
			},
		}))
	}
	for _, q := range busy {
		_ = q.SendFrame([]byte("again"))
	}
	for range 10 {
		q := crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{
			TryWrite: func([][]byte) (int, error) { served <- struct{}{}; return 1, nil },
		})
		_ = q.SendFrame([]byte("once"))
		<-served
	}
	over.Store(true)
	for _, q := range busy {
		q.Close(crosscast.ReasonServer)
		<-q.Done()
	}
}

// TestPumpConcurrently has senders race each other, Close, and clients that take a part of each batch, or nothing.
func TestPumpConcurrently(t *testing.T) {
	const queues, senders, each = 20, 4, 500
	for _, how := range []string{"", "closing", "breaking"} {
		t.Run(how, func(t *testing.T) {
			var wg sync.WaitGroup
			for range queues {
				last := map[byte]int{}
				calls, written, owed := 0, 0, false
				take := func(frames [][]byte, n int) (int, error) {
					calls++
					for _, f := range frames[:n] {
						if f[0] == '-' {
							continue
						}
						var i int
						if _, err := fmt.Sscan(string(f[1:]), &i); err != nil || i <= last[f[0]] {
							t.Errorf("%q came after %d: %v", f, last[f[0]], err)
						}
						last[f[0]] = i
						written++
					}
					if how == "breaking" && calls == 100 {
						return n, errors.New("broken")
					}
					return n, nil
				}
				q := crosscast.NewBatchQueue(func(frames [][]byte) (int, error) {
					owed = false
					return take(frames, 1+rand.IntN(len(frames)))
				}, crosscast.QueueOptions{
					Limit: 8000, Policy: crosscast.QueueDropOldest, DropNotice: notice,
					TryWrite: func(frames [][]byte) (int, error) {
						if owed {
							t.Error("tried again before the rest was written")
						}
						n := rand.IntN(len(frames) + 1)
						owed = n < len(frames)
						n, err := take(frames, n)
						owed = owed && err == nil
						return n, err
					},
				})
				var offered atomic.Int64
				var sent sync.WaitGroup
				for s := range senders {
					sent.Go(func() {
						for i := range each {
							err := q.SendFrame(fmt.Appendf(nil, "%c%d", 'a'+s, i+1))
							if how == "closing" && s == 0 && i == each/2 {
								q.Close(crosscast.ReasonServer)
							}
							if err == nil || errors.Is(err, crosscast.ErrDropped) {
								offered.Add(1)
							}
						}
					})
				}
				wg.Go(func() {
					sent.Wait()
					q.Close(crosscast.ReasonServer)
					<-q.Done()
					got := q.Stats()
					if int64(got.WrittenFrames+got.Dropped) != offered.Load() || written != int(got.WrittenFrames) || owed ||
						got.QueuedFrames != 0 || got.QueuedBytes != 0 || got.BatchFrames != 0 {
						t.Errorf("%d were offered, %d written, stats %+v", offered.Load(), written, got)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestPumpAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	written := make(chan struct{}, 100)
	var queues []*crosscast.Queue
	for range 100 {
		queues = append(queues, crosscast.NewBatchQueue(func([][]byte) (int, error) { panic("written") }, crosscast.QueueOptions{
			TryWrite: func(frames [][]byte) (int, error) { written <- struct{}{}; return len(frames), nil },
		}))
	}
	frame := []byte("frame")
	if n := testing.AllocsPerRun(100, func() {
		for _, q := range queues {
			if err := q.SendFrame(frame); err != nil {
				t.Fatal(err)
			}
		}
		for range queues {
			<-written
		}
	}); n > 2 { // a collection of garbage might empty the pools
		t.Errorf("a broadcast to 100 queues allocates %v times", n)
	}
}
