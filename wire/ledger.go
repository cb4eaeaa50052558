package wire

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// ledger keeps the state of each peer as its frames show it. It passes instructions to the Handler, and reports missing
// ones. receiver.mu guards it and is held while its methods run, apart from heardPeers.
type ledger struct {
	*session
	echo   *echo
	subs   *subscriptions
	sender *sender
	mover  *mover

	reader    frameReader
	to        destination // of the frame that is handled
	origins   origins
	started   time.Time // when the first link resumed
	resumedAt time.Time // when the latest link resumed
	doubted   time.Time // the end of the last reported gap that covers everything since resumedAt
	sweepAt   time.Time

	misrouted     misrouted
	doubtful      bool // on a Scattered bus: a gap is to be reported, see doubt
	strangers     strangers
	clocks        clocks
	opener        opener // if frames are sealed
	confirmations uint64 // of subscriptions, so far
	heardPeers    atomic.Pointer[heardPeers]

	// These are for lookUnheard:
	countedAt time.Time
	fullAt    time.Time // when the latest frame was sent that enough links got
	short     int       // counts since then with too few links
}

// peersAt returns the peers that were present at a past moment, when an outage began.
func (l *ledger) peersAt(since time.Time) (peers []crosscast.NodeID) {
	for _, o := range l.origins.m {
		if o.peer && !o.left && since.Sub(o.heard) < 6*l.patience() {
			peers = append(peers, o.id)
		}
	}
	return peers
}

// handleFrame handles a frame. large means that it is above the size limit; then only its header counts. If the frame was
// sealed, seal is what it came in.
func (l *ledger) handleFrame(t *topic, data []byte, seal *opened, large bool, now time.Time) {
	l.to = t.to()
	h, err := l.reader.reset(data, l.to.implied())
	if err != nil {
		if !large {
			l.dropUnread(t, data, err, now)
		}
		return
	}
	if !l.agrees(h, seal) {
		return
	}
	if h.Origin == l.self.ID {
		if l.to == l.ground.echoes {
			l.echo.handleEcho(h.Number, now)
			l.tellDoubts(now)
			l.lookUnheard(now)
			l.noteHeard(now)
		}
		return
	}
	if h.Previous >= h.Number {
		l.count(dropMalformed)
		return
	}
	l.stats.framesIn.Add(1)
	l.stats.bytesIn.Add(uint64(len(data)))
	o := l.originOf(h.Origin, now)
	if seal != nil {
		o = l.noteSeal(o, seal, now)
	}
	if o.lost && h.Number > o.top() {
		l.found(o, h.Number, now)
	}
	if l.to.carriesLosses() {
		l.sender.heardFrom(o.id)
	}
	if h.Control {
		o = l.checkControl(o, h, seal != nil, now)
		h, _ = l.reader.reset(data, l.to.implied()) // it has read some of it
	}

	b := t.book(o)
	if b.epoch == 0 {
		b.resume(t)
	}
	if seal != nil && l.mayBeReplayed(b, t, seal, now) {
		l.count(dropStale)
		l.reportMissing(o, t, h.Number, h.Number, reasons.GapLate, l.maybeQueued(o), now)
		return
	}
	if l.ground.patchy {
		if h.Number == 1 { // no earlier frame could be named
			o.announced.known = true
		}
		if !b.knows(t.epoch) && h.Previous > 0 {
			l.missed(t, o, h.Previous, now)
		}
	}
	ordered := l.to.carriesLosses() || !l.ground.scattered
	v, hole := b.judge(h, t.epoch, ordered)
	if v == fresh && !ordered && o.told.reaches(h.Number, l.to.name) {
		v = overdue
	}
	switch v {
	case copied:
		l.count(dropCopy)
		return
	case overdue:
		l.count(dropLate)
		from := h.Number
		if hole > 0 {
			from = hole
		}
		l.reportMissing(o, t, from, h.Number, reasons.GapLate, l.maybeQueued(o), now)
		return
	}
	if !l.ground.scattered { // there, a heartbeat that is too low might be a fresh one
		o.belief.low = 0
	}
	o.fresh = now
	l.mover.heard(o.id)
	if l.ground.patchy {
		l.mark(o, h, now)
	}
	previous := b.heard
	b.heard = now.Sub(l.started)
	if l.to.carriesLosses() {
		l.handleLosses(o, h, now)
	}
	if hole > 0 {
		l.reportMissing(o, t, hole, h.Previous, reasons.GapHole, l.started.Add(previous), now)
	}
	if large || !l.handleInstructions(o, t, h.Number) {
		// The instructions before the damage were passed on. A frame that is too large has passed on none.
		since := l.maybeQueued(o)
		if previous > 0 {
			since = l.started.Add(previous)
		}
		l.reportMissing(o, t, h.Number, h.Number, reasons.GapHole, since, now)
	}
}

// reportMissing reports that o's frames on t with numbers from first to last are missing.
func (l *ledger) reportMissing(
	o *origin, t *topic, first, last uint64, reason crosscast.GapReason, since, now time.Time,
) {
	l.reportOn(t, crosscast.Gap{Origin: o.id, From: first, To: last, Since: since, Until: now, Reason: reason})
}

// reportOn reports a gap of the names of a topic, unless it has none left.
func (l *ledger) reportOn(t *topic, g crosscast.Gap) {
	if g.Names = l.subs.gapNames(t); g.Names == nil || len(g.Names) > 0 {
		l.handler.Gap(g)
	}
}

