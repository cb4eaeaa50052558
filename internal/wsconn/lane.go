package wsconn

import (
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
)

// A Lane handles the events of a client: one at a time, in order, on a goroutine that exists only while events wait. It
// is bounded in bytes. A full lane makes the connection's reader wait for room, unless the reader must look for a
// reply.
type Lane[E Event] struct {
	conn   *Conn
	worker Worker[E]

	mu      sync.Mutex // guards the fields below
	queue   []E
	bytes   int
	running bool // a goroutine handles events, or begins to after a pause
	pausing bool // between two events, because the client has sent too many
	note    bool // the last event is that of Leave
	closed  bool // nothing is added any more
	ended   bool // Last was called
	reason  crosscast.Reason
	leaving *time.Timer // ends the time for the remaining events
	wake    *time.Timer // ends a pause; nil: there was none
}

// An Event is an event of a client.
type Event interface {
	Size() int // in bytes
}

// eventSize is the memory of a waiting event, beside its Size.
const eventSize = 256

// A Worker handles the events of a lane. If Handle ends its goroutine, the lane goes on with the next event.
type Worker[E Event] interface {
	Handle(e E)
	// Late is called when the time for the remaining events is over. The running handler should end.
	Late()
	// Last is called after all other calls, once the lane is closed.
	Last(reason crosscast.Reason)
}

// Init initializes a lane for events that are read from conn. At most Config.EventBytes may wait; each event counts as
// its Size and 256 bytes more. One event may always wait. Nothing is handled before Start.
func (l *Lane[E]) Init(conn *Conn, worker Worker[E]) {
	l.conn, l.worker = conn, worker
	l.running = true // until Start
}

// Start calls first, and then handles events, on a new goroutine.
func (l *Lane[E]) Start(first func()) {
	guard.Go(func() {
		if f := first; f != nil {
			first = nil
			f()
		}
		l.work()
	})
}

// asking is the factor for the limit while the client owes a reply, which comes behind everything that it has sent
// before.
const asking = 4

// Push waits for room, or for the end of the connection, and adds e. If the client owes a reply that is too far behind,
// it counts as silent. Only the connection's reader calls Push.
func (l *Lane[E]) Push(e E) {
	if l.tryPush(e, 1) {
		return
	}
	c := l.conn
	room := c.mayWait()
	for !l.tryPush(e, 1) {
		if c.Debtor == nil || !c.Debtor.Owes() {
			c.paused.Store(true)
			<-room
		} else if l.tryPush(e, asking) {
			break
		} else {
			c.Debtor.RefuseAll()
		}
	}
	if c.paused.Load() {
		c.input.heard.Add(1) // only now reading goes on to the client's control frames
		c.paused.Store(false)
	}
}

// tryPush adds e and returns true if e fits in times the limit. It also returns true if nobody will make room any more;
// a closed lane then drops e.
func (l *Lane[E]) tryPush(e E, times int) bool {
	size := eventSize + e.Size()
	l.mu.Lock()
	defer l.mu.Unlock()
	fits := len(l.queue) == 0 || l.bytes+size <= times*l.conn.config.EventBytes
	if !fits && !l.closed && !l.conn.gone.Load() {
		return false
	}
	l.addLocked(e, size)
	return true
}

// Leave adds e, the client's last event, without waiting for room. The events before it are handled for up to
// Config.LeaveTimeout. Then the rest of them is dropped. Only the first call counts.
func (l *Lane[E]) Leave(e E) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.note {
		return
	}
	l.addLocked(e, eventSize+e.Size())
	l.note = true
	l.limitLocked()
}

// limitLocked limits the time for the remaining events.
func (l *Lane[E]) limitLocked() {
	if l.leaving == nil {
		l.leaving = time.AfterFunc(l.conn.config.LeaveTimeout, l.late)
	}
}

// late drops the remaining events, except that of Leave.
func (l *Lane[E]) late() {
	l.mu.Lock()
	rest := len(l.queue)
	if l.note && rest > 0 {
		rest--
	}
	clear(l.queue[:rest])
	l.queue, l.bytes = l.queue[rest:], 0
	for _, e := range l.queue {
		l.bytes += eventSize + e.Size()
	}
	l.resumeLocked()
	l.mu.Unlock()
	l.worker.Late()
}

// addLocked adds e unless the lane is closed.
func (l *Lane[E]) addLocked(e E, size int) {
	if l.closed {
		return
	}
	l.queue = append(l.queue, e)
	l.bytes += size
	l.wakeLocked()
}

// Close ends adding. The waiting events are handled for up to Config.LeaveTimeout, or discarded, and then Last is called.
// Only the first call counts.
func (l *Lane[E]) Close(discard bool, reason crosscast.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed, l.reason = true, reason
	if discard {
		l.queue, l.bytes = nil, 0
		l.resumeLocked()
	} else if l.running {
		l.limitLocked()
	}
	l.conn.look()
	l.wakeLocked()
}

// wakeLocked starts the goroutine that handles events, unless there is one.
func (l *Lane[E]) wakeLocked() {
	if !l.running {
		l.running = true
		guard.Go(l.work)
	}
}

// pauseLocked begins a pause if the client has sent too many events. It reports whether it does. The note of Leave does
// not count.
func (l *Lane[E]) pauseLocked() bool {
	if l.note && len(l.queue) == 1 {
		return false
	}
	wait := l.conn.turn()
	if wait == 0 {
		return false
	}
	l.pausing = true
	if l.wake == nil {
		l.wake = time.AfterFunc(wait, l.resume)
	} else {
		l.wake.Reset(wait)
	}
	return true
}

func (l *Lane[E]) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resumeLocked()
}

// resumeLocked ends a pause, if there is one.
func (l *Lane[E]) resumeLocked() {
	if l.pausing {
		l.pausing = false
		l.wake.Stop()
		guard.Go(l.work)
	}
}

// work handles events, until a pause. Once the lane is closed and empty, it calls Last.
func (l *Lane[E]) work() {
	l.mu.Lock()
	for len(l.queue) > 0 {
		if l.pauseLocked() {
			l.mu.Unlock()
			return
		}
		e := l.queue[0]
		var none E
		l.queue[0] = none
		l.queue = l.queue[1:]
		l.bytes -= eventSize + e.Size()
		l.conn.look()
		l.mu.Unlock()
		l.worker.Handle(e)
		l.mu.Lock()
	}
	l.queue = nil
	if !l.closed {
		l.running = false
		l.mu.Unlock()
		return
	}
	ended, reason := l.ended, l.reason
	l.ended = true
	if l.leaving != nil {
		l.leaving.Stop()
	}
	l.mu.Unlock()
	if !ended {
		l.worker.Last(reason)
	}
}
