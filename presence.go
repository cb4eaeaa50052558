package crosscast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// WatchOptions say how to watch a room. The zero value is for [Watch.Members] alone.
type WatchOptions struct {
	// OnChange is told who is in the room: first, once, of all members, even when there are none, and then of those who
	// joined and left. Calls come one at a time, on a goroutine of their own, and may do anything but Node.Close. While
	// one is being made changes are gathered for the next, and whoever came and went meanwhile is not told of: so a
	// slow OnChange costs no more than there are members, and nothing is ever dropped.
	OnChange func(PresenceEvent)
	// Users counts the sockets of a user as one member, wherever they are. Sockets without a user are left out.
	Users bool
}

// A PresenceEvent is what WatchOptions.OnChange is told, ordered by user and socket. For each member, joined and left
// alternate, and joined comes first.
type PresenceEvent struct {
	Current bool // the first event: Joined are the members at the beginning
	Joined  []Member
	Left    []Member
}

// A Watch tells who is in a room, on all nodes. Its methods may be called concurrently. Close it when done.
//
// What it tells is, for each node, who was in the room there at some moment, and soon at this one: it does not depend
// on the order in which the nodes' reports arrive, and when some are lost the nodes are asked again, at once after a
// [Gap], and otherwise within five heartbeats. The members of a node that says goodbye leave at once, and those of one
// that dies when it is taken for dead ([NodeExpired]).
type Watch struct {
	space    *space // held until unwatch
	view     *view
	users    bool
	onChange func(PresenceEvent)
	lane     lane[struct{}]

	mu      sync.Mutex // guards what follows; locked after view.mu
	pending diff       // not told yet
	begun   bool       // OnChange may be called
	told    bool       // the first event was told
	queued  bool       // there is a call to come
	closed  bool
}

// Watch watches a room, on all nodes. It returns when every peer has told of its members, but waits for two heartbeats at
// most, and never for more than 5 s; while the link is down it returns at once. Who is still to be heard then is in
// [Watch.Missing], and made up for. Several watches of a room on one node share what they cost. A room that nobody
// watches costs nothing.
//
// An error means that nothing happened: it is one of an argument, [ErrClosed], or ctx's if that ends before Watch
// returns. An emitter cannot watch ([ErrEmitOnly]), nor a node whose adapter is a [Counter]: then the error matches
// errors.ErrUnsupported.
func (ns *Namespace) Watch(ctx context.Context, room string, o WatchOptions) (*Watch, error) {
	if err := checkName("room", room); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch n := ns.node; {
	case n.lookout != nil:
		return nil, ErrEmitOnly
	case n.counter != nil:
		return nil, errNoPresence
	}
	w := &Watch{users: o.Users, onChange: o.OnChange}
	w.lane.run = w.call
	w.space = ns.hold()
	ns.node.interests.want(w.space.all.wait(nil))
	sent, err := ns.node.presence.watch(w.space, strings.Clone(room), w)
	if err != nil {
		return nil, err
	}
	if err := w.view.await(ctx, sent); err != nil {
		w.Close()
		return nil, err
	}
	if w.isClosed() {
		return nil, ErrClosed
	}
	// The first event is to have what has arrived by now, which the watches may not have been handed yet.
	w.view.p.handOver(spread{w.view, w})
	return w, nil
}

// A MissingPeer is a peer of which a watch does not know who is in the room there.
type MissingPeer struct {
	Node NodeID
	// Err says why: ErrNotConnected while the link is down; what else kept it from being asked; ErrBusy, it is watched too
	// much already; or it has not answered.
	Err error
}

var (
	errUnheard = errors.New("crosscast: it has not told yet")
	errFull    = fmt.Errorf("%w: it is watched too much already, or has too many members", ErrBusy)
)

// Missing returns the peers that do not tell of their members, by ID: those that have come just now, that cannot be
// reached, that run a version without watches, or that are watched too much already: then the error matches [ErrBusy].
// They are asked again, in a few heartbeats, and more and more rarely those that are watched too much.
func (w *Watch) Missing() []MissingPeer {
	untold, full, _ := w.view.missing()
	if len(untold)+len(full) == 0 || w.isClosed() {
		return nil
	}
	err := w.view.p.unasked()
	var missing []MissingPeer
	for _, id := range untold {
		missing = append(missing, MissingPeer{id, err})
	}
	for _, id := range full {
		missing = append(missing, MissingPeer{id, errFull})
	}
	slices.SortFunc(missing, func(a, b MissingPeer) int { return cmp.Compare(a.Node, b.Node) })
	return missing
}

// Synced waits until the link stands, and every peer has told of its members: Missing is empty then. The error is
// [ErrClosed] or ctx's.
func (w *Watch) Synced(ctx context.Context) error {
	v := w.view
	v.p.wait(1)
	defer v.p.wait(-1)
	for {
		if w.isClosed() {
			return ErrClosed
		}
		link, changed := v.p.n.link.now()
		untold, full, progress := v.missing()
		live := link.Live()
		if live && len(untold)+len(full) == 0 {
			return nil
		}
		if live {
			changed = progress
		}
		if err := v.p.n.pause(ctx, changed); err != nil {
			return err
		}
	}
}

// Members returns who is in the room now, ordered by user and socket; after Close, nobody. It may be ahead of OnChange.
func (w *Watch) Members() []Member {
	all := w.view.members(w)
	slices.SortFunc(all, compareMembers)
	return all
}

func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Socket, b.Socket))
}

// Close ends the watch. It does not wait for a call of OnChange that is being made, so it may be called from within
// one; no call begins after it returned. Further Closes do nothing.
func (w *Watch) Close() {
	w.close()
	w.view.p.unwatch(w)
}

func (w *Watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.pending = nil
}

func (w *Watch) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// begin lets OnChange be called.
func (w *Watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = true
	w.poke()
}

// start sets what there was when the watch joined its view.
func (w *Watch) start(current diff) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for m := range current {
		if w.users == (m.Socket == "") {
			w.pending.note(m, true)
		}
	}
}

// add notes what has changed.
func (w *Watch) add(d diff) {
	if w.onChange == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	for m, here := range d {
		if w.users == (m.Socket == "") {
			w.pending.note(m, here)
		}
	}
	w.poke()
}

// poke has OnChange called soon, if there is something to tell; w.mu is held.
func (w *Watch) poke() {
	if w.onChange == nil || !w.begun || w.queued || w.closed || w.told && len(w.pending) == 0 {
		return
	}
	w.queued = true
	w.lane.mu.Lock()
	w.lane.push(struct{}{})
	w.lane.mu.Unlock()
}

// call makes one call of OnChange.
func (w *Watch) call(struct{}) {
	w.mu.Lock()
	e := PresenceEvent{Current: !w.told}
	for m, here := range w.pending {
		if here {
			e.Joined = append(e.Joined, m)
		} else {
			e.Left = append(e.Left, m)
		}
	}
	none := w.closed || w.told && len(w.pending) == 0
	w.pending, w.queued, w.told = nil, false, true
	w.mu.Unlock()
	if none {
		return
	}
	slices.SortFunc(e.Joined, compareMembers)
	slices.SortFunc(e.Left, compareMembers)
	w.space.node.call("WatchOptions.OnChange", func() { w.onChange(e) })
}
