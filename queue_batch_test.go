package crosscast_test

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// An outcome is what a write of a batchClient returns.
type outcome struct {
	written int
	err     error
}

const all = 1 << 20 // as outcome.written: all frames

// A batchClient is a client whose queue writes batches. Each write waits for its outcome; it records the batches.
type batchClient struct {
	client
	gate    chan outcome
	mu      sync.Mutex
	batches []string // the frames of a write, with spaces between
}

func newBatchClient(t *testing.T, o crosscast.QueueOptions) *batchClient {
	c := &batchClient{client: client{t: t}, gate: make(chan outcome)}
	if o.BurstTime == 0 {
		o.BurstTime = -1
	}
	o.OnClose = func(reason crosscast.Reason) {
		c.client.mu.Lock()
		defer c.client.mu.Unlock()
		c.closed = append(c.closed, reason)
	}
	if tryWrites {
		o.TryWrite = writesNothing
	}
	o.Budget = cmp.Or(o.Budget, testBudget)
	c.q = crosscast.NewBatchQueue(c.write, o)
	return c
}

func (c *batchClient) write(frames [][]byte) (int, error) {
	var texts []string
	for _, f := range frames {
		texts = append(texts, string(f))
	}
	c.mu.Lock()
	c.batches = append(c.batches, strings.Join(texts, " "))
	c.mu.Unlock()
	o, ok := <-c.gate
	if !ok {
		o.written = all
	}
	n := min(o.written, len(frames))
	for _, f := range frames[:max(n, 0)] {
		c.client.mu.Lock()
		c.got = append(c.got, string(f))
		c.client.mu.Unlock()
	}
	if o.written == all {
		return n, o.err
	}
	return o.written, o.err
}

// let lets the write under way return.
func (c *batchClient) let(written int, err error) {
	c.gate <- outcome{written, err}
	synctest.Wait()
}

func (c *batchClient) wantBatches(want ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.batches, want) {
		c.t.Errorf("wrote %q, want %q", c.batches, want)
	}
}

func (c *batchClient) end() {
	close(c.gate)
	c.q.Close(crosscast.ReasonServer)
	<-c.q.Done()
	if s := c.q.Stats(); s.QueuedFrames != 0 || s.QueuedBytes != 0 || s.BatchFrames != 0 || s.BatchBytes != 0 {
		c.t.Errorf("stats at the end: %+v", s)
	}
}

func TestQueueBatch(t *testing.T) {
	queueTest("what waits is one write", t, func(t *testing.T) {
		c := newBatchClient(t, crosscast.QueueOptions{})
		c.stall()
		c.wantStats(crosscast.QueueStats{HighWater: 5 + cost, Starts: 1})
		for _, s := range []string{"a", "bb", "ccc"} {
			c.send(s, nil)
		}
		c.let(all, nil)
		c.send("d", nil)
		c.wantBatches("first", "a bb ccc")
		c.wantStats(crosscast.QueueStats{
			QueuedFrames: 3, QueuedBytes: 6 + 3*cost, BatchFrames: 2, BatchBytes: 5 + 2*cost,
			WrittenFrames: 1, WrittenBytes: 5, HighWater: 6 + 3*cost, Starts: 1,
		})
		c.let(all, nil)
		c.wantBatches("first", "a bb ccc", "d")
		c.end()
		c.wantStats(crosscast.QueueStats{WrittenFrames: 5, WrittenBytes: 12, HighWater: 6 + 3*cost, Starts: 1})
	})
	queueTest("bounds", t, func(t *testing.T) {
		c := newBatchClient(t, crosscast.QueueOptions{Limit: 1 << 20})
		c.stall()
		for range 300 { // 256 is the most
			c.send("", nil)
		}
		c.send(sized(100<<10), nil) // goes alone
		for range 5 {               // four are 64 KiB
			c.send(sized(16<<10), nil)
		}
		close(c.gate)
		synctest.Wait()
		var sizes []int
		for _, b := range c.batches {
			sizes = append(sizes, strings.Count(b, " ")+1)
		}
		if want := []int{1, 256, 44, 1, 4, 1}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %d frames, want %d", sizes, want)
		}
	})
	queueTest("at most a sixteenth of the limit", t, func(t *testing.T) {
		c := newBatchClient(t, crosscast.QueueOptions{Limit: 3200})
		c.stall()
		for range 5 {
			c.send(sized(100), nil)
		}
		c.let(all, nil)
		if s := c.q.Stats(); s.BatchFrames != 1 || s.BatchBytes != 100 {
			t.Errorf("%+v", s)
		}
		c.q.Close(crosscast.ReasonServer) // from now on nothing needs to be dropped
		c.let(all, nil)
		if s := c.q.Stats(); s.BatchFrames != 2 || s.QueuedBytes != 200 {
			t.Errorf("%+v", s)
		}
		c.end()
	})
}

