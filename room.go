package crosscast

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/crosscast/crosscast/internal/nameset"
)

// Membership. A group is the set of this node's sockets under one name: a room, a user or everyone. If the adapter must
// subscribe to everything, each socket's own ID is a group too. Invariants:
//
//   - For each membership m of socket s in group g: g.members[m.inGroup] == m, g.sockets[m.inGroup] == s and
//     s.members[m.inSocket] == m. There is at most one for each pair.
//   - The lists of a crowd are parallel to g.sockets: see crowd.
//   - inSocket and s.members are guarded by s.mu, everything in a group by its shard's mutex. The order of
//     locks is in docs/inside.md.
//   - A group is in its shard's map, and counts as a use of its space, while it has a socket, a subscription or an
//     interest. An interest lives until it has lingered. Therefore the holder of a membership may compare groups by
//     pointer.
const shardCount = 64

// A shard holds the groups and sockets whose names hash to it. It fills a cache line.
type shard struct {
	mu      sync.Mutex
	groups  [3]nameset.Set[*group] // by Space, less one
	sockets nameset.Set[*Socket]
	watched map[string]*watched // rooms; nil while no room is watched
	used    [3]int32            // groups with a socket, by Space, less one
	members int32               // memberships in rooms
}

type group struct {
	ns       *space
	shard    *shard
	name     string
	space    Space         // SpaceNamespace: everyone
	sockets  []*Socket     // changed only by addSocketLocked and dropLocked, because a crowd lends them
	members  []*membership // parallel to sockets, which is separate so that a delivery can copy it
	subs     *[]subscribed // nil: there are none
	crowd    *crowd        // nil: the group is not large
	interest               // not used if the adapter has no interests
	first    first         // the group's first socket is in it
}

// A first is a membership with the lists of a group that has no other. It is part of the group, because most rooms of
// most nodes have one socket. No later membership takes its place: a call of Join might still compare it by pointer.
type first struct {
	membership
	members [1]*membership
	sockets [1]*Socket
}

type membership struct {
	group    *group
	inGroup  int32
	inSocket int32
}

// manyMembers is the number of memberships above which a socket uses a map to find one.
const manyMembers = 32

// A place is the shard of a name, and the name's hash there.
type place struct {
	*shard
	hash uint32
}

func (ns *space) shardOf(name string) place {
	h := maphash.String(ns.seed, name)
	return place{&ns.shards[h%shardCount], uint32(h >> 32)}
}

// groupLocked returns the named group, or nil. The name is the one of p.
func (p place) groupLocked(space Space, name string) *group {
	return p.groups[space-1].Get(p.hash, name, (*group).named)
}

func (g *group) named(name string) bool { return g.name == name }

// openGroupLocked returns the named group, and makes it if there is none.
func (p place) openGroupLocked(ns *space, space Space, name string) *group {
	g := p.groupLocked(space, name)
	if g == nil {
		name = strings.Clone(name) // the given name might be part of a large string
		g = &group{ns: ns, shard: p.shard, name: name, space: space}
		p.groups[space-1].Add(p.hash, g)
		ns.uses.Add(1) // the caller already holds ns
	}
	return g
}

// watchedLocked returns the state of a room that is watched, or nil.
func (g *group) watchedLocked() *watched {
	if g.space != SpaceRoom || g.shard.watched == nil {
		return nil
	}
	return g.shard.watched[g.name]
}

