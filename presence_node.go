package crosscast

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/limit"
)

// The common part of a node's watches and its peers' watches of its rooms.
//
// The protocol between W, a watching node, and A, one of its peers:
//
//   - W asks everyone, or A alone, for the members of some rooms (kind.Watch with Rooms), and names the versions of A's
//     lists that it has, if any. A records that W watches these rooms, and reports those whose last sent list W does
//     not have.
//   - A reports a room's members (kind.Presence): first all of them, then the changes. Rooms without a member are
//     reported together, by name. If A has no space to record a room, it refuses it, by name too (Full). W asks again,
//     more and more rarely.
//   - W asks everyone, every few heartbeats, or A alone, for a digest (kind.Watch with a Round). This renews all
//     watches of W. A answers with one sum over the versions that it has sent to W.
//   - If A's sum differs from W's own over the versions that it has, W asks A for the sum of each bucket, and then
//     lists the rooms that it watches in the buckets that differ. A drops its records there that are not listed.
//   - W names the rooms that it watches no more (kind.Watch without a TTL).
//
// A node's inbox keeps its order. So when a digest arrives, everything that A had sent before has arrived or is lost.
// And every room that W asked for before it asked for the digest, and that has no answer yet, is lost. Nothing else is
// ever asked for again, and nothing waits for a time to pass. A room without any report adds nothing to the sums on
// either side, so pending rooms make no difference.
//
// One lane publishes everything, and looks for due work. Arriving instructions only record work in bounded tables.

const (
	// A watch of a peer's rooms is renewed every renewEvery heartbeats, which also detects missed reports. It ends
	// after leaseFor heartbeats without a renewal. So the nodes that a dead node watched forget it.
	renewEvery = 5
	leaseFor   = 3*renewEvery + 1
	// presencePatience is the number of heartbeats for which a full adapter may hold up publishing.
	presencePatience = 2
	// presenceBytes is the approximate size of one instruction: it shares a frame, and is far below the limit of a
	// frame. If an adapter takes less, the size is halved, down to leastPresenceBytes.
	presenceBytes      = 16 << 10
	leastPresenceBytes = 256
)

// presence belongs to a node. The order of its locks is in docs/inside.md.
type presence struct {
	n      *Node
	out    lane[func()] // publishes, in order
	spread lane[spread] // hands changes to the watches

	// For the lane that publishes.
	fit   int  // bytes of one instruction, about
	stuck bool // an instruction could not be published in this turn, so no other one waits

	due struct {
		mu     sync.Mutex // guards the following fields; locked after every other lock but those of lanes
		queued bool       // a call of turn is to come
		rooms  []*watched // with something to report
	}

	mu       sync.Mutex // guards the following fields
	rooms    map[Address]*watched
	homeless map[string]map[*watched]bool // rooms of namespaces without a space
	floor    uint64                       // the highest version of any room that was watched before
	stopped  bool

	watching
	leasing
}

func (p *presence) init(n *Node) {
	p.n = n
	p.fit = presenceBytes
	p.maxKept = maxTold
	p.out.run = func(f func()) { f() }
	p.spread.run = spread.do
	p.out.busy, p.spread.busy = n.busy, n.busy
}

// wake makes turn run soon.
func (p *presence) wake() {
	p.due.mu.Lock()
	defer p.due.mu.Unlock()
	p.wakeDueLocked()
}

// wakeDueLocked is wake, with p.due locked.
func (p *presence) wakeDueLocked() {
	if !p.due.queued {
		p.due.queued = true
		p.out.push(p.turn)
	}
}

// turn publishes everything that is due. It runs on the lane, so never twice at a time.
func (p *presence) turn() {
	p.mu.Lock() // so that the answers to one instruction go together
	p.due.mu.Lock()
	rooms := p.due.rooms
	p.due.rooms, p.due.queued = nil, false
	p.due.mu.Unlock()
	p.mu.Unlock()
	p.stuck = false
	p.answer(rooms)
	p.ask()
}

// publish sends one instruction of this node. It waits while the adapter is full, but in each turn only once.
func (p *presence) publish(inst *Instruction) error {
	inst.From = p.n.id
	inst.Target.Everyone = inst.To == ""
	if inst.Namespace == "" {
		inst.Namespace = "/"
	}
	patience := presencePatience * p.n.heartbeat
	if p.stuck {
		patience = 0
	}
	ctx, cancel := context.WithTimeout(p.n.jobs.ctx, patience)
	defer cancel()
	err := p.n.publish(ctx, inst)
	if errors.Is(err, context.DeadlineExceeded) {
		p.stuck = true
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		p.n.log.Debug("crosscast: could not watch, or tell who is in a room", "to", inst.To, "error", err) // until it heals
	}
	return err
}

