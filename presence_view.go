package crosscast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A view is what a node knows of a room that it watches. All its watches of the room share it.
type view struct {
	p  *presence
	at Address

	mu       sync.Mutex // guards what follows
	roster   roster
	watches  []*Watch
	queued   bool          // there is a call of handOver to come
	progress chan struct{} // made by missing; closed when a list came, or will not, or the node closes
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

// maxWatchWait bounds how long a call of Watch waits for peers.
const maxWatchWait = 5 * time.Second

// await returns when the lists of all peers are known, or need not be waited for: the link is down, two heartbeats have
// passed, or v has ended. sent tells, once, whether the peers were asked; nil: they were before. The error is ctx's.
func (v *view) await(ctx context.Context, sent <-chan error) error {
	n := v.p.n
	v.p.wait(1)
	defer v.p.wait(-1)
	patience := time.NewTimer(min(2*n.heartbeat, maxWatchWait))
	defer patience.Stop()
	for {
		missing, progress := v.missing()
		link, changed := n.link.now()
		if len(missing) == 0 || !link.Live() {
			return nil
		}
		select {
		case <-progress:
		case <-changed:
		case err := <-sent:
			if sent = nil; err != nil {
				return nil
			}
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missing returns the nodes whose list never came, and a channel that is closed when that may have changed. Nobody is
// missing for a view that has ended.
func (v *view) missing() ([]NodeID, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.progress == nil {
		v.progress = make(chan struct{})
	}
	if len(v.watches) == 0 {
		return nil, v.progress
	}
	return v.roster.missing(), v.progress
}
