package crosscast

// Presence, as pure data: a node's records of a watched room of its own, and a watcher's knowledge of a room.
//
// Each node is the only authority on its own members, so nothing is merged: there is one list for each node and room,
// and it changes. A change raises the list's version by one, and versions never fall while the node runs. An
// instruction carries a piece of that history: either the changes from one version to another, or the whole list at a
// version, which is Since 0. A watcher applies changes only if they begin at the version that it has. It takes a whole
// list only if that is not older than its own. So at any time, and for any order of arrival, it has exactly the node's
// list at some version. If changes do not join on, or a digest of versions differs, the watcher is behind, and asks for
// the whole list.

// maxChanges is the number of changes of one room that may wait to be sent. If there are more, the whole list is sent
// instead.
const maxChanges = 4096

// A Member is one entry of a watched room: a socket and its user, or with WatchOptions.Users a user alone.
type Member struct {
	Socket SocketID // names its node; empty: all sockets of User together
	User   string   // empty: no user
}

// For drivers: Presence is the part of an instruction of [kind.Presence] about members of rooms on one node. For one
// room it has the changes that lead from one version of the list to another. For several rooms it says that they are
// empty, or are not reported. Or it is a digest. In an instruction of [kind.Watch] it names the watcher's versions.
type Presence struct {
	Since   uint64 // 0: from nothing, so that Changes are all the members
	Version uint64 // 1 and above; the same as Since: there are no changes
	Part    int    // of a whole list: counts from 0, so that a missing part shows
	Last    bool   // of a whole list: this is the last part
	Changes []PresenceChange

	// Round numbers a request for a digest. The answer has the same Round.
	Round uint64
	// Buckets is a set of bits: the buckets of rooms that the other fields are about. 0: all of them, as one.
	Buckets uint64
	Sums    []uint64 // the digest: one sum for each of Buckets
	// Versions has one version for each of the instruction's Rooms: of an empty list, or of the list that the watcher
	// has.
	Versions []uint64
	Full     bool // the instruction's Rooms are not reported: too much is watched already
}

// For drivers: A PresenceChange is a socket that joined or left.
type PresenceChange struct {
	Member
	Left bool
}

// A changelog numbers the changes of one room on its node, and keeps those not sent yet.
type changelog struct {
	version uint64
	changes []PresenceChange // the latest ones
	lost    bool             // there were too many
}

func (l *changelog) record(c PresenceChange) {
	l.version++
	switch {
	case l.lost:
	case len(l.changes) == maxChanges:
		l.changes, l.lost = nil, true
	default:
		l.changes = append(l.changes, c)
	}
}

// base is the version before the waiting changes; ok is false if there were too many to keep.
func (l *changelog) base() (version uint64, ok bool) {
	return l.version - uint64(len(l.changes)), !l.lost
}

// drain returns the changes since the last drain, and the version before them; ok is false if there were too many to
// keep.
func (l *changelog) drain() (changes []PresenceChange, since uint64, ok bool) {
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

// whole makes instructions of about fit bytes from all the members at a version. The order is the same each time, so
// that parts of a list that was sent twice fit together.
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

// fitting is the number of changes that go into one instruction of about fit bytes: at least one, if there are any.
func fitting(changes []PresenceChange, fit int) int {
	size := 0
	for i := range changes {
		if size += presenceChangeSize(&changes[i].Member); size > fit && i > 0 {
			return i
		}
	}
	return len(changes)
}

// A diff is the net change of members: true, they joined; false, they left. A change that was undone is not in it.
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

// A roster is a watcher's knowledge of one room: the list of each node, including its own. A node that has reported
// nothing has no entry, so a node that never reports costs nothing.
type roster struct {
	self  NodeID // this node, whose list is always known
	nodes map[NodeID]*nodeList
	users map[string]int // number of their sockets, on all nodes
	known int            // other nodes whose list is known
	full  int            // nodes that refused to report
	diff  diff           // not taken yet; users are members without a socket
}

// A nodeList is the list of one node, as of a version.
type nodeList struct {
	version uint64 // 0: it never came, or is not kept up to date any more
	members map[SocketID]string
	full    bool      // the node refused to report
	asked   bool      // for the whole list, since it came last
	partial *nodeList // a whole list that is arriving
	parts   int       // number of its parts so far
	size    int       // bytes of members, about
}

// Approximate memory of a list and of a member, without the user's name.
const listSize, memberSize = 96, 112

// settled reports whether a node has reported its members, or refused to.
func (l *nodeList) settled() bool { return l != nil && (l.version != 0 || l.full) }

// bytes is the approximate memory of l.
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

// list returns the list of a node, and makes it if there is none.
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

// removeNode forgets a node: its members leave.
func (r *roster) removeNode(id NodeID) {
	if l := r.nodes[id]; l != nil {
		r.become(l, id, 0, false)
		r.replace(l, nil)
		delete(r.nodes, id)
	}
}

// markFull records that a node does not report its members, for now.
func (r *roster) markFull(id NodeID) {
	if id != r.self {
		l := r.list(id)
		r.become(l, id, 0, true)
		l.asked, l.partial = false, nil
	}
}

// become records the version of the list that a node has reported, or its refusal.
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

// set records that m is, or is not, in l.
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

// replace makes members the whole content of l.
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

// apply takes a report of another node. It returns whether to ask the node for the whole list.
func (r *roster) apply(from NodeID, p *Presence) (ask bool) {
	l := r.nodes[from]
	switch {
	case from == r.self, p.Version == 0, p.Since > p.Version: // nonsense
		return false
	case p.Since == 0:
		l = r.list(from)
		ask = r.part(l, from, p)
	case l == nil: // the whole list is being asked for
		return false
	case p.Since == l.version:
		for i := range p.Changes {
			if c := &p.Changes[i]; c.Socket.Node() == from {
				r.set(l, c.Member, !c.Left)
			}
		}
		l.version = p.Version
	default:
		ask = p.Version > l.version && !l.asked // some changes were missed; otherwise these are old
	}
	l.asked = l.asked || ask
	return ask
}

// part takes a part of a whole list, and returns whether to ask for the list again.
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

// takeDiff returns the changes since the last takeDiff.
func (r *roster) takeDiff() diff {
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
