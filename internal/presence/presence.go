// Package presence tells the clients of a binding who is in their rooms. All clients of a room share one watch of it.
package presence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// Config of Rooms. All of it is set.
type Config struct {
	Namespace *crosscast.Namespace
	Grace     time.Duration // of the watches
	Gather    time.Duration // how long changes are gathered
	Most      int           // members above which clients get only their number
}

const (
	maxBytes = 256 << 10        // of users and what they show, above which clients get only their number
	linger   = 10 * time.Second // how long a watch lasts without clients
	recheck  = time.Second      // how soon a client that is back in a room is told who is there
)

// A Client asks who is in rooms.
type Client interface {
	// SendPresence queues an update. It must not wait, and is called with a lock held.
	SendPresence(u *Update)
}

// An Update is what clients of a room are told. Clients share it, and it must not be changed.
type Update struct {
	Room    string
	At      uint64             // counts the updates of the room, on this node
	Count   int                // members
	Sync    bool               // Set are all members
	Counted bool               // there are too many: Count is all there is
	Set     []crosscast.Member // joined, or show something else now
	Left    []string

	// Frames are the bytes for clients, by their format.
	Frames map[any][]byte
}

// Rooms are those that clients of one server watch. Their methods may be called concurrently.
type Rooms struct {
	c  Config
	mu sync.Mutex // guards the following field, and refs of each room
	m  map[string]*room
}

// New returns Rooms that nobody watches.
func New(c Config) *Rooms { return &Rooms{c: c, m: make(map[string]*room)} }

// Join tells the client c of the socket s who is in a room, and then each change. If it does already, it tells all again.
// An error means that nothing has changed.
func (r *Rooms) Join(ctx context.Context, s *crosscast.Socket, c Client, name string) error {
	for {
		rm, err := r.enter(ctx, name)
		switch {
		case err == nil:
			if rm.add(s, c) {
				r.release(rm) // it is there already
			}
			return nil
		case ctx.Err() != nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
			return err
		} // the one who has opened the room has left
	}
}

// Leave ends what Join began.
func (r *Rooms) Leave(s *crosscast.Socket, name string) {
	r.mu.Lock()
	rm := r.m[name]
	r.mu.Unlock()
	if rm != nil && rm.remove(s) {
		r.release(rm)
	}
}

// enter returns a room that is watched, for one more client.
func (r *Rooms) enter(ctx context.Context, name string) (*room, error) {
	r.mu.Lock()
	rm := r.m[name]
	first := rm == nil
	if first {
		rm = &room{
			rooms: r, name: name, ready: make(chan struct{}), current: make(chan struct{}), clients: make(map[*crosscast.Socket]*seat),
		}
		r.m[name] = rm
	}
	rm.refs++
	r.mu.Unlock()
	if first {
		rm.err = rm.begin(ctx)
		if rm.err != nil {
			r.mu.Lock()
			delete(r.m, name)
			r.mu.Unlock()
			rm.end()
		}
		close(rm.ready)
		return rm, rm.err
	}
	select {
	case <-rm.ready:
		return rm, rm.err
	case <-ctx.Done():
		r.release(rm)
		return nil, ctx.Err()
	}
}

// release is called when a client has left a room. A watch without clients goes on for a while, so that clients who come
// and go do not make all servers report their members again and again.
func (r *Rooms) release(rm *room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rm.refs--; rm.refs > 0 || r.m[rm.name] != rm {
		return
	}
	rm.entered++
	entered := rm.entered
	time.AfterFunc(linger, func() {
		r.mu.Lock()
		over := rm.refs == 0 && rm.entered == entered && r.m[rm.name] == rm
		if over {
			delete(r.m, rm.name)
		}
		r.mu.Unlock()
		if over {
			rm.end()
		}
	})
}

