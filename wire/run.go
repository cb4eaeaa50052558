package wire

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// run is one start of an adapter: the session, and the parts that share it.
//
// It has these goroutines, which end with the session's context:
//
//   - the sender;
//   - the reporter of the link's state (linkstate.go);
//   - the supervisor of the link, and for each link a reader that also delivers, a writer of subscriptions, and one
//     goroutine that closes it (link.go);
//   - the reporter of lost peers (expired.go);
//   - the mover, which looks for another server while peers are silent (mover.go).
//
// Adapter.Close waits for them. The goroutines of a failed start end by themselves, as soon as calls of the bus return.
// The next start waits for them.
//
// Lock order: while you hold a lock, take only locks below it.
//
//	Adapter.mu
//	receiver.mu     held while the Handler is called with received instructions; guards the ledger and its books
//	receiver.turn   held while a link resumes, or is given up
//	sender.mu       guards the outbox, the gate, and deliveries
//	echo.mu
//	subscriptions.mu, linkState.mu, mover.mu, expiries.mu, inbox.mu: take no other lock while you hold one of these
type run struct {
	*session
	bus      Bus
	state    *linkState
	slowness *slowness // of state's goroutine
	echo     *echo
	subs     *subscriptions
	sender   *sender
	mover    *mover
	receiver *receiver
	inbox    *inbox // of an emitter
	sends    bool   // the sender runs; used by Start alone
}

func (a *Adapter) newRun(ctx context.Context, start crosscast.AdapterStart) *run {
	s := &session{
		o: a.o, self: start.Self, handler: start.Handler, stats: &a.stats, refusals: &a.refusals, presence: full, closed: a.closed,
		offline: start.Offline, histograms: start.Histograms, together: a.together, seen: a.seen,
	}
	s.routing, s.runID = newRouting(&s.o), drawRun()
	if s.together != nil {
		if id := s.together.runID.Load(); id != nil {
			s.runID = *id
		}
	}
	s.o.Logger = cmp.Or(a.o.Logger, start.Logger)
	s.logger = silent
	if s.o.Logger != nil {
		s.logger = s.o.Logger.With("node", fmt.Sprintf("%s (%s)", s.self.Name, s.self.ID))
	}
	if start.EmitOnly {
		s.presence = emitter
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.format = a.newFormat(s)
	r := &run{session: s, bus: a.bus, inbox: newInbox()}
	r.state, r.slowness = newLinkState(s), newSlowness(s)
	r.subs = newSubscriptions(s)
	r.echo = newEcho(s, r.state)
	r.sender = newSender(s, a.bus, r.echo, r.subs, r.state)
	r.mover = newMover(s, a.bus, r.sender, r.echo)
	r.receiver = newReceiver(s, r.echo, r.subs, r.sender, r.mover, r.state)
	r.echo.drew, r.mover.link = r.sender.drew, r.receiver.link.Load
	return r
}

// prepare sets the fields that must not change after the run is stored in the adapter.
func (r *run) prepare() {
	g := r.format.start(r.echo)
	g.noticeTopic, g.echoTopic = g.notices.topic(r.o.Prefix), g.echoes.topic(r.o.Prefix)
	p, ok := r.bus.(Patchy)
	g.patchy = ok && p.Patchy() && r.format.numbered()
	s, ok := r.bus.(Scattered)
	g.scattered = ok && s.Scattered()
	r.ground = g
	if g.patchy {
		r.sender.box.quiet = &quiet{}
	}
	r.subs.wantHome(g.home)
}

// begin implements Start. It makes one attempt or, if Start is not to wait for the bus, none.
func (r *run) begin(ctx context.Context) (err error) {
	r.logSeal()
	r.state.publishing(reasons.LinkConnecting, nil)
	r.wg.Go(func() { r.state.run(r.look) })
	if r.offline {
		r.beginOffline()
	} else {
		err = r.beginPresence(ctx)
	}
	if err == nil {
		r.state.drain(ctx) // the node's next step might depend on the state
	}
	return err
}

// look notes calls that do not return: calls of the application by the reader, and calls of the bus by the sender. It
// also logs denied topics, and a slow way through the bus.
func (r *run) look() {
	l := r.receiver.link.Load()
	r.state.busy(l != nil && l.busy() > slowAfter*r.patience())
	r.sender.noteState(time.Now())
	r.subs.logDenied()
	r.receiver.ledger.misrouted.log(r.session)
	r.receiver.ledger.strangers.log(r.session)
	r.slowness.note(r.echo.roundTrip(), r.presence.beats && r.state.now().Live(), time.Now())
}

// beginPresence returns when the node has its link, if its presence needs one, and the bus has accepted a notice.
func (r *run) beginPresence(ctx context.Context) error {
	if !r.presence.linked {
		r.wg.Go(r.superviseWhenWanted)
		return r.beginSending(ctx)
	}
	r.state.subscribing(reasons.LinkConnecting, nil)
	l, err := r.connect(ctx, nil)
	if err != nil {
		return err
	}
	select {
	case <-l.resumed: // all topics of home are subscribed
		err = r.beginSending(ctx)
	case <-l.broken:
		err = l.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		l.fail(err)
		r.linkDown(l)
		return err
	}
	r.keepLink(l)
	return nil
}

// keepLink replaces l, or makes the link if l is nil, from now on.
func (r *run) keepLink(l *link) {
	r.wg.Go(func() { r.supervise(l) })
	r.wg.Go(r.receiver.watchLost)
	r.wg.Go(r.mover.run)
}

// beginOffline begins as in an outage that begins now: the gate is closed (see newGate), and the first link reports a
// gap.
func (r *run) beginOffline() {
	if r.presence.linked {
		r.receiver.beginOutage(time.Now())
		r.state.subscribing(reasons.LinkConnecting, nil)
		r.keepLink(nil)
	} else {
		r.wg.Go(r.superviseWhenWanted)
	}
	r.beginSender()
}

// beginSending starts the sender, and returns when the bus has accepted a notice.
func (r *run) beginSending(ctx context.Context) error {
	d := r.sender.probe(r.ground.notices)
	r.beginSender()
	return d.wait(ctx)
}

// beginSender runs the sender, unless it does already.
func (r *run) beginSender() {
	if !r.sends {
		r.sends = true
		r.wg.Go(r.sender.run)
	}
}

// end publishes the queue while the link is up, then stops everything.
func (r *run) end(ctx context.Context) error {
	err := r.sender.shut(ctx)
	r.sender.halt()
	r.stop()
	return err
}
