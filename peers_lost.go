package crosscast

import (
	"slices"
	"time"
)

// A node that has died or hangs is soon no peer any more. Whoever looks for the fault comes later, so the node remembers
// it by name, for [Stats].Lost.

// Bounds of the list of lost peers.
const (
	maxLost  = 32 // whatever their names are, the list leaves room for the rest of Stats in maxStats
	lostTime = time.Hour
)

// loseLocked remembers a peer that has expired. One that was heard only once might be a forged name.
func (p *peers) loseLocked(v *peer) {
	if !v.again {
		return
	}
	p.dropLostLocked(func(l *Peer) bool { return l.ID == v.ID })
	if len(p.lost) == maxLost {
		p.lost = slices.Delete(p.lost, 0, 1)
	}
	p.lost = append(p.lost, Peer{NodeInfo: v.NodeInfo, Since: v.Since, Suspect: true, Heard: v.last})
}

// findLocked forgets one lost peer, because a node with its ID or else its name has come. Several nodes might share a
// name: each that comes stands for one that was lost. It reports whether it is the same node, which might be gone again
// after a message that was late.
func (p *peers) findLocked(info *NodeInfo) (same bool) {
	i := slices.IndexFunc(p.lost, func(l Peer) bool { return l.ID == info.ID })
	same = i >= 0
	if !same && info.Name != "" {
		i = slices.IndexFunc(p.lost, func(l Peer) bool { return l.Name == info.Name })
	}
	if i >= 0 {
		p.lost = slices.Delete(p.lost, i, i+1)
	}
	return same
}

func (p *peers) dropLostLocked(which func(*Peer) bool) {
	p.lost = slices.DeleteFunc(p.lost, func(l Peer) bool { return which(&l) })
}

// gone returns the lost peers, the one that was lost first first.
func (p *peers) gone(now time.Time) []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLostLocked(func(l *Peer) bool { return now.Sub(l.Heard) > lostTime })
	return slices.Clone(p.lost)
}

// nameLocked returns the name of a peer, also of a lost one.
func (p *peers) nameLocked(id NodeID) string {
	if v := p.m[id]; v != nil {
		return v.Name
	}
	if i := slices.IndexFunc(p.lost, func(l Peer) bool { return l.ID == id }); i >= 0 {
		return p.lost[i].Name
	}
	return ""
}
