package crosscast

import "slices"

// A crowd is what a group has in addition while it is large. At a few hundred sockets, the cost of a delivery begins to
// be that of reading memory in no order. With the conns beside the sockets, a delivery reads only what Send touches of
// each conn, and not also the socket that points to it. A group lends both lists to deliveries instead of copying them.
// The group's lock guards a crowd.
type crowd struct {
	conns []Conn  // parallel to the group's sockets; see [Socket.sender]
	slots []int32 // the sockets' slots; parallel, too
	lent  bool    // deliveries might read the lists without the lock: appending is allowed, changing is not
}

// A group of crowdBegins sockets becomes a crowd, and one of crowdEnds is none any more. Tests change the numbers.
var crowdBegins, crowdEnds = 512, 128

// crowdLocked makes g a crowd.
func (g *group) crowdLocked() {
	g.crowd = &crowd{conns: make([]Conn, 0, cap(g.sockets)), slots: make([]int32, 0, cap(g.sockets))}
	for _, s := range g.sockets {
		g.crowd.add(s)
	}
}

func (c *crowd) add(s *Socket) {
	c.conns = append(roomy(c.conns), s.sender())
	c.slots = append(roomy(c.slots), s.slot)
}

// drop takes the i-th socket out, and moves the last one into its place.
func (c *crowd) drop(i int32) {
	last := len(c.conns) - 1
	c.slots[i], c.conns[i], c.conns[last] = c.slots[last], c.conns[last], nil
	c.conns, c.slots = shrunk(c.conns[:last]), shrunk(c.slots[:last])
}

// lendLocked returns g's lists, which must not be changed. g is a crowd.
func (g *group) lendLocked() recipients {
	g.crowd.lent = true
	return recipients{slices.Clip(g.sockets), slices.Clip(g.crowd.conns), g.crowd.slots}
}

// ownLocked makes copies of g's lists if they are lent, so that they can be changed. So between two deliveries the
// lists are copied at most once. g is a crowd.
func (g *group) ownLocked() {
	if c := g.crowd; c.lent {
		g.sockets, c.conns, c.slots, c.lent = copied(g.sockets), copied(c.conns), copied(c.slots), false
	}
}

// copied returns a copy of s with the same capacity.
func copied[T any](s []T) []T { return append(make([]T, 0, cap(s)), s...) }

// reachLocked enters the conn of the i-th socket, whose Connect has succeeded.
func (g *group) reachLocked(i int32, conn Conn) {
	if g.crowd != nil {
		g.ownLocked()
		g.crowd.conns[i] = conn
	}
}
