package crosscast_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"go.uber.org/goleak"
)

// A client is what a queue of these tests writes to.
type client struct {
	t    *testing.T
	q    *crosscast.Queue
	gate chan error // each write takes its outcome from here; nil: writes return at once

	mu     sync.Mutex
	got    []string
	busy   bool
	closed []crosscast.Reason
}

// cost is what a frame counts beside its own bytes.
const cost = 48

// newClient returns a client whose writes return at once; with stalled, they wait for release. There are bursts only if o
// says so.
func newClient(t *testing.T, stalled bool, o crosscast.QueueOptions) *client {
	c := &client{t: t}
	o.BurstTime = cmp.Or(o.BurstTime, -1)
	if stalled {
		c.gate = make(chan error)
	}
	o.OnClose = func(reason crosscast.Reason) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closed = append(c.closed, reason)
	}
	if tryWrites {
		o.TryWrite = writesNothing
	}
	o.Budget = cmp.Or(o.Budget, testBudget)
	c.q = crosscast.NewQueue(c.write, o)
	return c
}

// tryWrites makes queues of these tests try to write first, in vain.
var tryWrites bool

// testBudget is for the queues of these tests that have no budget of their own. A bubble of synctest must not share
// goroutines with other tests.
var testBudget *crosscast.QueueBudget

// bubble is synctest.Test with a budget for the test.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	testBudget = crosscast.NewQueueBudget(64 << 20)
	defer func() { testBudget = nil }()
	synctest.Test(t, f)
}

func writesNothing([][]byte) (int, error) { return 0, nil }

func (c *client) write(frame []byte) error {
	c.mu.Lock()
	if c.busy {
		c.t.Error("two writes at once")
	}
	c.busy = true
	c.mu.Unlock()
	var err error
	if c.gate != nil {
		err = <-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if err == nil {
		c.got = append(c.got, string(frame))
	}
	return err
}

// stall sends a frame and waits until its write blocks, so that what is sent next waits.
func (c *client) stall() {
	c.send("first", nil)
	synctest.Wait()
}

// release lets every further write return at once.
func (c *client) release() {
	close(c.gate)
	synctest.Wait()
}

func (c *client) send(frame string, want error) {
	c.t.Helper()
	if err := c.q.SendFrame([]byte(frame)); !errors.Is(err, want) {
		c.t.Errorf("sending %q: got %v, want %v", frame, err, want)
	}
}

func (c *client) volatile(event string, want error) {
	c.t.Helper()
	if err := c.q.Send(&crosscast.Message{Event: event, Volatile: true}); !errors.Is(err, want) {
		c.t.Errorf("sending volatile %q: got %v, want %v", event, err, want)
	}
}

func (c *client) wantGot(want ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.got, want) {
		c.t.Errorf("got %q, want %q", c.got, want)
	}
}

// wantClosed checks what OnClose was called with: nothing, or exactly one reason.
func (c *client) wantClosed(want ...crosscast.Reason) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.closed, want) {
		c.t.Errorf("OnClose got %q, want %q", c.closed, want)
	}
}

func (c *client) wantDone(want bool) {
	c.t.Helper()
	done := false
	select {
	case <-c.q.Done():
		done = true
	default:
	}
	if done != want {
		c.t.Errorf("done: %v, want %v", done, want)
	}
}

func (c *client) wantStats(want crosscast.QueueStats) {
	c.t.Helper()
	if got := c.q.Stats(); got != want {
		c.t.Errorf("stats\n got %+v\nwant %+v", got, want)
	}
}

// queueTest runs f with fake time, also with queues that try to write first. A goroutine that f leaves behind fails the
// test.
func queueTest(name string, t *testing.T, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { bubble(t, f) })
	tryWrites = true
	defer func() { tryWrites = false }()
	t.Run(name+", tried", func(t *testing.T) { bubble(t, f) })
}

func notice(d crosscast.QueueDrop) []byte { return fmt.Appendf(nil, "-%d-", d.Frames) }

func TestQueueSendFramesMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, false, crosscast.QueueOptions{})
		payload := crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("1")}
		if err := c.q.Send(&crosscast.Message{Event: "a", Payload: payload}); err != nil {
			t.Error(err)
		}
		c.send("pong", nil)
		synctest.Wait()
		c.wantGot(`{"event":"a","data":1}`, "pong")
	})
}

