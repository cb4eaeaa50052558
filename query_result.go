package crosscast

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// Queries of the cluster, on the side that reads the answers.

// Answers is a result that arrives from many nodes. One goroutine reads it, once: with Collect, or with All and then
// Err. A result that is neither read nor closed uses memory until its deadline.
type Answers[T any] struct {
	q    *query
	each func(from NodeID, a *Answer) []T
}

// All yields the answers as they arrive, beginning with this node's own. It ends when the result is complete or the
// deadline has passed; Err returns which. Breaking off ends the query.
func (a *Answers[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		a.q.read(func(from NodeID, part *Answer) bool {
			for _, v := range a.each(from, part) {
				if !yield(v) {
					return false
				}
			}
			return true
		})
	}
}

// Collect reads the result to its end. With an [*IncompleteError] it also returns the answers that came.
func (a *Answers[T]) Collect() ([]T, error) {
	all := slices.Collect(a.All())
	return all, a.Err()
}

// Close ends the query: a running All ends, and later answers are dropped. It may be called concurrently, and
// repeatedly. After the end of All it does nothing.
func (a *Answers[T]) Close() {
	if a.q.failure == nil {
		a.q.end()
	}
}

// Err returns, after All, an [*IncompleteError] if answers are missing, another error if nothing was published, or nil.
func (a *Answers[T]) Err() error { return a.q.err() }

// read calls part with each part of the result, until part returns false, and ends the query.
func (q *query) read(part func(from NodeID, a *Answer) bool) {
	if q.failure != nil {
		return
	}
	defer q.end()
	if q.own != nil {
		goOn := true
		q.own(func(a *Answer) bool {
			goOn = part(q.n.id, a)
			return goOn
		})
		if q.own = nil; !goOn {
			return
		}
	}
	beat := time.NewTicker(q.n.heartbeat)
	defer beat.Stop()
	for {
		v, complete := q.next()
		switch {
		case v.a != nil:
			if !part(v.from, v.a) {
				return
			}
		case complete:
			return
		default:
			select {
			case <-q.wake:
			case <-beat.C:
				q.expects.beat(q)
			case <-q.ctx.Done():
				q.late()
			}
		}
	}
}

// next takes a part off the queue. If there is none, it reports whether the result is complete.
func (q *query) next() (v answered, complete bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return v, len(q.waiting) == 0 && q.expects.completeLocked()
	}
	v = q.queue[0]
	q.queue[0] = answered{}
	q.queue = q.queue[1:]
	q.bytes -= v.size
	return v, false
}

// late gives up the nodes that have not answered before the end of the context.
func (q *query) late() { q.giveUp(q.ctx.Err()) }

func (q *query) err() error {
	if q.failure != nil {
		return q.failure
	}
	e := q.incomplete()
	if len(e.Missing) == 0 && len(e.Silent) == 0 {
		return nil
	}
	q.n.peers.label(e.Missing)
	return e
}

// incomplete returns the missing answers.
func (q *query) incomplete() *IncompleteError {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := &IncompleteError{Silent: slices.Clone(q.silent)}
	q.expects.reportLocked(q, e)
	for _, id := range slices.Sorted(maps.Keys(q.failed)) {
		e.Missing = append(e.Missing, MissingNode{ID: id, Err: q.failed[id]})
	}
	return e
}
