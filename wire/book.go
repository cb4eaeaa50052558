package wire

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast"
)

// This file has the receiver's books: the last frame number of each node, and of each node on each topic. They are pure
// data. Their rules implement "Never silent" in the package documentation of crosscast. Tests run them over random
// schedules.

// origin is the state of one peer's frames.
type origin struct {
	id         crosscast.NodeID
	highest    uint64 // highest number of any frame so far; on a Scattered bus, of those that keep an order
	reached    uint64 // on a Scattered bus: highest number of the others
	standard   uint64 // on a Scattered bus: top at the latest heartbeat
	before     uint64 // numbers up to it are copies on every topic: the books have healed there
	healed     uint64 // ledger.confirmations then
	healedAt   time.Duration
	belief     belief    // which numbers are credible
	lastCopy   uint64    // number of the last emission that came in several copies and was acted on
	lossCount  uint64    // of the losses that it has reported
	lossKnown  bool      // whether lossCount was ever read
	lossRead   time.Time // when it was read last
	heard      time.Time // when the latest frame came
	fresh      time.Time // when the latest new frame came
	since      time.Time // when the first frame came
	known      bool      // another frame came a while after the first
	peer       bool      // it said hello, or has heartbeats; emitters do not
	left       bool      // it said goodbye
	lost       bool      // it was taken for dead, without a goodbye, and has not come back
	lostAt     time.Time // when
	reportedTo uint64    // missing frames up to this number were reported, on every topic
	dormant    bool      // silent for so long that its books are forgotten
	forgotten  bool      // no longer in origins: its books may be reused
	announced  announced // on a Patchy bus
	routing    string    // that does not agree with this node's; empty: it agrees
	toldUntil  time.Time // the end of the latest gap about that
	sealed     bool      // a sealed frame of it was opened
	told       told      // on a Scattered bus
}

// book has the numbers of one origin's frames on one topic.
type book struct {
	origin *origin
	heard  time.Duration // when the last delivered frame came, counted from the start of the adapter
	last   uint64        // number of the last frame
	epoch  uint32        // the topic's subscription during which it came
	before uint64        // the value of last at the beginning of the epoch
	first  uint64        // the least number of the epoch that came, or that would be known as missed; 0: none
}

// books are the books of one topic. There are only a few, so the search is linear.
type books []book

// book returns the book of o, and makes it if it is missing.
func (t *topic) book(o *origin) *book {
	if t.books == nil {
		t.books = new(books)
	}
	return t.books.of(o)
}

// of returns the book of o, and makes it if it is missing. It drops books of forgotten origins.
func (b *books) of(o *origin) *book {
	if e := b.find(o); e != nil {
		return e
	}
	kept := (*b)[:0]
	for _, e := range *b {
		if !e.origin.forgotten {
			kept = append(kept, e)
		}
	}
	clear((*b)[len(kept):])
	*b = append(kept, book{origin: o, last: o.before})
	return &(*b)[len(*b)-1]
}

// find returns the book of o, if there is one.
func (b *books) find(o *origin) *book {
	if b == nil {
		return nil
	}
	for i := range *b {
		if (*b)[i].origin == o {
			return &(*b)[i]
		}
	}
	return nil
}

// knows reports whether a frame came, or was missed, in the epoch.
func (b *book) knows(epoch uint32) bool { return b.epoch == epoch && b.first != 0 }

// beginEpoch begins an epoch of b.
func (b *book) beginEpoch(epoch uint32) { b.epoch, b.before, b.first = epoch, b.last, 0 }

type verdict uint8

const (
	fresh   verdict = iota
	copied          // a frame that came before: dropped
	overdue         // a frame that its successor overtook: dropped, and a gap
)

// judge enters a frame in the books and returns the verdict. If frames before it are missing on this topic, hole is the
// first number that might be missing; the frame's predecessor is the last.
//
// epoch counts the subscriptions of this topic. The first frame of an epoch is not checked for a hole, because its
// predecessors came before, or are part of an outage that is reported as a whole. A later frame is overdue if its
// number is below that first frame, and it did not come before. A control frame is no predecessor of another frame.
//
// ordered means that the origin's frames keep their order with those of other topics.
func (b *book) judge(h *frameHeader, epoch uint32, ordered bool) (v verdict, hole uint64) {
	o := b.origin
	if h.Control && h.Number <= o.highest {
		return copied, 0
	}
	if b.epoch != epoch {
		b.beginEpoch(epoch)
	}
	known := b.first != 0
	switch {
	case h.Number <= b.before, known && b.first <= h.Number && h.Number <= b.last:
		return copied, 0
	case known && h.Number < b.first:
		return overdue, 0
	case known && h.Previous > max(b.last, o.reportedTo):
		hole = max(b.last, o.reportedTo) + 1
	}
	first := h.Number
	if h.Control {
		first = h.Previous + 1 // its predecessor was not seen
		b.last = max(b.last, h.Previous)
	} else {
		b.last = h.Number
	}
	if !known {
		b.first = first
	}
	switch {
	case !ordered:
		o.reached = max(o.reached, h.Number)
	case h.Number <= o.highest:
		return overdue, hole
	default:
		o.highest = h.Number
	}
	return fresh, hole
}

