package wire

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// incoming turns what a link receives into calls of the Handler.
type incoming struct {
	a    *Adapter
	link atomic.Pointer[link] // whose events count

	// mu makes deliveries one sequence, also when a link is replaced while the old one's reader is inside a call of the
	// Handler; link may be another one, or nil, before that returns. It is held during those calls, and only readers and
	// the goroutine that reports lost peers wait for it.
	mu        sync.Mutex
	reader    crosscast.FrameReader // guarded by mu, like everything below
	origins   origins
	started   time.Time // when the first link resumed
	resumedAt time.Time // when the latest one did
	doubted   time.Time // until then it was reported that anything may be missed since resumedAt, or a bit of the outage
	sweepAt   time.Time

	confirmations uint64 // of subscriptions, so far

	// turn is held while a link resumes, or is given up: it does one of the two first, and wholly. Nobody calls the Handler
	// with it.
	turn sync.Mutex

	outageMu sync.Mutex
	outage   *outage // since the last link that had resumed; guarded by outageMu

	expiries   expiries
	heardPeers atomic.Pointer[heardPeers]

	// How many links hear this node, for unheard; guarded by mu.
	countedAt time.Time
	fullAt    time.Time // enough of them, for the last time
	short     int       // looks since then
}

func (in *incoming) init(a *Adapter) {
	in.a = a
	in.origins.m = map[crosscast.NodeID]*origin{}
	in.expiries.due = make(chan struct{}, 1)
}

// noteOutage remembers since when something may be missing; failed attempts in between do not move it.
func (in *incoming) noteOutage(l *link) {
	in.outageMu.Lock()
	defer in.outageMu.Unlock()
	switch {
	case l.hasResumed():
		in.outage = &outage{since: in.a.echo.provenUntil(), reason: crosscast.GapLinkLost}
		var moved *movedError
		switch {
		case errors.Is(l.err, errDeaf):
			in.outage.reason = crosscast.GapDeaf
		case errors.As(l.err, &moved):
			in.outage.moves(moved.since)
		}
	case l.outage != nil:
		in.outage = l.outage
	}
}

func (in *incoming) takeOutage() *outage {
	in.outageMu.Lock()
	defer in.outageMu.Unlock()
	o := in.outage
	in.outage = nil
	return o
}

// event acts on one event of l, that arrived now. An error ends the link.
func (in *incoming) event(l *link, ev Event, now time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.link.Load() != l {
		return errReplaced
	}
	in.reportLost()
	switch ev.Kind {
	case Message:
		in.frame(ev, now)
		return nil
	case Pong:
		in.a.echo.answered(ev.Topic, now)
		return in.a.subs.answered(l, ev.Topic)
	case Subscribed:
		in.confirmations++
		if err := in.a.subs.confirmedBy(l, ev.Topic); err != nil {
			return err
		}
	case Unsubscribed:
		if err := in.a.subs.unsubscribedBy(l, ev.Topic); err != nil {
			return err
		}
	case Denied:
		if err := in.a.subs.deniedBy(l, ev.Topic, ev.Err); err != nil {
			return err
		}
	}
	resumed := in.a.subs.tryResume(l)
	if resumed && !in.resume(l) {
		return errReplaced
	}
	in.news(resumed)
	return nil
}

// news reports the gaps of single topics.
func (in *incoming) news(now bool) {
	for _, g := range in.a.subs.takeNews(now) {
		in.a.handler.Gap(g)
	}
}