// A room is one that clients watch.
type room struct {
	rooms   *Rooms
	name    string
	ready   chan struct{} // closed when the watch is there, or err
	err     error
	watch   *crosscast.Watch
	current chan struct{} // closed when the members are known
	refs    int           // clients, and calls of enter
	entered int           // how often the last client has left

	mu       sync.Mutex // guards the following fields; held while an update is sent, so that clients get them in order
	begun    bool
	stop     func()
	clients  map[*crosscast.Socket]*seat
	members  map[string]json.RawMessage // as the clients know them; nil: there are too many
	bytes    int                        // of members
	count    int
	resume   int                          // if there are too many: the count from which members are told again
	pending  map[string]*crosscast.Member // changes that the clients do not know yet; nil: left
	later    int                          // by how much the count changes
	at       uint64
	all      *Update // of all members; nil: it is to be made
	gather   *time.Timer
	checking *time.Timer
	round    uint64
	ended    bool
}

type seat struct {
	client Client
	synced bool   // it knows the members
	round  uint64 // the last one in which it was in the room
}

// begin begins the watch, and waits for the members.
func (rm *room) begin(ctx context.Context) error {
	o := crosscast.WatchOptions{Users: true, Grace: rm.rooms.c.Grace}
	w, err := rm.rooms.c.Namespace.Watch(ctx, rm.name, o)
	if err != nil {
		return err
	}
	rm.watch = w
	rm.mu.Lock() // so that follow finds stop
	rm.stop = w.Follow(rm.follow)
	rm.mu.Unlock()
	select {
	case <-rm.current:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (rm *room) end() {
	rm.mu.Lock()
	rm.ended = true
	for _, t := range []*time.Timer{rm.gather, rm.checking} {
		if t != nil {
			t.Stop()
		}
	}
	rm.mu.Unlock()
	if rm.watch != nil {
		rm.watch.Close()
	}
}

// follow takes the events of the watch.
func (rm *room) follow(e crosscast.PresenceEvent) (more bool) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if e.Current {
		rm.beginLocked(e.Joined)
		return true
	}
	rm.later += len(e.Joined) - len(e.Left)
	if rm.members != nil {
		if rm.pending == nil {
			rm.pending = make(map[string]*crosscast.Member)
		}
		for _, set := range [][]crosscast.Member{e.Joined, e.Changed} {
			for i := range set {
				rm.pending[set[i].User] = &set[i]
			}
		}
		for i := range e.Left {
			rm.pending[e.Left[i].User] = nil
		}
	}
	if rm.gather == nil && !rm.ended {
		rm.gather = time.AfterFunc(rm.rooms.c.Gather, rm.flush)
	}
	return true
}

// beginLocked takes all members, at first, or when they are not too many any more.
func (rm *room) beginLocked(all []crosscast.Member) {
	rm.members, rm.pending, rm.later, rm.bytes = make(map[string]json.RawMessage, len(all)), nil, 0, 0
	rm.count = len(all)
	for i := range all {
		if rm.setLocked(&all[i]); rm.bytes > maxBytes || i > rm.rooms.c.Most {
			break // limitLocked forgets them
		}
	}
	rm.limitLocked()
	rm.at++
	rm.all = nil
	for _, seat := range rm.clients {
		seat.synced = false
	}
	rm.deliverLocked(nil)
	if !rm.begun {
		rm.begun = true
		close(rm.current)
	}
}

// setLocked records what a member shows.
func (rm *room) setLocked(m *crosscast.Member) {
	rm.unsetLocked(m.User)
	rm.members[m.User] = m.Presence
	rm.bytes += len(m.User) + len(m.Presence) + 8
}

func (rm *room) unsetLocked(user string) {
	if data, here := rm.members[user]; here {
		rm.bytes -= len(user) + len(data) + 8
		delete(rm.members, user)
	}
}

// limitLocked forgets the members if they are too many.
func (rm *room) limitLocked() {
	if most := rm.rooms.c.Most; rm.count > most || rm.bytes > maxBytes {
		rm.members, rm.pending, rm.bytes = nil, nil, 0
		rm.resume = min(most, rm.count) * 7 / 8
	}
}

// flush tells the clients the changes.
func (rm *room) flush() {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.gather = nil; rm.ended {
		return
	}
	before, u := rm.count, &Update{Room: rm.name}
	rm.count += rm.later
	rm.later = 0
	if rm.members != nil {
		rm.applyLocked(u)
		rm.limitLocked()
	}
	switch {
	case rm.members != nil && len(u.Set)+len(u.Left) == 0, rm.members == nil && u.Set == nil && u.Left == nil && rm.count == before:
		return // nothing has changed
	case rm.members == nil && rm.count <= rm.resume:
		rm.stop()
		rm.stop = rm.watch.Follow(rm.follow)
		return
	}
	rm.at++
	rm.all = nil
	u.At, u.Count = rm.at, rm.count
	if rm.members == nil {
		u = rm.allLocked()
	}
	rm.deliverLocked(u)
}

// applyLocked applies the pending changes, and notes in u what is new.
func (rm *room) applyLocked(u *Update) {
	for user, m := range rm.pending {
		data, here := rm.members[user]
		switch {
		case m == nil && here:
			rm.unsetLocked(user)
			u.Left = append(u.Left, user)
		case m != nil && (!here || string(data) != string(m.Presence)):
			rm.setLocked(m)
			u.Set = append(u.Set, *m)
		}
	}
	rm.pending = nil
	slices.Sort(u.Left)
	slices.SortFunc(u.Set, byUser)
}

// allLocked returns the update with all members, or only their number.
func (rm *room) allLocked() *Update {
	if rm.all != nil {
		return rm.all
	}
	rm.all = &Update{Room: rm.name, At: rm.at, Count: rm.count, Sync: rm.members != nil, Counted: rm.members == nil}
	for user, data := range rm.members {
		rm.all.Set = append(rm.all.Set, crosscast.Member{User: user, Presence: data})
	}
	slices.SortFunc(rm.all.Set, byUser)
	return rm.all
}

// deliverLocked sends an update, which may be nil, to the clients that are in the room, and all members to those that do
// not know them. A client gets only what it is in: who has left the room begins anew when it is back.
func (rm *room) deliverLocked(u *Update) {
	if len(rm.clients) == 0 {
		return
	}
	rm.round++
	here := 0
	for _, s := range rm.rooms.c.Namespace.Members(rm.name) {
		seat := rm.clients[s]
		if seat == nil {
			continue
		}
		here++
		seat.round = rm.round
		switch {
		case !seat.synced:
			seat.synced = true
			seat.client.SendPresence(rm.allLocked())
		case u != nil:
			seat.client.SendPresence(u)
		}
	}
	if here == len(rm.clients) {
		return
	}
	for _, seat := range rm.clients {
		seat.synced = seat.synced && seat.round == rm.round
	}
	rm.checkLocked()
}

// checkLocked makes check run soon.
func (rm *room) checkLocked() {
	if rm.checking == nil && !rm.ended {
		rm.checking = time.AfterFunc(recheck, rm.check)
	}
}

// check looks for clients that are in the room and do not know who else is.
func (rm *room) check() {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.checking = nil; !rm.ended {
		rm.deliverLocked(nil)
	}
}

// add makes the client of a socket get all members, and then the updates. It returns whether it got them before.
func (rm *room) add(s *crosscast.Socket, c Client) (again bool) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	_, again = rm.clients[s]
	seat := &seat{client: c}
	rm.clients[s] = seat
	_, known := rm.members[s.User()]
	if inside := slices.Contains(s.Rooms(), rm.name); inside && (known || rm.members == nil || s.User() == "") {
		seat.synced = true
		c.SendPresence(rm.allLocked())
		return again
	}
	// It has left meanwhile, or its own join is under way, and comes with the next flush: a list without it would look
	// wrong.
	rm.checkLocked()
	return again
}

// remove ends add, and returns whether there was one.
func (rm *room) remove(s *crosscast.Socket) bool {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	_, was := rm.clients[s]
	delete(rm.clients, s)
	return was
}

func byUser(a, b crosscast.Member) int { return cmp.Compare(a.User, b.User) }
