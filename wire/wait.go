package wire

import "github.com/crosscast/crosscast"

// wait is one call of Subscribe. It ends when each of its names has an outcome. subscriptions.mu guards it until done
// is closed.
type wait struct {
	names   []crosscast.Address
	left    int       // topics without an outcome; a topic of several names counts once for each
	refused []refusal // in the order of the replies
	err     error     // the outcome of all names, if the link ended
	done    chan struct{}
}

// refusal is the refusal of one topic of a name.
type refusal struct {
	name  int // index in wait.names
	topic *topic
	err   error
}

// waiter is a wait in the list of a topic.
type waiter struct {
	*wait
	name int // index in wait.names
	next *waiter
}

// await makes w wait for t.
func (t *topic) await(w *waiter) {
	w.next, t.waiters = t.waiters, w
	w.left++
}

// resolve gives all waiters of t its outcome: nil if t is confirmed, else why it was refused.
func (t *topic) resolve(err error) {
	for w := t.waiters; w != nil; w = w.next {
		if err != nil {
			w.refused = append(w.refused, refusal{w.name, t, err})
		}
		if w.left--; w.left == 0 {
			close(w.done)
		}
	}
	t.waiters = nil
}

// fail ends all waits for t. All names of these waits have failed with err. err is ErrNotConnected or ErrClosed;
// ErrNotConnected promises that missed messages will be reported.
func (t *topic) fail(err error) {
	if t.waiters != nil {
		t.promised = true
	}
	for w := t.waiters; w != nil; w = w.next {
		if w.err != nil { // another topic of the call has ended it already
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

// forget removes w from the waiters of t, because its caller does not wait any more.
func (t *topic) forget(w *wait) {
	for at := &t.waiters; *at != nil; {
		if (*at).wait == w {
			*at = (*at).next
		} else {
			at = &(*at).next
		}
	}
}

// outcome returns the result of Subscribe. done is closed.
func (w *wait) outcome() error {
	if w.err != nil || len(w.refused) == 0 {
		return w.err
	}
	failed := make(map[crosscast.Address]error, len(w.refused))
	for _, r := range w.refused {
		if name := w.names[r.name]; failed[name] == nil { // else: another topic of the same name
			failed[name] = r.err
		}
	}
	return &crosscast.NamesError{Failed: failed}
}
