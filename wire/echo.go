package wire

import (
	"sync"
	"time"
)

// echo proves that a link hears. What this node publishes to everyone comes back on its own subscription, in order:
// an echo proves that nothing sent before it through that server is still missing. A frame that the bus accepted and
// that does not come back means that the connection is deaf, though it shows no error.
type echo struct {
	a *Adapter

	mu       sync.Mutex
	link     *link  // resumed; nil while there is none; guarded by mu, like everything below
	heard    uint64 // highest number that came back
	want     uint64 // must come back; 0: nothing is awaited
	latest   uint64 // highest number that the bus accepted
	lastRead time.Time
	since    time.Time // of waiting for want
	patience int
	timer    *time.Timer
	waiting  chan struct{} // made by quiet; closed when nothing is awaited
}

func (e *echo) init(a *Adapter) { e.a = a }

func (e *echo) timeout() time.Duration { return max(e.a.self.Heartbeat, minEcho) }

func (e *echo) begin(l *link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link, e.heard, e.want, e.latest = l, 0, 0, 0
}

func (e *echo) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link = nil
	e.rest()
	if e.timer != nil {
		e.timer.Stop()
	}
}

// rest ends the wait. The caller holds mu.
func (e *echo) rest() {
	e.want = 0
	if e.waiting != nil {
		close(e.waiting)
		e.waiting = nil
	}
}

// quiet returns a channel that is closed when no echo is awaited.
func (e *echo) quiet() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == nil {
		e.waiting = make(chan struct{})
	}
	waiting := e.waiting
	if e.want == 0 {
		e.rest()
	}
	return waiting
}

// expect says that the bus has accepted frame n, sent to everyone at the given time. What was sent before the link
// had resumed proves nothing.
func (e *echo) expect(n uint64, sent time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link == nil || n <= e.heard || sent.Before(e.link.resumedAt) {
		return
	}
	e.latest = n
	if e.want == 0 {
		e.await(n)
	}
}

// await starts the clock for frame n. The caller holds mu.
func (e *echo) await(n uint64) {
	e.want, e.since, e.patience, e.lastRead = n, time.Now(), echoPatience, e.link.lastHeard()
	if e.timer == nil {
		e.timer = time.AfterFunc(e.timeout(), e.check)
		return
	}
	e.timer.Reset(e.timeout())
}

func (e *echo) hear(n uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link == nil {
		return
	}
	e.heard = max(e.heard, n)
	if e.want == 0 || n < e.want {
		return
	}
	if e.latest > n {
		e.await(e.latest)
		return
	}
	e.rest()
	e.timer.Stop()
}

// overdue reports whether an echo has been awaited for a while already.
func (e *echo) overdue() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.want != 0 && time.Since(e.since) > e.timeout()/2
}

// check runs when an echo is overdue. While other frames arrive, it may only be waiting behind them.
func (e *echo) check() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.want == 0 || e.link == nil {
		return
	}
	if read := e.link.lastHeard(); read.After(e.lastRead) && e.patience > 0 {
		e.patience--
		e.lastRead = read
		e.timer.Reset(e.timeout())
		return
	}
	e.link.fail(errDeaf)
}
