package wire

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// receiver handles the events of links. It knows which link counts, and which outage that link has ended. The ledger
// handles the frames.
type receiver struct {
	*session
	echo   *echo
	subs   *subscriptions
	sender *sender
	mover  *mover
	state  *linkState

	link atomic.Pointer[link] // the link with events that count

	// mu serializes deliveries, even if a link is replaced while the old link's reader is inside a call of the Handler;
	// link may change, or become nil, before that call returns. mu is held during those calls. Only readers and the
	// goroutine that reports lost peers wait for it.
	mu     patientLock
	ledger ledger // guarded by mu

	// turn is held while a link resumes, or is given up, so that one of the two happens first, and completely. It is
	// never held during a call of the Handler.
	turn   sync.Mutex
	outage *outage // since the last link that had resumed; guarded by turn

	expiries expiries
}

// A patientLock may be held for long. Waiting for it does not hold up the time of a bubble of testing/synctest, which
// waiting for a sync.Mutex does: whoever holds it, such as a hook, might wait for that time.
type patientLock chan struct{}

func (l patientLock) Lock()   { l <- struct{}{} }
func (l patientLock) Unlock() { <-l }

func newReceiver(s *session, e *echo, subs *subscriptions, out *sender, m *mover, state *linkState) *receiver {
	r := &receiver{
		session: s, echo: e, subs: subs, sender: out, mover: m, state: state, mu: make(patientLock, 1),
		ledger: ledger{session: s, echo: e, subs: subs, sender: out, mover: m},
	}
	r.ledger.origins.m = map[crosscast.NodeID]*origin{}
	if s.o.seal.seals() {
		r.ledger.opener = newOpener(s.o.seal, s.o.part)
		r.ledger.opener.know(s.runID)
	}
	r.expiries.due = make(chan struct{}, 1)
	return r
}

// noteOutageLocked notes since when something might be missing; failed attempts in between do not change that. turn is
// held.
func (r *receiver) noteOutageLocked(l *link) {
	switch {
	case l.hasResumed():
		r.outage = &outage{since: r.echo.provenUntil(), reason: reasons.GapLinkLost}
		var moved *movedError
		var dated Dated
		if errors.As(l.err, &dated) {
			r.outage.since = earlier(r.outage.since, dated.Since())
		}
		switch {
		case errors.Is(l.err, errDeaf):
			r.outage.reason = reasons.GapDeaf
		case errors.As(l.err, &moved):
			r.outage.moves(moved.since)
		}
		if r.presence.linked {
			r.expiries.enterOutage(*r.outage)
		}
	case l.outage != nil:
		r.outage = l.outage
	}
}

// beginOutage makes the first link end an outage since the start.
func (r *receiver) beginOutage(now time.Time) {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.outage = &outage{since: now, reason: reasons.GapLinkLost}
	r.expiries.enterOutage(*r.outage)
}

func (r *receiver) takeOutage() *outage {
	r.turn.Lock()
	defer r.turn.Unlock()
	o := r.outage
	r.outage = nil
	return o
}

// handleEvent handles one event of l, which arrived at now. An error ends the link.
func (r *receiver) handleEvent(l *link, ev Event, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link.Load() != l {
		return errReplaced
	}
	r.reportLostLocked()
	switch ev.Kind {
	case Message:
		r.handleMessageLocked(ev, now)
		return nil
	case Pong:
		r.echo.handlePong(ev.Topic, now)
		return r.subs.handlePong(l, ev.Topic)
	case Subscribed:
		r.ledger.confirmations++
		if err := r.subs.handleSubscribed(l, &ev, r.ledger.confirmations, now); err != nil {
			return err
		}
	case Unsubscribed:
		if err := r.subs.handleUnsubscribed(l, ev.Topic); err != nil {
			return err
		}
	case Denied:
		if err := r.subs.handleDenied(l, ev.Topic, ev.Err); err != nil {
			return err
		}
	}
	resumed := r.subs.tryResume(l)
	if resumed && !r.resumeLocked(l) {
		return errReplaced
	}
	r.reportNewsLocked(resumed)
	return nil
}

// measure notes that an event which arrived at now was handled.
func (r *receiver) measure(kind EventKind, now time.Time) {
	if r.histograms && kind == Message && r.stats.events.Due() {
		r.stats.receive.Observe(time.Since(now))
	}
}

// reportNewsLocked reports the gaps of single topics.
func (r *receiver) reportNewsLocked(now bool) {
	for _, g := range r.subs.takeNews(now) {
		r.handler.Gap(g)
	}
}

// resumeLocked makes l the link that counts, and reports the outage that it ends. The sender goes on first, because
// after Start returns, or the gap is reported, the node queries its peers. It returns false if l was given up
// meanwhile.
func (r *receiver) resumeLocked(l *link) bool {
	now := time.Now()
	if !r.takeTurnLocked(l, now) {
		return false
	}
	if l.outage != nil {
		since := l.outage.since
		if r.ground.patchy {
			since = r.ledger.unnamedBefore(since)
			r.ledger.countAnew()
		}
		r.ledger.covered(since)
		r.handler.Gap(crosscast.Gap{Since: since, Until: now, Reason: l.outage.reason})
	}
	return true
}

// takeTurnLocked makes l the link that counts, unless l was given up.
func (r *receiver) takeTurnLocked(l *link, now time.Time) bool {
	r.turn.Lock()
	defer r.turn.Unlock()
	if r.link.Load() != l {
		return false
	}
	var peers []crosscast.NodeID
	var gatherer Gatherer
	until := now.Add(r.gatherTime())
	first := r.ledger.resumedAt.IsZero()
	if first {
		r.ledger.started = now
	}
	if l.outage != nil {
		if l.outage.moved {
			l.outage.moves(r.ledger.aloneSince(l.outage.since))
			r.sender.peersLeft(l.outage.since)
		}
		peers = r.ledger.peersAt(l.outage.since)
		if !first {
			r.stats.reconnects.Add(1)
		}
		if gatherer = r.format.gatherer(); gatherer != nil {
			peers = append(peers, gathered)
		}
	}
	l.resumedAt, r.ledger.resumedAt, r.ledger.doubted = now, now, now
	r.echo.beginLink(l)
	if r.presence.linked {
		r.sender.linkIsUp(peers, until)
	}
	if gatherer != nil {
		r.wg.Go(func() { r.gather(gatherer, until) })
	}
	r.state.linkResumed()
	close(l.resumed)
	return true
}

// gather waits until the dialect's peers are back, then lets the sender go on.
func (r *receiver) gather(g Gatherer, until time.Time) {
	ctx, cancel := context.WithDeadline(r.ctx, until)
	defer cancel()
	g.Gather(ctx)
	r.sender.heardFrom(gathered)
}

// gathered stands for all peers of a dialect, in the set of peers that the sender waits for.
const gathered crosscast.NodeID = "gathered"

// handleMessageLocked handles a message that arrived on a topic.
func (r *receiver) handleMessageLocked(ev Event, now time.Time) {
	t, resumed, news := r.subs.lookup(ev.Topic)
	switch {
	case t == nil:
		r.count(dropUnwanted)
		return
	case !resumed:
		r.count(dropResuming)
		return
	}
	if news {
		r.reportNewsLocked(true)
	}
	large := len(ev.Data) > r.o.MaxFrame+maxHeader
	if large {
		r.count(dropTooLarge)
	}
	r.format.handle(&r.ledger, t, ev, large, now)
}