func TestQueuePolicies(t *testing.T) {
	queueTest("disconnect", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 4 + 2*cost, DropNotice: notice})
		c.stall()
		c.send("aa", nil)
		c.send("bb", nil)
		c.wantClosed()
		c.send("cc", crosscast.ErrSlow)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonSlow) // although a write still blocks
		c.wantDone(false)
		c.send("d", crosscast.ErrSlow) // no hole: nothing after what was refused
		c.q.Close(crosscast.ReasonSlow)
		c.send("e", crosscast.ErrClosed)
		c.release()
		c.wantGot("first")
		c.wantClosed(crosscast.ReasonSlow)
		c.wantDone(true)
		c.wantStats(crosscast.QueueStats{WrittenFrames: 1, WrittenBytes: 5, Dropped: 3, HighWater: 4 + 2*cost, Starts: 1})
	})
	queueTest("disconnect does not wait for OnClose", t, func(t *testing.T) {
		gate, returned := make(chan error), make(chan struct{})
		q := crosscast.NewQueue(func([]byte) error { return <-gate }, crosscast.QueueOptions{
			Limit: 1, BurstTime: -1, OnClose: func(crosscast.Reason) { <-returned; gate <- errors.New("closed") },
		})
		for err := error(nil); err == nil; synctest.Wait() {
			if err = q.SendFrame([]byte("a")); err != nil && !errors.Is(err, crosscast.ErrSlow) {
				t.Error(err)
			}
		}
		close(returned)
		<-q.Done()
	})
	queueTest("drop newest", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 4 + 2*cost, Policy: crosscast.QueueDropNewest, DropNotice: notice})
		c.stall()
		c.send("aa", nil)
		c.send("bbb", crosscast.ErrDropped)
		c.send("ccc", crosscast.ErrDropped)
		c.send("dd", nil)
		c.send("e", crosscast.ErrDropped)
		c.wantStats(crosscast.QueueStats{QueuedFrames: 2, QueuedBytes: 4 + 2*cost, HighWater: 4 + 2*cost, Dropped: 3, Starts: 1})
		c.release() // also the notice of a run that nothing follows is written
		c.wantGot("first", "aa", "-2-", "dd", "-1-")
		c.send("f", nil)
		synctest.Wait()
		c.wantGot("first", "aa", "-2-", "dd", "-1-", "f")
		c.wantClosed()
	})
	queueTest("drop newest again and again", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 2 + cost, Policy: crosscast.QueueDropNewest, DropNotice: notice})
		c.stall()
		c.send("aa", nil)
		c.send("bb", crosscast.ErrDropped)
		c.gate <- nil // first
		synctest.Wait()
		c.send("cc", nil) // aa is being written
		c.send("dd", crosscast.ErrDropped)
		c.release()
		c.wantGot("first", "aa", "-1-", "cc", "-1-")
	})
	queueTest("drop oldest", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 4 + 2*cost, Policy: crosscast.QueueDropOldest, DropNotice: notice})
		c.stall()
		for _, s := range []string{"aa", "bb", "cc", "d", "eee"} {
			c.send(s, nil)
		}
		c.wantStats(crosscast.QueueStats{QueuedFrames: 2, QueuedBytes: 4 + 2*cost, HighWater: 4 + 2*cost, Dropped: 3, Starts: 1})
		c.gate <- nil // first
		synctest.Wait()
		c.send("ff", nil) // while the notice is being written
		c.release()
		c.wantGot("first", "-3-", "-2-", "ff")
		c.wantClosed()
	})
	queueTest("a notice may be nothing", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{
			Limit: 1, Policy: crosscast.QueueDropOldest, DropNotice: func(crosscast.QueueDrop) []byte { return nil },
		})
		c.stall()
		c.send("a", nil)
		c.send("b", nil)
		c.release()
		c.wantGot("first", "b")
	})
	queueTest("without a notice", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 1, Policy: crosscast.QueueDropNewest})
		c.stall()
		c.send("a", nil)
		c.send("b", crosscast.ErrDropped)
		c.release()
		c.wantGot("first", "a")
	})
}

func TestQueueLimit(t *testing.T) {
	queueTest("a large frame gets through alone", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 3})
		c.stall()
		c.send("larger", nil) // nothing waits
		c.send("b", crosscast.ErrSlow)
		c.release()
		c.wantGot("first")
	})
	queueTest("room comes back", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 3 + 2*cost})
		c.stall()
		c.send("larger"+strings.Repeat("r", cost), nil)
		c.gate <- nil
		synctest.Wait()
		c.send("abc", nil)
		c.gate <- nil
		synctest.Wait()
		c.send("d", nil)
		c.send("ef", nil)
		c.release()
		c.wantGot("first", "larger"+strings.Repeat("r", cost), "abc", "d", "ef")
	})
	queueTest("empty frames are bounded too", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{Limit: 2 * cost})
		c.stall()
		c.send("", nil)
		c.send("", nil)
		c.send("", crosscast.ErrSlow)
		c.release()
	})
	queueTest("default", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{})
		c.stall()
		for range 16 {
			c.send(strings.Repeat("x", 1<<16-cost), nil)
		}
		c.send("x", crosscast.ErrSlow)
		c.release()
	})
}