// top returns the highest number of any frame.
func (o *origin) top() uint64 { return max(o.highest, o.reached) }

// returns notes that a lost origin is back, with frame n. Its frames since it was lost are missing, unless n is the
// next number: heartbeats have numbers too.
func (o *origin) returns(n uint64) (missed bool) {
	o.lost = false
	if n == o.top()+1 {
		return false
	}
	o.reportedTo = n - 1
	o.told.add(n - 1)
	return true
}

// newLosses returns the ranges that the origin lost since its last header. all is set if there are more than it lists.
// An origin that is new to this node, and has lost nothing since this node started, has no losses that concern this
// node.
func (o *origin) newLosses(h *frameHeader, started, now time.Time) (ranges []lossRange, all bool) {
	if !o.lossKnown {
		o.lossKnown = true
		if now.Add(-h.LossAge).Before(started) {
			o.lossCount = h.LossCount
		}
	}
	if h.LossCount <= o.lossCount {
		if h.LossCount == o.lossCount || h.LossCount == 0 {
			return nil, false
		}
		o.lossCount = h.LossCount // the higher count was not the origin's
		return nil, true
	}
	n := h.LossCount - o.lossCount
	o.lossCount = h.LossCount
	if n > uint64(len(h.Losses)) {
		return nil, true
	}
	return h.Losses[uint64(len(h.Losses))-n:], false
}

// origins are the peers with remembered numbers, at most maxOrigins. If one is forgotten, detection is lost, but there
// is no false alarm about its past.
type origins struct {
	m       map[crosscast.NodeID]*origin
	passing []*origin // only while there is no room: origins that are not known, oldest first; might have others
}

// of returns the origin named id, and makes it if it is missing. If there is no room, it forgets another one and
// returns that.
func (os *origins) of(id crosscast.NodeID, now time.Time) (o, forgotten *origin) {
	if o = os.m[id]; o != nil {
		o.known = o.known || now.Sub(o.since) >= minEcho
	} else {
		if len(os.m) >= maxOrigins {
			forgotten = os.mostSilent()
			forgotten.forgotten = true
			delete(os.m, forgotten.id)
		} else {
			os.passing = nil
		}
		// A separate string, so that the frame it came in is not kept.
		o = &origin{id: crosscast.NodeID([]byte(id)), since: now}
		os.m[o.id] = o
		if forgotten != nil {
			os.passing = append(os.passing, o)
		}
	}
	o.heard, o.dormant = now, false
	return o, forgotten
}

// forget drops the books of origins that have been silent for longer than silence. It keeps their numbers, which show
// missing frames when such an origin returns. Origins that have left do not return, so it drops all about them.
func (os *origins) forget(now time.Time, silence time.Duration) {
	os.passing = nil
	for id, o := range os.m {
		if o.dormant || now.Sub(o.heard) <= silence {
			continue
		}
		o.forgotten = true
		delete(os.m, id)
		if !o.left {
			kept := *o
			kept.dormant, kept.forgotten = true, false
			kept.healed = 0 // later books do not start there
			kept.belief.beats, kept.announced.firsts = nil, nil
			os.m[id] = &kept
		}
	}
}

// mostSilent returns the origin that was heard longest ago. It prefers origins that were heard for a moment only, so
// that a stranger's invented names do not push out peers. It is fast for these, because a stranger might invent many.
func (os *origins) mostSilent() (known *origin) {
	for len(os.passing) > 0 {
		o := os.passing[0]
		os.passing[0], os.passing = nil, os.passing[1:]
		if os.m[o.id] == o && !o.known {
			return o
		}
	}
	for _, o := range os.m {
		switch {
		case !o.known:
			os.passing = append(os.passing, o)
		case known == nil || o.heard.Before(known.heard):
			known = o
		}
	}
	if len(os.passing) == 0 {
		return known
	}
	slices.SortFunc(os.passing, func(a, b *origin) int { return a.heard.Compare(b.heard) })
	first := os.passing[0]
	os.passing = os.passing[1:]
	return first
}
