package wsconn

import "sync"

// A Latch is opened once, and its channel is closed then. The channel exists only if somebody waits. The zero value is
// not open.
type Latch struct {
	mu   sync.Mutex
	open bool
	done chan struct{}
}

// Open opens the latch. It is called once.
func (l *Latch) Open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	if l.done != nil {
		close(l.done)
	}
}

// IsOpen reports whether Open was called.
func (l *Latch) IsOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Done returns a channel that Open closes.
func (l *Latch) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.open {
			close(l.done)
		}
	}
	return l.done
}
