package crosscast

import (
	"context"
	"slices"
)

// RoomEventKind is the kind of a change of a room on this node.
type RoomEventKind uint8

const (
	RoomCreated RoomEventKind = 1 + iota // the room got its first socket on this node
	RoomDeleted                          // the room's last socket on this node left
	RoomJoined                           // Socket joined
	RoomLeft                             // Socket left, or closed
	// RoomsChanged replaces all waiting events, because there were too many. Read the rooms of each namespace again
	// ([Namespace.Rooms], [Namespace.Members]). Later events follow as usual. Some might report changes that you have
	// already read.
	RoomsChanged
)

// A RoomEvent is passed to Options.OnRoom. Subscriptions make no events.
type RoomEvent struct {
	Kind      RoomEventKind
	Namespace string  // empty for RoomsChanged, as is Room
	Room      string  //
	Socket    *Socket // for RoomJoined and RoomLeft
}

// The number of calls of a hook that may wait for the running one. Above it they are merged, so nothing is left out.
const (
	maxRoomsWait  = 65536
	maxNodesWait  = 2 * maxPeers
	maxLinksWait  = 64
	maxLossesWait = 64
)

// hooks calls the application's hooks, outside of all locks. Each hook has a lane of its own, so that a flood of one
// delays no other, and a rule of its own for merging waiting calls.
type hooks struct {
	onGap  func(*Node, Gap) // called without a lane: see callGapHooks
	onLoss func(*Node, Loss)
	onRoom func(*Node, RoomEvent)
	onNode func(*Node, NodeEvent)
	onLink func(*Node, LinkStatus)

	rooms  lane[RoomEvent]
	nodes  lane[nodeCall]
	links  lane[LinkStatus]
	losses lane[Loss]
	pace   pace // before losses
}

func (h *hooks) init(n *Node, o *Options) {
	h.onGap, h.onLoss, h.onRoom, h.onNode, h.onLink = o.OnGap, o.OnLoss, o.OnRoom, o.OnNode, o.OnLink
	h.rooms.run = func(e RoomEvent) { n.call("Options.OnRoom", func() { h.onRoom(n, e) }) }
	h.nodes.run = func(c nodeCall) { n.call("Options.OnNode", func() { h.onNode(n, c.NodeEvent) }) }
	h.links.run = func(s LinkStatus) { n.call("Options.OnLink", func() { h.onLink(n, s) }) }
	h.losses.run = func(l Loss) { n.call("Options.OnLoss", func() { h.onLoss(n, l) }) }
	h.rooms.enter, h.nodes.enter, h.links.enter, h.losses.enter = enterRoom, enterNode, enterLink, enterLoss
	h.rooms.busy, h.nodes.busy, h.links.busy, h.losses.busy = n.busy, n.busy, n.busy, n.busy
	h.pace.tell, h.pace.busy = h.losses.push, n.busy
}

// wait returns when no call of a hook waits or runs, or with ctx. Gathered losses are reported at once.
func (h *hooks) wait(ctx context.Context) {
	h.pace.flush()
	for _, wait := range [...]func(context.Context) error{h.rooms.wait, h.nodes.wait, h.links.wait, h.losses.wait} {
		_ = wait(ctx) // the caller looks at ctx
	}
}

// end is the last wait: from now on losses are not gathered.
func (h *hooks) end(ctx context.Context) {
	h.pace.end()
	h.wait(ctx)
}

// enterRoom queues e. If too many wait, one event replaces all.
func enterRoom(queue []RoomEvent, e RoomEvent) []RoomEvent {
	if len(queue) < maxRoomsWait {
		return append(queue, e)
	}
	return []RoomEvent{{Kind: RoomsChanged}}
}

// A nodeCall is a waiting call of OnNode.
type nodeCall struct {
	NodeEvent
	news bool // OnNode has not heard of the peer before
}

// enterNode queues c, and removes the waiting call for the same peer. So at most one call waits for each present peer,
// and for each one present at the last call of OnNode. Peers that came and went meanwhile are also reported while there
// is room.
func enterNode(queue []nodeCall, c nodeCall) []nodeCall {
	if i := slices.IndexFunc(queue, func(w nodeCall) bool { return w.Peer.ID == c.Peer.ID }); i >= 0 {
		c.news = queue[i].news
		queue = slices.Delete(queue, i, i+1)
	}
	queue = append(queue, c)
	if len(queue) > maxNodesWait {
		passed := func(w nodeCall) bool { return w.news && (w.Kind == NodeLeft || w.Kind == NodeExpired) }
		if i := slices.IndexFunc(queue, passed); i >= 0 {
			queue = slices.Delete(queue, i, i+1)
		}
	}
	return queue
}

// enterLink queues s. If too many wait, s replaces the newest.
func enterLink(queue []LinkStatus, s LinkStatus) []LinkStatus {
	if len(queue) < maxLinksWait {
		return append(queue, s)
	}
	queue[len(queue)-1] = s
	return queue
}

// enterLoss queues l. If too many wait, l is merged into the newest.
func enterLoss(queue []Loss, l Loss) []Loss {
	if len(queue) < maxLossesWait {
		return append(queue, l)
	}
	queue[len(queue)-1].merge(&l)
	return queue
}

// handlePeerEvent handles a change of a peer.
func (n *Node) handlePeerEvent(e NodeEvent) {
	if e.Kind == NodeLeft || e.Kind == NodeExpired {
		n.queries.handlePeerGone(e.Peer.ID)
	}
	n.presence.handlePeerEvent(&e)
	if n.hooks.onNode != nil {
		n.hooks.nodes.push(nodeCall{e, e.Kind == NodeJoined})
	}
}

// reportRoomLocked reports a change of g, so the reports of one room keep the order of its changes.
func (n *Node) reportRoomLocked(kind RoomEventKind, g *group, s *Socket) {
	if n.hooks.onRoom != nil && g.space == SpaceRoom {
		n.hooks.rooms.push(RoomEvent{kind, g.ns.name, g.name, s})
	}
}
