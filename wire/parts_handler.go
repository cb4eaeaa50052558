package wire

import (
	"cmp"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/warn"
	"github.com/crosscast/crosscast/kind"
)

// partHandler passes on to the node what one part reports. Parts report at the same time, and the node gets one call
// after the other.
type partHandler struct {
	crosscast.AdapterHandler // the node's
	p                        *Parts
	i                        int
}

func (h *partHandler) isHome() bool { return h.i == h.p.home }

// Handle implements crosscast.AdapterHandler.
func (h *partHandler) Handle(inst *crosscast.Instruction) {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.AdapterHandler.Handle(inst)
}

// Gap implements crosscast.AdapterHandler. A gap of everything on a part is one of that part's names, unless that is the
// part of everyone, or the gap is of a node that has other parts.
func (h *partHandler) Gap(g crosscast.Gap) {
	if g.Names == nil && !h.isHome() && g.Reason != reasons.GapRouting {
		if g.Origin == "" { // of everyone's part, the node itself does that
			h.p.parts[h.i].run.Load().askAround()
		}
		if g.Names = h.p.parts[h.i].run.Load().subs.allNames(maxPartNames); g.Names != nil && len(g.Names) == 0 {
			return
		}
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.AdapterHandler.Gap(g)
}

// askAround asks the peers to be heard on this part, where the link is back, because what is emitted waits for them.
func (r *run) askAround() { r.sender.sayHere(kind.Hello, "") }

// handleHere handles a hello or heartbeat that is for this part alone: see askAround.
func (l *ledger) handleHere(inst *crosscast.Instruction, from crosscast.NodeID) {
	if inst.Kind == kind.Hello {
		l.sender.sayHere(kind.Heartbeat, from)
	}
}

// sayHere publishes a hello or heartbeat on this part alone, to a peer or to everyone. If it fails, the next heartbeat does as
// well. It has no copy number, and the node of a peer does not get it.
func (s *sender) sayHere(k kind.Kind, to crosscast.NodeID) {
	_ = s.publishControl(&crosscast.Instruction{
		Kind: k, Namespace: "/", From: s.self.ID, To: to, Target: crosscast.Target{Everyone: to == ""}, Node: s.self,
	}, nil, 0)
}

// Outage implements crosscast.AdapterHandler. That of another part than everyone's is no outage of the node. It becomes a
// gap of that part's names when it is over.
func (h *partHandler) Outage(since time.Time, why crosscast.GapReason) {
	if !h.isHome() {
		return
	}
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.AdapterHandler.Outage(since, why)
}

// Loss implements crosscast.AdapterHandler.
func (h *partHandler) Loss(l crosscast.Loss) {
	h.p.lossMu.Lock()
	defer h.p.lossMu.Unlock()
	h.AdapterHandler.Loss(l)
}

// Link implements crosscast.AdapterHandler. The node gets the worst state of each half.
func (h *partHandler) Link(s crosscast.LinkStatus) {
	p := h.p
	p.linkMu.Lock()
	defer p.linkMu.Unlock()
	before := p.worstLocked()
	p.links[h.i] = s
	if after := p.worstLocked(); !sameStatus(before, after) {
		h.AdapterHandler.Link(after)
	}
}

func sameStatus(a, b crosscast.LinkStatus) bool {
	return a.Publishing.State == b.Publishing.State && a.Subscribing.State == b.Subscribing.State && a.Busy == b.Busy
}

func (p *Parts) status() crosscast.LinkStatus {
	p.linkMu.Lock()
	defer p.linkMu.Unlock()
	return p.worstLocked()
}

// worstLocked returns the worst state of each half. linkMu is held.
func (p *Parts) worstLocked() (worst crosscast.LinkStatus) {
	for i := range p.links {
		s := &p.links[i]
		worst.Publishing = p.worse(worst.Publishing, s.Publishing, i)
		worst.Subscribing = p.worse(worst.Subscribing, s.Subscribing, i)
		worst.Busy = worst.Busy || s.Busy
	}
	return worst
}

func (p *Parts) worse(a, b crosscast.LinkHalf, i int) crosscast.LinkHalf {
	if a.State != "" && cmp.Compare(warn.Rank(string(b.State)), warn.Rank(string(a.State))) <= 0 {
		return a
	}
	if b.Err != nil {
		b.Err = errtext.Errorf("part %s: %w", p.names[i], b.Err)
	}
	return b
}

// Proven implements crosscast.AdapterObserver: whether the link of any part surely works. A peer that is silent on all
// those is dead.
func (p *Parts) Proven() bool {
	for _, a := range p.parts {
		if a.Proven() {
			return true
		}
	}
	return false
}

// Heard implements crosscast.AdapterObserver.
func (p *Parts) Heard(peer crosscast.NodeID) (at time.Time) {
	for _, a := range p.parts {
		at = later(at, a.Heard(peer))
	}
	return at
}

// Suspect implements crosscast.AdapterObserver.
func (p *Parts) Suspect(peer crosscast.NodeID, heard time.Time) {
	for _, a := range p.parts {
		a.Suspect(peer, heard)
	}
}

// Expire implements crosscast.AdapterObserver.
func (p *Parts) Expire(peer crosscast.NodeID) {
	for _, a := range p.parts {
		a.Expire(peer)
	}
}

// watch looks, once a heartbeat, for peers that are silent on one part, though they might be heard on another. The node
// itself looks for those that are silent everywhere.
func (p *Parts) watch() {
	r := p.parts[p.home].run.Load()
	t := time.NewTicker(r.patience())
	defer t.Stop()
	proven := make([]time.Time, len(p.parts)) // since when the link of a part works; zero: it does not
	for {
		select {
		case <-t.C:
		case <-r.ctx.Done():
			return
		}
		now := time.Now()
		for i, a := range p.parts {
			if !a.Proven() {
				proven[i] = time.Time{}
				continue
			}
			if proven[i].IsZero() {
				proven[i] = now
			}
			a.lookForSilent(now, proven[i])
		}
	}
}

// lookForSilent suspects, and then gives up, peers that are silent though the link works since a past moment. Who was
// heard is noted with each echo. Without an echo for a while, as in a node that has been paused or may not publish, it
// is not known.
func (a *Adapter) lookForSilent(now, since time.Time) {
	r := a.run.Load()
	h := r.receiver.ledger.heardPeers.Load()
	if h == nil || now.Sub(h.at) > 2*r.patience() {
		return
	}
	for id, peer := range h.peers {
		silent := now.Sub(later(peer.fresh, since))
		interval := max(peer.interval, r.patience())
		switch {
		case silent > (bounds.ExpireAfter+1)*interval:
			a.Expire(id)
		case silent > bounds.SuspectAfter*interval:
			a.Suspect(id, peer.fresh)
		}
	}
}

// allNames returns all names that are subscribed to; nil: more than limit, or an unknown number.
func (s *subscriptions) allNames(limit int) []crosscast.Address {
	if slices.Contains(s.routing.ways, everyones) { // then names are not subscribed to
		return nil
	}
	names := []crosscast.Address{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.topics.all() {
		if t.home {
			continue
		}
		if names = t.appendNames(names); len(names) > limit {
			return nil
		}
	}
	return names
}