func TestQueueVolatile(t *testing.T) {
	for _, policy := range []crosscast.QueuePolicy{crosscast.QueueDisconnect, crosscast.QueueDropNewest, crosscast.QueueDropOldest} {
		queueTest(fmt.Sprint(policy), t, func(t *testing.T) {
			c := newClient(t, true, crosscast.QueueOptions{Limit: 320 * 4, Policy: policy, DropNotice: notice})
			c.volatile("v1", nil) // {"event":"v1"} has 14 bytes
			synctest.Wait()
			c.volatile("v2", nil)
			c.volatile("v3", nil) // behind 62 bytes of at most 80
			c.volatile("v4", crosscast.ErrDropped)
			c.send("x", nil)
			c.volatile("v5", crosscast.ErrDropped)
			c.release()
			c.wantGot(`{"event":"v1"}`, `{"event":"v2"}`, `{"event":"v3"}`, "x")
			c.volatile("v6", nil)
			synctest.Wait()
			c.wantClosed()
			if got := c.q.Stats(); got.Dropped != 2 || got.WrittenFrames != 5 {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

func TestQueueBurstStartsOneWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{})
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint("frame ", i))
			c.send(want[i], nil)
		}
		c.release()
		c.wantGot(want...)
		if got := c.q.Stats().Starts; got != 1 {
			t.Errorf("%d writers were started", got)
		}
	})
}

// This one is outside synctest, which would report a leftover goroutine only when it blocks for ever.
func TestQueueIdleHasNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	var written sync.WaitGroup
	var queues []*crosscast.Queue
	for range 100 {
		queues = append(queues, crosscast.NewQueue(func([]byte) error { written.Done(); return nil }, crosscast.QueueOptions{}))
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
	for _, q := range queues { // and they still work
		written.Add(1)
		if err := q.SendFrame([]byte("frame")); err != nil {
			t.Fatal(err)
		}
	}
	written.Wait()
}

func TestQueueSendAllocatesNothing(t *testing.T) {
	written := make(chan struct{})
	q := crosscast.NewQueue(func([]byte) error { written <- struct{}{}; return nil }, crosscast.QueueOptions{})
	m := &crosscast.Message{Event: "e"}
	if n := testing.AllocsPerRun(1000, func() {
		if err := q.Send(m); err != nil {
			t.Fatal(err)
		}
		<-written
	}); n != 0 {
		t.Errorf("a Send that starts the writer allocates %v times", n)
	}
}

