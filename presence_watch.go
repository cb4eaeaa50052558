package crosscast

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/errtext"
)

// WatchOptions say how to watch a room. The zero value is enough for [Watch.Members].
type WatchOptions struct {
	// OnChange is called with the members of the room: first, once, with all of them, even if there are none, and then
	// with those who joined and left. The first call might come before [Namespace.Watch] returns. Calls come one at a
	// time, on a goroutine of their own, and may do anything but Node.Close. During a call, changes are merged for the
	// next one, and a member that came and went meanwhile is left out. So a slow OnChange costs memory for at most the
	// number of members, and no lasting change is dropped.
	OnChange func(*Watch, PresenceEvent)
	// Users counts the sockets of a user as one member, on all nodes together. Sockets without a user are left out.
	Users bool
	// Grace is how long a user without a socket in the room still counts as a member: it has left when no socket of the
	// user came back in time, to any node. So a reconnect, or a page that is loaded again, is no event. Only with Users.
	// Default 0, at most 1 h.
	Grace time.Duration
}

// A PresenceEvent is passed to WatchOptions.OnChange, ordered by user and socket. For each member, joined and left
// alternate, and joined comes first.
type PresenceEvent struct {
	Current bool // the first event: Joined are the members at the beginning
	Joined  []Member
	Changed []Member // were there before, and show something else now
	Left    []Member // with what they showed last
}

func (e *PresenceEvent) sort() {
	slices.SortFunc(e.Joined, compareMembers)
	slices.SortFunc(e.Changed, compareMembers)
	slices.SortFunc(e.Left, compareMembers)
}

// A Watch shows the members of a room, on all nodes. Its methods may be called concurrently. It must be closed.
//
// For each node, a Watch shows the members as of some recent moment. The order in which the nodes' reports arrive does
// not matter. If reports are lost, the nodes are asked again: at once after a [Gap], otherwise within five heartbeats.
// The members of a node that says goodbye leave at once. Those of a node that dies leave when it is taken for dead
// ([NodeExpired]).
type Watch struct {
	space *space // held until unwatch
	view  *view
	users bool
	lane  lane[*follower] // a follower that begins; nil: changes, for the others

	mu        sync.Mutex  // guards the following fields; locked after view.mu
	followers []*follower // never changed in place
	pending   diff        // changes that the followers who have begun have not got yet
	queued    bool        // a call is to come
	closed    bool
	away      *away // nil: no Grace
}

// A follower is a function that is called with a watch's members.
type follower struct {
	f     func(PresenceEvent) (more bool)
	name  string // in the log
	begun bool   // it was called with all members; guarded by Watch.mu, like ended
	ended bool
}

