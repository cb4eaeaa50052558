package client

import (
	"container/heap"
	"time"
)

// A schedule is a heap of tasks, of which the first one is due first. A task's time does not change meanwhile. Only the
// client's goroutine uses it.
type schedule[T task] []T

type task interface{ dueAt() time.Time }

func (s *schedule[T]) add(t T) { heap.Push((*tasks[T])(s), t) }

// take removes the first task and returns it.
func (s *schedule[T]) take() T { return heap.Pop((*tasks[T])(s)).(T) }

// next returns when the first task is due; zero: there is none.
func (s schedule[T]) next() time.Time {
	if len(s) == 0 {
		return time.Time{}
	}
	return s[0].dueAt()
}

// isDue reports whether the first task is due.
func (s schedule[T]) isDue() bool { return len(s) > 0 && time.Until(s[0].dueAt()) <= 0 }

// earlier returns the earlier time. The zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// tasks implements heap.Interface.
type tasks[T task] []T

func (s tasks[T]) Len() int           { return len(s) }
func (s tasks[T]) Less(i, j int) bool { return s[i].dueAt().Before(s[j].dueAt()) }
func (s tasks[T]) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *tasks[T]) Push(t any)        { *s = append(*s, t.(T)) }
func (s *tasks[T]) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	clear((*s)[last:])
	*s = (*s)[:last]
	return t
}
