package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// This file follows a bus to another server. A failover might promote another server, or an address might be given to
// one. Connections to the old server might go on working. Then a node hears itself, but no peers. The only sign is that
// its peers are silent, like dead ones.
//
// So the node queries the bus (a [Mover]) for its server while a peer is silent without a goodbye, and the node's own
// echo comes back. If there is another server, the node has been alone since the peer's latest message. It replaces
// both halves of the link. Its emissions since then are a loss.

const (
	lookupTimeout = 5 * time.Second  // for one query
	maxLookup     = 30 * time.Second // the longest pause between two queries
	silentMemory  = 10 * time.Minute // for how long a silent peer is a reason to look
)

// mover looks for another server while peers are silent. Its goroutine, run, ends with the adapter.
type mover struct {
	*session
	bus    Mover // nil: the bus's servers are never replaced, or the node knows no peers that could leave it
	sender *sender
	echo   *echo
	link   func() *link // returns the current link; nil: there is none

	watching atomic.Bool // silent is not empty
	mu       sync.Mutex
	silent   map[crosscast.NodeID]silence // at most maxOrigins; guarded by mu
	wake     chan struct{}                // capacity 1: silent has grown
}

// silence is the silence of one peer.
type silence struct {
	heard time.Time // when its latest message came
	began time.Time // when suspect was called
}

func newMover(s *session, bus Bus, out *sender, e *echo) *mover {
	m := &mover{session: s, sender: out, echo: e}
	if s.presence.hears && s.format.numbered() {
		m.bus, _ = bus.(Mover)
	}
	m.silent, m.wake = map[crosscast.NodeID]silence{}, make(chan struct{}, 1)
	return m
}

// movedError ends a link to a server that the peers have left.
type movedError struct {
	since time.Time // when the peers were there for the last time
}

func (*movedError) Error() string { return errMoved.Error() }

var errMoved = errors.New("the bus has moved to another server: this one was left by the peers")

// Suspect implements crosscast.AdapterObserver.
func (a *Adapter) Suspect(id crosscast.NodeID, heard time.Time) {
	if a.run.Load().mover.bus != nil {
		a.run.Load().mover.suspect(id, heard)
	}
}

// suspect makes run look for another server until the peer is heard. An empty ID stands for peers that might not hear
// this node.
func (m *mover) suspect(id crosscast.NodeID, heard time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.silent[id]; known || len(m.silent) >= maxOrigins {
		return
	}
	m.silent[id] = silence{heard, time.Now()}
	m.watching.Store(true)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// heard notes that a peer is not silent, or that its silence is explained.
func (m *mover) heard(id crosscast.NodeID) {
	if !m.watching.Load() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.silent, id)
	m.watching.Store(len(m.silent) > 0)
}

// since returns the earliest time at which a peer that is silent now was heard last. some reports whether there is one.
func (m *mover) since() (since time.Time, some bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for id, s := range m.silent {
		if now.Sub(s.began) > silentMemory {
			delete(m.silent, id)
		} else if !some || s.heard.Before(since) {
			since, some = s.heard, true
		}
	}
	m.watching.Store(some)
	return since, some
}

// run looks for another server while peers are silent, until the adapter stops.
func (m *mover) run() {
	heartbeat := m.patience()
	pause := heartbeat
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		since, some := m.since()
		switch {
		case !some:
			pause = heartbeat
			timer.Stop()
		case m.proven():
			m.lookForServer(since)
			timer.Reset(pause)
			pause = min(2*pause, maxLookup)
		default: // messages of the peers would not arrive either
			timer.Reset(heartbeat)
		}
		select {
		case <-timer.C:
		case <-m.wake:
			pause = heartbeat
		case <-m.ctx.Done():
			return
		}
	}
}

// proven reports whether both halves of the link work, and no echo is overdue.
func (m *mover) proven() bool { return m.sender.proven() && !m.echo.overdue() }

// lookForServer replaces both halves of the link when the bus names another server. since is when the silent peers
// were heard last.
func (m *mover) lookForServer(since time.Time) {
	l := m.link()
	if l == nil || !l.hasResumed() || l.isBroken() || !m.moved(l) {
		return
	}
	m.sender.peersLeft(since)
	l.fail(&movedError{since})
}

// moved reports whether the bus has left the server of l. It queries the bus, and is false if that fails.
func (m *mover) moved(l *link) bool {
	if m.bus == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(m.ctx, lookupTimeout)
	defer cancel()
	moved, err := m.bus.Moved(ctx, l.conn)
	if err != nil {
		m.logger.Debug("crosscast: cannot look up the server of the bus", "error", err)
	}
	return moved
}

// lookUnheard compares, once a heartbeat, the number of links that get a frame to everyone with the number of peers
// that are heard. A demoted server passes on the messages of the new one. So a node that stays there hears its peers,
// but the peers do not hear the node. Then there are too few links.
func (l *ledger) lookUnheard(now time.Time) {
	h := l.patience()
	if l.mover.bus == nil || now.Sub(l.countedAt) < h {
		return
	}
	l.countedAt = now
	links, counted := l.sender.audience()
	known, alive := 0, 0
	for _, o := range l.origins.m {
		if o.peer && !o.left && !o.lost {
			known++
			if now.Sub(o.heard) < unheardAfter*h {
				alive++
			}
		}
	}
	switch {
	case links < 0:
		counted = now
		fallthrough
	case links > known: // this node's is one of them
		l.fullAt, l.short = counted, 0
		l.mover.heard("")
		return
	case links > alive: // silent peers might have no link
		return
	}
	if l.short++; l.short >= unheardAfter { // before that, a peer might be reconnecting
		l.mover.suspect("", l.fullAt)
	}
}

// unheardAfter is the number of heartbeats for which there must be too few links.
const unheardAfter = 3
