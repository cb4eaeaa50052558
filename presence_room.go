package crosscast

import (
	"slices"
	"sync"

	"github.com/crosscast/crosscast/kind"
)

// A node's records of a watched room of its own. It may be watched from here or by peers.
//
// Locks are taken in the order peers, presence, shard, watched, view. Sockets come and go under their shard's lock, so
// a version and a copy of its members are made under that lock. Emissions wait for it, so it is never held longer than
// a copy of the list of sockets takes.

// A watched is a room with a watch.
type watched struct {
	p    *presence
	at   Address
	hash roomHash
	ns   *space // held; nil while the namespace has no space, with the room in homeless; guarded by presence.mu

	mu     sync.Mutex // guards the following fields
	view   *view      // for this node's own watches; nil: there are none
	leases []*lease
	log    changelog // keeps changes while there are leases
	queued bool      // send is to be called
}

// noteChangeLocked records that s has joined or left, or, if it was and is here, that it shows something else.
func (w *watched) noteChangeLocked(s *Socket, was, here bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.leases) > 0 {
		w.log.record(s.change(!here))
		w.pokeLocked()
	} else {
		w.log.version++
	}
	if w.view != nil {
		is := entry{here: here}
		if here {
			is.show = s.shown.Load()
		}
		w.view.noteChangeLocked(memberKey{s.id, s.user}, entry{here: was}, is)
	}
}

// pokeLocked makes send run soon.
func (w *watched) pokeLocked() {
	if w.queued {
		return
	}
	w.queued = true
	due := &w.p.due
	due.mu.Lock()
	defer due.mu.Unlock()
	due.rooms = append(due.rooms, w)
	w.p.wakeDueLocked()
}

// showLocked gives a new view the room's members.
func (w *watched) showLocked(v *view) {
	show := func(sockets []*Socket) {
		v.own.members = slices.Clone(sockets) // v is not shared yet
		w.mu.Lock()
		defer w.mu.Unlock()
		w.view = v
	}
	if w.ns == nil {
		show(nil)
	} else {
		w.inShard(show)
	}
}

// openRoomLocked begins to record the changes of a room.
func (p *presence) openRoomLocked(at Address) *watched {
	w := &watched{p: p, at: at, hash: hashOf(at)}
	if ns := p.n.spaces.get(at.Namespace); ns != nil && ns.hold() {
		w.ns = ns
	}
	// A version that the room had when it was watched before must not come again.
	w.log.version = p.floor + 1
	if p.rooms == nil {
		p.rooms, p.homeless = make(map[Address]*watched), make(map[string]map[*watched]bool)
	}
	p.rooms[at] = w
	if w.ns == nil {
		if p.homeless[at.Namespace] == nil {
			p.homeless[at.Namespace] = make(map[*watched]bool)
		}
		p.homeless[at.Namespace][w] = true
	}
	w.attach(w)
	return w
}

// attach makes the room's shard report changes to to.
func (w *watched) attach(to *watched) {
	if w.ns == nil {
		return
	}
	sh := w.ns.shardOf(w.at.Name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if to == nil {
		delete(sh.watched, w.at.Name)
		if len(sh.watched) == 0 {
			sh.watched = nil
		}
	} else {
		if sh.watched == nil {
			sh.watched = make(map[string]*watched)
		}
		sh.watched[w.at.Name] = to
	}
}

// endUnusedLocked ends w if nobody watches it any more.
func (p *presence) endUnusedLocked(w *watched) {
	w.mu.Lock()
	used := w.view != nil || len(w.leases) > 0
	if len(w.leases) == 0 {
		w.log.drain()
	}
	w.mu.Unlock()
	if used {
		return
	}
	w.attach(nil) // nothing changes w after this
	delete(p.rooms, w.at)
	if home := p.homeless[w.at.Namespace]; home != nil {
		if delete(home, w); len(home) == 0 {
			delete(p.homeless, w.at.Namespace)
		}
	}
	p.floor = max(p.floor, w.log.version)
	if w.ns != nil {
		w.ns.release()
	}
}

// withMembers calls f with the present members, while w is locked, and none of them can come or go.
func (w *watched) withMembers(f func(sockets []*Socket)) {
	if !w.withoutSpace(f) {
		w.inShard(func(sockets []*Socket) {
			w.mu.Lock()
			defer w.mu.Unlock()
			f(sockets)
		})
	}
}

// withoutSpace calls f without members, if the namespace has no space, and keeps one from beginning meanwhile. It
// reports whether it did.
func (w *watched) withoutSpace(f func(sockets []*Socket)) bool {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.ns != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f(nil)
	return true
}

// inShard calls f with the present members, while the room's shard is locked.
func (w *watched) inShard(f func(sockets []*Socket)) {
	sh := w.ns.shardOf(w.at.Name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var sockets []*Socket
	if g := sh.groupLocked(SpaceRoom, w.at.Name); g != nil {
		sockets = g.sockets
	}
	f(sockets)
}

// send reports the room to the watching peers. If it is empty, it is added to empty instead, to be reported with other
// rooms. It runs on the lane, so peers get the versions in order.
func (w *watched) send(empty map[emptyKey]*emptyList) {
	var sockets []*Socket
	var changes []PresenceChange
	var since, version uint64
	var all, some []*lease
	w.withMembers(func(present []*Socket) {
		var ok bool
		w.queued = false
		changes, since, ok = w.log.drain()
		version = w.log.version
		for _, l := range w.leases {
			if l.whole || !ok {
				all = append(all, l)
			} else {
				some = append(some, l)
			}
			l.whole = false
		}
		if len(all) > 0 {
			sockets = slices.Clone(present)
		}
	})

	if len(changes) > 0 {
		w.tell(some, version, func(fit int) []*Presence { return pieces(changes, since, fit) })
	}
	if len(sockets) > 0 {
		members := make([]PresenceChange, len(sockets))
		for i, s := range sockets {
			members[i] = s.change(false) // might already show what a later version will
		}
		w.tell(all, version, func(fit int) []*Presence { return whole(version, members, fit) })
		return
	}
	for _, l := range all {
		key := emptyKey{l.by.id, w.at.Namespace}
		list := empty[key]
		if list == nil {
			list = new(emptyList)
			empty[key] = list
		}
		list.rooms = append(list.rooms, w.at.Name)
		list.versions = append(list.versions, version)
		list.told = append(list.told, toldLease{w, l})
	}
}

// tell publishes to watching peers the parts that lead to a version, cut to fit.
func (w *watched) tell(to []*lease, version uint64, cut func(fit int) []*Presence) {
	if len(to) == 0 {
		return
	}
	parts := cut(w.p.fit)
	for _, l := range to {
		var err error
		for i := 0; i < len(parts) && err == nil; i++ {
			err = w.p.publish(&Instruction{
				Kind: kind.Presence, Namespace: w.at.Namespace, To: l.by.id, Rooms: []string{w.at.Name}, Presence: parts[i],
			})
			if w.p.shrink(err) {
				parts, i, err = cut(w.p.fit), -1, nil
			}
		}
		w.settle(l, version, err)
	}
}

// settle records the version sent to a peer. If sending has failed, the peer gets the whole list the next time: after a
// change, or when a digest has shown that the peer lacks it.
func (w *watched) settle(l *lease, version uint64, err error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if l.ended {
		return
	}
	if err != nil {
		version = 0
		w.mu.Lock()
		l.whole = true
		w.mu.Unlock()
	}
	l.by.told.move(w.hash, l.version, version)
	l.version = version
}
