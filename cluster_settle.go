package crosscast

import (
	"context"
	"sync"
)

// An activity counts what is under way, so that a test can wait for the end of it. What begins something else counts it
// before it ends itself: so when nothing is counted, nothing more comes of what was. A nil activity counts nothing,
// which is what nodes without an in-process cluster have.
type activity struct {
	mu   sync.Mutex // guards what follows; locked after every other lock
	n    int
	idle chan struct{} // made by wait; closed when n is 0
}

func (a *activity) begin() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
}

func (a *activity) end(n int) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n -= n; a.n == 0 && a.idle != nil {
		close(a.idle)
		a.idle = nil
	}
}

func (a *activity) wait(ctx context.Context) error {
	a.mu.Lock()
	if a.n == 0 {
		a.mu.Unlock()
		return nil
	}
	if a.idle == nil {
		a.idle = make(chan struct{})
	}
	idle := a.idle
	a.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Settle is for tests. It waits, bounded by ctx, until nothing is under way: everything that was emitted, joined,
// commanded, asked or told before it was called has been handled on every node, and so has what came of it. That
// includes the hooks of Options, the functions of subscriptions and watches, the OnClose of sockets and the handlers of requests.
// Looking at what arrived, or did not, needs no sleep after it. It may be called in a testing/synctest bubble, and
// outside of one.
//
// What it cannot know of is what goroutines of the application are about to do, clients that have not replied to an
// acknowledged emission yet, and what a [Queue] has not written yet. Interest that lingers is not waited for either.
// Settle must not be called from within anything that it waits for.
func (c *Cluster) Settle(ctx context.Context) error { return c.busy.wait(ctx) }
