// Package latest keeps the latest of many things.
package latest

import (
	"slices"
	"sync"
)

// A List has the latest things that were added, at most Most. Its methods may be called concurrently.
type List[T any] struct {
	Most int

	mu  sync.Mutex
	all []T // the oldest first; guarded by mu
}

// Add adds a thing, and forgets the oldest if there are too many.
func (l *List[T]) Add(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= l.Most {
		l.all = slices.Delete(l.all, 0, 1)
	}
	l.all = append(l.all, v)
}

// Merge offers each thing to take, the latest first. The one for which take returns true has become a part of what take
// brings, and is the latest from now on. Merge reports whether there was one.
func (l *List[T]) Merge(take func(old *T) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.all) - 1; i >= 0; i-- {
		if v := l.all[i]; take(&v) {
			l.all = append(slices.Delete(l.all, i, i+1), v)
			return true
		}
	}
	return false
}

// All returns a copy, the latest first. It is never nil.
func (l *List[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append([]T{}, l.all...)
	slices.Reverse(all)
	return all
}
