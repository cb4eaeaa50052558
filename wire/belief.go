package wire

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// What numbers can be believed.
//
// Whoever may publish on the bus can write any number beside any node's name, and what is not above the highest number
// of a node is taken for a copy. So the numbers that a stranger can raise are not believed for good:
//
//   - A frame's number. The books keep the highest number from a while ago, of which it is certain by now that the node
//     itself had reached it. When two heartbeats in a row have numbers that rise, that never came before, and that are
//     between that and the highest, then the highest was none of the node's. The books then begin anew at the second of
//     them, and that is one gap of all of that origin. Numbers up to the kept one stay copies, so replayed frames heal
//     nothing.
//   - The number of the previous frame, and those of topics that have become quiet, are less than the frame's own.
//   - The number of an emission that comes in several copies is compared with the last one only: copies come in a row.
//   - The counts of losses and of quiet topics never fall. When a frame in its order has a lower one, the higher one was
//     none of the node's: something may have been missed since, which is a gap of all of that origin.
//   - The number of an echo is one that this node has drawn.
//
// A number that the origin itself overtakes before its second heartbeat is not seen: that would take a seal. So would it to
// tell a silent node from a stranger who sends heartbeats in its name for longer than six of them take. Emitters have no
// heartbeats, so their books heal only when they are forgotten.
type belief struct {
	kept   uint64    // the origin had certainly reached it
	keptAt time.Time // when that number was the highest
	mark   uint64    // it will be kept, unless a lower heartbeat comes before
	markAt time.Time
	beats  []uint64 // of the heartbeats above kept that were heard; at most maxBeats
	low    uint64   // the last one in a row below the highest that never came before; 0: none
	lowAt  time.Time
	denied bool // there was one since mark
	rose   int  // control frames above the highest since mark

	interval time.Duration // between heartbeats, as the origin says
}

const (
	maxBeats    = 256
	maxInterval = time.Minute // of a node's heartbeats
	healAfter   = 3           // times the interval that a number must stand before it is kept
)

// rises notes a fresh control frame, and that the highest number before was another. short is the least interval.
func (h *belief) rises(number, before uint64, now time.Time, short time.Duration) {
	h.low = 0
	if now.Sub(h.markAt) >= healAfter*max(h.interval, short) {
		if !h.denied && h.rose >= healAfter-1 { // else somebody may speak for one that is silent
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

// contradicts notes a heartbeat that is not above the highest number, and reports whether the highest is none of the
// origin's.
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
	return now.Sub(h.lowAt) >= short*3/4 // frames that were overtaken, as after an abandoned batch, come at once
}

// says notes the interval that a heartbeat names.
func (h *belief) says(interval time.Duration) {
	h.interval = max(h.interval, min(interval, maxInterval))
}

// resume has a book that is new since its origin's healed go on from there, if the topic was subscribed then.
func (b *book) resume(t *topic) {
	if o := b.origin; o.before > 0 && t.confirmation <= o.healed {
		b.epoch, b.before, b.first, b.heard = t.epoch, o.before, o.before+1, o.healedAt
	}
}

// isHeartbeat reports whether the frame that is being read, a control frame, is one. Nothing else can be read of it then.
func (l *ledger) isHeartbeat() bool {
	it, err := l.reader.next()
	return err == nil && it.inst != nil && it.inst.Kind == kind.Heartbeat
}

// heal makes the books of o anew: heartbeat number is the first one that counts.
func (l *ledger) heal(o *origin, number uint64, now time.Time) *origin {
	l.count(dropHealed)
	h := *o
	o.forgotten = true
	h.highest, h.before = number-1, number-1
	if h.reportedTo >= number {
		h.reportedTo = 0
	}
	h.lost, h.left = false, false
	h.healed, h.healedAt = l.confirmations, now.Sub(l.started)
	h.announced.firsts = nil
	h.belief.beats = slices.DeleteFunc(h.belief.beats, func(n uint64) bool { return n > number })
	h.belief.rises(number, number-1, now, l.patience())
	h.belief.mark, h.belief.markAt = number-1, now
	l.origins.m[h.id] = &h
	l.handler.Gap(crosscast.Gap{
		Origin: h.id, Since: later(l.started, o.belief.keptAt), Until: now, Reason: crosscast.GapForged,
	})
	return &h
}
