package wire

import (
	"slices"

	"github.com/crosscast/crosscast"
)

// wait is a call of Subscribe, until each of its names has an outcome. It is guarded by subscriptions.mu until done is
// closed.
type wait struct {
	names   []crosscast.Address
	left    int       // topics without an outcome; one that several of the names stand for counts for each
	refused []refusal // in the order of the replies
	err     error     // of every name
	done    chan struct{}
}

// refusal is that of one topic of the name with an index in wait.names.
type refusal struct {
	name  int
	topic *topic
	err   error
}

// waiter is what a topic knows of a wait.
type waiter struct {
	*wait
	name int // index in wait.names
}

// await has w wait for t, for the sake of one of its names.
func (t *topic) await(w *wait, name int) {
	t.waiters = append(t.waiters, waiter{w, name})
	w.left++
}

// resolve tells those who wait for t: nil when it is confirmed, or why it was refused.
func (t *topic) resolve(err error) {
	for _, w := range t.waiters {
		if err != nil {
			w.refused = append(w.refused, refusal{w.name, t, err})
		}
		if w.left--; w.left == 0 {
			close(w.done)
		}
	}
	t.waiters = nil
}

// fail tells those who wait for t that all their names have failed. That is ErrNotConnected, which is a promise.
func (t *topic) fail(err error) {
	if len(t.waiters) > 0 {
		t.promised = true
	}
	for _, w := range t.waiters {
		if w.err != nil { // with another topic already
			continue
		}
		w.err = err
		for _, r := range w.refused {
			r.topic.promised = true
		}
		close(w.done)
	}
	t.waiters = nil
}

// forget is for a caller who does not wait any more.
func (t *topic) forget(w *wait) {
	t.waiters = slices.DeleteFunc(t.waiters, func(x waiter) bool { return x.wait == w })
}

// outcome is what Subscribe returns once done is closed.
func (w *wait) outcome() error {
	if w.err != nil || len(w.refused) == 0 {
		return w.err
	}
	slices.SortStableFunc(w.refused, func(a, b refusal) int { return a.name - b.name })
	e := &crosscast.NamesError{}
	for i, r := range w.refused {
		if i > 0 && r.name == w.refused[i-1].name { // another topic of the same name
			continue
		}
		e.Failed = append(e.Failed, crosscast.FailedName{Address: w.names[r.name], Err: r.err})
	}
	return e
}
