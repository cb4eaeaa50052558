package wire

import (
	"encoding/binary"
	"time"

	"github.com/crosscast/crosscast"
)

// What a receiver makes of the topics that an origin names (quiet.go), and of predecessors on topics on which it has
// heard nothing of that origin yet: a number above the book's last was missed.
//
// Where the book has no frame of this subscription, that number may be of a time before it. It is surely later when it is
// above a number that was heard of the origin, on any topic, after the subscription was confirmed: frames of one origin
// arrive in the order of their numbers. So a message is missed in silence only when it is lost before anything of its
// origin was heard since the topic was subscribed for the first time: nothing tells then that it was not sent before. Nodes
// have heartbeats; of an emitter that may take longer. After an outage, what is in doubt is reported.

// announced is what is known of the topics that an origin names.
type announced struct {
	known         bool          // counted is of this link
	counted       uint64        // the topics that it has counted, as it said last
	reportedUntil time.Time     // what was published before then, and was missed, has been reported
	backlog       time.Duration // how long topics wait to be named
	beat          time.Time     // the last heartbeat
	awaited       bool          // nothing was heard since the link has resumed
	heardAt       time.Time     // when something was, for the first time
	firsts        []firstHeard  // at most maxFirsts
}

// firstHeard is the first frame that was heard after a subscription had been confirmed: it was sent after that.
type firstHeard struct {
	confirmation uint64 // ledger.confirmations when it was heard
	number       uint64
}

// maxFirsts bounds the subscriptions that an origin's frames are told apart by. Past it, every other one is forgotten: a
// later one takes its place, and less is known to be missed.
const maxFirsts = 128

// mark enters the number of a frame that was heard.
func (n *announced) mark(confirmation, number uint64) {
	if k := len(n.firsts); k > 0 && n.firsts[k-1].confirmation == confirmation {
		return
	}
	if len(n.firsts) == maxFirsts {
		kept := n.firsts[:0]
		for i := 0; i < maxFirsts; i += 2 {
			kept = append(kept, n.firsts[i])
		}
		n.firsts = kept
	}
	n.firsts = append(n.firsts, firstHeard{confirmation, number})
}

// later reports whether a frame was surely sent after a confirmation, and the least number that may have been.
func (n *announced) later(confirmation, number uint64) (from uint64, sure bool) {
	from = 1
	for _, m := range n.firsts {
		if m.confirmation >= confirmation {
			return from, number > m.number
		}
		from = m.number + 1
	}
	return 0, false
}

// missed reports a gap if frame number of o on t, and perhaps others before it, were missed.
func (l *ledger) missed(t *topic, o *origin, number uint64, now time.Time) {
	b := t.books.find(o)
	if b != nil && number <= b.last {
		return
	}
	g := crosscast.Gap{Origin: o.id, To: number, Until: now, Reason: crosscast.GapHole}
	if b != nil && b.knows(t.epoch) {
		g.From = b.last + 1
	} else {
		from, sure := o.announced.later(t.confirmation, number)
		if !sure {
			if t.epoch > 1 {
				l.doubt(o, now)
			}
			return
		}
		b = t.books.of(o)
		b.beginEpoch(t.epoch)
		b.first = max(from, b.last+1)
		b.heard = t.confirmedAt.Sub(l.started)
		g.From = b.first
	}
	g.Since = l.started.Add(b.heard) // which stays: what comes behind number may have been sent before it was named
	b.last = number
	g.Names = t.to.names()
	l.handler.Gap(g)
}

// handleQuiet acts on the topics that o names in frame number, which came on t, and reports whether they are whole.
func (l *ledger) handleQuiet(o *origin, t *topic, number uint64, data []byte) bool {
	if !l.ground.patchy { // a bus on which nothing is missed that way
		return true
	}
	now := time.Now()
	n := &o.announced
	first, data := uvarint(data)
	age, data := uvarint(data)
	if data == nil || age > maxBacklog {
		return false
	}
	missedNames := func() {
		l.count(dropUntold)
		l.handler.Gap(crosscast.Gap{Origin: o.id, Since: l.toldBy(o), Until: now, Reason: crosscast.GapHole})
	}
	switch {
	case first <= n.counted:
	case l.mayBegin(o, now):
		n.counted = first
	default:
		n.counted = first
		missedNames()
	}
	n.known = true
	last := uint64(0)
	for ; len(data) > 0; first++ {
		if len(data) < 8 {
			return false
		}
		hash, step := binary.BigEndian.Uint64(data), uint64(0)
		if step, data = uvarint(data[8:]); data == nil {
			return false
		}
		if last += step; last >= number {
			return false
		}
		if first < n.counted { // named before
			continue
		}
		n.counted = first + 1
		if t := l.subs.named(hash); t != nil {
			l.missed(t, o, last, now)
		}
	}
	if t.to.isEveryone() && first < n.counted { // what it had counted was none of the origin's
		n.counted = first
		missedNames()
	}
	n.backlog = time.Duration(age) * time.Millisecond
	n.reportedUntil = now.Add(-n.backlog - l.self.Heartbeat)
	return true
}

