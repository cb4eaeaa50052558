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
	limit  int // of the waiting events, in bytes

	mu      sync.Mutex // guards the fields below
	queue   []E
	bytes   int
	running bool // a goroutine handles events
	closed  bool // nothing is added any more
	ended   bool // Last was called
	reason  crosscast.Reason
	leaving *time.Timer // ends the time that Leave has set
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
	// Last is called after all other calls, once the lane is closed.
	Last(reason crosscast.Reason)
}

// Init initializes a lane for events that are read from conn. At most limit bytes may wait; each event counts as its
// Size and 256 bytes more. One event may always wait. Nothing is handled before Start.
func (l *Lane[E]) Init(conn *Conn, worker Worker[E], limit int) {
	l.conn, l.worker, l.limit = conn, worker, limit
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
	fits := len(l.queue) == 0 || l.bytes+size <= times*l.limit
	if !fits && !l.closed && !l.conn.gone.Load() {
		return false
	}
	l.addLocked(e, size)
	return true
}

// Leave adds e, the client's last event, without waiting for room. The events before it are handled for up to patience.
// Then late is called, and the rest of them is dropped. Only the first call counts.
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

// Close ends adding. The waiting events are handled, or discarded, and then Last is called. Only the first call counts.
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

// work handles events. Once the lane is closed and empty, it calls Last.
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
