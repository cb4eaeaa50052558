package wsconn

import (
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
)

// A Lane is where what a client sends waits to be handled: one at a time, in order, on a goroutine that exists only
// while something waits. It is bounded in bytes: the connection's reader waits for room, unless it looks for a reply.
type Lane[E Event] struct {
	conn   *Conn
	worker Worker[E]
	limit  int // of what may wait, in bytes

	mu      sync.Mutex // guards what follows
	queue   []E
	bytes   int
	running bool // a goroutine handles what waits
	closed  bool // nothing is added any more
	ended   bool // Last was called
	reason  crosscast.Reason
	leaving *time.Timer // ends the patience of Leave
}

// An Event is something that a client sent.
type Event interface {
	Size() int // its bytes
}

// eventSize is what a waiting event takes beside its own bytes.
const eventSize = 256

// A Worker handles what is in a lane. A call of it that ends its goroutine is over, and the lane goes on with the next.
type Worker[E Event] interface {
	Handle(e E)
	// Last is called after everything else, when the lane is closed.
	Last(reason crosscast.Reason)
}

// Init makes a lane whose events are read from conn, and of which at most limit bytes wait, each event counting 256
// more than its own. An event is always taken when none waits. Nothing is handled before Start.
func (l *Lane[E]) Init(conn *Conn, worker Worker[E], limit int) {
	l.conn, l.worker, l.limit = conn, worker, limit
	l.running = true // until Start
}

// Start has first called, and then what waits handled.
func (l *Lane[E]) Start(first func()) {
	guard.Go(func() {
		if f := first; f != nil {
			first = nil
			f()
		}
		l.work()
	})
}

// asking is how many times the limit may wait while the client owes a reply, which comes behind what it has sent before.
const asking = 4

// Push adds e, and waits for room first, or for the end of the connection. A client whose reply is too far behind is given
// up. Only the connection's reader calls it.
func (l *Lane[E]) Push(e E) {
	c := l.conn
	for !l.tryPush(e, 1) {
		if c.Debtor == nil || !c.Debtor.Owes() {
			c.paused.Store(true)
			<-c.room
		} else if l.tryPush(e, asking) {
			break
		} else {
			c.Debtor.RefuseAll()
		}
	}
	if c.paused.Load() {
		c.heard.Add(1) // the client's control frames begin to be read only now
		c.paused.Store(false)
	}
}

// tryPush adds e if it fits in so many times the limit, or nobody will make room any more, and reports whether it has.
func (l *Lane[E]) tryPush(e E, times int) bool {
	size := eventSize + e.Size()
	l.mu.Lock()
	defer l.mu.Unlock()
	fits := len(l.queue) == 0 || l.bytes+size <= times*l.limit
	if !fits && !l.closed && !l.conn.gone.Load() {
		return false
	}
	l.addLocked(e, size)
	return true
}

// Leave adds e, the client's last, without waiting for room. What waits before it is handled for so long; then late is
// called, and the rest of it is dropped. Only the first call counts.
func (l *Lane[E]) Leave(e E, patience time.Duration, late func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.leaving != nil {
		return
	}
	l.addLocked(e, eventSize+e.Size())
	l.leaving = time.AfterFunc(patience, func() {
		l.mu.Lock()
		if n := len(l.queue); n > 0 {
			clear(l.queue[:n-1])
			l.queue, l.bytes = l.queue[n-1:], eventSize+e.Size()
		}
		l.mu.Unlock()
		late()
	})
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

// Close lets nothing be added any more. What waits is handled, or discarded, and then Last is called. Only the first
// call counts.
func (l *Lane[E]) Close(discard bool, reason crosscast.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed, l.reason = true, reason
	if l.leaving != nil {
		l.leaving.Stop()
	}
	if discard {
		l.queue, l.bytes = nil, 0
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

// work handles what waits and, once the lane is closed, is the last to go.
func (l *Lane[E]) work() {
	l.mu.Lock()
	for len(l.queue) > 0 {
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
	l.mu.Unlock()
	if !ended {
		l.worker.Last(reason)
	}
}
