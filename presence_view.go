package crosscast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A view is what a node knows of a room that it watches. All its watches of the room share it.
type view struct {
	p  *presence
	at Address

	mu       sync.Mutex // guards what follows
	roster   roster
	watches  []*Watch
	queued   bool          // there is a call of handOver to come
	progress chan struct{} // made by await; closed when a list came, or will not, or the node closes
}

// changed notes a change on this node.
func (v *view) changed(c PresenceChange) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.roster.change(c)
	v.moved()
}

// moved is called after a change of the roster; v.mu is held.
func (v *view) moved() {
	if v.progress != nil {
		close(v.progress)
		v.progress = nil
	}
	if len(v.roster.diff) > 0 && !v.queued {
		v.queued = true
		v.p.handOver(spread{view: v})
	}
}

// A spread hands what has changed to the watches of a view, and then lets begin tell what it has.
type spread struct {
	view  *view
	begin *Watch // nil: none begins
}

func (p *presence) handOver(s spread) {
	p.spread.mu.Lock()
	defer p.spread.mu.Unlock()
	p.spread.push(s)
}

func (s spread) do() {
	s.view.handOver()
	if s.begin != nil {
		s.begin.begin()
	}
}

// handOver tells the watches what has changed: one after the other, but off v.mu, which joins in the room wait for.
func (v *view) handOver() {
	v.mu.Lock()
	d, watches := v.roster.take(), slices.Clone(v.watches)
	v.queued = false
	v.mu.Unlock()
	for _, w := range watches {
		w.add(d)
	}
}

// join adds a watch; v.mu is held. What the watches were not told yet it will be told with them.
func (v *view) join(w *Watch) {
	w.view = v
	v.watches = append(v.watches, w)
	if w.onChange == nil {
		return
	}
	current := make(diff)
	for _, users := range [...]bool{false, true} {
		v.roster.members(users, func(m Member) { current[m] = true })
	}
	for m, here := range v.roster.diff {
		if here {
			delete(current, m)
		} else {
			current[m] = true
		}
	}
	w.start(current)
}

var errNoPresence = fmt.Errorf("peers that are not known by ID cannot be watched: %w", errors.ErrUnsupported)

// await returns when the lists of all peers are known. sent tells, once, whether they were asked; nil: they were
// before.
func (v *view) await(ctx context.Context, sent <-chan error) error {
	if v.p.n.counter != nil {
		return &IncompleteError{Nodes: []NodeID{""}, Errs: []error{errNoPresence}}
	}
	v.p.wait(1)
	defer v.p.wait(-1)
	for {
		v.mu.Lock()
		missing := v.roster.missing()
		if len(missing) == 0 || len(v.watches) == 0 {
			v.mu.Unlock()
			return nil
		}
		if v.progress == nil {
			v.progress = make(chan struct{})
		}
		progress := v.progress
		v.mu.Unlock()
		var err error
		select {
		case <-progress:
			continue
		case err = <-sent:
			if sent = nil; err == nil {
				continue
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
		slices.Sort(missing)
		return &IncompleteError{Nodes: missing, Errs: slices.Repeat([]error{err}, len(missing))}
	}
}
