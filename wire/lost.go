package wire

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// A peer that is taken for dead without a goodbye may live, and go on emitting: on the other side of a split, or behind a
// server that was left. So its end is a gap, from the last that was heard of it, and so is the time until it returns,
// unless its numbers show that it sent nothing.

// heardPeers is when something new of each peer came last. It is made anew once a heartbeat, and never written to.
type heardPeers struct {
	at    time.Time
	peers map[crosscast.NodeID]time.Time
}

// noteHeard makes that, with each echo: while there is none nobody is suspected. in.mu is held.
func (in *incoming) noteHeard(now time.Time) {
	if h := in.heardPeers.Load(); h != nil && now.Sub(h.at) < in.a.echo.timeout()/2 {
		return
	}
	h := &heardPeers{now, make(map[crosscast.NodeID]time.Time)}
	for id, o := range in.origins.m {
		if o.peer {
			h.peers[id] = o.fresh
		}
	}
	in.heardPeers.Store(h)
}

// Heard implements crosscast.PeerObserver.
func (a *Adapter) Heard(id crosscast.NodeID) time.Time {
	if h := a.incoming.heardPeers.Load(); h != nil {
		return h.peers[id]
	}
	return time.Time{}
}

// expiries are peers whose end is yet to be reported. Whoever enters one does not wait for those who report it, as they
// may be inside of a call of the Handler.
type expiries struct {
	any atomic.Bool   // all is not empty
	due chan struct{} // capacity 1: all has grown

	mu  sync.Mutex
	all []expiry // guarded by mu
}

type expiry struct {
	id crosscast.NodeID
	at time.Time
}

// Expire implements crosscast.PeerObserver.
func (a *Adapter) Expire(id crosscast.NodeID) {
	if a.dialect != nil {
		return
	}
	x := &a.incoming.expiries
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, expiry{id, time.Now()})
	x.any.Store(true)
	select {
	case x.due <- struct{}{}:
	default:
	}
}

func (x *expiries) take() []expiry {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.all
	x.all = nil
	x.any.Store(false)
	return all
}

// lose reports peers that are lost, until the adapter stops: for when nothing arrives that is to be reported after them.
func (in *incoming) lose() {
	for {
		select {
		case <-in.expiries.due:
		case <-in.a.ctx.Done():
			return
		}
		in.mu.Lock()
		if in.a.ctx.Err() == nil {
			in.reportLost()
		}
		in.mu.Unlock()
	}
}

// reportLost reports the peers that have expired. in.mu is held.
func (in *incoming) reportLost() {
	if !in.expiries.any.Load() {
		return
	}
	for _, e := range in.expiries.take() {
		o := in.origins.m[e.id]
		g := crosscast.Gap{Origin: e.id, Since: in.started, Until: e.at, Reason: crosscast.GapPeerLost}
		if o != nil { // else it was forgotten
			if o.left || o.lost {
				continue
			}
			o.lost, o.lostAt, g.Since = true, e.at, in.toldUntil(o)
		}
		in.a.handler.Gap(g)
	}
}

// found reports what o may have sent while it was lost: it is back, with frame n. in.mu is held.
func (in *incoming) found(o *origin, n uint64, now time.Time) {
	g := crosscast.Gap{
		Origin: o.id, From: o.highest + 1, To: n - 1, Since: o.lostAt, Until: now, Reason: crosscast.GapPeerLost,
	}
	if o.returns(n) {
		in.a.handler.Gap(g)
	}
}

// covered notes that a gap of all origins, which begins at since, is about to be reported: who was lost in it is not
// looked at again. in.mu is held.
func (in *incoming) covered(since time.Time) {
	for _, o := range in.origins.m {
		if o.lost && !o.lostAt.Before(since) {
			o.lost = false
		}
	}
}

// aloneSince returns since, or when the first peer was heard last that has not left, if that is earlier. in.mu is held.
func (in *incoming) aloneSince(since time.Time) time.Time {
	for _, o := range in.origins.m {
		if o.peer && !o.left && !o.lost && !o.dormant && o.heard.Before(since) {
			since = o.heard
		}
	}
	if silent, some := in.a.mover.since(); some && silent.Before(since) {
		since = silent
	}
	return since
}
