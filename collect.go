package crosscast

import "slices"

// fewExceptions is the number of excepted sockets up to which a search one by one is faster.
const fewExceptions = 8

// collect fills e.to and e.subs, each recipient once. A single group with no exceptions, or with a few excepted sockets
// as in a broadcast to all others, is copied or, if it is a crowd, borrowed. Any other target uses a set of the sockets
// seen, which starts with the exceptions.
func (ns *space) collect(e *emission) {
	t := e.msg.Target
	groups := len(t.Rooms) + len(t.Users)
	if t.Everyone {
		groups++
	}
	simple := groups <= 1 && (groups == 0) == (len(t.Sockets) > 0) && len(t.Sockets) <= 1 &&
		len(t.ExceptRooms) == 0 && len(t.ExceptUsers) == 0 && len(t.ExceptSockets) <= fewExceptions
	if !simple {
		for _, name := range t.ExceptRooms {
			ns.except(e, SpaceRoom, name)
		}
		for _, name := range t.ExceptUsers {
			ns.except(e, SpaceUser, name)
		}
		for _, id := range t.ExceptSockets {
			if s := ns.socket(id); s != nil {
				e.see(s.slot)
			}
		}
	}
	if t.Everyone {
		ns.collectName(e, SpaceNamespace, "", simple)
	}
	for _, name := range t.Rooms {
		ns.collectName(e, SpaceRoom, name, simple)
	}
	for _, name := range t.Users {
		ns.collectName(e, SpaceUser, name, simple)
	}
	for _, id := range t.Sockets {
		if s := ns.socket(id); s != nil && (simple || e.see(s.slot)) {
			e.to.sockets = append(e.to.sockets, s)
		}
	}
	if len(t.Rooms)+len(t.Users) > 1 {
		e.subs = unique(e.subs)
	}
	if !simple {
		clear(e.seen)
		e.seen = e.seen[:0]
		return
	}
	for _, id := range t.ExceptSockets {
		if s := ns.socket(id); s != nil {
			e.drop(s)
		}
	}
}

// collectName collects the named group. Under the group's lock it only copies or borrows, because other calls wait.
func (ns *space) collectName(e *emission, space Space, name string, simple bool) {
	from := len(e.to.sockets)
	crowd := ns.copyName(e, space, name)
	switch {
	case simple && crowd.sockets != nil:
		e.borrow(crowd)
	case simple:
	case crowd.sockets != nil:
		e.addUnseen(crowd)
	default:
		copied := e.to.sockets[from:]
		e.to.sockets = e.to.sockets[:from]
		e.addUnseen(recipients{sockets: copied})
		clear(copied[len(e.to.sockets)-from:])
	}
}

// borrow makes the lists of a crowd the recipients.
func (e *emission) borrow(crowd recipients) {
	e.own, e.to, e.lent = e.to, crowd, true
}

// giveBack ends borrow. There are no recipients then.
func (e *emission) giveBack() {
	if e.lent {
		e.to, e.own, e.lent = e.own, recipients{}, false
	}
}

// copyName appends the named group's recipients to those of e. If the group is a crowd, it returns the group's sockets
// instead, which must not be changed.
func (ns *space) copyName(e *emission, space Space, name string) (crowd recipients) {
	ns.withGroup(space, name, func(g *group) {
		if g.crowd != nil {
			crowd = g.lendLocked()
		} else {
			e.to.sockets = append(e.to.sockets, g.sockets...)
		}
		e.subs = g.appendSubscriptions(e.subs)
	})
	return crowd
}

// addUnseen adds the sockets of r that were not seen before. They might lie just behind those of e.to.
func (e *emission) addUnseen(r recipients) {
	to := &e.to
	if r.slots == nil {
		for _, s := range r.sockets {
			if e.see(s.slot) {
				to.sockets = append(to.sockets, s)
			}
		}
		return
	}
	to.pad()
	n := len(to.sockets)
	to.sockets, to.conns = slices.Grow(to.sockets, len(r.slots)), slices.Grow(to.conns, len(r.slots))
	sockets, conns := to.sockets[n:n+len(r.slots)], to.conns[n:n+len(r.slots)]
	added := 0
	for i, slot := range r.slots {
		word, bit := int(slot>>6), uint64(1)<<(slot&63)
		if word >= len(e.seen) {
			e.growSeen(word + 1)
		}
		if w := e.seen[word]; w&bit == 0 {
			e.seen[word] = w | bit
			sockets[added], conns[added] = r.sockets[i], r.conns[i]
			added++
		}
	}
	to.sockets, to.conns = to.sockets[:n+added], to.conns[:n+added]
}

// pad makes conns as long as sockets.
func (r *recipients) pad() {
	for _, s := range r.sockets[len(r.conns):] {
		r.conns = append(r.conns, s.sender())
	}
}

// drop takes s out of the recipients.
func (e *emission) drop(s *Socket) {
	i := slices.Index(e.to.sockets, s)
	if i < 0 {
		return
	}
	if e.lent {
		lent := e.to
		e.giveBack()
		e.to.sockets, e.to.conns = append(e.to.sockets, lent.sockets...), append(e.to.conns, lent.conns...)
	}
	last := len(e.to.sockets) - 1
	e.to.sockets[i], e.to.sockets[last] = e.to.sockets[last], nil
	e.to.sockets = e.to.sockets[:last]
	if len(e.to.conns) > 0 {
		e.to.conns[i], e.to.conns[last] = e.to.conns[last], nil
		e.to.conns = e.to.conns[:last]
	}
}

// except marks the named group's sockets as seen, so that they are not collected.
func (ns *space) except(e *emission, space Space, name string) {
	from, subs := len(e.to.sockets), len(e.subs)
	crowd := ns.copyName(e, space, name)
	for _, slot := range crowd.slots {
		e.see(slot)
	}
	for _, s := range e.to.sockets[from:] {
		e.see(s.slot)
	}
	clear(e.to.sockets[from:])
	e.to.sockets = e.to.sockets[:from]
	clear(e.subs[subs:])
	e.subs = e.subs[:subs]
}

// fewSubscriptions is the number up to which a comparison with each other is faster than a map.
const fewSubscriptions = 32

// unique returns subs, each once.
func unique(subs []*Subscription) []*Subscription {
	kept := subs[:0]
	if len(subs) <= fewSubscriptions {
		for _, sub := range subs {
			if !slices.Contains(kept, sub) {
				kept = append(kept, sub)
			}
		}
		clear(subs[len(kept):])
		return kept
	}
	seen := make(map[*Subscription]struct{}, len(subs))
	for _, sub := range subs {
		if _, again := seen[sub]; !again {
			seen[sub] = struct{}{}
			kept = append(kept, sub)
		}
	}
	clear(subs[len(kept):])
	return kept
}

// see marks the socket with the given slot as seen, and returns false if it was marked already. A slot that changes
// hands meanwhile can only hide a socket that connected after the start of the delivery.
func (e *emission) see(slot int32) bool {
	word, bit := int(slot>>6), uint64(1)<<(slot&63)
	if word >= len(e.seen) {
		e.growSeen(word + 1)
	}
	if e.seen[word]&bit != 0 {
		return false
	}
	e.seen[word] |= bit
	return true
}

// growSeen makes room for n words. The words beyond the length are always zero.
func (e *emission) growSeen(n int) {
	e.seen = slices.Grow(e.seen, n-len(e.seen))[:n]
}
