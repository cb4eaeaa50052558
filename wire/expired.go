package wire

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A peer that is taken for dead without a goodbye might be alive, and might go on emitting: on the other side of a
// network split, or behind an old server of the bus. So its end is a gap, from its latest message on. The time until it
// returns is another gap, unless its numbers show that it sent nothing.

// heardPeers has the time of each peer's latest new message. It is replaced twice a heartbeat at most, and never
// changed.
type heardPeers struct {
	at    time.Time
	peers map[crosscast.NodeID]heardPeer
}

type heardPeer struct {
	fresh    time.Time
	interval time.Duration // between its heartbeats, as it says
}

// noteHeard replaces heardPeers. It is called with each echo, because no peer is suspected without echoes.
func (l *ledger) noteHeard(now time.Time) {
	if h := l.heardPeers.Load(); h != nil && now.Sub(h.at) < l.patience()/2 {
		return
	}
	h := &heardPeers{now, make(map[crosscast.NodeID]heardPeer)}
	for id, o := range l.origins.m {
		if o.peer && !o.left && !o.lost {
			h.peers[id] = heardPeer{o.fresh, o.belief.interval}
		}
	}
	l.heardPeers.Store(h)
}

// Heard implements crosscast.AdapterObserver.
func (a *Adapter) Heard(id crosscast.NodeID) time.Time {
	if h := a.run.Load().receiver.ledger.heardPeers.Load(); h != nil {
		return h.peers[id].fresh
	}
	return time.Time{}
}

// expiries are the expired peers, and the beginning of an outage, that wait to be reported. Entering one does not wait
// for a report in progress, because that might be inside a call of the Handler.
type expiries struct {
	any atomic.Bool   // something waits
	due chan struct{} // capacity 1: there is more

	mu     sync.Mutex
	all    []expiry // guarded by mu
	outage *outage  // guarded by mu; nil: none waits
}

type expiry struct {
	id crosscast.NodeID
	at time.Time
}

// Expire implements crosscast.AdapterObserver.
func (a *Adapter) Expire(id crosscast.NodeID) {
	if a.run.Load().format.numbered() {
		a.run.Load().receiver.expiries.enter(expiry{id, time.Now()})
	}
}

func (x *expiries) enter(e expiry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, e)
	x.signalLocked()
}

// enterOutage makes the beginning of o wait.
func (x *expiries) enterOutage(o outage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.outage = &o
	x.signalLocked()
}

func (x *expiries) signalLocked() {
	x.any.Store(true)
	select {
	case x.due <- struct{}{}:
	default:
	}
}

func (x *expiries) takeAll() ([]expiry, *outage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all, o := x.all, x.outage
	x.all, x.outage = nil, nil
	x.any.Store(false)
	return all, o
}

// watchLost reports lost peers and outages until the adapter stops. It is needed while no events arrive, since each
// event reports them first.
func (r *receiver) watchLost() {
	for {
		select {
		case <-r.expiries.due:
		case <-r.ctx.Done():
		}
		if r.ctx.Err() != nil { // the end of the last link is no outage, and a call of the Handler might hold mu
			return
		}
		r.mu.Lock()
		if r.ctx.Err() == nil {
			r.reportLostLocked()
		}
		r.mu.Unlock()
	}
}

// reportLostLocked reports the peers that have expired, and an outage that has begun.
func (r *receiver) reportLostLocked() {
	if !r.expiries.any.Load() {
		return
	}
	lost, begun := r.expiries.takeAll()
	for _, e := range lost {
		r.ledger.lost(e)
	}
	if begun != nil {
		since := begun.since
		if r.ground.patchy {
			since = r.ledger.unnamedBefore(since)
		}
		r.handler.Outage(since, begun.reason)
	}
}

// lost reports that a peer has expired.
func (l *ledger) lost(e expiry) {
	g := crosscast.Gap{Origin: e.id, Since: l.started, Until: e.at, Reason: reasons.GapPeerLost}
	if o := l.origins.m[e.id]; o != nil { // nil: it was forgotten
		if o.left || o.lost {
			return
		}
		l.endMisrouting(o, e.at)
		o.lost, o.lostAt, g.Since = true, e.at, l.toldUntil(o)
		o.told.add(o.top())
	}
	l.handler.Gap(g)
}

// found notes that the lost origin o is back, with frame n. It reports a gap if o might have sent other frames
// meanwhile.
func (l *ledger) found(o *origin, n uint64, now time.Time) {
	g := crosscast.Gap{
		Origin: o.id, From: o.top() + 1, To: n - 1, Since: o.lostAt, Until: now, Reason: reasons.GapPeerLost,
	}
	if o.returns(n) {
		l.handler.Gap(g)
	}
}

// covered notes that a gap of all origins, which begins at since, is about to be reported. Peers that were lost after
// since then need no gap of their own when they return.
func (l *ledger) covered(since time.Time) {
	for _, o := range l.origins.m {
		if o.lost && !o.lostAt.Before(since) {
			o.lost = false
		}
	}
}

// aloneSince returns the earliest of these times: since, and the times of the latest message of each peer that has
// neither left nor expired, or that is silent.
func (l *ledger) aloneSince(since time.Time) time.Time {
	for _, o := range l.origins.m {
		if o.peer && !o.left && !o.lost && !o.dormant && o.heard.Before(since) {
			since = o.heard
		}
	}
	if silent, some := l.mover.since(); some && silent.Before(since) {
		since = silent
	}
	return since
}
