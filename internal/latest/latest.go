// Package latest keeps the latest of many things.
package latest

import (
	"slices"
	"sync"
	"time"
)

// A List has the latest things that were added, at most Most. Its methods may be called concurrently.
type List[T any] struct {
	Most int

	mu  sync.Mutex
	all []T // the oldest first; guarded by mu
}

// Near is the time within which two things of one cause follow each other, and are kept as one.
const Near = 10 * time.Second

// Add adds a thing, and forgets the oldest if there are too many. It offers each thing that is there to follows, the
// latest first. One for which follows returns true has become v's record, too: it is the latest then, and v is not added.
func (l *List[T]) Add(v T, follows func(old *T) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.all) - 1; i >= 0; i-- {
		if old := l.all[i]; follows(&old) {
			l.all = append(slices.Delete(l.all, i, i+1), old)
			return
		}
	}
	if len(l.all) >= l.Most {
		l.all = slices.Delete(l.all, 0, 1)
	}
	l.all = append(l.all, v)
}

// All returns a copy, the latest first. It is never nil.
func (l *List[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append([]T{}, l.all...)
	slices.Reverse(all)
	return all
}
