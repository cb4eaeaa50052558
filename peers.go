package crosscast

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// What bounds the table of peers against a hostile bus.
const (
	maxPeers         = 4096
	maxPeerHeartbeat = time.Minute
)

// A peer is suspected, and then expired, after so many of its heartbeats did not come.
const (
	suspectAfter = 3
	expireAfter  = 6
)

// A Peer is another node of the cluster, as this node knows it.
type Peer struct {
	NodeInfo
	Meta    []KeyValue // its Options.Meta
	Since   time.Time  // when this node first heard of it
	Suspect bool       // several of its heartbeats are missing
}

// NodeEventKind says what happened to a peer.
type NodeEventKind uint8

const (
	NodeJoined  NodeEventKind = 1 + iota // it said hello, or was heard for the first time, or again after it had expired
	NodeSuspect                          // three of its heartbeats are missing
	NodeAlive                            // it was suspected, and is heard again
	NodeLeft                             // it said goodbye
	NodeExpired                          // six of its heartbeats are missing: it is taken for dead
)

// A NodeEvent is what Options.OnNode is told.
type NodeEvent struct {
	Kind NodeEventKind
	Peer Peer
}

type peer struct {
	Peer
	heard time.Time
}

// peers are the other nodes of the cluster, by their heartbeats. Time is passed in, and is this node's monotonic clock: what
// the peers take for the time does not matter.
//
// A node whose own link is not proven takes nobody's silence for an end, and neither does one that stood still itself: every
// peer then gets its full time again.
type peers struct {
	// told is called for each event, with mu held, so that events come in the order in which they happened.
	told func(NodeEvent)

	mu       sync.Mutex // guards what follows
	m        map[NodeID]*peer
	unproven bool          // at the last tick
	ticked   time.Time     // when that was
	grown    chan struct{} // made by await; closed when a peer is added
}

// hear notes that a peer is alive.
func (p *peers) hear(info NodeInfo, meta []KeyValue, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if info.Heartbeat <= 0 || info.Heartbeat > maxPeerHeartbeat {
		info.Heartbeat = maxPeerHeartbeat
	}
	v := p.m[info.ID]
	if v != nil {
		v.NodeInfo, v.heard = info, now
		if !slices.Equal(v.Meta, meta) {
			v.Meta = slices.Clone(meta)
		}
		if v.Suspect {
			v.Suspect = false
			p.told(NodeEvent{NodeAlive, v.Peer})
		}
		return
	}
	if len(p.m) >= maxPeers {
		return
	}
	if p.m == nil {
		p.m = make(map[NodeID]*peer)
	}
	v = &peer{Peer{info, slices.Clone(meta), now, false}, now}
	p.m[info.ID] = v
	p.told(NodeEvent{NodeJoined, v.Peer})
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// forget notes that a peer has left.
func (p *peers) forget(id NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.m[id]; v != nil {
		delete(p.m, id)
		p.told(NodeEvent{NodeLeft, v.Peer})
	}
}

// tick is called once each heartbeat of this node, which takes interval. It reports whether this node has stood still.
func (p *peers) tick(now time.Time, interval time.Duration, proven bool) (paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	paused = !p.ticked.IsZero() && now.Sub(p.ticked) > suspectAfter*interval
	p.ticked = now
	if paused || proven && p.unproven {
		for _, v := range p.m {
			v.heard = now
		}
	}
	p.unproven = !proven
	if !proven {
		return paused
	}
	for id, v := range p.m {
		switch silent := now.Sub(v.heard); {
		case silent > expireAfter*v.Heartbeat:
			delete(p.m, id)
			p.told(NodeEvent{NodeExpired, v.Peer})
		case silent > suspectAfter*v.Heartbeat && !v.Suspect:
			v.Suspect = true
			p.told(NodeEvent{NodeSuspect, v.Peer})
		}
	}
	return paused
}

func (p *peers) lastTick() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ticked
}

// list returns the peers, those suspected included, by ID.
func (p *peers) list() []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Peer, 0, len(p.m))
	for _, v := range p.m {
		c := v.Peer
		c.Meta = slices.Clone(c.Meta)
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// with calls f with the peers' IDs, while none of them can come or go.
func (p *peers) with(f func(ids []NodeID)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]NodeID, 0, len(p.m))
	for id := range p.m {
		ids = append(ids, id)
	}
	f(ids)
}

func (p *peers) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.m)
}

// await returns when at least n peers are known, or with ctx.
func (p *peers) await(ctx context.Context, n int) {
	for {
		p.mu.Lock()
		if len(p.m) >= n {
			p.mu.Unlock()
			return
		}
		if p.grown == nil {
			p.grown = make(chan struct{})
		}
		grown := p.grown
		p.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return
		}
	}
}
