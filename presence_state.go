package crosscast

// Presence, as pure data: what a node keeps of a room of its own that is watched, and what a watcher knows of a room.
//
// Each node is the only authority on its own members, so there is nothing to merge: only one list for each node and
// room, which changes. A change raises the list's version by one, and versions never fall while the node runs. What
// travels is a piece of that history: the changes from one version to another, or from nothing to a version, which is
// the whole list. A watcher takes changes only where they join on to the version that it has, and the whole list only
// when it is not older, so at any time and for any order of arrival it has exactly what the node's list was at some
// version. The node tells its version now and then; a watcher that is behind asks for the whole.

const (
	maxChanges       = 4096      // of one room that wait to be sent; when there are more, the whole is sent instead
	maxPresenceBytes = MaxAnswer // of one instruction
)

// A Member is who is in a watched room: a socket and its user, or with WatchOptions.Users a user alone.
type Member struct {
	Socket SocketID // names its node; empty: all sockets of User together
	User   string   // empty: nobody
}

// Presence is what an instruction of [KindPresence] tells of the members of a room on one node: the changes that lead
// from one version of their list to another.
type Presence struct {
	Since   uint64 // 0: from nothing, so that Changes are all the members
	Version uint64 // 1 and above; the same as Since: there are no changes
	Part    int    // of all the members: counts from 0, so that a missing part shows
	Last    bool   // of all the members: nothing follows
	Changes []PresenceChange
}

// A PresenceChange is a socket that joined or left.
type PresenceChange struct {
	Member
	Left bool
}

// A changelog numbers the changes of one room on its node, and keeps those not sent yet.
type changelog struct {
	version uint64
	changes []PresenceChange // the last ones
	lost    bool             // there were too many
}

func (l *changelog) add(c PresenceChange) {
	l.version++
	switch {
	case l.lost:
	case len(l.changes) == maxChanges:
		l.changes, l.lost = nil, true
	default:
		l.changes = append(l.changes, c)
	}
}

// take returns what was added since the last take; ok is false when there was too much to be kept.
func (l *changelog) take() (parts []*Presence, ok bool) {
	changes, since := l.changes, l.version-uint64(len(l.changes))
	ok = !l.lost
	l.changes, l.lost = nil, false
	for len(changes) > 0 {
		n := fitting(changes)
		parts = append(parts, &Presence{Since: since, Version: since + uint64(n), Changes: changes[:n:n]})
		since += uint64(n)
		changes = changes[n:]
	}
	return parts, ok
}

// digest tells the version only.
func (l *changelog) digest() *Presence { return &Presence{Since: l.version, Version: l.version} }

// whole tells all the members at a version. They come in the same order each time, so that parts of what was sent twice
// fit.
func whole(version uint64, members []PresenceChange) []*Presence {
	var parts []*Presence
	for {
		n := fitting(members)
		last := n == len(members)
		parts = append(parts, &Presence{Version: version, Part: len(parts), Last: last, Changes: members[:n:n]})
		if last {
			return parts
		}
		members = members[n:]
	}
}

// fitting is how many of changes go into one instruction.
func fitting(changes []PresenceChange) int {
	size := 0
	for i := range changes {
		if size += presenceChangeSize(&changes[i].Member); size > maxPresenceBytes {
			return i
		}
	}
	return len(changes)
}

// A diff is what has become of members: true, they joined, or false, they left. What was undone is not in it.
type diff map[Member]bool

func (d *diff) note(m Member, here bool) {
	if was, ok := (*d)[m]; ok && was != here {
		delete(*d, m)
		return
	}
	if *d == nil {
		*d = make(diff)
	}
	(*d)[m] = here
}

// A roster is what a watcher knows of one room: the list of each node, its own included.
type roster struct {
	self    NodeID // whose list is always known
	nodes   map[NodeID]*nodeList
	users   map[string]int // their sockets, on all nodes
	unknown int            // nodes whose list never came
	diff    diff           // not taken yet; users are members without a socket
}

// A nodeList is the list of one node, as of a version.
type nodeList struct {
	version uint64 // 0: it never came
	members map[SocketID]string
	asked   bool      // for the whole, since it or the node's version came last
	partial *nodeList // a whole list that is arriving
	parts   int       // of it
}

