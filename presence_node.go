package crosscast

import (
	"context"
	"slices"
	"sync"
	"time"
)

// What all of a node's watches, and its peers' watches of its rooms, have in common.

const (
	// A watch of a peer's room is renewed each so many heartbeats, which also finds out what was missed, and ends after
	// so many without. A node that dies is so forgotten by those whom it watched.
	renewEvery = 5
	leaseFor   = 3*renewEvery + 1
	// presencePatience is for how many heartbeats at most a full adapter holds up one instruction.
	presencePatience = 2
)

// presence is a node's. Locks are taken in the order peers, presence, shard, watched, view, watch, lane.
type presence struct {
	n      *Node
	out    lane[func()] // publishes, in order
	spread lane[spread] // hands changes to the watches

	mu      sync.Mutex // guards what follows
	rooms   map[Address]*watched
	leases  int             // in all rooms
	floor   uint64          // no room that was watched before has had a higher version
	beats   int             // since the last renewal
	waiting int             // calls of Watch and Watch.Synced that wait for peers
	failed  error           // why peers could not be asked, the last time
	due     map[NodeID]bool // who is to be told of all watches of this node; "": all peers. True: as of new ones
	stopped bool
}

func (p *presence) init(n *Node) {
	p.n = n
	p.out.run = func(f func()) { f() }
	p.spread.run = spread.do
}

// do has f called on the lane that publishes.
func (p *presence) do(f func()) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.out.push(f)
}

func (p *presence) wait(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += n
}

// watch adds a watch of a room. The channel, if there is one, tells whether the peers were asked.
func (p *presence) watch(ns *Namespace, room string, w *Watch) (sent <-chan error, err error) {
	at := Address{ns.name, RoomSpace, room}
	err = ErrClosed
	p.n.peers.with(func(known map[NodeID]*peer) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stopped {
			return
		}
		err = nil
		rec := p.rooms[at]
		if rec == nil {
			rec = p.open(at)
		}
		if rec.view == nil {
			p.look(rec, known)
			if p.n.adapter != nil {
				c := make(chan error, 1)
				sent = c
				p.do(func() { c <- p.publish(at, "", true) })
			}
		}
		rec.view.mu.Lock()
		defer rec.view.mu.Unlock()
		rec.view.join(w)
	})
	return sent, err
}

// look begins a view of rec; p.mu is held.
func (p *presence) look(rec *watched, known map[NodeID]*peer) {
	v := &view{p: p, at: rec.at, roster: roster{self: p.n.id}}
	v.roster.add(p.n.id)
	for id := range known {
		v.roster.add(id)
	}
	sh := rec.ns.shardOf(rec.at.Name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if g := sh.groups[RoomSpace-1][rec.at.Name]; g != nil {
		for _, c := range presenceOf(g.sockets) {
			v.roster.change(c)
		}
	}
	v.roster.take()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.view = v
}

// unwatch takes a watch out of its view, and ends the view with its last one.
func (p *presence) unwatch(w *Watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := w.view
	v.mu.Lock()
	i := slices.Index(v.watches, w)
	if i >= 0 {
		v.watches = slices.Delete(v.watches, i, i+1)
	}
	last := i >= 0 && len(v.watches) == 0
	if last {
		v.moved() // whoever waits for it
	}
	v.mu.Unlock()
	if !last {
		return
	}
	rec := p.rooms[v.at]
	rec.mu.Lock()
	rec.view = nil
	rec.mu.Unlock()
	p.unused(rec)
	if p.n.adapter != nil && !p.stopped {
		p.do(func() { p.send(v.at.Namespace, []string{v.at.Name}, "", false, 0) })
	}
}

// publish watches one room.
func (p *presence) publish(at Address, to NodeID, all bool) error {
	return p.send(at.Namespace, []string{at.Name}, to, all, leaseFor*p.n.heartbeat)
}

// send tells a peer, or all, that rooms are watched for ttl from now on. all asks for all the members.
func (p *presence) send(namespace string, rooms []string, to NodeID, all bool, ttl time.Duration) error {
	in := &Instruction{
		Kind: KindWatch, Flags: Volatile, Namespace: namespace, From: p.n.id, To: to,
		Target: Target{Everyone: to == ""}, Rooms: rooms, TTL: ttl,
	}
	if all {
		in.Presence = &Presence{}
	}
	ctx, cancel := context.WithTimeout(p.n.ctx, presencePatience*p.n.heartbeat)
	defer cancel()
	err := p.n.publish(ctx, in)
	if err != nil {
		p.n.log.Debug("crosscast: could not watch", "to", to, "error", err) // until it is renewed
	}
	p.mu.Lock()
	p.failed = err
	p.mu.Unlock()
	return err
}

// unasked says why a peer's list has not come.
func (p *presence) unasked() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed != nil:
		return p.failed
	case !p.n.Link().Live():
		return ErrNotConnected
	}
	return errUnheard
}