// resume makes l the link that counts, and reports the outage that it ends. The writer is told before: Start returns,
// or the gap is reported, and then the node asks who is there. It reports false when l was given up meanwhile.
func (in *incoming) resume(l *link) bool {
	now := time.Now()
	in.turn.Lock()
	if in.link.Load() != l {
		in.turn.Unlock()
		return false
	}
	if l.outage != nil && l.outage.moved {
		l.outage.moves(in.aloneSince(l.outage.since))
		in.a.writer.moved(l.outage.since)
	}
	var peers []crosscast.NodeID
	until := now.Add(in.a.gatherTime())
	if l.outage == nil {
		in.started = now
	} else {
		for _, o := range in.origins.m {
			if o.peer && !o.left && l.outage.since.Sub(o.heard) < 6*in.a.echo.timeout() {
				peers = append(peers, o.id)
			}
		}
	}
	g, gathers := in.a.dialect.(Gatherer)
	if gathers = gathers && l.outage != nil && !in.a.self.EmitOnly; gathers {
		peers = append(peers, gathered)
	}
	l.resumedAt, in.resumedAt, in.doubted = now, now, now
	in.a.echo.begin(l)
	if !in.a.self.EmitOnly {
		in.a.writer.linkIsUp(peers, until)
	}
	if gathers {
		in.a.wg.Go(func() { in.a.gather(g, until) })
	}
	in.a.state.linkResumed()
	if l.outage != nil {
		in.a.stats.reconnects.Add(1)
	}
	close(l.resumed)
	in.turn.Unlock()
	if l.outage != nil {
		since := l.outage.since
		if in.a.subs.hashed != nil {
			since = in.unnamedSince(since)
		}
		in.covered(since)
		in.a.handler.Gap(crosscast.Gap{Since: since, Until: now, Reason: l.outage.reason})
	}
	return true
}

func (in *incoming) frame(ev Event, now time.Time) {
	a := in.a
	t, resumed, news := a.subs.lookup(ev.Topic)
	switch {
	case t == nil:
		a.count(dropUnwanted)
		return
	case !resumed:
		a.count(dropResuming)
		return
	}
	if news {
		in.news(true)
	}
	large := len(ev.Data) > a.o.MaxFrame+maxHeader
	if large {
		a.count(dropTooLarge)
		if a.dialect != nil {
			in.foreignTooLarge(t, now)
			return
		}
		if t.to.ingress {
			return
		}
	}
	if a.dialect != nil {
		in.foreign(ev.Topic, ev.Data, now)
		return
	}
	if t.to.ingress {
		in.ingress(ev.Data)
		return
	}
	h, err := in.reader.Reset(ev.Data, t.to.name)
	if err != nil {
		if !large {
			a.count(dropFor(err))
		}
		return
	}
	if h.Origin == a.self.ID {
		if t.to == a.echoTo {
			a.echo.hear(h.Number, now)
			in.unheard(now)
			in.noteHeard(now)
		}
		return
	}
	if h.Previous >= h.Number {
		a.count(dropMalformed)
		return
	}
	a.stats.framesIn.Add(1)
	a.stats.bytesIn.Add(uint64(len(ev.Data)))
	o := in.originOf(h.Origin, now)
	if o.lost && h.Number > o.highest {
		in.found(o, h.Number, now)
	}
	gap := crosscast.Gap{Origin: o.id, Until: now}
	if t.to.name != (crosscast.Address{}) {
		gap.Names = []crosscast.Address{t.to.name}
	}
	if t.to.carriesLosses() {
		a.writer.heardFrom(o.id)
	}
	if h.Control {
		if h.Number > o.highest {
			o.belief.rises(h.Number, o.highest, now, a.echo.timeout())
		} else if t.to.isEveryone() && in.isHeartbeat() && o.belief.contradicts(h.Number, now, a.echo.timeout()) {
			o = in.heal(o, h.Number, now)
			h, _ = in.reader.Reset(ev.Data, t.to.name)
		}
	}

	b := t.books.of(o)
	if b.epoch == 0 {
		b.resume(t)
	}
	if a.subs.hashed != nil {
		if h.Number == 1 { // nothing was named before
			o.announced.known = true
		}
		if !b.knows(t.epoch) && h.Previous > 0 {
			in.missed(t, o, h.Previous, now)
		}
	}
	v, hole := b.judge(h, t.epoch)
	switch v {
	case copied:
		a.count(dropCopy)
		return
	case overdue:
		a.count(dropLate)
		gap.From, gap.To, gap.Reason, gap.Since = h.Number, h.Number, crosscast.GapLate, in.maybeQueued(o)
		if hole > 0 {
			gap.From = hole
		}
		a.handler.Gap(gap)
		return
	}
	o.belief.low = 0
	o.fresh = now
	a.mover.heard(o.id)
	if a.subs.hashed != nil {
		o.announced.mark(in.confirmations, h.Number)
		if o.announced.awaited {
			o.announced.awaited, o.announced.heardAt = false, now
		}
	}
	previous := b.heard
	b.heard = now.Sub(in.started)
	if t.to.carriesLosses() {
		in.losses(o, h, now)
	}
	if hole > 0 {
		gap.From, gap.To, gap.Reason, gap.Since = hole, h.Previous, crosscast.GapHole, in.started.Add(previous)
		a.handler.Gap(gap)
	}
	if large || !in.instructions(o, t, h.Number) {
		// What came before the damage was handed over; of a frame that is too large, nothing.
		gap.From, gap.To, gap.Reason, gap.Since = h.Number, h.Number, crosscast.GapHole, in.maybeQueued(o)
		if previous > 0 {
			gap.Since = in.started.Add(previous)
		}
		a.handler.Gap(gap)
	}
}

