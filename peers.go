package crosscast

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

// Bounds of the table of peers against a hostile bus.
const (
	maxPeers         = 4096
	maxPeerHeartbeat = bounds.MaxHeartbeat
)

// A Peer is another node of the cluster, as this node knows it.
type Peer struct {
	NodeInfo
	Meta    []KeyValue // its Options.Meta
	Since   time.Time  // when this node first heard of it
	Heard   time.Time  // when this node last heard of it
	Suspect bool       // three or more of its heartbeats are missing
	// RoundTrip is how long the latest query of it has taken; 0: there was none yet. Options.Histograms makes the node
	// query every tenth heartbeat.
	RoundTrip time.Duration
}

// NodeEventKind is the kind of a change of a peer.
type NodeEventKind uint8

const (
	NodeJoined  NodeEventKind = 1 + iota // it said hello, or was heard for the first time, or again after NodeExpired
	NodeSuspect                          // three of its heartbeats are missing
	NodeAlive                            // it was suspected, and is heard again
	NodeLeft                             // it said goodbye
	NodeExpired                          // six of its heartbeats are missing: it is taken for dead; or it made room in a full table
)

// A NodeEvent is passed to Options.OnNode.
type NodeEvent struct {
	Kind NodeEventKind
	Peer Peer
}

type peer struct {
	Peer
	heard time.Time // last, or later if a part of its silence does not count
	last  time.Time // the time of its last message
	again bool      // it was heard more than once
}

// A silence is a peer's silence, reported to an adapter that is an [AdapterObserver].
type silence struct {
	id                 NodeID
	name               string
	last               time.Time // the time of its last message
	suspected, expired bool      // its new state
}

// peers are the other nodes of the cluster, by their heartbeats. Callers pass the time, by this node's monotonic clock.
// The peers' clocks do not matter.
//
// While a node's own link is not proven, it takes no silence for an end. Time in which the node itself stood still does
// not count. A goodbye is believed until the peer is heard again: a peer that has really left sends nothing more, and a
// forged goodbye ends with the next heartbeat.
type peers struct {
	// told is called for each event, with mu held, so events come in the order of the changes.
	changed func(NodeEvent)

	mu       sync.Mutex // guards the following fields
	m        map[NodeID]*peer
	lost     []Peer        // those that have expired, oldest first: see loseLocked
	spare    []NodeID      // doubtful peers when m was last full and this was empty, longest silent first
	unproven bool          // at the last tick
	ticked   time.Time     // the time of the last tick
	grown    chan struct{} // made by await; closed when a peer is added
}

