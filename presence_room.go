package crosscast

import (
	"context"
	"sync"
	"time"
)

// What a node keeps of a room of its own that is watched, from here or by peers.
//
// Locks are taken in the order peers, presence, shard, watched, view. Sockets come and go under their shard's lock,
// which makes a version and a copy of the members that belongs to it.

const (
	maxLeases = 1 << 16          // of peers' watches, against a hostile bus
	maxLease  = 30 * time.Minute // a peer's watch lasts no longer without being renewed
)

// A watched is a room that somebody watches.
type watched struct {
	p  *presence
	at Address
	ns *Namespace // nil while this node does not have it; guarded by presence.mu

	mu     sync.Mutex // guards what follows
	view   *view      // of this node's own watches; nil: there are none
	leases map[NodeID]*lease
	log    changelog // keeps changes while there are leases
	queued bool      // there is a call of send to come
}

// A lease is a peer's watch of one room.
type lease struct {
	until  time.Time
	whole  bool // it is to be sent all the members
	digest bool // or else, it is to be told the version
}

// changed notes that s has joined or left; the room's shard is locked.
func (w *watched) changed(s *Socket, left bool) {
	c := PresenceChange{Member{s.id, s.user}, left}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.leases) > 0 {
		w.log.add(c)
		w.poke()
	} else {
		w.log.version++
	}
	if w.view != nil {
		w.view.changed(c)
	}
}

// poke has send called soon; w.mu is held.
func (w *watched) poke() {
	if !w.queued {
		w.queued = true
		w.p.do(w.send)
	}
}

// lease begins or renews a peer's watch; p.mu is held.
func (p *presence) lease(at Address, from NodeID, ttl time.Duration, all bool, now time.Time) {
	w := p.rooms[at]
	if ttl <= 0 {
		if w != nil {
			p.drop(w, from)
		}
		return
	}
	if p.leases >= maxLeases && (w == nil || w.leases[from] == nil) {
		p.n.stats.busy.Add(1)
		return
	}
	if w == nil {
		w = p.open(at)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.leases[from]
	if l == nil {
		l = &lease{whole: true}
		if w.leases == nil {
			w.leases = make(map[NodeID]*lease)
		}
		w.leases[from] = l
		p.leases++
	}
	l.until = now.Add(min(ttl, maxLease))
	l.whole = l.whole || all
	l.digest = true
	w.poke()
}

// drop ends a peer's watch; p.mu is held.
func (p *presence) drop(w *watched, from NodeID) {
	w.mu.Lock()
	if w.leases[from] != nil {
		delete(w.leases, from)
		p.leases--
	}
	w.mu.Unlock()
	p.unused(w)
}

// expire ends the watches that were not renewed; p.mu is held.
func (p *presence) expire(now time.Time) {
	for _, w := range p.rooms {
		w.mu.Lock()
		for id, l := range w.leases {
			if now.After(l.until) {
				delete(w.leases, id)
				p.leases--
			}
		}
		w.mu.Unlock()
		p.unused(w)
	}
}

// open begins to note who comes and goes in a room; p.mu is held.
func (p *presence) open(at Address) *watched {
	w := &watched{p: p, at: at, ns: (*p.n.spaces.Load())[at.Namespace]}
	// A version that the room had before it was watched the last time must not come again.
	w.log.version = p.floor + 1
	if p.rooms == nil {
		p.rooms = make(map[Address]*watched)
	}
	p.rooms[at] = w
	w.attach(w)
	return w
}

// attach has the room's shard report to to.
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
	if g := sh.groups[RoomSpace-1][w.at.Name]; g != nil {
		g.watched = to
	}
}

// unused ends w when nobody watches any more; p.mu is held.
func (p *presence) unused(w *watched) {
	w.mu.Lock()
	used := w.view != nil || len(w.leases) > 0
	if len(w.leases) == 0 {
		w.log.take()
	}
	w.mu.Unlock()
	if used {
		return
	}
	w.attach(nil) // nothing changes w after this
	delete(p.rooms, w.at)
	p.floor = max(p.floor, w.log.version)
}

// lock keeps members from coming and going, and returns those that there are.
func (w *watched) lock() (sockets []*Socket, unlock func()) {
	w.p.mu.Lock()
	ns := w.ns
	if ns == nil { // and must not begin meanwhile
		w.mu.Lock()
		return nil, func() {
			w.mu.Unlock()
			w.p.mu.Unlock()
		}
	}
	w.p.mu.Unlock()
	sh := ns.shardOf(w.at.Name)
	sh.mu.Lock()
	if g := sh.groups[RoomSpace-1][w.at.Name]; g != nil {
		sockets = g.sockets
	}
	w.mu.Lock()
	return sockets, func() {
		w.mu.Unlock()
		sh.mu.Unlock()
	}
}

func presenceOf(sockets []*Socket) []PresenceChange {
	all := make([]PresenceChange, len(sockets))
	for i, s := range sockets {
		all[i].Member = Member{s.id, s.user}
	}
	return all
}

// send tells the watching peers what there is to tell. It runs on the lane, so for one room never twice at a time, and
// peers get the versions in order.
func (w *watched) send() {
	sockets, unlock := w.lock()
	w.queued = false
	var members []PresenceChange // of all, at the version of now
	changes, ok := w.log.take()
	version, digest := w.log.version, w.log.digest()
	to := make(map[NodeID][]*Presence, len(w.leases))
	var all []NodeID
	for id, l := range w.leases {
		switch {
		case l.whole || !ok:
			all = append(all, id)
		case l.digest:
			to[id] = append(changes[:len(changes):len(changes)], digest)
		default:
			to[id] = changes
		}
		l.whole, l.digest = false, false
	}
	if len(all) > 0 {
		members = presenceOf(sockets)
	}
	unlock()

	if len(all) > 0 {
		parts := whole(version, members)
		for _, id := range all {
			to[id] = parts
		}
	}
	for id, parts := range to {
		for _, part := range parts {
			if !w.tell(id, part) {
				break
			}
		}
	}
}

// tell publishes one part to a watching peer. When that fails the peer is sent the whole the next time: after a change,
// or when it renews its watch.
func (w *watched) tell(to NodeID, part *Presence) bool {
	n := w.p.n
	ctx, cancel := context.WithTimeout(n.ctx, presencePatience*n.heartbeat)
	defer cancel()
	in := &Instruction{
		Kind: KindPresence, Namespace: w.at.Namespace, From: n.id, To: to, Rooms: []string{w.at.Name}, Presence: part,
	}
	if part.Since == part.Version {
		in.Flags = Volatile
	}
	err := n.publish(ctx, in)
	if err == nil {
		return true
	}
	n.log.Debug("crosscast: could not tell who is in a room", "to", to, "room", w.at.Name, "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[to]; l != nil {
		l.whole = true
	}
	return false
}
