package crosscast_test

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
)

// TestQueueGuards: a function of the application's that panics, or ends its goroutine, ends what it was called for only.
func TestQueueGuards(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	for name, fail := range map[string]func(){"panic": func() { panic("no luck") }, "exit": runtime.Goexit} {
		queueTest("write "+name, t, func(t *testing.T) {
			var log bytes.Buffer
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			c := newClient(t, false, crosscast.QueueOptions{})
			closed := make(chan crosscast.Reason, 2)
			both := make(chan struct{}) // closed when both frames are in the queue
			c.q = crosscast.NewQueue(func([]byte) error { <-both; fail(); return nil }, crosscast.QueueOptions{
				OnClose: func(r crosscast.Reason) { closed <- r; fail() },
			})
			c.send("a", nil)
			c.send("b", nil)
			close(both)
			<-c.q.Done()
			if r := <-closed; r != crosscast.ReasonInternal || len(closed) > 0 {
				t.Errorf("closed with %q", r)
			}
			err := c.q.SendFrame(nil)
			var p *crosscast.PanicError
			if err == nil || errors.As(err, &p) != (name == "panic") {
				t.Error(err)
			}
			// HighWater depends on whether the writer had taken the first frame when the second came.
			c.wantStats(crosscast.QueueStats{Dropped: 2, HighWater: c.q.Stats().HighWater, Starts: 1})
			want := map[string]int{"panic": 2}[name] // each is reported once
			if got := strings.Count(log.String(), "no luck"); got != want {
				t.Errorf("logged %q", log.String())
			}
			c.q.Close(crosscast.ReasonServer)
		})
		queueTest("OnClose after a write "+name, t, func(t *testing.T) {
			slog.SetDefault(slog.New(slog.DiscardHandler))
			for _, o := range []func(q *crosscast.Queue) error{
				func(*crosscast.Queue) error { return errors.New("broken pipe") },
				func(q *crosscast.Queue) error { q.Close(crosscast.ReasonServer); return nil },
			} {
				var q *crosscast.Queue
				calls := 0
				q = crosscast.NewQueue(func([]byte) error { return o(q) }, crosscast.QueueOptions{
					OnClose: func(crosscast.Reason) { calls++; fail() },
				})
				_ = q.SendFrame([]byte("x"))
				<-q.Done()
				synctest.Wait() // Done is closed once
				if s := q.Stats(); calls != 1 || s.WrittenFrames+s.Dropped != 1 || s.QueuedFrames != 0 {
					t.Errorf("%d calls, %+v", calls, s)
				}
			}
		})
		queueTest("notice "+name, t, func(t *testing.T) {
			var log bytes.Buffer
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			c := newClient(t, true, crosscast.QueueOptions{
				Limit: 1, Policy: crosscast.QueueDropOldest, DropNotice: func(crosscast.QueueDrop) []byte { fail(); return nil },
			})
			c.stall()
			c.send("a", nil)
			c.send("b", nil)
			c.release()
			if name == "panic" { // the notice is nothing, and the queue goes on
				c.wantGot("first", "b")
				c.wantClosed()
				c.q.Close(crosscast.ReasonServer)
			} else {
				c.wantGot("first")
				c.wantClosed(crosscast.ReasonInternal)
			}
			<-c.q.Done()
			if got := strings.Count(log.String(), "no luck"); got != map[string]int{"panic": 1}[name] {
				t.Errorf("logged %q", log.String())
			}
		})
	}
}