// hear records that a peer is alive. meta is valid only during the call.
func (p *peers) hear(info NodeInfo, meta []KeyValue, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info = info.bounded()
	v := p.m[info.ID]
	if v != nil {
		v.NodeInfo, v.heard, v.last, v.again = info, now, now, true
		if !slices.Equal(v.Meta, meta) {
			v.Meta = slices.Clone(meta)
		}
		if v.Suspect {
			v.Suspect = false
			p.tellLocked(NodeAlive, v)
		}
		return
	}
	if len(p.m) >= maxPeers && !p.evictLocked() {
		return
	}
	if p.m == nil {
		p.m = make(map[NodeID]*peer)
	}
	v = &peer{Peer: Peer{NodeInfo: info, Meta: slices.Clone(meta), Since: now}, heard: now, last: now}
	p.m[info.ID] = v
	v.again = p.findLocked(&info)
	p.tellLocked(NodeJoined, v)
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// bounded returns info with a heartbeat that a node can have.
func (info NodeInfo) bounded() NodeInfo {
	if info.Heartbeat <= 0 || info.Heartbeat > maxPeerHeartbeat {
		info.Heartbeat = maxPeerHeartbeat
	}
	return info
}

// evictLocked makes room in the full table. It removes a peer that was heard only once, or is suspected, as if it were
// dead. So a flood of forged names cannot keep peers with a heartbeat out of the table, or push them out. It reports
// whether there was such a peer.
func (p *peers) evictLocked() bool {
	if p.evictSpareLocked() {
		return true
	}
	for id, v := range p.m {
		if v.isDoubtful() {
			p.spare = append(p.spare, id)
		}
	}
	slices.SortFunc(p.spare, func(a, b NodeID) int { return p.m[a].last.Compare(p.m[b].last) })
	return p.evictSpareLocked()
}

func (p *peers) evictSpareLocked() bool {
	for len(p.spare) > 0 {
		v := p.m[p.spare[0]]
		p.spare = p.spare[1:]
		if v != nil && v.isDoubtful() {
			delete(p.m, v.ID)
			p.tellLocked(NodeExpired, v)
			return true
		}
	}
	return false
}

func (v *peer) isDoubtful() bool { return !v.again || v.Suspect }

// forget records that a peer has left.
func (p *peers) forget(id NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLostLocked(func(l *Peer) bool { return l.ID == id })
	if v := p.m[id]; v != nil {
		delete(p.m, id)
		p.tellLocked(NodeLeft, v)
	}
}

// tick is called once each heartbeat of this node, which lasts interval. If the node stood still for so long that its
// peers might have taken it for dead, tick sets paused, with the time of the last tick in since. silent are the peers
// that are now suspected or have expired.
func (p *peers) tick(now time.Time, interval time.Duration, proven bool) (since time.Time, paused bool, silent []silence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, p.ticked = p.ticked, now
	if still := now.Sub(since) - interval; !since.IsZero() && still > interval {
		paused = still > (bounds.ExpireAfter-2)*interval
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
		silent = p.expireLocked(now)
	}
	return since, paused, silent
}

// expireLocked finds silent peers.
func (p *peers) expireLocked(now time.Time) (silent []silence) {
	for id, v := range p.m {
		switch d := now.Sub(v.heard); {
		case d > bounds.ExpireAfter*v.Heartbeat:
			silent = append(silent, silence{id, v.Name, v.last, !v.Suspect, true})
			delete(p.m, id)
			p.loseLocked(v)
			p.tellLocked(NodeExpired, v)
		case d > bounds.SuspectAfter*v.Heartbeat && !v.Suspect:
			silent = append(silent, silence{id, v.Name, v.last, true, false})
			v.Suspect = true
			p.tellLocked(NodeSuspect, v)
		}
	}
	return silent
}

// late returns the peers whose heartbeats are missing.
func (p *peers) late(now time.Time) (ids []NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.m {
		if now.Sub(v.heard) > bounds.SuspectAfter*v.Heartbeat {
			ids = append(ids, id)
		}
	}
	return ids
}

// heardAt records that a message of a peer other than a heartbeat came at a certain time.
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
	if v.Suspect && now.Sub(v.heard) <= bounds.SuspectAfter*v.Heartbeat {
		v.Suspect = false
		p.tellLocked(NodeAlive, v)
	}
}

// noteTrip records the round trip of a query of a peer.
func (p *peers) noteTrip(id NodeID, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.m[id]; v != nil {
		v.RoundTrip = d
	}
}

func (p *peers) isEmpty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.m) == 0
}

// A standing is how well this node knows another one.
type standing uint8

const (
	stranger   standing = iota // not in the table of peers
	heardOnce                  // it might be a forged name
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

// inLog names a node in a log, also one that was lost: its gap is reported after that.
func (p *peers) inLog(id NodeID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name := p.nameLocked(id); name != "" {
		return nodeLabel(name, id)
	}
	return string(id)
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

// copy returns a copy that the application may keep and change.
func (v *peer) copy() Peer {
	c := v.Peer
	c.Meta, c.Heard = slices.Clone(c.Meta), v.last
	return c
}

// tellLocked reports a change of v.
func (p *peers) tellLocked(kind NodeEventKind, v *peer) { p.changed(NodeEvent{kind, v.copy()}) }

// with calls f with the peers, while none of them can come or go.
func (p *peers) with(f func(known map[NodeID]*peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.m)
}

// label enters the names of nodes that are known.
func (p *peers) label(nodes []MissingNode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range nodes {
		nodes[i].Name = cmp.Or(p.nameLocked(nodes[i].ID), nodes[i].Name)
	}
}

// count returns the number of peers, and of those that are suspected.
func (p *peers) count() (all, suspects int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.m {
		if v.Suspect {
			suspects++
		}
	}
	return len(p.m), suspects
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
