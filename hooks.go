package crosscast

import (
	"context"
	"sync"
)

// RoomEventKind says what happened to a room on this node.
type RoomEventKind uint8

const (
	RoomCreated RoomEventKind = 1 + iota // the room got its first socket on this node
	RoomDeleted                          // the room's last socket on this node left
	RoomJoined                           // Socket joined
	RoomLeft                             // Socket left, or closed
)

// A RoomEvent is what Options.OnRoom is told. Subscriptions make no events.
type RoomEvent struct {
	Kind      RoomEventKind
	Namespace string
	Room      string
	Socket    *Socket // of RoomJoined and RoomLeft
}

// maxHooks is how many calls of hooks may wait.
const maxHooks = 65536

// A hook is one call of Options.OnRoom, or of OnLoss, OnNode or OnLink when loss, node or link is set.
type hook struct {
	room RoomEvent
	loss *Loss
	node *NodeEvent
	link *LinkStatus
}

// hooks calls the application's hooks one at a time, in the order of what they report, outside of all locks.
type hooks struct {
	lane[hook]
	warned bool // guarded by lane.mu
}

// call queues a hook, or drops it when too many wait. It may be called under a shard's lock.
func (n *Node) call(h hook) {
	n.hooks.mu.Lock()
	full := len(n.hooks.queue) >= maxHooks
	warn := full && !n.hooks.warned
	if full {
		n.hooks.warned = true
		n.stats.hook.Add(1)
	} else {
		n.hooks.push(h)
	}
	n.hooks.mu.Unlock()
	if warn {
		go n.log.Warn("crosscast: hooks are too slow, and calls of them are dropped", "waiting", maxHooks)
	}
}

func (n *Node) runHook(h hook) {
	switch {
	case h.loss != nil:
		n.onLoss(*h.loss)
	case h.node != nil:
		n.onNode(*h.node)
	case h.link != nil:
		n.onLink(n, *h.link)
	default:
		n.onRoom(h.room)
	}
}

// nodeEvent acts on what happened to a peer.
func (n *Node) nodeEvent(e NodeEvent) {
	if e.Kind == NodeLeft || e.Kind == NodeExpired {
		n.asks.gone(e.Peer.ID)
	}
	n.presence.peer(&e)
	if n.onNode != nil {
		n.call(hook{node: &e})
	}
}

// roomEvent reports a change of g, whose lock is held, so that the reports of one room keep the order of its changes.
func (n *Node) roomEvent(kind RoomEventKind, g *group, s *Socket) {
	if n.onRoom != nil && g.space == RoomSpace {
		n.call(hook{room: RoomEvent{kind, g.ns.name, g.name, s}})
	}
}

// A lane calls run with what is pushed, one at a time and in order, on a goroutine that exists only while there is
// something to do.
type lane[T any] struct {
	run   func(T) // set before the first push
	taken func(T) // optional: called with mu held when an item has left the queue
	busy  *activity

	mu      sync.Mutex // guards what follows
	queue   []T
	running bool
	idle    chan struct{} // made by wait; closed when the goroutine ends
}

// push queues v; l.mu is held.
func (l *lane[T]) push(v T) {
	l.queue = append(l.queue, v)
	if !l.running {
		l.running = true
		l.busy.begin()
		go l.work()
	}
}

func (l *lane[T]) work() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) > 0 {
		v := l.queue[0]
		clear(l.queue[:1])
		l.queue = l.queue[1:]
		if l.taken != nil {
			l.taken(v)
		}
		l.mu.Unlock()
		l.run(v)
		l.mu.Lock()
	}
	l.queue, l.running = nil, false
	l.busy.end(1)
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
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
