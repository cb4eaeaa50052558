package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	a   *Adapter
	bus Mover // nil: the bus's servers are never replaced

	watching atomic.Bool // silent is not empty
	mu       sync.Mutex
	silent   map[crosscast.NodeID]silence // at most maxOrigins; guarded by mu
	wake     chan struct{}                // capacity 1: silent has grown
}

// silence is that of one peer.
type silence struct {
	heard time.Time // for the last time
	began time.Time // to be suspicious
}

func (m *mover) init(a *Adapter) {
	m.a = a
	m.bus, _ = a.bus.(Mover)
	m.silent, m.wake = map[crosscast.NodeID]silence{}, make(chan struct{}, 1)
}

// movedError is why a link is replaced whose server the peers have left.
type movedError struct {
	since time.Time // when the peers were there for the last time
}

func (*movedError) Error() string { return errMoved.Error() }

var errMoved = errors.New("the bus has moved to another server: this one was left by the peers")

// Suspect implements crosscast.PeerObserver.
func (a *Adapter) Suspect(id crosscast.NodeID, heard time.Time) {
	if a.mover.bus != nil {
		a.mover.suspect(id, heard)
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
	heartbeat := m.a.echo.timeout()
	pause := heartbeat
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		since, some := m.since()
		switch {
		case !some:
			pause = heartbeat
			timer.Stop()
		case m.a.Proven():
			m.look(since)
			timer.Reset(pause)
			pause = min(2*pause, maxLookup)
		default: // what the peers say would not be heard either
			timer.Reset(heartbeat)
		}
		select {
		case <-timer.C:
		case <-m.wake:
			pause = heartbeat
		case <-m.a.ctx.Done():
			return
		}
	}
}

// look replaces both halves of the link when the bus names another server. since is when the silent peers were heard last.
func (m *mover) look(since time.Time) {
	l := m.a.incoming.link.Load()
	if l == nil || !l.hasResumed() || l.isBroken() || !m.moved(l) {
		return
	}
	m.a.writer.moved(since)
	l.fail(&movedError{since})
}

// moved asks whether the bus has left the server of l.
func (m *mover) moved(l *link) bool {
	if m.bus == nil || m.a.self.EmitOnly || m.a.dialect != nil { // who knows no peers cannot be left by them
		return false
	}
	ctx, cancel := context.WithTimeout(m.a.ctx, lookupTimeout)
	defer cancel()
	moved, err := m.bus.Moved(ctx, l.conn)
	if err != nil {
		m.a.o.Logger.Debug("crosscast: cannot look up the server of the bus", "error", err)
	}
	return moved
}

// marks are what the writer had done at moments of the past: the longer ago, the farther apart.
type marks []mark

type mark struct {
	at           time.Time
	number       uint64 // of the last frame with an outcome
	instructions int    // accepted by the bus
}

const maxMarks = 128

// add enters m, unless the last mark is not older than every.
func (ms *marks) add(m mark, every time.Duration) {
	n := len(*ms)
	if n > 0 && m.at.Sub((*ms)[n-1].at) < every {
		return
	}
	if n == maxMarks {
		drop, least := 0, 0.0
		for i := 1; i < n-1; i++ {
			apart := float64((*ms)[i+1].at.Sub((*ms)[i-1].at)) / float64(m.at.Sub((*ms)[i].at))
			if drop == 0 || apart < least {
				drop, least = i, apart
			}
		}
		*ms = slices.Delete(*ms, drop, drop+1)
	}
	*ms = append(*ms, m)
}

// unheard looks, once a heartbeat, whether fewer links get what goes to everyone than peers are heard. A server that was
// demoted passes on what the new one publishes, so that a node that stays there hears its peers, and they do not hear it.
// in.mu is held.
func (in *incoming) unheard(now time.Time) {
	h := in.a.echo.timeout()
	if in.a.mover.bus == nil || now.Sub(in.countedAt) < h {
		return
	}
	in.countedAt = now
	links := in.a.writer.links()
	alive := 0
	for _, o := range in.origins.m {
		if o.peer && !o.left && !o.lost && now.Sub(o.heard) < unheardAfter*h {
			alive++
		}
	}
	if links < 0 || links > alive { // this node's is one of them
		in.fullAt, in.short = now, 0
		in.a.mover.heard("")
		return
	}
	if in.short++; in.short >= unheardAfter { // else it may be a peer that connects again
		in.a.mover.suspect("", in.fullAt)
	}
}

// unheardAfter is for how many heartbeats there must be too few links.
const unheardAfter = 3

// links is how many got what went to everyone last; -1: the bus cannot tell.
func (w *writer) links() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.audience
}

// before returns the last mark that is not after t; zero: it was before the first.
func (ms marks) before(t time.Time) (m mark) {
	for _, later := range ms {
		if later.at.After(t) {
			break
		}
		m = later
	}
	return m
}

// moved makes a loss of what was accepted since a moment of the past, by a server that the peers had left. What is under
// way belongs to it, and its outcome is waited for.
func (w *writer) moved(since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopping && (w.movedSince.IsZero() || since.Before(w.movedSince)) {
		w.movedSince = since
	}
	w.signal()
}

// tellMoved makes the loss while nothing is under way. The caller holds mu; the report is made without it.
func (w *writer) tellMoved() {
	if w.movedSince.IsZero() {
		return
	}
	lost := w.loseMoved(nil)
	w.telling = len(lost) > 0
	w.mu.Unlock()
	w.finish(lost, nil)
	w.mu.Lock()
}

// loseMoved appends to lost what went to a server that the peers had left. The caller holds mu.
func (w *writer) loseMoved(lost []crosscast.Loss) []crosscast.Loss {
	if w.movedSince.IsZero() {
		return lost
	}
	from := w.marks.before(w.movedSince)
	w.movedSince = time.Time{}
	if from.number < w.movedTo.number { // what was told once
		from = w.movedTo
	}
	w.movedTo = w.done
	l := lostFrames{
		from: from.number + 1, to: w.done.number, instructions: w.done.instructions - from.instructions, all: true,
		err: fmt.Errorf("%w: %w", crosscast.ErrUncertain, errMoved),
	}
	if l.instructions == 0 {
		return lost
	}
	w.lose(&l)
	loss := l.forSelf()
	loss.Reason = crosscast.LossMoved
	return append(lost, loss)
}