// shrink reports whether an instruction that the adapter refused is to be made again, smaller.
func (p *presence) shrink(err error) bool {
	if !errors.Is(err, ErrTooLarge) || p.fit <= leastPresenceBytes {
		return false
	}
	p.fit /= 2
	return true
}

// list publishes an instruction about rooms, in parts. Each part has the given fields of in, and its rooms' versions,
// if given. sent, if not nil, is called for each part with its range and error.
func (p *presence) list(inst Instruction, rooms []string, versions []uint64, sent func(from, to int, err error)) error {
	var failed error
	for from := 0; from < len(rooms); {
		to, size := from, 0
		for to < len(rooms) && to-from < limit.Names/2 && (to == from || size+len(rooms[to])+16 <= p.fit) {
			size += len(rooms[to]) + 16
			to++
		}
		part := inst
		part.Rooms = rooms[from:to:to]
		if versions != nil || inst.Presence != nil {
			part.Presence = &Presence{}
			if inst.Presence != nil {
				*part.Presence = *inst.Presence
			}
			if versions != nil {
				part.Presence.Versions = versions[from:to:to]
			}
		}
		err := p.publish(&part)
		if p.shrink(err) {
			continue
		}
		if sent != nil {
			sent(from, to, err)
		}
		if err != nil {
			failed = err
		}
		from = to
	}
	return failed
}

// watch adds a watch of a room in ns, which w holds. The channel, if not nil, reports whether the peers were asked.
func (p *presence) watch(ns *space, room string, w *Watch) (sent <-chan error, err error) {
	v, sent := p.view(ns, room)
	if v == nil {
		ns.release()
		return nil, ErrClosed
	}
	w.view = v
	v.join(w)
	p.mu.Lock()
	stopped := p.stopped // checked after v.join: end might have run before it
	p.mu.Unlock()
	if stopped {
		w.Close()
		return nil, ErrClosed
	}
	return sent, nil
}

// view returns a room's view for one more watch; nil: the node is closed.
func (p *presence) view(ns *space, room string) (v *view, sent <-chan error) {
	at := Address{ns.name, SpaceRoom, room}
	p.n.peers.with(func(known map[NodeID]*peer) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stopped {
			return
		}
		if v = p.views[at]; v == nil {
			v, sent = p.lookLocked(at, known)
		}
		v.refs++
	})
	return v, sent
}

// unwatch takes a watch out of its view, and ends the view with its last one.
func (p *presence) unwatch(w *Watch) {
	v := w.view
	if !v.leave(w) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.refs--; v.refs == 0 {
		p.overlookLocked(v)
	}
	w.space.release()
}

// beat is called each heartbeat.
func (p *presence) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.beats++
	if p.beats%renewEvery == 0 {
		p.expireLeasesLocked(now)
	}
	p.renewDueLocked()
}

// handlePeerEvent handles a peer's event. The peers are locked.
func (p *presence) handlePeerEvent(e *NodeEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	switch e.Kind {
	case NodeJoined:
		p.meetLocked(e.Peer.ID)
	case NodeLeft, NodeExpired:
		p.partLocked(e.Peer.ID)
		p.forgetWatcherLocked(e.Peer.ID)
	}
}

// begin makes the space of a namespace that has none, and attaches the rooms in it that peers already watch.
func (p *presence) begin(ns *Namespace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sp := ns.space.Load(); sp != nil && sp.uses.Load() >= 0 {
		return
	}
	sp := newSpace(ns)
	for w := range p.homeless[ns.name] {
		sp.hold()
		w.ns = sp
		w.attach(w)
	}
	delete(p.homeless, ns.name)
	p.n.spaces.m.Store(ns.name, sp)
	ns.space.Store(sp)
}

// end ends all watches, and waits for calls of OnChange, bounded by ctx.
func (p *presence) end(ctx context.Context) {
	p.mu.Lock()
	p.stopped = true
	var all []*Watch
	for _, v := range p.views {
		v.mu.Lock()
		all = append(all, slices.Clone(v.watches)...)
		v.mu.Unlock()
	}
	p.mu.Unlock()
	p.spread.wait(ctx)
	for _, w := range all {
		w.lane.wait(ctx)
		w.Close()
	}
}
