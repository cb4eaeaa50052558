package crosscast

import (
	"context"
	"sync"

	"github.com/crosscast/crosscast/internal/activity"
	"github.com/crosscast/crosscast/internal/guard"
)

// A lane calls run with the pushed items, one at a time and in order, on a goroutine that exists only while there is
// work. If a call ends that goroutine, the next call is made on another one.
type lane[T any] struct {
	run   func(T)                  // set before the first push; must not panic
	taken func(T)                  // optional: called with mu held after an item has left the queue
	enter func(queue []T, v T) []T // optional: called with mu held instead of append, to merge waiting items
	busy  *activity.Counter

	mu      sync.Mutex // guards the following fields
	queue   []T
	running bool
	idle    chan struct{} // made by wait; closed when the goroutine ends
}

// pushLocked queues v.
func (l *lane[T]) pushLocked(v T) {
	if l.enter != nil {
		l.queue = l.enter(l.queue, v)
	} else {
		l.queue = append(l.queue, v)
	}
	if !l.running {
		l.running = true
		l.busy.Begin()
		guard.Go(l.work)
	}
}

// push queues v.
func (l *lane[T]) push(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pushLocked(v)
}

func (l *lane[T]) work() {
	for v, ok := l.next(); ok; v, ok = l.next() {
		l.run(v)
	}
}

// next takes the oldest item. If there is none, the goroutine ends.
func (l *lane[T]) next() (v T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		v = l.queue[0]
		clear(l.queue[:1])
		l.queue = l.queue[1:]
		if l.taken != nil {
			l.taken(v)
		}
		return v, true
	}
	l.queue, l.running = nil, false
	l.busy.End(1)
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	return v, false
}

// wait returns when nothing is queued or running.
func (l *lane[T]) wait(ctx context.Context) error {
	l.mu.Lock()
	if !l.running {
		l.mu.Unlock()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
