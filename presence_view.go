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
//
// What comes and goes on the node itself is noted under own.mu alone, because the room's shard is locked then: joins and
// emissions must not wait for whoever reads or changes the roster, which may be long. It gets into the roster when mu is
// locked.
type view struct {
	p     *presence
	at    Address
	hash  roomHash
	begun uint64 // the round before all peers were asked about the room
	refs  int    // watches that there are, or will be; guarded by presence.mu

	own struct {
		mu      sync.Mutex // guards what follows; locked after every other lock but those of lanes
		members []*Socket  // those at the beginning; nil: they are in the roster
		changes diff       // since
		queued  bool       // there is a call of handOver to come
	}

	mu       sync.Mutex // guards what follows; locked by lock
	roster   roster
	watches  []*Watch
	progress chan struct{} // made by missing; closed when a list came, or will not, or the node closes
}

// lock locks v.mu, and brings the roster up to date with this node's own members.
func (v *view) lock() {
	v.mu.Lock()
	v.own.mu.Lock()
	members, changes := v.own.members, v.own.changes
	v.own.members, v.own.changes = nil, nil
	v.own.mu.Unlock()
	own := v.roster.nodes[v.roster.self]
	if members != nil { // the first call: nobody is told of these as of changes
		for _, s := range members {
			v.roster.set(own, Member{s.id, s.user}, true)
		}
		v.roster.take()
	}
	for m, here := range changes {
		v.roster.set(own, m, here)
	}
}

// changed notes a change on this node; the room's shard is locked.
func (v *view) changed(c PresenceChange) {
	v.own.mu.Lock()
	defer v.own.mu.Unlock()
	v.own.changes.note(c.Member, !c.Left)
	v.queue()
}

// queue has handOver called soon; v.own.mu is held.
func (v *view) queue() {
	if !v.own.queued {
		v.own.queued = true
		v.p.handOver(spread{view: v})
	}
}

// moved is called after a change of the roster; v.mu is held.
func (v *view) moved() {
	if v.progress != nil {
		close(v.progress)
		v.progress = nil
	}
	if len(v.roster.diff) > 0 {
		v.own.mu.Lock()
		defer v.own.mu.Unlock()
		v.queue()
	}
}

// A spread hands what has changed to the watches of a view, and then lets a follower of one begin with what that has.
type spread struct {
	view  *view
	watch *Watch // nil: none begins
	begin *follower
}

func (p *presence) handOver(s spread) {
	p.spread.mu.Lock()
	defer p.spread.mu.Unlock()
	p.spread.push(s)
}

func (s spread) do() {
	s.view.handOver()
	if s.watch != nil {
		s.watch.lane.call(s.begin)
	}
}

// handOver tells the watches what has changed. It does so with v locked, so that at any time a change is among those that
// are to be handed over, or with the watch.
func (v *view) handOver() {
	v.own.mu.Lock()
	v.own.queued = false
	v.own.mu.Unlock()
	v.lock()
	defer v.mu.Unlock()
	if d := v.roster.take(); len(d) > 0 {
		for _, w := range v.watches {
			w.add(d)
		}
	}
}

// join adds a watch.
func (v *view) join(w *Watch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watches = append(v.watches, w)
}

// leave takes a watch out, and reports whether it was there.
func (v *view) leave(w *Watch) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.Index(v.watches, w)
	if i < 0 {
		return false
	}
	v.watches = slices.Delete(v.watches, i, i+1)
	v.moved() // whoever waits for it
	return true
}

// members returns the members, in no order, unless w has left.
func (v *view) members(w *Watch) []Member {
	v.lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.watches, w) {
		return nil
	}
	var all []Member
	v.roster.members(w.users, func(m Member) { all = append(all, m) })
	return all
}

var errNoPresence = fmt.Errorf("peers that are not known by ID cannot be watched: %w", errors.ErrUnsupported)

// maxWatchWait bounds how long a call of Watch waits for peers.
const maxWatchWait = 5 * time.Second

// await returns when all peers have told, or said that they do not, or need not be waited for: the link is down, two
// heartbeats have passed, or v has ended. sent tells, once, whether the peers were asked; nil: they were before. The
// error is ctx's.
func (v *view) await(ctx context.Context, sent <-chan error) error {
	n := v.p.n
	v.p.wait(1)
	defer v.p.wait(-1)
	patience := time.NewTimer(min(2*n.heartbeat, maxWatchWait))
	defer patience.Stop()
	for {
		untold, _, progress := v.missing()
		link, changed := n.link.now()
		if len(untold) == 0 || !link.Live() {
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

// missing returns the nodes whose list is not known: those that have not told, and those that said that they do not. The
// channel is closed when that may have changed. Nobody is missing for a view that has ended.
func (v *view) missing() (untold, full []NodeID, progress <-chan struct{}) {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.progress == nil {
		v.progress = make(chan struct{})
	}
	if len(v.watches) == 0 || len(v.p.mates) == v.roster.known {
		return nil, nil, v.progress
	}
	for id := range v.p.mates {
		switch l := v.roster.nodes[id]; {
		case l != nil && l.full:
			full = append(full, id)
		case !l.settled():
			untold = append(untold, id)
		}
	}
	return untold, full, v.progress
}
