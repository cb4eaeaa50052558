package wire

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A peer with a wrong clock is no stranger, because its frames are genuine. They are refused while this node does not know
// it: see [opener.open]. That is a gap of all that it emits: once when two of its frames have shown that it goes on,
// because a single one might be a captured frame of a past node; and once when it is over. Frames might also be old because
// this node was held up. Then they are a gap when the first one comes that is not.

// clocks has the nodes whose frames were refused because of their time.
type clocks struct {
	all map[crosscast.NodeID]*clock // at most maxClocks

	// Of those that were too many, frames might be missing since then; zero: of none. So a node that is in no list is a gap,
	// too, when it is accepted.
	others   time.Time
	othersAt time.Time // when one of them was refused last
}

type clock struct {
	first  time.Time // when its first frame was refused
	since  time.Time // since when frames are missing that no gap tells of
	told   bool      // a gap has told of the first ones
	heard  time.Time
	number uint64    // of its latest frame
	sent   time.Time // when that was sent, by its clock
}

// maxClocks is how many are remembered. Only frames of nodes that have the key get here, also captured ones.
const maxClocks = 1024

// refused notes a frame. It returns true if the clock is certainly wrong, and since when frames are missing, once.
func (c *clocks) refused(id crosscast.NodeID, f *opened, now time.Time) (since time.Time, wrong bool) {
	w := c.all[id]
	if w == nil {
		since = earlier(now, f.sent)
		if len(c.all) >= maxClocks {
			c.others, c.othersAt = earlier(c.others, since), now
			return since, false
		}
		if c.all == nil {
			c.all = make(map[crosscast.NodeID]*clock)
		}
		c.all[id] = &clock{first: now, since: since, heard: now, number: f.number, sent: f.sent}
		return since, false
	}
	passed := now.Sub(w.heard)
	if passed < minEcho {
		return since, false
	}
	if !w.told && f.number > w.number && (f.sent.Sub(w.sent)-passed).Abs() < passed/2 { // it runs: it is no frame of the past
		since, wrong = w.first, true
		w.told, w.since = true, now
	}
	w.heard, w.number, w.sent = now, f.number, f.sent
	return since, wrong
}

// accepted forgets a node. It returns since when frames of its might be missing; zero: none is.
func (c *clocks) accepted(id crosscast.NodeID) (since time.Time) {
	w := c.all[id]
	if w == nil {
		return c.others
	}
	delete(c.all, id)
	return w.since
}

// forget forgets who has long been silent. It returns those whose clocks were certainly wrong, and since when frames of
// theirs are missing.
func (c *clocks) forget(now time.Time) (gone map[crosscast.NodeID]time.Time) {
	for id, w := range c.all {
		if now.Sub(w.heard) <= originMemory {
			continue
		}
		delete(c.all, id)
		if w.told {
			if gone == nil {
				gone = make(map[crosscast.NodeID]time.Time)
			}
			gone[id] = w.since
		}
	}
	if now.Sub(c.othersAt) > originMemory {
		c.others = time.Time{}
	}
	return gone
}

// reportClock reports that frames of a node are missing because of its clock.
func (l *ledger) reportClock(id crosscast.NodeID, since, now time.Time) {
	l.handler.Gap(crosscast.Gap{Origin: id, Since: later(l.started, since), Until: now, Reason: reasons.GapClock})
}