// originOf finds a peer's books, and once a minute forgets peers that are long silent.
func (in *incoming) originOf(id crosscast.NodeID, now time.Time) *origin {
	o, forgotten := in.origins.of(id, now)
	if forgotten != nil && forgotten.lost {
		in.a.count(dropForgotten)
	}
	if now.After(in.sweepAt) {
		in.sweepAt = now.Add(time.Minute)
		in.origins.forget(now, originMemory)
	}
	return o
}

// losses reports what o says that it could not publish, as far as it concerns this node.
func (in *incoming) losses(o *origin, h *crosscast.FrameHeader, now time.Time) {
	ranges, all := o.newLosses(h, in.started, now)
	g := crosscast.Gap{Origin: o.id, Since: in.maybeQueued(o), Until: now, Reason: crosscast.GapLoss}
	o.lossRead = now
	if all {
		in.a.handler.Gap(g)
		return
	}
	for _, r := range ranges {
		if r.To <= o.reportedTo {
			continue
		}
		if names, any := concerned(r.Names, in.a.self.ID); any {
			g.From, g.To, g.Names = r.From, r.To, names
			in.a.handler.Gap(g)
		}
	}
}

// maybeQueued is the earliest time at which o can have emitted what it had not sent when its losses were read last,
// taking its options to be like ours.
func (in *incoming) maybeQueued(o *origin) time.Time {
	if o.lossRead.IsZero() {
		return in.started
	}
	return later(in.started, o.lossRead.Add(-in.a.o.MaxAge-in.a.o.PublishTimeout))
}

// instructions hands over what frame number carries, and reports whether that was all of it.
func (in *incoming) instructions(o *origin, t *topic, number uint64) bool {
	n := uint64(0)
	defer func() { in.a.stats.instructionsIn.Add(n) }()
	for {
		i, copyNumber, err := in.reader.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return true
			}
			in.a.count(dropFor(err))
			return false
		}
		if copyNumber != 0 {
			if copyNumber == o.lastCopy {
				in.a.count(dropCopy)
				continue
			}
			o.lastCopy = copyNumber
		}
		if i.Kind == crosscast.KindQuiet {
			if !in.readQuiet(o, t, number, i.Payload.Data) {
				in.a.count(dropMalformed)
				return false
			}
			continue
		}
		i.From, i.To = o.id, t.to.node
		switch i.Kind {
		case crosscast.KindHello, crosscast.KindHeartbeat:
			o.peer = true
			o.announced.beat = o.heard
			o.belief.says(i.Node.Heartbeat)
		}
		o.left = i.Kind == crosscast.KindGoodbye // what comes after one shows that it was none
		n++
		if i.Ref != "" {
			i.Late = in.a.echo.late(time.Now())
		}
		in.a.handler.Handle(i)
	}
}

func dropFor(err error) dropReason {
	switch {
	case errors.Is(err, crosscast.ErrForeign):
		return dropForeign
	case errors.Is(err, crosscast.ErrVersion):
		return dropVersion
	default:
		return dropMalformed
	}
}
