package crosscast

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

// What bounds the table of peers against a hostile bus.
const (
	maxPeers         = 4096
	maxPeerHeartbeat = bounds.MaxHeartbeat
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
	NodeExpired                          // six of its heartbeats are missing: it is taken for dead; or for want of room in a full table
)

// A NodeEvent is what Options.OnNode is told.
type NodeEvent struct {
	Kind NodeEventKind
	Peer Peer
}

type peer struct {
	Peer
	heard time.Time // later than last where its silence did not count
	last  time.Time // when it was heard last
	again bool      // it was heard more than once
}

// A silence is what an adapter that is an [AdapterObserver] is told of a peer.
type silence struct {
	id                 NodeID
	last               time.Time // when it was heard last
	suspected, expired bool      // what it has become
}

// peers are the other nodes of the cluster, by their heartbeats. Time is passed in, and is this node's monotonic
// clock: what the peers take for the time does not matter.
//
// A node whose own link is not proven takes nobody's silence for an end, and the time in which it stood still itself
// does not count. A goodbye is believed until the peer is heard again: nothing of a peer that has really left comes after
// it, and one that somebody forged is over with the next heartbeat.
type peers struct {
	// told is called for each event, with mu held, so that events come in the order in which they happened.
	told func(NodeEvent)

	mu       sync.Mutex // guards what follows
	m        map[NodeID]*peer
	spare    []NodeID      // who was doubtful when m was full and this was empty, longest silent first
	unproven bool          // at the last tick
	ticked   time.Time     // when that was
	grown    chan struct{} // made by await; closed when a peer is added
}

// hear notes that a peer is alive. meta is valid during the call only.
func (p *peers) hear(info NodeInfo, meta []KeyValue, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if info.Heartbeat <= 0 || info.Heartbeat > maxPeerHeartbeat {
		info.Heartbeat = maxPeerHeartbeat
	}
	v := p.m[info.ID]
	if v != nil {
		v.NodeInfo, v.heard, v.last, v.again = info, now, now, true
		if !slices.Equal(v.Meta, meta) {
			v.Meta = slices.Clone(meta)
		}
		if v.Suspect {
			v.Suspect = false
			p.tell(NodeAlive, v)
		}
		return
	}
	if len(p.m) >= maxPeers && !p.evict() {
		return
	}
	if p.m == nil {
		p.m = make(map[NodeID]*peer)
	}
	v = &peer{Peer: Peer{info, slices.Clone(meta), now, false}, heard: now, last: now}
	p.m[info.ID] = v
	p.tell(NodeJoined, v)
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// evict makes room in the full table: whoever was heard once only, or is suspected, is taken for dead, so that a flood of
// names cannot keep out those who have a heartbeat, nor push them out. It reports whether there was such a peer. p.mu is
// held.
func (p *peers) evict() bool {
	if p.evictSpare() {
		return true
	}
	for id, v := range p.m {
		if v.doubtful() {
			p.spare = append(p.spare, id)
		}
	}
	slices.SortFunc(p.spare, func(a, b NodeID) int { return p.m[a].last.Compare(p.m[b].last) })
	return p.evictSpare()
}

func (p *peers) evictSpare() bool {
	for len(p.spare) > 0 {
		v := p.m[p.spare[0]]
		p.spare = p.spare[1:]
		if v != nil && v.doubtful() {
			delete(p.m, v.ID)
			p.tell(NodeExpired, v)
			return true
		}
	}
	return false
}

func (v *peer) doubtful() bool { return !v.again || v.Suspect }

// forget notes that a peer has left.
func (p *peers) forget(id NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.m[id]; v != nil {
		delete(p.m, id)
		p.tell(NodeLeft, v)
	}
}

// tick is called once each heartbeat of this node, which takes interval. When this node stood still for so long that
// its peers may have taken it for dead, it returns since when. silent are the peers that have become suspected, or have
// expired.
func (p *peers) tick(now time.Time, interval time.Duration, proven bool) (since time.Time, paused bool, silent []silence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, p.ticked = p.ticked, now
	if still := now.Sub(since) - interval; !since.IsZero() && still > interval {
		paused = still > (expireAfter-2)*interval
		for _, v := range p.m {
			if v.heard = v.heard.Add(still); v.heard.After(now) {
				v.heard = now
			}
		}
	}
	if proven && p.unproven {
		for _, v := range p.m {
			v.heard = now
		}
	}
	p.unproven = !proven
	if proven {
		silent = p.expire(now)
	}
	return since, paused, silent
}

// expire looks for peers that are silent; p.mu is held.
func (p *peers) expire(now time.Time) (silent []silence) {
	for id, v := range p.m {
		switch d := now.Sub(v.heard); {
		case d > expireAfter*v.Heartbeat:
			silent = append(silent, silence{id, v.last, !v.Suspect, true})
			delete(p.m, id)
			p.tell(NodeExpired, v)
		case d > suspectAfter*v.Heartbeat && !v.Suspect:
			silent = append(silent, silence{id, v.last, true, false})
			v.Suspect = true
			p.tell(NodeSuspect, v)
		}
	}
	return silent
}

// late returns the peers whose heartbeats are missing.
func (p *peers) late(now time.Time) (ids []NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.m {
		if now.Sub(v.heard) > suspectAfter*v.Heartbeat {
			ids = append(ids, id)
		}
	}
	return ids
}

// heardAt notes that something else than a heartbeat of a peer came at a time.
func (p *peers) heardAt(id NodeID, at, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.m[id]
	if v == nil || !at.After(v.last) {
		return
	}
	v.last = at
	if at.After(v.heard) {
		v.heard = at
	}
	if v.Suspect && now.Sub(v.heard) <= suspectAfter*v.Heartbeat {
		v.Suspect = false
		p.tell(NodeAlive, v)
	}
}

// A standing is what a node is to this one.
type standing uint8

const (
	stranger   standing = iota // not in the table of peers
	heardOnce                  // it may be a name that somebody made up
	heardAgain                 // it has a heartbeat
)

func (p *peers) standing(id NodeID) standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch v := p.m[id]; {
	case v == nil:
		return stranger
	case v.again:
		return heardAgain
	}
	return heardOnce
}

// list returns the peers, those suspected included, by ID.
func (p *peers) list() []Peer {
	all := p.copies()
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (p *peers) copies() []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Peer, 0, len(p.m))
	for _, v := range p.m {
		all = append(all, v.copy())
	}
	return all
}

// copy returns what the application may keep, and change.
func (v *peer) copy() Peer {
	c := v.Peer
	c.Meta = slices.Clone(c.Meta)
	return c
}

// tell reports what happened to v; p.mu is held.
func (p *peers) tell(kind NodeEventKind, v *peer) { p.told(NodeEvent{kind, v.copy()}) }

// with calls f with the peers, while none of them can come or go.
func (p *peers) with(f func(known map[NodeID]*peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.m)
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