// TestQueueBatchOutcome: each frame of a write that does not succeed wholly is counted as what became of it.
func TestQueueBatchOutcome(t *testing.T) {
	broken := errors.New("broken pipe")
	fill := func(t *testing.T) *batchClient {
		c := newBatchClient(t, crosscast.QueueOptions{})
		c.stall()
		for _, s := range []string{"a", "bb", "ccc"} {
			c.send(s, nil)
		}
		c.let(all, nil)
		c.send("d", nil)
		return c
	}
	for written := range 4 {
		queueTest(fmt.Sprint("error after ", written), t, func(t *testing.T) {
			c := fill(t)
			c.let(written, broken)
			c.wantGot([]string{"first", "a", "bb", "ccc"}[:1+written]...)
			c.wantClosed(crosscast.ReasonLeft)
			c.wantStats(crosscast.QueueStats{
				WrittenFrames: uint64(1 + written), WrittenBytes: uint64(5 + []int{0, 1, 3, 6}[written]), Dropped: uint64(4 - written),
				HighWater: 6 + 3*cost, Starts: 1,
			})
			c.send("e", broken)
			c.end()
		})
		queueTest(fmt.Sprint("panic or exit of a batch ", written), t, func(t *testing.T) {
			old := slog.Default()
			defer slog.SetDefault(old)
			slog.SetDefault(slog.New(slog.DiscardHandler))
			begun, gate := make(chan struct{}, 9), make(chan struct{})
			q := crosscast.NewBatchQueue(func(frames [][]byte) (int, error) {
				begun <- struct{}{}
				<-gate
				if len(frames) == 1 {
					return 1, nil
				}
				if written%2 == 0 {
					runtime.Goexit()
				}
				panic("no luck")
			}, crosscast.QueueOptions{})
			_ = q.SendFrame([]byte("first"))
			<-begun
			for range 3 {
				_ = q.SendFrame([]byte("x"))
			}
			close(gate)
			<-q.Done()
			if s := q.Stats(); s.WrittenFrames != 1 || s.Dropped != 3 || s.QueuedFrames != 0 || s.BatchFrames != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	queueTest("some, and no error", t, func(t *testing.T) {
		c := fill(t)
		c.let(1, nil)
		c.wantStats(crosscast.QueueStats{
			QueuedFrames: 2, QueuedBytes: 4 + 2*cost, BatchFrames: 1, BatchBytes: 3 + cost,
			WrittenFrames: 2, WrittenBytes: 6, HighWater: 6 + 3*cost, Starts: 1,
		})
		c.let(1, nil)
		c.let(1, nil)
		c.let(1, nil)
		c.wantBatches("first", "a bb ccc", "bb ccc", "ccc", "d")
		c.wantGot("first", "a", "bb", "ccc", "d")
		c.end()
	})
	for name, bad := range map[string]int{"none": 0, "fewer than none": -1} {
		queueTest(name+", and no error", t, func(t *testing.T) {
			c := fill(t)
			c.let(bad, nil)
			c.wantClosed(crosscast.ReasonLeft)
			c.end()
		})
	}
	queueTest("more than all", t, func(t *testing.T) {
		c := fill(t)
		c.let(4, nil)
		c.let(4, nil)
		c.wantBatches("first", "a bb ccc", "d")
		c.wantClosed()
		c.end()
	})
	queueTest("Close during a batch", t, func(t *testing.T) {
		c := fill(t)
		c.q.Close(crosscast.ReasonServer)
		c.let(1, nil) // the grace goes on
		c.wantStats(crosscast.QueueStats{
			QueuedFrames: 2, QueuedBytes: 4 + 2*cost, BatchFrames: 1, BatchBytes: 3 + cost,
			WrittenFrames: 2, WrittenBytes: 6, HighWater: 6 + 3*cost, Starts: 1,
		})
		time.Sleep(time.Second)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonServer)
		c.wantDone(false)
		c.let(1, nil) // no write follows
		c.wantDone(true)
		c.wantBatches("first", "a bb ccc", "bb ccc")
		c.wantStats(crosscast.QueueStats{WrittenFrames: 3, WrittenBytes: 8, Dropped: 2, HighWater: 6 + 3*cost, Starts: 1})
	})
}

// TestQueueBatchPolicies: a batch counts towards the limit until its frames are written, and cannot be dropped.
func TestQueueBatchPolicies(t *testing.T) {
	const limit = 3200 // so a batch has two frames of 100 bytes
	fill := func(t *testing.T, policy crosscast.QueuePolicy) *batchClient {
		c := newBatchClient(t, crosscast.QueueOptions{Limit: limit, Policy: policy, DropNotice: notice})
		c.stall()
		for i := range 33 { // one of them is being written then
			if i == 2 {
				c.let(all, nil)
			}
			c.send(fmt.Sprintf("%02d", i)+sized(98), nil)
		}
		if s := c.q.Stats(); s.QueuedBytes != limit || s.BatchBytes != 100 {
			t.Errorf("%+v", s)
		}
		return c
	}
	queueTest("disconnect", t, func(t *testing.T) {
		c := fill(t, crosscast.QueueDisconnect)
		c.send("one more", crosscast.ErrSlow)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonSlow)
		c.end()
		if s := c.q.Stats(); s.WrittenFrames != 3 || s.Dropped != 32 {
			t.Errorf("%+v", s)
		}
	})
	for policy, want := range map[crosscast.QueuePolicy][]string{
		crosscast.QueueDropNewest: {"31", "32", "-2-", "la"}, crosscast.QueueDropOldest: {"00", "01", "-3-", "05"},
	} {
		queueTest(fmt.Sprint(policy), t, func(t *testing.T) {
			c := fill(t, policy)
			for range 2 {
				_ = c.q.SendFrame([]byte("new" + sized(97)))
			}
			c.let(1, nil) // one makes room for one more
			_ = c.q.SendFrame([]byte("last" + sized(96)))
			if policy == crosscast.QueueDropOldest {
				_ = c.q.SendFrame([]byte("last" + sized(96)))
			}
			close(c.gate)
			synctest.Wait()
			var got []string
			for _, s := range c.got[1:] {
				got = append(got, s[:min(len(s), 2+strings.Count(s, "-")/2)])
			}
			at := 0
			if policy == crosscast.QueueDropNewest {
				at = len(got) - len(want)
			}
			if !slices.Equal(got[at:at+len(want)], want) {
				t.Errorf("got %q, want %q among them", got, want)
			}
			for _, b := range c.batches {
				if strings.Contains(b, "-") && strings.Contains(b, " ") {
					t.Errorf("a notice is part of a batch: %q", b)
				}
			}
		})
	}
	queueTest("volatile", t, func(t *testing.T) {
		c := newBatchClient(t, crosscast.QueueOptions{Limit: 3200})
		c.stall()
		c.send(sized(100), nil)
		c.send(sized(100), nil)
		c.let(all, nil)
		c.volatile("v", nil)                  // behind 100 bytes
		c.send(sized(100), nil)               // 262
		c.volatile("v", crosscast.ErrDropped) // behind more than a sixteenth
		c.end()
	})
}

// TestQueueBatchBurst: above the limit, each frame that is finished is a sign that the client reads.
func TestQueueBatchBurst(t *testing.T) {
	for _, reads := range []bool{true, false} {
		queueTest(fmt.Sprint("reads ", reads), t, func(t *testing.T) {
			budget := crosscast.NewQueueBudget(1 << 20)
			c := newBatchClient(t, crosscast.QueueOptions{
				Limit: 8000, Burst: 1 << 20, BurstTime: time.Minute, WriteTimeout: 3 * time.Second, Budget: budget,
			})
			c.stall()
			for range 100 {
				c.send(sized(100), nil)
			}
			if used := budget.Used(); used != 2000 {
				t.Errorf("%d bytes are charged to the budget", used)
			}
			c.let(all, nil) // the next batch has five
			for range 4 {
				time.Sleep(2 * time.Second)
				if reads {
					c.let(1, nil)
				}
			}
			want := error(nil)
			if !reads {
				want = crosscast.ErrSlow
			}
			c.send(sized(100), want)
			c.end()
			if used := budget.Used(); used != 0 {
				t.Errorf("%d bytes are charged to the budget", used)
			}
		})
	}
}

// TestQueueBatchConcurrently has senders race each other, the limit, Close and a client that takes a part of each batch.
func TestQueueBatchConcurrently(t *testing.T) {
	const senders, each = 4, 2000
	for _, policy := range policies {
		for _, how := range []string{"", "closing", "breaking"} {
			t.Run(fmt.Sprint(policy, how), func(t *testing.T) {
				last := map[byte]int{}
				calls, written := 0, 0
				broken := errors.New("broken")
				budget := crosscast.NewQueueBudget(1 << 20)
				o := crosscast.QueueOptions{Limit: 8000, Burst: 16000, Policy: policy, Budget: budget, DropNotice: notice}
				q := crosscast.NewBatchQueue(func(frames [][]byte) (int, error) {
					if frames[0][0] == '-' {
						return 1, nil
					}
					calls++
					n := 1 + rand.IntN(len(frames))
					for _, f := range frames[:n] {
						var i int
						if _, err := fmt.Sscan(string(f[1:]), &i); err != nil || i <= last[f[0]] {
							t.Errorf("%q came after %d: %v", f, last[f[0]], err)
						}
						last[f[0]] = i
						written++
					}
					if how == "breaking" && calls == 100 {
						return n, broken
					}
					return n, nil
				}, o)
				var wg sync.WaitGroup
				var mu sync.Mutex
				offered := 0
				for s := range senders {
					wg.Go(func() {
						for i := range each {
							err := q.SendFrame(fmt.Appendf(nil, "%c%d", 'a'+s, i+1))
							if how == "closing" && s == 0 && i == each/2 {
								q.Close(crosscast.ReasonServer)
							}
							if err == nil || errors.Is(err, crosscast.ErrDropped) {
								mu.Lock()
								offered++
								mu.Unlock()
							}
						}
					})
				}
				wg.Wait()
				q.Close(crosscast.ReasonServer)
				<-q.Done()
				got := q.Stats()
				sum := int(got.WrittenFrames + got.Dropped)
				if sum != offered && sum != offered+1 { // one more: the frame that broke the limit, under Disconnect
					t.Errorf("%d frames offered, stats %+v", offered, got)
				}
				if written != int(got.WrittenFrames) || got.QueuedFrames != 0 || got.QueuedBytes != 0 || got.BatchFrames != 0 {
					t.Errorf("%d were written, stats %+v", written, got)
				}
				if used := budget.Used(); used != 0 {
					t.Errorf("%d bytes are charged to the budget", used)
				}
			})
		}
	}
}

// TestQueueBatchAllocatesNothing: the memory of a queue that fills and empties again and again is reused.
func TestQueueBatchAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	gate, written := make(chan struct{}), make(chan int, 1000)
	q := crosscast.NewBatchQueue(func(frames [][]byte) (int, error) {
		<-gate
		written <- len(frames)
		return len(frames), nil
	}, crosscast.QueueOptions{})
	frame := []byte("frame")
	if n := testing.AllocsPerRun(100, func() {
		for range 400 {
			if err := q.SendFrame(frame); err != nil {
				t.Fatal(err)
			}
		}
		for left := 400; left > 0; {
			gate <- struct{}{}
			left -= <-written
		}
	}); n > 2 { // a collection of garbage might empty the pools
		t.Errorf("a burst allocates %v times", n)
	}
	q.Close(crosscast.ReasonServer)
	<-q.Done()
}