func TestQueueClose(t *testing.T) {
	queueTest("idle", t, func(t *testing.T) {
		wait := make(chan struct{})
		q := crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{
			OnClose: func(crosscast.Reason) { <-wait },
		})
		start := time.Now()
		q.Close(crosscast.ReasonServer) // does not wait for OnClose
		synctest.Wait()
		select {
		case <-q.Done():
			t.Error("done before OnClose has returned")
		default:
		}
		close(wait)
		<-q.Done()
		if took := time.Since(start); took != 0 {
			t.Errorf("nothing waited, and closing took %v", took)
		}
	})
	queueTest("takes nothing while it writes what waits", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{})
		c.stall()
		for _, s := range []string{"aa", "bb", "cc"} {
			c.send(s, nil)
		}
		c.q.Close(crosscast.ReasonServer)
		c.gate <- nil
		c.gate <- nil
		synctest.Wait()
		c.send("d", crosscast.ErrClosed)
		c.wantStats(crosscast.QueueStats{
			QueuedFrames: 1, QueuedBytes: 2 + cost, WrittenFrames: 2, WrittenBytes: 7, HighWater: 6 + 3*cost, Starts: 1,
		})
		c.release()
		c.wantGot("first", "aa", "bb", "cc")
	})
	queueTest("without OnClose", t, func(t *testing.T) {
		q := crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{})
		done := q.Done()
		q.Close(crosscast.ReasonServer)
		<-done
		<-q.Done()
	})
	queueTest("what waits is written within the grace", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{})
		c.stall()
		c.send("a", nil)
		c.send("b", nil)
		c.q.Close(crosscast.ReasonServer)
		c.q.Close(crosscast.ReasonShutdown) // only the first counts
		c.send("c", crosscast.ErrClosed)
		c.wantStats(crosscast.QueueStats{QueuedFrames: 2, QueuedBytes: 2 + 2*cost, HighWater: 2 + 2*cost, Starts: 1})
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		c.wantClosed()
		c.release()
		c.wantGot("first", "a", "b")
		c.wantClosed(crosscast.ReasonServer)
		c.wantDone(true)
		time.Sleep(time.Minute) // the grace's end finds nothing to do
		c.wantClosed(crosscast.ReasonServer)
		c.wantStats(crosscast.QueueStats{WrittenFrames: 3, WrittenBytes: 7, HighWater: 2 + 2*cost, Starts: 1})
	})
	queueTest("a write that blocks for ever", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{CloseGrace: 3 * time.Second})
		c.stall()
		c.send("a", nil)
		c.q.Close(crosscast.ReasonServer)
		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		c.wantClosed()
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonServer)
		c.wantDone(false)              // the write still uses the connection,
		c.gate <- errors.New("closed") // until OnClose has made it return
		synctest.Wait()
		c.wantDone(true)
		c.wantGot()
		c.wantStats(crosscast.QueueStats{Dropped: 2, HighWater: 5 + cost, Starts: 1})
	})
	queueTest("without a grace", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{CloseGrace: -1})
		c.stall()
		c.send("a", nil)
		c.q.Close(crosscast.ReasonServer)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonServer)
		c.release()
		c.wantGot("first")
		c.wantDone(true)
	})
	queueTest("a write fails within the grace", t, func(t *testing.T) {
		c := newClient(t, true, crosscast.QueueOptions{})
		c.stall()
		c.send("a", nil)
		c.q.Close(crosscast.ReasonServer)
		c.gate <- errors.New("broken")
		synctest.Wait()
		c.wantClosed(crosscast.ReasonServer)
		c.wantDone(true)
		c.wantStats(crosscast.QueueStats{Dropped: 2, HighWater: 5 + cost, Starts: 1})
	})
	queueTest("from OnClose", t, func(t *testing.T) {
		var q *crosscast.Queue
		q = crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{
			OnClose: func(r crosscast.Reason) {
				q.Close(r)
				if err := q.SendFrame([]byte("late")); !errors.Is(err, crosscast.ErrClosed) {
					t.Error(err)
				}
				q.Stats()
			},
		})
		q.Close(crosscast.ReasonServer)
		<-q.Done()
	})
}

func TestQueueWriteError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken pipe")
		c := newClient(t, true, crosscast.QueueOptions{})
		c.stall()
		c.send("a", nil)
		c.gate <- broken
		synctest.Wait()
		c.wantClosed(crosscast.ReasonLeft)
		c.wantDone(true)
		c.wantStats(crosscast.QueueStats{Dropped: 2, HighWater: 5 + cost, Starts: 1})
		err := c.q.SendFrame([]byte("b"))
		if !errors.Is(err, broken) || errors.Is(err, crosscast.ErrClosed) || errors.Is(err, crosscast.ErrDropped) {
			t.Errorf("got %v: the node must learn that the connection is of no use", err)
		}
		c.q.Close(crosscast.ReasonLeft)
		c.send("c", crosscast.ErrClosed)
		synctest.Wait()
		c.wantClosed(crosscast.ReasonLeft)
		c.wantGot()
	})
}

type failingFramer struct{ err error }

func (f *failingFramer) Frame(*crosscast.Message) ([]byte, error) { return nil, f.err }

func TestQueueFramerError(t *testing.T) {
	f := &failingFramer{errors.New("no frame for this")}
	q := crosscast.NewQueue(func([]byte) error { return nil }, crosscast.QueueOptions{Framer: f})
	err := q.Send(&crosscast.Message{Event: "e"})
	if !errors.Is(err, crosscast.ErrDropped) || !errors.Is(err, f.err) {
		t.Errorf("got %v", err)
	}
	q.Close(crosscast.ReasonServer)
	if err := q.Send(&crosscast.Message{Event: "e"}); !errors.Is(err, crosscast.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got := q.Stats().Dropped; got != 1 {
		t.Errorf("dropped %d", got)
	}
}

type sliceFramer []int

func (sliceFramer) Frame(*crosscast.Message) ([]byte, error) { return nil, nil }

func TestNewQueuePanics(t *testing.T) {
	write := func([]byte) error { return nil }
	for name, f := range map[string]func(){
		"write":  func() { crosscast.NewQueue(nil, crosscast.QueueOptions{}) },
		"Policy": func() { crosscast.NewQueue(write, crosscast.QueueOptions{Policy: 9}) },
		"Framer": func() { crosscast.NewQueue(write, crosscast.QueueOptions{Framer: sliceFramer{}}) },
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, name) {
					t.Errorf("%s: panicked with %q", name, p)
				}
			}()
			f()
		}()
	}
}