// originOf returns the books of a peer. Once a minute it forgets peers that have long been silent.
func (l *ledger) originOf(id crosscast.NodeID, now time.Time) *origin {
	o, forgotten := l.origins.of(id, now)
	if forgotten != nil {
		if forgotten.lost {
			l.count(dropForgotten)
		}
		l.endMisrouting(forgotten, now)
	}
	if now.After(l.sweepAt) {
		l.sweepAt = now.Add(time.Minute)
		for _, o := range l.origins.m {
			if o.routing != "" && now.Sub(o.heard) > originMemory {
				l.endMisrouting(o, now)
			}
		}
		l.origins.forget(now, originMemory)
		for id, since := range l.clocks.forget(now) {
			l.reportClock(id, since, now)
		}
	}
	return o
}

// handleLosses reports the losses in a header of o, as far as they concern this node.
func (l *ledger) handleLosses(o *origin, h *frameHeader, now time.Time) {
	ranges, all := o.newLosses(h, l.started, now)
	g := crosscast.Gap{Origin: o.id, Since: l.maybeQueued(o), Until: now, Reason: reasons.GapLoss}
	o.lossRead = now
	if all {
		o.told.add(h.Number - 1)
		l.handler.Gap(g)
		return
	}
	for _, r := range ranges {
		if r.To <= o.reportedTo {
			continue
		}
		if names, any := l.concerned(r.Names); any {
			own := g
			own.From, own.To, own.Names = r.From, r.To, names
			own.Since = l.lostSince(&r, g.Since)
			o.told.addLoss(&r)
			l.handler.Gap(own)
		}
	}
}

// lostSince is when the first instruction of a peer's loss was queued, or before, but not before earliest. The frame that
// tells the age of the loss passed through the bus at most as long ago as a frame of this node's own that came back.
func (l *ledger) lostSince(r *lossRange, earliest time.Time) time.Time {
	if r.Age == 0 {
		return earliest
	}
	return later(earliest, l.echo.noOlder().Add(-r.Age-l.patience()/2))
}

// maybeQueued is the earliest time at which o can have emitted instructions that were unsent when its losses were last
// read. It assumes that o has the same options as this node.
func (l *ledger) maybeQueued(o *origin) time.Time {
	if o.lossRead.IsZero() {
		return l.started
	}
	return later(l.started, o.lossRead.Add(-l.o.MaxAge-l.o.PublishTimeout))
}

// handleInstructions passes on the instructions of a frame, and reports whether it could read all of them.
func (l *ledger) handleInstructions(o *origin, t *topic, number uint64) bool {
	n := uint64(0)
	defer func() { l.stats.instructionsIn.Add(n) }()
	var routing []byte
	var name string     // of the node, if the frame has it
	introduces := false // the frame tells how its origin spreads names
	for {
		it, err := l.reader.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				if introduces && l.reader.header.Control {
					l.compareRouting(o, string(routing), name)
				}
				return true
			}
			l.count(dropFor(err))
			return false
		}
		inst := it.inst
		switch {
		case it.routing != nil:
			routing, introduces = it.routing, true
			continue
		case inst == nil:
			if !l.handleQuiet(o, t, number, it.quiet) {
				l.count(dropMalformed)
				return false
			}
			continue
		}
		inst.To = l.to.node
		if it.copyNumber != 0 && inst.Kind == kind.Emit { // others might be on the topics of rooms
			inst.To = ""
		}
		switch inst.Kind {
		case kind.Hello, kind.Heartbeat:
			if inst.Kind == kind.Heartbeat && l.to.isEveryone() {
				o.announced.backlog = 0 // if no quiet topics follow, none waits for longer than a heartbeat
			}
			o.peer = true
			o.announced.beat = o.heard
			o.belief.says(inst.Node.Heartbeat)
			name, introduces = inst.Node.Name, true
		}
		o.left = inst.Kind == kind.Goodbye // an instruction after a goodbye revokes it
		if o.left {
			l.endMisrouting(o, o.heard)
		}
		if it.copyNumber != 0 && l.isCopy(o, t, number, &it) {
			continue
		}
		if it.copyNumber == 0 && l.together != nil && inst.Kind.Control() {
			l.handleHere(inst, o.id)
			continue
		}
		n++
		if inst.Ref != "" {
			inst.Late = l.echo.late(time.Now())
		}
		l.handler.Handle(inst)
	}
}

func dropFor(err error) dropReason {
	switch {
	case errors.Is(err, ErrForeign):
		return dropForeign
	case errors.Is(err, errVersion):
		return dropVersion
	default:
		return dropMalformed
	}
}

// isCopy reports whether an instruction has come before, on another topic or part. One that might have is a gap.
func (l *ledger) isCopy(o *origin, t *topic, number uint64, it *item) bool {
	v := fresh
	if l.together != nil {
		v = l.together.judge(o.id, it.inst.Kind, it.copyNumber, o.heard)
	} else if it.copyNumber == o.lastCopy {
		v = copied
	}
	o.lastCopy = it.copyNumber
	switch v {
	case copied:
		if !it.inst.Kind.Control() { // whose copies are for the books of this part
			l.count(dropCopy)
		}
	case overdue:
		l.count(dropLate)
		l.reportMissing(o, t, number, number, reasons.GapLate, l.maybeQueued(o), o.heard)
	}
	return v != fresh
}
