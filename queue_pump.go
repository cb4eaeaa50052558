package crosscast

import (
	"runtime"
	"sync"
)

// A pumpCrew writes for the queues of a budget that have TryWrite and are not stuck. A pump is a goroutine that serves
// one queue after the other, as long as any of them waits. So a broadcast starts a goroutine or a few, and not one for
// each client: a new goroutine costs half as much as a write, most of it for the growth of its stack.
//
// A pump never blocks for a client. What cannot be tried is left to a goroutine of the queue's own (see flight.run).
type pumpCrew struct {
	mu      sync.Mutex // taken with no other lock held
	waiting []*Queue   // in the order in which they are due, from first on; each has the state writing
	first   int
	running int // pumps
	most    int // pumps, since the first one of those that run
}

const (
	// queuesPerPump is how many queues wait when another pump starts.
	queuesPerPump = 16
	// pumpTurn is how many queues a pump serves before it lets other goroutines run.
	pumpTurn = 32
)

// add makes q due.
func (c *pumpCrew) add(q *Queue) {
	if c.enter(q) {
		go c.runPump()
	}
}

// enter reports whether another pump must start. One processor is left to others, if there are several: more pumps
// would make smaller batches, and what feeds them would have to wait.
func (c *pumpCrew) enter(q *Queue) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == cap(c.waiting) && c.first > len(c.waiting)/2 {
		n := copy(c.waiting, c.waiting[c.first:])
		clear(c.waiting[n:])
		c.waiting, c.first = c.waiting[:n], 0
	}
	c.waiting = append(c.waiting, q)
	switch {
	case c.running == 0:
		c.most = max(runtime.GOMAXPROCS(0)-1, 1)
	case c.running >= c.most || len(c.waiting)-c.first < queuesPerPump*c.running:
		return false
	}
	c.running++
	return true
}

// next returns the queue that is due, if there is one. Otherwise the pump must end.
func (c *pumpCrew) next() *Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == len(c.waiting) {
		c.running--
		c.waiting, c.first = c.waiting[:0], 0
		return nil
	}
	q := c.waiting[c.first]
	c.waiting[c.first] = nil
	c.first++
	return q
}

// runPump is a pump.
func (c *pumpCrew) runPump() {
	returned := false
	defer func() {
		if !returned { // TryWrite has ended the goroutine
			go c.runPump()
		}
	}()
	f := takeFlight()
	for n := 1; ; n++ {
		q := c.next()
		if q == nil {
			break
		}
		f = q.pump(f)
		if n%pumpTurn == 0 {
			runtime.Gosched()
		}
	}
	flights.Put(f)
	returned = true
}

// pump writes some of what waits, if that does not block, with the flight f. It returns f, or another one if f is still
// in use.
func (q *Queue) pump(f *flight) *flight {
	returned := false
	defer func() {
		if !returned {
			go q.exited()
		}
	}()
	then, reason := q.pumpOnce(f)
	switch then {
	case pumpAgain:
		q.shared.Value().budget.pumps.add(q)
	case pumpOver:
		go q.finish(reason)
	case pumpNot:
		f.queue = q
		go f.writer()
		f = takeFlight()
	}
	returned = true
	return f
}

// pumpThen is what remains to be done.
type pumpThen uint8

const (
	pumpRests pumpThen = iota // nothing
	pumpAgain                 // more waits
	pumpNot                   // a goroutine must go on, with the flight
	pumpOver                  // finish must be called
)

func (q *Queue) pumpOnce(f *flight) (then pumpThen, reason Reason) {
	if !q.load(f) {
		return pumpNot, ""
	}
	if len(f.frames) == 0 {
		return q.pumped(f, 0, nil)
	}
	n, err := guardWrite(q.try, f.frames)
	return q.pumped(f, n, err)
}

// load moves the first waiting frames to f. It returns false if DropNotice must be called before, which might block.
func (q *Queue) load(f *flight) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flight = f
	if q.isRunDueLocked() {
		return false
	}
	if q.ring.len() > 0 { // otherwise the queue has ended
		q.takeLocked(f)
		q.markLocked()
	}
	return true
}

// pumped enters that the first n frames of f were written.
func (q *Queue) pumped(f *flight, n int, err error) (then pumpThen, reason Reason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wroteLocked(f, n)
	switch {
	case err != nil:
		q.dropFlightLocked(f)
		if q.state&ended == 0 {
			return pumpOver, q.failLocked(err)
		}
	case len(f.frames) > 0:
		return pumpNot, ""
	case q.ring.len() > 0 || q.isRunDueLocked():
		q.flight = nil
		return pumpAgain, ""
	}
	reason, over := q.restLocked()
	if over {
		return pumpOver, reason
	}
	return pumpRests, ""
}
