package wsconn

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

type text string

func (t text) Size() int { return len(t) }

// recorder records the events that it handles. A text "wait" waits for release.
type recorder struct {
	got     []string
	running bool
	release chan struct{}
	last    chan crosscast.Reason
}

func (r *recorder) Handle(e text) {
	if r.running {
		panic("two events at once")
	}
	r.running = true
	if e == "wait" {
		<-r.release
	}
	r.got = append(r.got, string(e))
	r.running = false
}

func (r *recorder) Late() {}

func (r *recorder) Last(reason crosscast.Reason) { r.last <- reason }

func newLane(limit int) (*Lane[text], *recorder) {
	r := &recorder{release: make(chan struct{}), last: make(chan crosscast.Reason, 1)}
	l := new(Lane[text])
	l.Init(&Conn{room: make(chan struct{}, 1), config: &Config{EventBytes: limit, LeaveTimeout: time.Second}}, r)
	return l, r
}

// TestLane: everything is handled once, in order, and a reader waits while too much does.
func TestLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLane(3 * (eventSize + 4))
		go l.Start(func() { r.got = append(r.got, "first") })
		l.Push("wait")
		synctest.Wait() // it is handled
		pushed := 1
		go func() {
			for i := 1; i < 100; i++ {
				l.Push(text(fmt.Sprintf("%04d", i)))
				pushed++
			}
			l.Leave("left")
			l.Close(false, "gone")
		}()
		synctest.Wait()
		if pushed != 4 || !l.conn.paused.Load() || l.conn.input.heard.Load() != 0 { // one is handled, three wait
			t.Errorf("%d were taken, paused %v", pushed, l.conn.paused.Load())
		}
		close(r.release)
		if reason := <-r.last; reason != "gone" {
			t.Errorf("last with %q", reason)
		}
		if len(r.got) != 102 || r.got[0] != "first" || r.got[1] != "wait" || r.got[100] != "0099" || r.got[101] != "left" {
			t.Errorf("handled %q", r.got)
		}
		if l.conn.paused.Load() || l.conn.input.heard.Load() == 0 {
			t.Error("the pause has not ended with a sign of life")
		}
	})
}

// TestLaneDiscards: after Close neither waiting nor later events are handled, and a reader does not wait.
func TestLaneDiscards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLane(1)
		go l.Start(func() {})
		l.Push("wait")
		synctest.Wait()
		l.Push("waits")
		go l.Push("is in the reader's hands")
		synctest.Wait()
		l.Close(true, "enough")
		l.Close(false, "again")
		l.Push("late")
		close(r.release)
		if reason := <-r.last; reason != "enough" || len(r.got) != 1 {
			t.Errorf("last with %q after %q", reason, r.got)
		}
		synctest.Wait()
	})
}
