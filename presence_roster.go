package crosscast

// A roster is a watcher's knowledge of one room: the list of each node, including its own. A node that has reported
// nothing has no entry, so a node that never reports costs nothing.
type roster struct {
	self  NodeID // this node, whose list is always known
	nodes map[NodeID]*nodeList
	users map[string]int       // number of their sockets, on all nodes
	shows map[string]userShows // what they show; nil: nobody does
	known int                  // other nodes whose list is known
	full  int                  // nodes that refused to report
	diff  diff                 // not taken yet; users are members without a socket
}

// A nodeList is the list of one node, as of a version.
type nodeList struct {
	version uint64 // 0: it never came, or is not kept up to date any more
	members map[SocketID]string
	shows   map[SocketID]*shown // nil: nobody shows anything
	full    bool                // the node refused to report
	asked   bool                // for the whole list, since it came last
	partial *nodeList           // a whole list that is arriving
	parts   int                 // number of its parts so far
	size    int                 // bytes of members, about
}

// Approximate memory of a list, of a member without the user's name, and of what it shows without the data.
const listSize, memberSize, shownSize = 96, 112, 160

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
		r.replace(l, nil, nil)
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

// set records that a socket is in l, and what it shows, or that it is not.
func (r *roster) set(l *nodeList, k memberKey, show *shown, here bool) {
	user, was := l.members[k.socket]
	before, after := entry{was, l.shows[k.socket]}, entry{here, show}
	if !here {
		after.show = nil
	}
	if was == here && before.show.again(after.show) {
		return
	}
	if was {
		k.user = user
	}
	switch {
	case here && !was:
		if l.members == nil {
			l.members = make(map[SocketID]string)
		}
		l.members[k.socket] = k.user
		l.size += memberSize + len(k.user)
	case was && !here:
		delete(l.members, k.socket)
		l.size -= memberSize + len(k.user)
	}
	l.show(k.socket, after.show)
	if !before.same(after) {
		r.diff.note(k, before, after)
	}
	if k.user != "" {
		r.setUser(k, before, after)
	}
}

// show records what a socket shows.
func (l *nodeList) show(id SocketID, now *shown) {
	if was := l.shows[id]; was != nil {
		l.size -= shownSize + len(was.data)
		delete(l.shows, id)
	}
	if now == nil {
		return
	}
	if l.shows == nil {
		l.shows = make(map[SocketID]*shown)
	}
	l.shows[id] = now
	l.size += shownSize + len(now.data)
}

// setUser records the change of a user's socket.
func (r *roster) setUser(k memberKey, before, after entry) {
	sockets := r.users[k.user]
	was := entry{sockets > 0, r.shows[k.user].last}
	if sockets += btoi(after.here) - btoi(before.here); sockets > 0 {
		r.users[k.user] = sockets
	} else {
		delete(r.users, k.user)
	}
	if before.show != nil || after.show != nil {
		r.showUser(k, after.show)
	}
	if is := (entry{sockets > 0, r.shows[k.user].last}); !was.same(is) {
		r.diff.note(memberKey{user: k.user}, was, is)
	}
}

// showUser records what a user's socket shows.
func (r *roster) showUser(k memberKey, now *shown) {
	u := r.shows[k.user]
	u.forget(k.socket)
	if now != nil {
		u.add(now)
	}
	switch {
	case u.last == nil:
		delete(r.shows, k.user)
		return
	case r.shows == nil:
		r.shows = make(map[string]userShows)
	}
	r.shows[k.user] = u
}

// userShows is what the sockets of a user show. Most users have one.
type userShows struct {
	last *shown              // the newest; nil: nobody shows anything
	rest map[SocketID]*shown // the others
}

func (u *userShows) add(s *shown) {
	if s.newer(u.last) {
		s, u.last = u.last, s
	}
	if s == nil {
		return
	}
	if u.rest == nil {
		u.rest = make(map[SocketID]*shown)
	}
	u.rest[s.by] = s
}

func (u *userShows) forget(id SocketID) {
	if u.last == nil || u.last.by != id {
		delete(u.rest, id)
		return
	}
	u.last = nil
	for _, s := range u.rest {
		if s.newer(u.last) {
			u.last = s
		}
	}
	if u.last != nil {
		delete(u.rest, u.last.by)
	}
}

// replace makes members, with what they show, the whole content of l.
func (r *roster) replace(l *nodeList, members map[SocketID]string, shows map[SocketID]*shown) {
	for id, user := range l.members {
		if u, ok := members[id]; !ok || u != user {
			r.set(l, memberKey{socket: id}, nil, false)
		}
	}
	for id, user := range members {
		r.set(l, memberKey{id, user}, shows[id], true)
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
				r.set(l, c.key(), c.shown(), !c.Left)
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
			b.show(c.Socket, c.shown())
		}
	}
	l.parts++
	if !p.Last {
		return false
	}
	r.replace(l, b.members, b.shows)
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
func (r *roster) members(users bool, f func(memberKey, *shown)) {
	if users {
		for u := range r.users {
			f(memberKey{user: u}, r.shows[u].last)
		}
		return
	}
	for _, l := range r.nodes {
		for id, user := range l.members {
			f(memberKey{id, user}, l.shows[id])
		}
	}
}
