package wsconn

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/warn"
)

// timed records when it handles events. It closes its lane for a text "left".
type timed struct {
	lane  *Lane[text]
	began time.Time
	last  chan crosscast.Reason

	mu   sync.Mutex // guards the fields below
	at   []time.Duration
	got  []string
	late bool
}

// handled returns the number of handled events.
func (r *timed) handled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func (r *timed) Handle(e text) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.got = append(r.at, time.Since(r.began)), append(r.got, string(e))
	if e == "left" {
		r.lane.Close(false, "left")
	}
}

func (r *timed) Late()                        { r.late = true }
func (r *timed) Last(reason crosscast.Reason) { r.last <- reason }

// pacedLane returns a lane with a rate of 10 events a second, 3 at once, in which 5 may wait.
func pacedLane(t *testing.T) (*Lane[text], *timed) {
	config := &Config{
		Firsts: new(warn.Firsts), Logger: slog.New(slog.DiscardHandler), Refused: new(Tally),
		EventBytes: 5 * (eventSize + 4), LeaveTimeout: 2 * time.Second,
		Rate: Rate{Events: 10, Burst: 3, Paused: new(atomic.Uint64)},
	}
	if err := config.Rate.check("test"); err != nil {
		t.Fatal(err)
	}
	l := new(Lane[text])
	r := &timed{lane: l, began: time.Now(), last: make(chan crosscast.Reason, 1)}
	l.Init(&Conn{config: config}, r)
	go l.Start(func() {})
	return l, r
}

const tenth = 100 * time.Millisecond

// TestPause: a burst is handled at once, and the rest exactly at the rate. Meanwhile reading goes on until the lane is
// full.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := pacedLane(t)
		var pushed atomic.Int32
		go func() {
			for i := range 20 {
				l.Push(text(fmt.Sprintf("%04d", i)))
				pushed.Add(1)
			}
		}()
		synctest.Wait()
		if r.handled() != 3 || pushed.Load() != 3+5 || !l.conn.paused.Load() {
			t.Errorf("%d handled, %d read", r.handled(), pushed.Load())
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var want []time.Duration
		for i := range 20 {
			want = append(want, max(0, time.Duration(i-2)*tenth))
		}
		if !slices.Equal(r.at, want) {
			t.Errorf("handled at %v", r.at)
		}
		if l.conn.paused.Load() {
			t.Error("reading still pauses")
		}
		if n := l.conn.config.Rate.Paused.Load(); n != 17 {
			t.Errorf("%d pauses counted", n)
		}
		l.Close(true, "enough")
		<-r.last
	})
}

// TestPauseWakesForNothing: a client that keeps to the rate never waits.
func TestPauseWakesForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := pacedLane(t)
		for range 100 {
			l.Push("x")
			time.Sleep(tenth)
			synctest.Wait()
		}
		if n := l.conn.config.Rate.Paused.Load(); n != 0 || r.handled() != 100 {
			t.Errorf("%d pauses, %d handled", n, r.handled())
		}
		l.Close(true, "enough")
		<-r.last
	})
}

// TestLeaveDuringPause: the events of a client that has left keep their times, and what is not handled within the
// LeaveTimeout is dropped. The note that it has left does not wait.
func TestLeaveDuringPause(t *testing.T) {
	for patience, handled := range map[time.Duration]int{250 * time.Millisecond: 5, 2 * time.Second: 8} {
		synctest.Test(t, func(t *testing.T) {
			l, r := pacedLane(t)
			l.conn.config.LeaveTimeout = patience
			for range 8 {
				l.Push("x")
			}
			l.Leave("left")
			time.Sleep(time.Minute)
			synctest.Wait()
			if r.handled() != handled+1 || r.got[handled] != "left" || r.at[handled] != min(patience, 5*tenth) {
				t.Errorf("handled %q at %v", r.got, r.at)
			}
			if r.late != (handled < 8) {
				t.Errorf("late: %v", r.late)
			}
			if reason := <-r.last; reason != "left" {
				t.Errorf("last with %q", reason)
			}
		})
	}
}

// TestCloseDuringPause: a close that discards ends a pause at once. Another one leaves it, and the lane ends in time.
func TestCloseDuringPause(t *testing.T) {
	for _, discard := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l, r := pacedLane(t)
			l.conn.config.LeaveTimeout = 250 * time.Millisecond
			for range 8 {
				l.Push("x")
			}
			time.Sleep(time.Millisecond)
			l.Close(discard, "enough")
			<-r.last
			if took := time.Since(r.began) - time.Millisecond; discard && (took != 0 || r.handled() != 3) ||
				!discard && (took != 250*time.Millisecond || r.handled() != 5) {
				t.Errorf("discard %v: ended after %v, and %d events", discard, took, r.handled())
			}
			time.Sleep(time.Minute) // no timer does anything
			synctest.Wait()
			if r.handled() > 5 {
				t.Errorf("%d events were handled", r.handled())
			}
		})
	}
}

// TestLanesShareTheRate: two lanes of a client have one rate.
func TestLanesShareTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ra := pacedLane(t)
		b, rb := new(Lane[text]), &timed{began: time.Now(), last: make(chan crosscast.Reason, 1)}
		b.Init(a.conn, rb)
		go b.Start(func() {})
		for range 5 {
			a.Push("x")
			b.Push("y")
		}
		time.Sleep(7*tenth - 1)
		synctest.Wait()
		if n := ra.handled() + rb.handled(); n != 9 {
			t.Errorf("%d events were handled just before the last", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := ra.handled() + rb.handled(); n != 10 {
			t.Errorf("%d events were handled", n)
		}
		a.Close(true, "enough")
		b.Close(true, "enough")
		<-ra.last
		<-rb.last
	})
}