// renew has all watches of this node told to a peer, or all; p.mu is held. all asks for all the members.
func (p *presence) renew(to NodeID, all bool) {
	if len(p.due) == 0 {
		p.do(p.renewDue)
		p.due = make(map[NodeID]bool)
	}
	p.due[to] = p.due[to] || all
}

func (p *presence) renewDue() {
	p.mu.Lock()
	due := p.due
	p.due = nil
	rooms := make(map[string][]string) // by namespace
	for at, rec := range p.rooms {
		if rec.view != nil {
			rooms[at.Namespace] = append(rooms[at.Namespace], at.Name)
		}
	}
	p.mu.Unlock()
	for to, all := range due {
		for namespace, names := range rooms {
			for part := range slices.Chunk(names, 256) { // far below any limit of a frame
				p.send(namespace, part, to, all, leaseFor*p.n.heartbeat)
			}
		}
	}
}

// beat is called each heartbeat.
func (p *presence) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rooms) == 0 || p.stopped {
		return
	}
	if p.beats++; p.beats >= renewEvery {
		p.beats = 0
		p.expire(now)
	} else if p.waiting == 0 {
		return
	}
	p.renew("", false)
}

// gap asks what was missed.
func (p *presence) gap(g *Gap) {
	if !g.controls() { // emissions to rooms and users, so nothing of this
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rooms) > 0 && !p.stopped {
		p.renew(g.Origin, false)
	}
}

// peer acts on what happened to a peer. The peers are locked.
func (p *presence) peer(e *NodeEvent) {
	gone := e.Kind == NodeLeft || e.Kind == NodeExpired
	if !gone && e.Kind != NodeJoined {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	watching := false
	for _, rec := range p.rooms {
		if v := rec.view; v != nil {
			watching = true
			v.mu.Lock()
			if gone {
				v.roster.gone(e.Peer.ID)
			} else {
				v.roster.add(e.Peer.ID)
			}
			v.moved()
			v.mu.Unlock()
		}
		if gone {
			p.drop(rec, e.Peer.ID)
		}
	}
	if watching && !gone {
		p.renew(e.Peer.ID, true)
	}
}

// asked acts on a peer's watch.
func (p *presence) asked(in *Instruction) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	for _, room := range in.Rooms {
		p.lease(Address{in.Namespace, RoomSpace, room}, in.From, in.TTL, in.Presence != nil, now)
	}
}

// told acts on what a peer tells of its members.
func (p *presence) told(in *Instruction) {
	var v *view
	if len(in.Rooms) == 1 && in.Presence != nil {
		at := Address{in.Namespace, RoomSpace, in.Rooms[0]}
		p.mu.Lock()
		if rec := p.rooms[at]; rec != nil {
			v = rec.view
		}
		p.mu.Unlock()
	}
	if v == nil {
		p.n.stats.presence.Add(1)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	ask, known := v.roster.apply(in.From, in.Presence)
	if !known {
		p.n.stats.presence.Add(1)
		return
	}
	v.moved()
	if ask {
		from := in.From
		p.do(func() { p.ask(v, from) })
	}
}

// ask asks a peer for all its members, unless nobody watches any more.
func (p *presence) ask(v *view, from NodeID) {
	v.mu.Lock()
	open := len(v.watches) > 0
	v.mu.Unlock()
	if open {
		p.publish(v.at, from, true)
	}
}

// begin gives a namespace its rooms that peers watch already, and then has it known.
func (p *presence) begin(ns *Namespace, known func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, rec := range p.rooms {
		if at.Namespace == ns.name && rec.ns == nil {
			rec.ns = ns
			rec.attach(rec)
		}
	}
	known()
}

// end ends all watches, and waits for calls of OnChange, bounded by ctx.
func (p *presence) end(ctx context.Context) {
	p.mu.Lock()
	p.stopped = true
	var all []*Watch
	for _, rec := range p.rooms {
		if v := rec.view; v != nil {
			v.mu.Lock()
			all = append(all, v.watches...)
			v.mu.Unlock()
		}
	}
	p.mu.Unlock()
	p.spread.wait(ctx)
	for _, w := range all {
		w.lane.wait(ctx)
		w.Close()
	}
}
