package crosscast

import (
	"context"
	"slices"
	"sync"

	"github.com/crosscast/crosscast/internal/guard"
)

// RoomEventKind says what happened to a room on this node.
type RoomEventKind uint8

const (
	RoomCreated RoomEventKind = 1 + iota // the room got its first socket on this node
	RoomDeleted                          // the room's last socket on this node left
	RoomJoined                           // Socket joined
	RoomLeft                             // Socket left, or closed
	// RoomsChanged stands for all events that waited, because too many did: read the rooms anew ([Namespace.Rooms],
	// [Namespace.Members]), of each namespace. Events follow as ever; some might tell of what was read already.
	RoomsChanged
)

// A RoomEvent is what Options.OnRoom is told. Subscriptions make no events.
type RoomEvent struct {
	Kind      RoomEventKind
	Namespace string  // empty of RoomsChanged, and so is Room
	Room      string  //
	Socket    *Socket // of RoomJoined and RoomLeft
}

// How many calls of a hook may wait for the one that is being made. What is too much is merged, so nothing is untold.
const (
	maxRoomsWait  = 65536
	maxNodesWait  = 2 * maxPeers
	maxLinksWait  = 64
	maxLossesWait = 64
)

// hooks calls the application's hooks, outside of all locks. Each has a lane of its own, so that a flood of one delays
// no other, and a rule of its own by which what waits is merged.
type hooks struct {
	rooms  lane[RoomEvent]
	nodes  lane[nodeCall]
	links  lane[LinkStatus]
	losses lane[Loss]
	pace   pace // before losses
}

func (h *hooks) init(n *Node) {
	h.rooms.run = func(e RoomEvent) { n.call("Options.OnRoom", func() { n.onRoom(n, e) }) }
	h.nodes.run = func(c nodeCall) { n.call("Options.OnNode", func() { n.onNode(n, c.NodeEvent) }) }
	h.links.run = func(s LinkStatus) { n.call("Options.OnLink", func() { n.onLink(n, s) }) }
	h.losses.run = func(l Loss) { n.call("Options.OnLoss", func() { n.onLoss(n, l) }) }
	h.rooms.enter, h.nodes.enter, h.links.enter, h.losses.enter = enterRoom, enterNode, enterLink, enterLoss
	h.rooms.busy, h.nodes.busy, h.links.busy, h.losses.busy = n.busy, n.busy, n.busy, n.busy
	h.pace.tell = h.losses.call
}

// wait returns when no call of a hook waits or is being made, or with ctx. Losses that are gathered are told now.
func (h *hooks) wait(ctx context.Context) {
	h.pace.flush()
	for _, wait := range [...]func(context.Context) error{h.rooms.wait, h.nodes.wait, h.links.wait, h.losses.wait} {
		_ = wait(ctx) // which the caller looks at
	}
}

// end is the last wait: losses are not gathered any more.
func (h *hooks) end(ctx context.Context) {
	h.pace.end()
	h.wait(ctx)
}

// enterRoom queues e. When too many wait, one takes the place of all.
func enterRoom(queue []RoomEvent, e RoomEvent) []RoomEvent {
	if len(queue) < maxRoomsWait {
		return append(queue, e)
	}
	return []RoomEvent{{Kind: RoomsChanged}}
}

// A nodeCall is a call of OnNode that waits.
type nodeCall struct {
	NodeEvent
	news bool // OnNode was not told of the peer before
}

// enterNode queues c in the place of what waits of the same peer. So as many wait as there are peers, and were when
// OnNode was told last; those that come and go meanwhile are told of while there is room.
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

// enterLink queues s, or, when too many wait, puts it in the place of the newest.
func enterLink(queue []LinkStatus, s LinkStatus) []LinkStatus {
	if len(queue) < maxLinksWait {
		return append(queue, s)
	}
	queue[len(queue)-1] = s
	return queue
}

// enterLoss queues l, or, when too many wait, merges it into the newest.
func enterLoss(queue []Loss, l Loss) []Loss {
	if len(queue) < maxLossesWait {
		return append(queue, l)
	}
	queue[len(queue)-1].add(&l)
	return queue
}

// nodeEvent acts on what happened to a peer.
func (n *Node) nodeEvent(e NodeEvent) {
	if e.Kind == NodeLeft || e.Kind == NodeExpired {
		n.asks.gone(e.Peer.ID)
	}
	n.presence.peer(&e)
	if n.onNode != nil {
		n.hooks.nodes.call(nodeCall{e, e.Kind == NodeJoined})
	}
}

// roomEvent reports a change of g, whose lock is held, so that the reports of one room keep the order of its changes.
func (n *Node) roomEvent(kind RoomEventKind, g *group, s *Socket) {
	if n.onRoom != nil && g.space == SpaceRoom {
		n.hooks.rooms.call(RoomEvent{kind, g.ns.name, g.name, s})
	}
}

// A lane calls run with what is pushed, one at a time and in order, on a goroutine that exists only while there is
// something to do. A call that ends that goroutine is not the last one.
type lane[T any] struct {
	run   func(T)                  // set before the first push; must not panic
	taken func(T)                  // optional: called with mu held when an item has left the queue
	enter func(queue []T, v T) []T // optional: called with mu held instead of append, to merge what waits
	busy  *activity

	mu      sync.Mutex // guards what follows
	queue   []T
	running bool
	idle    chan struct{} // made by wait; closed when the goroutine ends
}

// push queues v; l.mu is held.
func (l *lane[T]) push(v T) {
	if l.enter != nil {
		l.queue = l.enter(l.queue, v)
	} else {
		l.queue = append(l.queue, v)
	}
	if !l.running {
		l.running = true
		l.busy.begin()
		guard.Go(l.work)
	}
}

// call is push for those who do not hold l.mu.
func (l *lane[T]) call(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.push(v)
}

func (l *lane[T]) work() {
	for v, ok := l.next(); ok; v, ok = l.next() {
		l.run(v)
	}
}

// next takes what waits longest. When nothing does, the goroutine is done.
func (l *lane[T]) next() (v T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		v = l.queue[0]
		clear(l.queue[:1])
		l.queue = l.queue[1:]
		if l.taken != nil {
			l.taken(v)
		}
		return v, true
	}
	l.queue, l.running = nil, false
	l.busy.end(1)
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
	return v, false
}

// wait returns when nothing is queued or running.
func (l *lane[T]) wait(ctx context.Context) error {
	l.mu.Lock()
	if !l.running {
		l.mu.Unlock()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
