package crosscast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// WatchOptions say how to watch a room. The zero value is for [Watch.Members] alone.
type WatchOptions struct {
	// OnChange is told who is in the room: first, once, of all members, even when there are none, and then of those who
	// joined and left. The first call might come before [Namespace.Watch] returns. Calls come one at a time, on a goroutine
	// of their own, and may do anything but Node.Close. While one is being made changes are gathered for the next, and
	// whoever came and went meanwhile is not told of: so a slow OnChange costs no more than there are members, and nothing
	// is ever dropped.
	OnChange func(*Watch, PresenceEvent)
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
	space *space // held until unwatch
	view  *view
	users bool
	lane  lane[*follower] // a follower that begins; nil: the others are told of changes

	mu        sync.Mutex  // guards what follows; locked after view.mu
	followers []*follower // never changed in place
	pending   diff        // not told yet to those who have begun
	queued    bool        // there is a call to come
	closed    bool
}

// A follower is a function that is told of a watch's members.
type follower struct {
	f     func(PresenceEvent) (more bool)
	name  string // in the log
	begun bool   // it was told of all members; guarded by Watch.mu, like the next
	ended bool
}

// Watch watches a room, on all nodes. It returns when every peer has told of its members, but waits for two heartbeats at
// most, and never for more than 5 s; while the link is down it returns at once. Who is still to be heard then is in
// [Watch.Missing], and made up for. Several watches of a room on one node share what they cost. A room that nobody
// watches costs nothing.
//
// An error means that nothing happened: it is one of an argument, [ErrClosed], or ctx's if that ends before Watch
// returns. An emitter cannot watch ([ErrEmitOnly]), nor a node whose adapter is a [ForeignAdapter]: then the error matches
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
	case n.foreign != nil:
		return nil, errNoPresence
	}
	w := &Watch{users: o.Users}
	w.lane.run = w.call
	w.space = ns.hold()
	w.lane.busy = ns.node.busy
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
	if o.OnChange != nil {
		onChange := func(e PresenceEvent) bool { o.OnChange(w, e); return true }
		w.follow(&follower{f: onChange, name: "WatchOptions.OnChange"})
	}
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
		link, changed := v.p.n.link.now()
		untold, full, progress := v.missing()
		if w.isClosed() { // looked at last: nobody is missing for a watch that was closed
			return ErrClosed
		}
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

// Follow has f told who is in the room: first, once, of all members, and then of those who joined and left, without a
// hole and without telling twice. So whoever connects a client gives it the state and each later change with one call,
// where [Watch.Members] and a function that was told before would race. f is told until it returns false, as it does when
// [Socket.Emit] fails because the client has left; or until stop has returned, except by a call that is being made; or
// until the watch is closed.
//
// The followers of a watch, and OnChange, are called one after the other, on one goroutine, with the same events, whose
// slices must not be changed: very many cost little more than their calls. A call may do anything but Node.Close, and
// should not block, as [Socket.Emit] does not, because the others wait for it. What changes meanwhile is summed up, as
// with OnChange. Who may block begins a watch of its own.
func (w *Watch) Follow(f func(PresenceEvent) (more bool)) (stop func()) {
	fo := &follower{f: f, name: "a function of Watch.Follow"}
	w.follow(fo)
	return func() { w.unfollow(fo) }
}

// follow has f begin. What has arrived by now, and was not handed to the watch yet, is handed over first.
func (w *Watch) follow(f *follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.followers = append(slices.Clip(w.followers), f)
		w.view.p.handOver(spread{w.view, w, f})
	}
}

func (w *Watch) unfollow(f *follower) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.ended = true
	w.followers = slices.DeleteFunc(slices.Clone(w.followers), func(other *follower) bool { return other == f })
	if !w.followed() {
		w.pending = nil
	}
}

// followed reports whether there is somebody to be told of changes; w.mu is held.
func (w *Watch) followed() bool {
	return slices.ContainsFunc(w.followers, func(f *follower) bool { return f.begun })
}

// Members returns who is in the room now, ordered by user and socket; after Close, nobody. It may be ahead of what
// followers were told.
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
	w.pending, w.followers = nil, nil
}

func (w *Watch) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// add notes what has changed; w.view is locked.
func (w *Watch) add(d diff) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.followed() {
		return
	}
	for m, here := range d {
		if w.users == (m.Socket == "") {
			w.pending.note(m, here)
		}
	}
	if !w.queued && len(w.pending) > 0 {
		w.queued = true
		w.lane.call(nil)
	}
}

// call tells f of all members, or the followers of what has changed. It runs on the lane.
func (w *Watch) call(f *follower) {
	if f != nil {
		w.tell([]*follower{f}, w.begin(f))
		return
	}
	w.mu.Lock()
	e := PresenceEvent{}
	for m, here := range w.pending {
		if here {
			e.Joined = append(e.Joined, m)
		} else {
			e.Left = append(e.Left, m)
		}
	}
	w.pending, w.queued = nil, false
	to := w.followers
	w.mu.Unlock()
	if len(e.Joined)+len(e.Left) == 0 {
		return
	}
	slices.SortFunc(e.Joined, compareMembers)
	slices.SortFunc(e.Left, compareMembers)
	w.tell(to, e)
}

// begin returns what the others have been told so far, all members, and lets f be told with them of what changes.
func (w *Watch) begin(f *follower) PresenceEvent {
	v := w.view
	v.lock()
	defer v.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	f.begun = true
	current := make(diff)
	v.roster.members(w.users, func(m Member) { current[m] = true })
	for _, later := range [...]diff{v.roster.diff, w.pending} {
		for m, here := range later {
			switch {
			case w.users != (m.Socket == ""):
			case here:
				delete(current, m)
			default:
				current[m] = true
			}
		}
	}
	return PresenceEvent{Current: true, Joined: slices.SortedFunc(maps.Keys(current), compareMembers)}
}

// follows reports whether f is to be told.
func (w *Watch) follows(f *follower) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f.begun && !f.ended && !w.closed
}

// tell calls followers. One that ends the goroutine keeps no other from it.
func (w *Watch) tell(to []*follower, e PresenceEvent) {
	i := 0
	defer func() {
		if i < len(to) {
			w.tell(to[i+1:], e)
		}
	}()
	for ; i < len(to); i++ {
		if w.follows(to[i]) {
			more := true
			w.space.node.call(to[i].name, func() { more = to[i].f(e) })
			if !more {
				w.unfollow(to[i])
			}
		}
	}
}