// Watch watches a room, on all nodes. It returns when every peer has reported its members, but waits for at most two
// heartbeats, and never for more than 5 s. While the link is down it returns at once. [Watch.Missing] returns the peers
// that have not reported yet; they are asked again. Several watches of a room on one node share their cost. A room that
// nobody watches costs nothing. It may be called concurrently.
//
// An error means that nothing happened. It is one of an argument, [ErrClosed], or ctx's if that ends before Watch
// returns. An emitter cannot watch ([ErrEmitOnly]). A node whose adapter is a [ForeignAdapter] cannot either: its error
// matches errors.ErrUnsupported.
func (ns *Namespace) Watch(ctx context.Context, room string, o WatchOptions) (*Watch, error) {
	if err := checkName("room", room); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := cmp.Or(ns.node.deaf, ns.node.blind); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	w := &Watch{users: o.Users}
	if o.Grace > 0 {
		w.away = &away{w: w, grace: o.Grace}
	}
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

var (
	errUnheard = errors.New("crosscast: it has not told yet")
	errFull    = errtext.Errorf("%w: it is watched too much already, or has too many members", ErrBusy)
)

// Missing returns the peers that do not report their members, ordered by ID. They are queried again in a few
// heartbeats. Err of each is one of:
//
//   - [ErrNotConnected]: the link is down.
//   - [ErrBusy]: the peer is watched too much already, or has too many members. It is queried more and more rarely.
//   - another error of the adapter, which kept the peer from being queried.
//   - an error that matches none of these: the peer has not answered yet. It might have just come, or run a version
//     without watches.
func (w *Watch) Missing() []MissingNode {
	untold, full, _ := w.view.missing()
	if len(untold)+len(full) == 0 || w.isClosed() {
		return nil
	}
	err := w.view.p.whyUntold()
	var missing []MissingNode
	for _, id := range untold {
		missing = append(missing, MissingNode{ID: id, Err: err})
	}
	for _, id := range full {
		missing = append(missing, MissingNode{ID: id, Err: errFull})
	}
	slices.SortFunc(missing, func(a, b MissingNode) int { return cmp.Compare(a.ID, b.ID) })
	w.view.p.n.peers.label(missing)
	return missing
}

// Synced waits until the link stands and every peer has reported its members. Then Missing is empty. The error is
// [ErrClosed] or ctx's.
func (w *Watch) Synced(ctx context.Context) error {
	v := w.view
	v.p.noteWaiting(1)
	defer v.p.noteWaiting(-1)
	for {
		link, changed := v.p.n.link.now()
		untold, full, progress := v.missing()
		if w.isClosed() { // looked at last: a closed watch misses no peers
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

// Follow calls f with the members of the room: first, once, with all of them, and then with those who joined and left.
// No change is left out, and none comes twice. So a server that connects a client gives it the state and each later
// change with one call, without the race between [Watch.Members] and a function that was registered earlier. The calls
// end in one of three ways:
//
//   - f returns false, for example because [Socket.Emit] fails when the client has left.
//   - stop was called. A call that runs then goes on.
//   - The watch is closed.
//
// The followers of a watch, and OnChange, are called one after the other, on one goroutine, with the same events, whose
// slices must not be changed. So many followers cost little more than their calls. A call may do anything but
// Node.Close. It should not block, because the others wait for it; [Socket.Emit] does not block. Changes during a call
// are merged, as for OnChange. A function that blocks should have a watch of its own.
func (w *Watch) Follow(f func(PresenceEvent) (more bool)) (stop func()) {
	fo := &follower{f: f, name: "a function of Watch.Follow"}
	w.follow(fo)
	return func() { w.unfollow(fo) }
}

// follow makes f begin. Changes that have arrived but were not handed to the watch yet are handed over first.
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
	if !w.followedLocked() {
		w.pending = nil
	}
}

// followedLocked reports whether any follower has begun.
func (w *Watch) followedLocked() bool {
	return slices.ContainsFunc(w.followers, func(f *follower) bool { return f.begun })
}

// Members returns the members of the room on all nodes, as far as this node knows them now, ordered by user and socket;
// after Close, none. It may be ahead of the calls of followers.
func (w *Watch) Members() []Member {
	all := w.view.members(w)
	slices.SortFunc(all, compareMembers)
	return all
}

func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Socket, b.Socket))
}

// Close ends the watch. It does not wait for a running call of OnChange, so OnChange may call it. No call begins after
// Close has returned. Further calls do nothing.
func (w *Watch) Close() {
	w.close()
	w.view.p.unwatch(w)
}

func (w *Watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.pending, w.followers = nil, nil
	if w.away != nil {
		w.away.endLocked()
	}
}

func (w *Watch) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// noteChangesLocked records changes.
func (w *Watch) noteChangesLocked(d diff) {
	w.mu.Lock()
	defer w.mu.Unlock()
	followed := w.followedLocked()
	if !followed && w.away == nil || w.closed {
		return
	}
	for k, c := range d {
		if w.users != (k.socket == "") {
			continue
		}
		told := true
		if w.away != nil {
			c.was, told = w.away.noteLocked(k, c)
		}
		if told && followed {
			w.pending.note(k, c.was, c.is)
		}
	}
	w.queueLocked()
}

// queueLocked makes call run soon, if there are changes.
func (w *Watch) queueLocked() {
	if !w.queued && len(w.pending) > 0 {
		w.queued = true
		w.lane.push(nil)
	}
}

// call calls f with all members, or the followers with the changes. It runs on the lane.
func (w *Watch) call(f *follower) {
	if f != nil {
		w.tell([]*follower{f}, w.begin(f))
		return
	}
	w.mu.Lock()
	changes := w.pending
	w.pending, w.queued = nil, false
	to := w.followers
	w.mu.Unlock()
	if len(changes) > 0 {
		w.tell(to, changes.event())
	}
}

// begin returns all members as of the last call of the other followers, and makes f get later changes along with them.
func (w *Watch) begin(f *follower) PresenceEvent {
	v := w.view
	v.lock()
	defer v.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	f.begun = true
	current := make(map[memberKey]*shown)
	v.roster.members(w.users, func(k memberKey, show *shown) { current[k] = show })
	undo := func(changes diff) {
		for k, c := range changes {
			switch {
			case w.users != (k.socket == ""):
			case c.was.here:
				current[k] = c.was.show
			default:
				delete(current, k)
			}
		}
	}
	undo(v.roster.diff)
	if w.away != nil {
		maps.Copy(current, w.away.shows)
	}
	undo(w.pending)
	e := PresenceEvent{Current: true}
	for k, show := range current {
		e.Joined = append(e.Joined, k.member(show))
	}
	e.sort()
	return e
}

// follows reports whether f is to be called.
func (w *Watch) follows(f *follower) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f.begun && !f.ended && !w.closed
}

// tell calls followers. A follower that ends the goroutine does not keep the others from their calls.
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