// add notes a node of whom nothing is known yet.
func (r *roster) add(id NodeID) {
	if r.nodes[id] != nil {
		return
	}
	if r.nodes == nil {
		r.nodes, r.users = make(map[NodeID]*nodeList), make(map[string]int)
	}
	r.nodes[id] = &nodeList{}
	if id != r.self {
		r.unknown++
	}
}

// gone forgets a node: its members leave.
func (r *roster) gone(id NodeID) {
	l := r.nodes[id]
	if l == nil {
		return
	}
	if l.version == 0 && id != r.self {
		r.unknown--
	}
	r.replace(l, nil)
	delete(r.nodes, id)
}

// set notes that m is, or is not, in l.
func (r *roster) set(l *nodeList, m Member, here bool) {
	user, was := l.members[m.Socket]
	if was == here {
		return
	}
	if here {
		if l.members == nil {
			l.members = make(map[SocketID]string)
		}
		l.members[m.Socket] = m.User
	} else {
		m.User = user
		delete(l.members, m.Socket)
	}
	r.diff.note(m, here)
	if m.User == "" {
		return
	}
	before := r.users[m.User]
	after := before + 1
	if !here {
		after = before - 1
	}
	if r.users[m.User] = after; after == 0 {
		delete(r.users, m.User)
	}
	if before == 0 || after == 0 {
		r.diff.note(Member{User: m.User}, here)
	}
}

// replace makes members all that there are in l.
func (r *roster) replace(l *nodeList, members map[SocketID]string) {
	for id, user := range l.members {
		if u, ok := members[id]; !ok || u != user {
			r.set(l, Member{Socket: id}, false)
		}
	}
	for id, user := range members {
		r.set(l, Member{id, user}, true)
	}
}

// change notes a change of the watcher's own node.
func (r *roster) change(c PresenceChange) { r.set(r.nodes[r.self], c.Member, !c.Left) }

// apply takes what a node tells. It reports whether the node is known, and whether it is to be asked for the whole.
func (r *roster) apply(from NodeID, p *Presence) (ask, known bool) {
	l := r.nodes[from]
	switch {
	case l == nil || from == r.self:
		return false, false
	case p.Version == 0 || p.Since > p.Version: // nonsense
		return false, true
	case p.Since == 0:
		ask = r.part(l, from, p)
	case p.Since == p.Version:
		l.asked = false // what was asked before has been answered, or is lost
		ask = p.Version > l.version
	case p.Since == l.version:
		for i := range p.Changes {
			if c := &p.Changes[i]; c.Socket.Node() == from {
				r.set(l, c.Member, !c.Left)
			}
		}
		l.version = p.Version
	default:
		ask = p.Version > l.version && !l.asked // some were missed; else they are old
	}
	l.asked = l.asked || ask
	return ask, true
}

// part takes a part of a whole list, and reports whether to ask for it again.
func (r *roster) part(l *nodeList, from NodeID, p *Presence) (ask bool) {
	if p.Version < l.version { // old
		return false
	}
	if p.Part == 0 {
		l.partial, l.parts = &nodeList{version: p.Version, members: make(map[SocketID]string)}, 0
	}
	b := l.partial
	if b == nil || b.version != p.Version || l.parts != p.Part {
		l.partial = nil
		return p.Last && p.Version > l.version
	}
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Socket.Node() == from && !c.Left {
			b.members[c.Socket] = c.User
		}
	}
	l.parts++
	if !p.Last {
		return false
	}
	r.replace(l, b.members)
	if l.version == 0 {
		r.unknown--
	}
	l.version, l.asked, l.partial = p.Version, false, nil
	return false
}

// take returns what has changed since the last take.
func (r *roster) take() diff {
	d := r.diff
	r.diff = nil
	return d
}

// members calls f with each member: the sockets, or the users.
func (r *roster) members(users bool, f func(Member)) {
	if users {
		for u := range r.users {
			f(Member{User: u})
		}
		return
	}
	for _, l := range r.nodes {
		for id, user := range l.members {
			f(Member{id, user})
		}
	}
}

// missing returns the nodes whose list never came.
func (r *roster) missing() []NodeID {
	var ids []NodeID
	for id, l := range r.nodes {
		if l.version == 0 && id != r.self {
			ids = append(ids, id)
		}
	}
	return ids
}