// withGroup calls f with the named group, locked, if it exists.
func (ns *space) withGroup(space Space, name string, f func(*group)) {
	if space == SpaceNamespace {
		ns.allShard.mu.Lock()
		defer ns.allShard.mu.Unlock()
		f(&ns.all)
		return
	}
	if space == 0 || space > SpaceNamespace {
		return
	}
	sh := ns.shardOf(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if g := sh.groupLocked(space, name); g != nil {
		f(g)
	}
}

// everyGroup calls f with each group, locked.
func (ns *space) everyGroup(f func(*group)) {
	ns.withGroup(SpaceNamespace, "", f)
	for i := range ns.shards {
		sh := &ns.shards[i]
		sh.mu.Lock()
		for i := range sh.groups {
			for g := range sh.groups[i].All() {
				f(g)
			}
		}
		sh.mu.Unlock()
	}
}

// unusedLocked is called after a socket or subscription has left g.
func (g *group) unusedLocked() {
	if len(g.sockets) > 0 || g.subs != nil {
		return
	}
	if g.interested() {
		g.ns.node.interests.idle(g)
		return
	}
	g.leaveShardLocked()
}

// leaveShardLocked takes g out of its shard's set.
func (g *group) leaveShardLocked() {
	g.shard.groups[g.space-1].Remove(g.ns.shardOf(g.name).hash, g)
	g.ns.release()
}

// openSocket registers a new socket, which already holds ns, and adds it to everyone, its user and rooms. It appends to
// waits the interests to wait for.
func (ns *space) openSocket(s *Socket, rooms []string, waits []*group) []*group {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connecting.Store(ns.node.interests != nil)
	sh := ns.shardOf(string(s.id))
	sh.mu.Lock()
	sh.sockets.Add(sh.hash, s)
	sh.mu.Unlock()

	s.members = make([]*membership, 0, s.expectedMemberships(rooms))
	ns.allShard.mu.Lock()
	if n := len(ns.freeSlots); n > 0 {
		s.slot, ns.freeSlots = ns.freeSlots[n-1], ns.freeSlots[:n-1]
	} else {
		s.slot = ns.slots
		ns.slots++
	}
	ns.all.addSocketLocked(s)
	ns.allShard.mu.Unlock()

	waits = ns.all.wait(waits)
	if ns.node.interests.all() {
		waits = ns.joinLocked(s, SpaceSocket, string(s.id), waits)
	}
	if s.user != "" {
		waits = ns.joinLocked(s, SpaceUser, s.user, waits)
	}
	for _, r := range rooms {
		waits = ns.joinLocked(s, SpaceRoom, r, waits)
	}
	if len(waits) > 0 {
		s.rare = ns.node.interests.newRare()
	}
	return waits
}

// expectedMemberships returns how many memberships s has at first, in these rooms; without any, it will join one.
func (s *Socket) expectedMemberships(rooms []string) int {
	n := 1 + len(rooms) // 1: everyone
	if s.user != "" {
		n++
	}
	if s.ns.node.interests.all() {
		n++
	}
	return max(n, 2)
}

// joinLocked adds s to the named group. It appends the group to waits if that is not confirmed.
func (ns *space) joinLocked(s *Socket, space Space, name string, waits []*group) []*group {
	sh := ns.shardOf(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.openGroupLocked(ns, space, name)
	if s.membershipLocked(g) == nil {
		g.addSocketLocked(s)
		if space == SpaceRoom {
			sh.members++
		}
		if len(g.sockets) == 1 {
			sh.used[space-1]++
			ns.node.reportRoomLocked(RoomCreated, g, nil)
		}
		ns.node.reportRoomLocked(RoomJoined, g, s)
		if w := g.watchedLocked(); w != nil {
			w.noteChangeLocked(s, false, true)
		}
	}
	return g.wait(waits)
}

// wait appends the group to waits if there is one and it is not confirmed.
func (g *group) wait(waits []*group) []*group {
	if g.interested() && !g.confirmed.Load() {
		waits = append(waits, g)
	}
	return waits
}

// leaveLocked takes s out of a room.
func (ns *space) leaveLocked(s *Socket, room string) {
	sh := ns.shardOf(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.groupLocked(SpaceRoom, room)
	if g == nil {
		return
	}
	if m := s.membershipLocked(g); m != nil {
		s.forgetLocked(m)
		g.removeLocked(m)
	}
}

// endLocked ends m, a membership of s. s is locked, and its group is not.
func (ns *space) endLocked(s *Socket, m *membership) {
	m.group.shard.mu.Lock()
	defer m.group.shard.mu.Unlock()
	s.forgetLocked(m)
	m.group.removeLocked(m)
}

// leaveAllLocked ends all memberships of s, and its hold of ns. The membership in everyone ends last.
func (ns *space) leaveAllLocked(s *Socket) {
	for i := len(s.members) - 1; i > 0; i-- {
		m := s.members[i]
		m.group.shard.mu.Lock()
		m.group.removeLocked(m)
		m.group.shard.mu.Unlock()
	}
	ns.allShard.mu.Lock()
	ns.all.dropLocked(s.members[0])
	ns.freeSlots = append(ns.freeSlots, s.slot)
	ns.allShard.mu.Unlock()
	s.members, s.index, s.claims = nil, nil, nil

	sh := ns.shardOf(string(s.id))
	sh.mu.Lock()
	sh.sockets.Remove(sh.hash, s)
	sh.mu.Unlock()
	ns.release()
}

// addSocketLocked appends s to g and g to s. There is no membership yet.
func (g *group) addSocketLocked(s *Socket) {
	var m *membership
	switch {
	case g.space == SpaceNamespace:
		m = &s.inAll
	case g.members == nil:
		m = &g.first.membership
		g.members, g.sockets = g.first.members[:0], g.first.sockets[:0]
	default:
		m = new(membership)
	}
	*m = membership{g, int32(len(g.members)), int32(len(s.members))}
	g.sockets = append(roomy(g.sockets), s)
	g.members = append(roomy(g.members), m)
	s.members = append(s.members, m)
	if g.crowd != nil {
		g.crowd.add(s)
	} else if len(g.sockets) >= crowdBegins {
		g.crowdLocked()
	}
	if s.index != nil {
		s.index[g] = m
	} else if len(s.members) > manyMembers {
		s.index = make(map[*group]*membership, 2*manyMembers)
		for _, m := range s.members {
			s.index[m.group] = m
		}
	}
}

// removeLocked takes m out of its room or user and calls the hooks.
func (g *group) removeLocked(m *membership) {
	sh, n := g.shard, g.ns.node
	s := g.sockets[m.inGroup]
	g.dropLocked(m)
	if g.space == SpaceRoom {
		sh.members--
	}
	n.reportRoomLocked(RoomLeft, g, s)
	if w := g.watchedLocked(); w != nil {
		w.noteChangeLocked(s, true, false)
	}
	if len(g.sockets) == 0 {
		sh.used[g.space-1]--
		n.reportRoomLocked(RoomDeleted, g, nil)
		g.unusedLocked()
	}
}

// dropLocked takes m out of its group's lists, and moves the last one into its place.
func (g *group) dropLocked(m *membership) {
	i, last := m.inGroup, len(g.members)-1
	if g.crowd != nil {
		g.ownLocked()
		g.crowd.drop(i)
		if last <= crowdEnds {
			g.crowd = nil
		}
	}
	g.members[i], g.sockets[i] = g.members[last], g.sockets[last]
	g.members[i].inGroup = i
	g.members[last], g.sockets[last] = nil, nil
	g.members, g.sockets = shrunk(g.members[:last]), shrunk(g.sockets[:last])
}

// shrunk returns s with less spare capacity if it has far too much.
func shrunk[T any](s []T) []T {
	if c := cap(s); c >= 64 && len(s) <= c/4 {
		return append(make([]T, 0, c/2), s...)
	}
	return s
}

// roomy returns s with a free place. A long list grows by a half: by a quarter, as append makes it grow, all the lists
// that it has outgrown have four times its size.
func roomy[T any](s []T) []T {
	if len(s) == cap(s) {
		return slices.Grow(s, len(s)/2+1)
	}
	return s
}

// membershipLocked returns s's membership in g, or nil. Both are locked.
func (s *Socket) membershipLocked(g *group) *membership {
	if s.index != nil {
		return s.index[g]
	}
	for _, m := range s.members {
		if m.group == g {
			return m
		}
	}
	return nil
}

// forgetLocked takes m out of s's list, and moves the last one into its place, so the membership in everyone stays the
// first.
func (s *Socket) forgetLocked(m *membership) {
	last := len(s.members) - 1
	s.members[m.inSocket] = s.members[last]
	s.members[m.inSocket].inSocket = m.inSocket
	s.members[last] = nil
	s.members = shrunk(s.members[:last])
	delete(s.index, m.group)
	delete(s.claims, m)
}

// roomsLocked returns the names of s's rooms.
func (s *Socket) roomsLocked() []string {
	rooms := make([]string, 0, len(s.members))
	for _, m := range s.members {
		if m.group.space == SpaceRoom {
			rooms = append(rooms, m.group.name)
		}
	}
	return slices.Clip(rooms)
}

// address returns the name in which the node is interested because of g.
func (g *group) address() Address { return Address{g.ns.name, g.space, g.name} }
