// Package activity counts the work that is under way in a cluster of one process, so that a test can wait for its end.
package activity

import (
	"context"
	"sync"
)

// A Counter counts the work that is under way. Work that begins other work counts it before it ends itself. So when
// nothing is counted, nothing more comes of earlier work. A nil Counter counts nothing: nodes outside of tests have one.
type Counter struct {
	mu      sync.Mutex // guards the following fields; locked after every other lock
	n       int
	changes uint64
	idle    chan struct{} // made by Wait; closed when n is 0
}

// Begin counts one more.
func (c *Counter) Begin() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.changes++
}

// End counts n less.
func (c *Counter) End(n int) {
	if c == nil || n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	if c.n -= n; c.n == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Changes returns how often something has begun or ended. If it is the same before and after a look at work that is not
// counted, nothing has happened meanwhile.
func (c *Counter) Changes() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// Wait returns when nothing is under way, or with ctx's error.
func (c *Counter) Wait(ctx context.Context) error {
	idle := c.whenIdle()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// whenIdle returns a channel that is closed when nothing is under way; nil: nothing is now.
func (c *Counter) whenIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		return nil
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	return c.idle
}
