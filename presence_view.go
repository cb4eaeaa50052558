package crosscast

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/errtext"
)

// A view is a node's knowledge of a room that it watches. All its watches of the room share it.
//
// Changes on the node itself are recorded under own.mu alone, because the room's shard is locked then: joins and
// emissions must not wait for a reader or writer of the roster, which might be long. They get into the roster when mu
// is locked.
type view struct {
	p     *presence
	at    Address
	hash  roomHash
	begun uint64 // the round before all peers were asked about the room
	refs  int    // watches that exist or are about to; guarded by presence.mu

	own struct {
		mu      sync.Mutex // guards the following fields; locked after every other lock but those of lanes
		members []*Socket  // those at the beginning; nil: they are in the roster
		changes diff       // later ones
		queued  bool       // a call of handOver is to come
	}

	mu       sync.Mutex // guards the following fields; locked by lock
	roster   roster
	watches  []*Watch
	progress chan struct{} // made by missing; closed when a list came or was refused, or the node closes
}

// lock locks v.mu, and brings the roster up to date with this node's own members.
func (v *view) lock() {
	v.mu.Lock()
	v.own.mu.Lock()
	members, changes := v.own.members, v.own.changes
	v.own.members, v.own.changes = nil, nil
	v.own.mu.Unlock()
	own := v.roster.nodes[v.roster.self]
	if members != nil { // the first call: these members are not changes
		for _, s := range members {
			v.roster.set(own, memberKey{s.id, s.user}, s.shown.Load(), true)
		}
		v.roster.takeDiff()
	}
	for k, c := range changes {
		v.roster.set(own, k, c.is.show, c.is.here)
	}
}

// noteChangeLocked records a change on this node.
func (v *view) noteChangeLocked(k memberKey, was, is entry) {
	v.own.mu.Lock()
	defer v.own.mu.Unlock()
	v.own.changes.noteLast(k, was, is) // what a member shows is read later than the list of members
	v.queueLocked()
}

// queueLocked makes handOver run soon.
func (v *view) queueLocked() {
	if !v.own.queued {
		v.own.queued = true
		v.p.handOver(spread{view: v})
	}
}

// movedLocked wakes waiting calls, and queues handOver, after a change of the roster.
func (v *view) movedLocked() {
	if v.progress != nil {
		close(v.progress)
		v.progress = nil
	}
	if len(v.roster.diff) > 0 {
		v.own.mu.Lock()
		defer v.own.mu.Unlock()
		v.queueLocked()
	}
}

// A spread hands changes to the watches of a view, and then lets a follower of one watch begin with the members of that
// watch.
type spread struct {
	view  *view
	watch *Watch // nil: none begins
	begin *follower
}

func (p *presence) handOver(s spread) {
	p.spread.mu.Lock()
	defer p.spread.mu.Unlock()
	p.spread.pushLocked(s)
}

func (s spread) do() {
	s.view.handOver()
	if s.watch != nil {
		s.watch.lane.push(s.begin)
	}
}

// handOver hands changes to the watches. v is locked meanwhile, so at any time a change is either still to be handed
// over, or with the watch.
func (v *view) handOver() {
	v.own.mu.Lock()
	v.own.queued = false
	v.own.mu.Unlock()
	v.lock()
	defer v.mu.Unlock()
	if d := v.roster.takeDiff(); len(d) > 0 {
		for _, w := range v.watches {
			w.noteChangesLocked(d)
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
	v.movedLocked() // wakes waiting calls
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
	add := func(k memberKey, show *shown) { all = append(all, k.member(show)) }
	v.roster.members(w.users, add)
	w.eachAway(&v.roster, add)
	return all
}

var errNoPresence = errtext.Errorf("peers that are not known by ID cannot be watched: %w", errors.ErrUnsupported)

// maxWatchWait bounds the time for which a call of Watch waits for peers.
const maxWatchWait = 5 * time.Second

// await returns when all peers have reported or refused. It also returns when the link is down, two heartbeats have
// passed, or v has ended. sent reports, once, whether the peers were asked; nil: they were asked before. The error is
// ctx's.
func (v *view) await(ctx context.Context, sent <-chan error) error {
	n := v.p.n
	v.p.noteWaiting(1)
	defer v.p.noteWaiting(-1)
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

// missing returns the nodes without a known list: those that have not reported, and those that refused. The channel is
// closed when this might have changed. For a view that has ended, no node is missing.
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
