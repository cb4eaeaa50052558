package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// Servers of a bus are replaced: a failover promotes another, an address is given to another. Connections to the old one
// may stand and work, so that a node hears itself, and nobody else any more. The one sign is that its peers are silent,
// as the dead are. So while a peer is silent that did not say goodbye, and this node's own echo comes back, it asks the
// bus (a [Mover]) whether there is another server by now. If so, it has been alone since that peer was heard last: both
// halves of the link are replaced, and what was emitted since is a loss.

const (
	lookupTimeout = 5 * time.Second  // for one look at the topology
	maxLookup     = 30 * time.Second // the longest time between two
	silentMemory  = 10 * time.Minute // for how long a silent peer is a reason to look
)

// mover looks for another server while peers are silent. Its goroutine, run, ends with the adapter.
type mover struct {
	*session
	bus    Mover // nil: the bus's servers are never replaced, or the node knows no peers that could leave it
	sender *sender
	echo   *echo
	link   func() *link // that counts; nil: there is none

	watching atomic.Bool // silent is not empty
	mu       sync.Mutex
	silent   map[crosscast.NodeID]silence // at most maxOrigins; guarded by mu
	wake     chan struct{}                // capacity 1: silent has grown
}

// silence is the silence of one peer.
type silence struct {
	heard time.Time // for the last time
	began time.Time // to be suspicious
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

// suspect is a reason to look, until the peer is heard. One without an ID stands for those who may not hear this node.
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

// since returns when the first of the peers that are silent was heard last, and whether there are any.
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
		default: // what the peers say would not be heard either
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

// moved queries whether the bus has left the server of l.
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

// lookUnheard looks, once a heartbeat, whether fewer links get what goes to everyone than peers are heard. A server that was
// demoted passes on what the new one publishes, so that a node that stays there hears its peers, and they do not hear it.
func (l *ledger) lookUnheard(now time.Time) {
	h := l.patience()
	if l.mover.bus == nil || now.Sub(l.countedAt) < h {
		return
	}
	l.countedAt = now
	links := l.sender.audience()
	alive := 0
	for _, o := range l.origins.m {
		if o.peer && !o.left && !o.lost && now.Sub(o.heard) < unheardAfter*h {
			alive++
		}
	}
	if links < 0 || links > alive { // this node's is one of them
		l.fullAt, l.short = now, 0
		l.mover.heard("")
		return
	}
	if l.short++; l.short >= unheardAfter { // else it may be a peer that connects again
		l.mover.suspect("", l.fullAt)
	}
}

// unheardAfter is for how many heartbeats there must be too few links.
const unheardAfter = 3
