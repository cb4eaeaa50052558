package crosscast

// Presence, as pure data: what a node keeps of a room of its own that is watched, and what a watcher knows of a room.
//
// Each node is the only authority on its own members, so there is nothing to merge: only one list for each node and
// room, which changes. A change raises the list's version by one, and versions never fall while the node runs. What
// travels is a piece of that history: the changes from one version to another, or from nothing to a version, which is
// the whole list. A watcher takes changes only where they join on to the version that it has, and the whole list only
// when it is not older, so at any time and for any order of arrival it has exactly what the node's list was at some
// version. That it is behind shows where changes do not join on, or by a digest of versions, and it asks for the whole.

// maxChanges is how many changes of one room wait to be sent; when there are more, the whole is sent instead.
const maxChanges = 4096

// A Member is who is in a watched room: a socket and its user, or with WatchOptions.Users a user alone.
type Member struct {
	Socket SocketID // names its node; empty: all sockets of User together
	User   string   // empty: nobody
}

// Presence is what an instruction of [KindPresence] tells of the members of rooms on one node: of one room, the changes
// that lead from one version of their list to another; of several, that they are empty, or are not told of; or a digest.
// In an instruction of [KindWatch] it says what the watcher has.
type Presence struct {
	Since   uint64 // 0: from nothing, so that Changes are all the members
	Version uint64 // 1 and above; the same as Since: there are no changes
	Part    int    // of all the members: counts from 0, so that a missing part shows
	Last    bool   // of all the members: nothing follows
	Changes []PresenceChange

	// Round numbers what asks for a digest, and its answer has the same.
	Round uint64
	// Buckets is a set of bits: the buckets of rooms that the rest is about. 0: all of them, as one.
	Buckets uint64
	Sums    []uint64 // the digest: one sum for each of Buckets
	// Versions has one for each of the instruction's Rooms: of a list that is empty, or that the watcher has.
	Versions []uint64
	Full     bool // the instruction's Rooms are not told of: too much is watched already
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

// base is the version before the changes that wait; ok is false when there were too many to be kept.
func (l *changelog) base() (version uint64, ok bool) {
	return l.version - uint64(len(l.changes)), !l.lost
}

// take returns what was added since the last take, and the version before that; ok is false when there was too much to be
// kept.
func (l *changelog) take() (changes []PresenceChange, since uint64, ok bool) {
	since, ok = l.base()
	changes, l.changes, l.lost = l.changes, nil, false
	return changes, since, ok
}

// pieces cuts changes into instructions of about fit bytes.
func pieces(changes []PresenceChange, since uint64, fit int) (parts []*Presence) {
	for len(changes) > 0 {
		n := fitting(changes, fit)
		parts = append(parts, &Presence{Since: since, Version: since + uint64(n), Changes: changes[:n:n]})
		since += uint64(n)
		changes = changes[n:]
	}
	return parts
}

// whole tells all the members at a version, in instructions of about fit bytes. They come in the same order each time, so
// that parts of what was sent twice fit.
func whole(version uint64, members []PresenceChange, fit int) (parts []*Presence) {
	for {
		n := fitting(members, fit)
		last := n == len(members)
		parts = append(parts, &Presence{Version: version, Part: len(parts), Last: last, Changes: members[:n:n]})
		if last {
			return parts
		}
		members = members[n:]
	}
}

// fitting is how many of changes go into one instruction of about fit bytes: at least one, if there are any.
func fitting(changes []PresenceChange, fit int) int {
	size := 0
	for i := range changes {
		if size += presenceChangeSize(&changes[i].Member); size > fit && i > 0 {
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

// A roster is what a watcher knows of one room: the list of each node, its own included. Of a node that has told nothing
// it has nothing, so that one which never will costs nothing.
type roster struct {
	self  NodeID // whose list is always known
	nodes map[NodeID]*nodeList
	users map[string]int // their sockets, on all nodes
	known int            // other nodes whose list is known
	full  int            // nodes that said that they do not tell
	diff  diff           // not taken yet; users are members without a socket
}

// A nodeList is the list of one node, as of a version.
type nodeList struct {
	version uint64 // 0: it never came, or is not kept up to date any more
	members map[SocketID]string
	full    bool      // the node said that it does not tell
	asked   bool      // for the whole, since it came last
	partial *nodeList // a whole list that is arriving
	parts   int       // of it
	size    int       // bytes of members, about
}

// What a list and a member take, about, beside the user's name.
const listSize, memberSize = 96, 112

// settled reports whether a node has told of its members, or that it does not.
func (l *nodeList) settled() bool { return l != nil && (l.version != 0 || l.full) }

// bytes is about what l takes.
func (l *nodeList) bytes() int {
	if l == nil {
		return 0
	}
	n := listSize + l.size
	if l.partial != nil {
		n += listSize + l.partial.size
	}
	return n
}

// list returns the list of a node, made when there is none.
func (r *roster) list(id NodeID) *nodeList {
	l := r.nodes[id]
	if l == nil {
		if r.nodes == nil {
			r.nodes, r.users = make(map[NodeID]*nodeList), make(map[string]int)
		}
		l = &nodeList{}
		r.nodes[id] = l
	}
	return l
}

// gone forgets a node: its members leave.
func (r *roster) gone(id NodeID) {
	if l := r.nodes[id]; l != nil {
		r.become(l, id, 0, false)
		r.replace(l, nil)
		delete(r.nodes, id)
	}
}

// refused notes that a node does not tell of its members, for now.
func (r *roster) refused(id NodeID) {
	if id != r.self {
		l := r.list(id)
		r.become(l, id, 0, true)
		l.asked, l.partial = false, nil
	}
}

// become notes which version of its list a node has told, or that it does not tell.
func (r *roster) become(l *nodeList, id NodeID, version uint64, full bool) {
	if id != r.self {
		r.known += btoi(version != 0) - btoi(l.version != 0)
		r.full += btoi(full) - btoi(l.full)
	}
	l.version, l.full = version, full
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// version returns the version of a node's list; 0: it is not known.
func (r *roster) version(id NodeID) uint64 {
	if l := r.nodes[id]; l != nil {
		return l.version
	}
	return 0
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
		l.size += memberSize + len(m.User)
	} else {
		m.User = user
		delete(l.members, m.Socket)
		l.size -= memberSize + len(m.User)
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

// apply takes what another node tells. It reports whether the node is to be asked for the whole.
func (r *roster) apply(from NodeID, p *Presence) (ask bool) {
	l := r.nodes[from]
	switch {
	case from == r.self, p.Version == 0, p.Since > p.Version: // nonsense
		return false
	case p.Since == 0:
		l = r.list(from)
		ask = r.part(l, from, p)
	case l == nil: // it is being asked
		return false
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
	return ask
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
			if old, again := b.members[c.Socket]; again {
				b.size -= memberSize + len(old)
			}
			b.members[c.Socket] = c.User
			b.size += memberSize + len(c.User)
		}
	}
	l.parts++
	if !p.Last {
		return false
	}
	r.replace(l, b.members)
	r.become(l, from, p.Version, false)
	l.asked, l.partial = false, nil
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
