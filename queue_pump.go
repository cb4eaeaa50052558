package crosscast

import (
	"runtime"
	"sync"
	"sync/atomic"
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
	procs   int // processors, when the first one of those began

	depth atomic.Int32 // mean number of frames that waited in a queue, in 65,536ths; see served
}

const (
	// queuesPerPump is how many queues wait for each pump when another one starts. It is few, because the processor that
	// wakes for the first pump should find one that it can take over at once.
	queuesPerPump = 2
	// pumpTurn is how many queues a pump serves before it lets other goroutines run.
	pumpTurn = 64
	// fullDepth is the depth from which the pumps are fewer: 32 frames.
	fullDepth = 32 << 16
	// depthQueues is how many queues the mean is about.
	depthQueues = 1024
)

// add makes q due.
func (c *pumpCrew) add(q *Queue) {
	if c.enter(q) {
		go c.runPump()
	}
}

// mostLocked returns how many pumps may run: one for each processor, which is the shortest way to the last client. When
// many frames wait, one processor is left to others, because more pumps would make smaller batches, and what feeds them
// would have to wait.
func (c *pumpCrew) mostLocked() int {
	if c.depth.Load() < fullDepth {
		return c.procs
	}
	return max(c.procs-1, 1)
}

// served enters in the mean that so many frames waited in a queue. More than 64 count as 64, so that a burst is forgotten
// soon. The mean is approximate: pumps might overwrite each other's.
func (c *pumpCrew) served(waiting int) {
	d := c.depth.Load()
	c.depth.Store(d + (int32(min(waiting, 64))<<16-d)/depthQueues)
}

// enter reports whether another pump must start.
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
		c.procs = runtime.GOMAXPROCS(0)
	case c.running >= c.mostLocked() || len(c.waiting)-c.first < queuesPerPump*c.running:
		return false
	}
	c.running++
	return true
}

// next returns the queue that is due. If it returns nil, the pump must end.
func (c *pumpCrew) next() *Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running > c.mostLocked() {
		c.running--
		return nil
	}
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
		f = q.pump(c, f)
		if n%pumpTurn == 0 {
			runtime.Gosched()
		}
	}
	flights.Put(f)
	returned = true
}

// pump writes some of what waits, if that does not block, with the flight f, for c. It returns f, or another one if f is
// still in use.
func (q *Queue) pump(c *pumpCrew, f *flight) *flight {
	returned := false
	defer func() {
		if !returned {
			go q.exited()
		}
	}()
	then, reason := q.pumpOnce(c, f)
	switch then {
	case pumpAgain:
		c.add(q)
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

func (q *Queue) pumpOnce(c *pumpCrew, f *flight) (then pumpThen, reason Reason) {
	waiting, ok := q.load(f)
	if !ok {
		return pumpNot, ""
	}
	if len(f.frames) == 0 {
		return q.pumped(f, 0, nil)
	}
	c.served(waiting)
	n, err := guardWrite(q.try, f.frames)
	return q.pumped(f, n, err)
}

// load moves the first waiting frames to f, and returns how many waited. ok is false if DropNotice must be called before,
// which might block.
func (q *Queue) load(f *flight) (waiting int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flight = f
	if q.isRunDueLocked() {
		return 0, false
	}
	if waiting = q.ring.len(); waiting > 0 { // otherwise the queue has ended
		q.takeLocked(f)
		q.markLocked()
	}
	return waiting, true
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
