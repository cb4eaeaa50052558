package crosscast

import (
	"context"
	"sync"
	"time"
)

// What bounds the table of peers against a hostile bus.
const (
	maxPeers         = 4096
	maxPeerHeartbeat = time.Minute
	missedHeartbeats = 3 // after so many intervals without a word a peer is forgotten
)

type peer struct {
	info  NodeInfo
	heard time.Time
}

// peers are the other nodes that were heard of lately. Time is passed in.
type peers struct {
	mu    sync.Mutex // guards what follows
	m     map[NodeID]peer
	grown chan struct{} // made by await; closed when a peer is added
}

// hear notes that a peer is alive.
func (p *peers) hear(info NodeInfo, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.m[info.ID]
	if !known && len(p.m) >= maxPeers {
		return
	}
	if p.m == nil {
		p.m = make(map[NodeID]peer)
	}
	if info.Heartbeat <= 0 || info.Heartbeat > maxPeerHeartbeat {
		info.Heartbeat = maxPeerHeartbeat
	}
	p.m[info.ID] = peer{info, now}
	if !known && p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

// forget notes that a peer has left.
func (p *peers) forget(id NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, id)
}

// expire forgets the peers that have been silent for too long.
func (p *peers) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.m {
		if now.Sub(v.heard) > missedHeartbeats*v.info.Heartbeat {
			delete(p.m, id)
		}
	}
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