// mayBegin reports whether what o has counted so far does not concern this node: it was before the link, or is a part of
// the outage that this link has ended. A node answers an introduction, and takes a heartbeat to name anything new. Of an
// emitter the first count is the one to begin with, whenever it comes.
func (l *ledger) mayBegin(o *origin, now time.Time) bool {
	return !o.announced.known && (!o.peer || now.Sub(l.resumedAt) < l.self.Heartbeat)
}

// toldBy is since when something of o may have been missed that it has not told of yet.
func (l *ledger) toldBy(o *origin) time.Time {
	return later(l.started, o.announced.reportedUntil)
}

// unnamedSince is when the gap of an outage begins on a patchy bus: what was missed before it, and what nobody was
// told of yet, may have been named during it. Origins are counted anew.
func (l *ledger) unnamedSince(since time.Time) time.Time {
	wait := toldWithin * l.self.Heartbeat
	before := since.Add(-wait)
	for _, o := range l.origins.m {
		n := &o.announced
		n.known, n.awaited = false, true
		last := since
		if o.peer && !o.left && !o.lost && !o.dormant && n.beat.Before(last) { // it may have been cut off before it could tell
			last = n.beat
		}
		if at := last.Add(-wait - n.backlog); at.Before(before) {
			before = at
		}
	}
	return later(l.started, before)
}

// doubt reports what may be missed of o since the link has resumed, and may also be a part of the outage before: nothing
// tells them apart, when it was sent before anything was heard of o again. The gap is one of all origins, so that there are
// one or two after an outage, and not one for each origin.
func (l *ledger) doubt(o *origin, now time.Time) {
	heard := o.announced.heardAt
	if o.announced.awaited {
		heard = now
	}
	if !heard.After(l.doubted) {
		return
	}
	g := crosscast.Gap{Since: l.resumedAt, Until: now, Reason: crosscast.GapLinkLost}
	l.doubted = now
	l.handler.Gap(g)
}

// toldUntil is since when something of o may be missed without this node having been told: what was lost on a patchy bus
// before the last that was heard may not have been named yet.
func (l *ledger) toldUntil(o *origin) time.Time {
	if !l.ground.patchy {
		return o.heard
	}
	return later(l.started, o.heard.Add(-toldWithin*l.self.Heartbeat-o.announced.backlog))
}

// maxBacklog is how many milliseconds a topic may wait to be named, so that times can be reckoned with: a hundred years.
const maxBacklog = uint64(100 * 365 * 24 * time.Hour / time.Millisecond)

// toldWithin is how many heartbeats it takes at most until a missed message is reported, if at most one of them is
// missed, too, and nothing else waits.
const toldWithin = 4

// uvarint reads a number, and returns what is behind it; nil: there is none.
func uvarint(data []byte) (uint64, []byte) {
	v, n := binary.Uvarint(data)
	if n <= 0 {
		return 0, nil
	}
	return v, data[n:len(data):len(data)]
}

// hashedTopics are topics by the hash of their names. Those that share one are in a chain, and none of them is found:
// a number that is the one's would be a false alarm for the other.
type hashedTopics map[uint64]*topic

func (h hashedTopics) addTopic(hash uint64, t *topic) {
	t.sameHash = h[hash]
	h[hash] = t
}

func (h hashedTopics) removeTopic(hash uint64, t *topic) {
	if h[hash] == t {
		if t.sameHash == nil {
			delete(h, hash)
		} else {
			h[hash] = t.sameHash
		}
	} else {
		for other := h[hash]; other != nil; other = other.sameHash {
			if other.sameHash == t {
				other.sameHash = t.sameHash
				break
			}
		}
	}
	t.sameHash = nil
}

func (h hashedTopics) find(hash uint64) *topic {
	if t := h[hash]; t != nil && t.sameHash == nil {
		return t
	}
	return nil
}

// named returns the topic whose name has a hash, if its subscription counts.
func (s *subscriptions) named(hash uint64) *topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.hashed.find(hash); t != nil && t.state == confirmed && s.resumed {
		return t
	}
	return nil
}
