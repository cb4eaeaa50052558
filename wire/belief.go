package wire

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// belief decides which frame numbers are credible.
//
// A stranger with permission to publish can write any number beside any node's name. Frames that are not above a node's
// highest number are dropped as copies, so a stranger's high number would hide the node's own frames. These numbers are
// protected as follows:
//
//   - A frame's number. The books keep an older highest number, which the node itself has certainly reached ("kept").
//     The present highest number was a stranger's if two heartbeats in a row have rising numbers between the kept and
//     the highest one, which never came before. The books then begin anew at the second of these heartbeats. That is
//     one gap of all of that origin. Numbers up to the kept one stay copies, so replayed frames heal nothing.
//   - The number of the previous frame, and the numbers of quiet topics. They must be less than the frame's own number.
//   - The number of an emission in several copies. It is compared with the last one only, because copies come in a row.
//   - The counts of losses and of quiet topics. They never fall. If a frame in its order has a lower count, the higher
//     one was a stranger's. Messages might have been missed since, so that is a gap of all of that origin.
//   - The number of an echo. This node must have drawn it.
//
// On a [Scattered] bus, a heartbeat might be overtaken by frames of rooms. There it counts as below the highest number if
// it is below what was the highest one at the heartbeat before.
//
// A sealed frame has the number that its origin drew, so sealed frames never heal the books. Without a seal two things stay
// hidden: a number that the origin itself overtakes before its second heartbeat; and a stranger's heartbeats in the name
// of a silent node for longer than six heartbeats take. Emitters have no heartbeats, so their books heal only when they are forgotten.
type belief struct {
	kept   uint64    // the origin has certainly reached this number
	keptAt time.Time // when it was the highest
	mark   uint64    // the next kept number, unless a lower heartbeat comes first
	markAt time.Time
	beats  []uint64  // numbers above kept of control frames that have come; at most maxBeats
	low    uint64    // the last of the new heartbeats in a row below the highest number; 0: none
	lowAt  time.Time // when the first of that row, or the lowest, came
	denied bool      // there was a new heartbeat below the highest number since markAt
	rose   int       // control frames above the highest number since markAt

	interval time.Duration // between heartbeats, by the origin's own account
}

const (
	maxBeats    = 256
	maxInterval = time.Minute // of a node's heartbeats
	healAfter   = 3           // a number is kept after this many intervals
)

// rises notes a control frame above the highest number so far, which is before. short is the least interval.
func (h *belief) rises(number, before uint64, now time.Time, short time.Duration) {
	h.low = 0
	if now.Sub(h.markAt) >= healAfter*max(h.interval, short) {
		if !h.denied && h.rose >= healAfter-1 { // else a stranger might speak for a silent node
			h.kept, h.keptAt = h.mark, h.markAt
			h.mark = before
			h.beats = slices.DeleteFunc(h.beats, func(n uint64) bool { return n <= h.kept })
		}
		h.markAt, h.denied, h.rose = now, false, 0
	}
	h.rose++
	if len(h.beats) < maxBeats {
		h.beats = append(h.beats, number)
	}
}

// contradicts notes a heartbeat that is not above the highest number, and reports whether the highest number is a
// stranger's.
func (h *belief) contradicts(number uint64, now time.Time, short time.Duration) bool {
	if number <= h.kept || slices.Contains(h.beats, number) {
		return false
	}
	h.denied = true
	switch {
	case number == h.low: // a copy
		return false
	case h.low == 0 || number < h.low:
		h.low, h.lowAt = number, now
		return false
	}
	h.low = number
	return now.Sub(h.lowAt) >= short*3/4 // overtaken frames, as after an abandoned batch, come all at once
}

// says notes the interval in a heartbeat.
func (h *belief) says(interval time.Duration) {
	h.interval = max(h.interval, min(interval, maxInterval))
}

// resume starts a new book at the number where its origin's books have healed, if the topic was subscribed at that
// time.
func (b *book) resume(t *topic) {
	if o := b.origin; o.before > 0 && t.confirmation <= o.healed {
		b.epoch, b.before, b.first, b.heard = t.epoch, o.before, o.before+1, o.healedAt
	}
}

// isHeartbeat reports whether the control frame in the reader is a heartbeat. It consumes the frame's first items.
func (l *ledger) isHeartbeat() bool {
	it, err := l.reader.next()
	if it.routing != nil {
		it, err = l.reader.next()
	}
	return err == nil && it.inst != nil && it.inst.Kind == kind.Heartbeat
}

// checkControl compares the number of o's control frame, in the reader, with the highest one. It returns the origin, which
// heal has replaced if that was a stranger's. A sealed frame heals nothing.
func (l *ledger) checkControl(o *origin, h *frameHeader, sealed bool, now time.Time) *origin {
	credible := o.highest
	if l.ground.scattered {
		credible = o.standard
	}
	everyone := l.to.isEveryone()
	switch {
	case h.Number > max(credible, o.highest):
		o.belief.rises(h.Number, o.highest, now, l.patience())
	case everyone && h.Number <= credible && !sealed && l.isHeartbeat() && o.belief.contradicts(h.Number, now, l.patience()):
		o = l.heal(o, h.Number, now)
	}
	if everyone && l.ground.scattered {
		o.standard = max(o.top(), h.Number)
	}
	return o
}

// heal begins the books of o anew. The heartbeat with this number is the first frame that counts.
func (l *ledger) heal(o *origin, number uint64, now time.Time) *origin {
	l.count(dropHealed)
	h := *o
	o.forgotten = true
	h.highest, h.before = number-1, number-1
	h.reached, h.standard = number-1, number-1
	if h.reportedTo >= number {
		h.reportedTo = 0
	}
	h.told.forget(number)
	h.lost, h.left = false, false
	h.healed, h.healedAt = l.confirmations, now.Sub(l.started)
	h.announced.firsts = nil
	h.belief.beats = slices.DeleteFunc(h.belief.beats, func(n uint64) bool { return n > number })
	h.belief.rises(number, number-1, now, l.patience())
	h.belief.mark, h.belief.markAt = number-1, now
	l.origins.m[h.id] = &h
	l.handler.Gap(crosscast.Gap{
		Origin: h.id, Since: later(l.started, o.belief.keptAt), Until: now, Reason: reasons.GapForged,
	})
	return &h
}
