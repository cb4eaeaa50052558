package crosscast

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// What all of a node's watches, and its peers' watches of its rooms, have in common.
//
// What nodes say to each other, W the one that watches and A one of its peers:
//
//   - W asks everyone, or A alone, who is in some rooms (KindWatch with Rooms), and says which versions of A's lists it
//     has, if any. A notes that W watches these rooms, and tells of those of which W does not have what A told last.
//   - A tells of a room's members (KindPresence): all of them, and from then on what changes. Rooms without a member are
//     told of together, by name. What A has no space to note it refuses, by name too (Full); W asks again, more and
//     more rarely.
//   - W asks everyone, each few heartbeats, or A alone, for a digest (KindWatch with a Round): that renews all that W
//     watches. A answers with one sum over the versions that it has told W.
//   - Where A's sum is not W's own over the versions that it has, W asks A for the sums of the buckets that rooms are
//     in, and then lists what it watches in the buckets that differ. A forgets what it noted there and is not listed.
//   - W says which rooms it watches no more (KindWatch without a TTL).
//
// A node's inbox keeps its order. So when a digest arrives, what A had told before has arrived, or is lost; and what W
// asked for before it asked for the digest, and has not been told of, is lost. Nothing else is ever asked for again,
// and nothing waits for a time to pass. Rooms that nothing was told of add nothing to the sums on either side, so those
// that are being asked for make no difference.
//
// All is published on one lane, which looks at what is due: whatever arrives only notes that, in tables with a bound.

const (
	// A watch of a peer's rooms is renewed each so many heartbeats, which also finds out what was missed, and ends after
	// so many without. A node that dies is so forgotten by those whom it watched.
	renewEvery = 5
	leaseFor   = 3*renewEvery + 1
	// presencePatience is for how many heartbeats at most a full adapter holds up what is to be published.
	presencePatience = 2
	// presenceBytes is about how much goes into one instruction: it shares a frame, and is far below what a frame may be.
	// Where an adapter takes less, it becomes less, down to the smallest.
	presenceBytes      = 16 << 10
	leastPresenceBytes = 256
)

// presence is a node's. Locks are taken in the order peers, presence, shard, watched, view, watch, lane.
type presence struct {
	n      *Node
	out    lane[func()] // publishes, in order
	spread lane[spread] // hands changes to the watches

	// Of the lane that publishes.
	fit   int  // bytes of one instruction, about
	stuck bool // something could not be published in this turn, so nothing else is waited for

	due struct {
		mu     sync.Mutex // guards what follows; locked after every other lock but those of lanes
		queued bool       // there is a call of turn to come
		rooms  []*watched // with something to tell
	}

	mu       sync.Mutex // guards what follows
	rooms    map[Address]*watched
	homeless map[string]map[*watched]bool // rooms of namespaces without a space
	floor    uint64                       // no room that was watched before has had a higher version
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

// wake has turn called soon.
func (p *presence) wake() {
	p.due.mu.Lock()
	defer p.due.mu.Unlock()
	p.wakeLocked()
}

// wakeLocked is wake for those who hold p.due.mu.
func (p *presence) wakeLocked() {
	if !p.due.queued {
		p.due.queued = true
		p.out.call(p.turn)
	}
}

// turn publishes what is due. It runs on the lane, so never twice at a time.
func (p *presence) turn() {
	p.mu.Lock() // so that what one instruction asks for is answered together
	p.due.mu.Lock()
	rooms := p.due.rooms
	p.due.rooms, p.due.queued = nil, false
	p.due.mu.Unlock()
	p.mu.Unlock()
	p.stuck = false
	p.answer(rooms)
	p.ask()
}

// publish sends one instruction of this node's. When the adapter is full it waits, but not for a second one in a turn.
func (p *presence) publish(in *Instruction) error {
	in.From = p.n.id
	in.Target.Everyone = in.To == ""
	if in.Namespace == "" {
		in.Namespace = "/"
	}
	patience := presencePatience * p.n.heartbeat
	if p.stuck {
		patience = 0
	}
	ctx, cancel := context.WithTimeout(p.n.ctx, patience)
	defer cancel()
	err := p.n.publish(ctx, in)
	if errors.Is(err, context.DeadlineExceeded) {
		p.stuck = true
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		p.n.log.Debug("crosscast: could not watch, or tell who is in a room", "to", in.To, "error", err) // until it heals
	}
	return err
}

// shrink reports whether an instruction that the adapter did not take is to be made again, smaller.
func (p *presence) shrink(err error) bool {
	if !errors.Is(err, ErrTooLarge) || p.fit <= leastPresenceBytes {
		return false
	}
	p.fit /= 2
	return true
}

// list publishes an instruction about rooms, in parts. It has what is given of in, and the rooms' versions if there are
// any. sent, unless it is nil, is called with each part's, and whether it went.
func (p *presence) list(in Instruction, rooms []string, versions []uint64, sent func(from, to int, err error)) error {
	var failed error
	for from := 0; from < len(rooms); {
		to, size := from, 0
		for to < len(rooms) && to-from < MaxNames/2 && (to == from || size+len(rooms[to])+16 <= p.fit) {
			size += len(rooms[to]) + 16
			to++
		}
		part := in
		part.Rooms = rooms[from:to:to]
		if versions != nil || in.Presence != nil {
			part.Presence = &Presence{}
			if in.Presence != nil {
				*part.Presence = *in.Presence
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

// watch adds a watch of a room in ns, which w holds. The channel, if there is one, tells whether the peers were asked.
func (p *presence) watch(ns *space, room string, w *Watch) (sent <-chan error, err error) {
	v, sent := p.view(ns, room)
	if v == nil {
		ns.release()
		return nil, ErrClosed
	}
	w.view = v
	v.join(w)
	p.mu.Lock()
	stopped := p.stopped // after end looked for watches
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
			v, sent = p.look(at, known)
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
		p.overlook(v)
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
		p.expire(now)
	}
	p.renewDue()
}

// peer acts on what happened to a peer. The peers are locked.
func (p *presence) peer(e *NodeEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	switch e.Kind {
	case NodeJoined:
		p.meet(e.Peer.ID)
	case NodeLeft, NodeExpired:
		p.part(e.Peer.ID)
		p.forget(e.Peer.ID)
	}
}

// begin makes the space of a namespace that has none, with the rooms in it that peers watch already.
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
