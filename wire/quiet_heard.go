package wire

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// This file is the receiver's half of quiet topics (quiet.go). The receiver compares two kinds of numbers with its book
// of the topic: the numbers of topics that an origin names, and the predecessor in an origin's first frame on a topic.
// A number above the last one in the book was missed.
//
// If the book has no frame of this subscription yet, that frame might be older than the subscription. It is certainly
// newer if its number is above one that arrived from the origin, on any topic, after the subscription was confirmed,
// because frames of one origin arrive in the order of their numbers.
//
// So one case is missed in silence: a message that is lost after the topic was subscribed for the first time, and
// before anything of its origin has arrived. Nothing shows then that it was sent after the subscription. This time is
// short for nodes, which have heartbeats, and might be longer for emitters. After an outage, doubtful messages are
// reported. The same holds for a subscription that is unproven, because its messages might be lost for longer.
//
// On a [Scattered] bus, a frame that arrived after the confirmation might have been sent before it, because another server
// is slower. There, a frame to everyone counts only if it is the second one since the confirmation, half a heartbeat
// after the first.

// announced is what this node knows about the topics that an origin names.
type announced struct {
	known         bool          // counted was read on this link
	counted       uint64        // the origin's latest count of named topics
	reportedUntil time.Time     // misses of messages published before then have been reported
	backlog       time.Duration // how long the oldest waiting topic has waited to be named
	beat          time.Time     // the last heartbeat
	awaited       bool          // nothing arrived since the latest outage
	heardAt       time.Time     // when something arrived for the first time after it; on a Scattered bus: when it was marked
	noted         uint64        // on a Scattered bus: ledger.confirmations at notedAt
	notedAt       time.Time     // on a Scattered bus: when the latest control frame was marked; zero: none since the outage
	firsts        []firstHeard  // at most maxFirsts
}

// firstHeard is the first frame of an origin after the confirmation of a subscription. Later frames of the origin were
// sent after that confirmation.
type firstHeard struct {
	confirmation uint64 // ledger.confirmations when it arrived
	number       uint64
}

// maxFirsts is the largest number of firstHeards of an origin. Above it, every other one is forgotten. Then a later one
// is used instead, and fewer numbers are certain to be missed.
const maxFirsts = 128

// mark enters the number of a frame that arrived.
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

// mark enters the number of a frame of o that arrived.
func (l *ledger) mark(o *origin, h *frameHeader, now time.Time) {
	n := &o.announced
	if l.ground.scattered {
		if !h.Control || now.Sub(n.notedAt) < l.patience()/2 {
			return
		}
		confirmations, first := n.noted, n.notedAt.IsZero()
		n.noted, n.notedAt = l.confirmations, now
		if first {
			return
		}
		n.mark(confirmations, h.Number)
	} else {
		n.mark(l.confirmations, h.Number)
	}
	if n.awaited {
		n.awaited, n.heardAt = false, now
	}
}

// later reports whether a frame was certainly sent after a confirmation, and the least number that might have been.
func (n *announced) later(confirmation, number uint64) (from uint64, sure bool) {
	from = 1
	for _, m := range n.firsts {
		if m.confirmation >= confirmation {
			return from, number > m.number
		}
		from = m.number + 1
	}
	return from, false
}

// missed reports a gap if o's frame with this number on t was missed. The gap might have earlier frames, too.
func (l *ledger) missed(t *topic, o *origin, number uint64, now time.Time) {
	b := t.books.find(o)
	if b != nil && number <= b.last {
		return
	}
	g := crosscast.Gap{Origin: o.id, To: number, Until: now, Reason: reasons.GapHole}
	if b != nil && b.knows(t.epoch) {
		g.From = b.last + 1
	} else {
		from, sure := o.announced.later(t.confirmation, number)
		if !sure && (!t.unproven || number < from) {
			if t.epoch > 1 {
				l.doubt(o, now)
			}
			return
		}
		b = t.book(o)
		b.beginEpoch(t.epoch)
		b.first = max(from, b.last+1)
		b.heard = l.subs.began.Add(t.confirmedAt).Sub(l.started)
		g.From = b.first
	}
	g.Since = l.started.Add(b.heard) // b.heard stays: a frame after number might be older than its naming
	b.last = number
	l.reportOn(t, g)
}

// handleQuiet handles the topics that o names in data, an item of the frame with this number on t. It returns false if
// data is malformed.
func (l *ledger) handleQuiet(o *origin, t *topic, number uint64, data []byte) bool {
	if !l.ground.patchy { // on this bus nothing is missed that way
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
		l.handler.Gap(crosscast.Gap{Origin: o.id, Since: l.toldBy(o), Until: now, Reason: reasons.GapHole})
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
	if t.to().isEveryone() && first < n.counted { // the higher count was not the origin's
		n.counted = first
		missedNames()
	}
	n.backlog = time.Duration(age) * time.Millisecond
	n.reportedUntil = now.Add(-n.backlog - l.self.Heartbeat)
	return true
}

// mayBegin reports whether this node can start with o's present count: the topics counted so far are older than the
// link, or a part of the outage that this link has ended. For a peer this holds within one heartbeat after the link
// resumed: the peer answers the introduction, and needs a heartbeat before it names anything new. For an emitter it
// holds for the first count, whenever that arrives.
func (l *ledger) mayBegin(o *origin, now time.Time) bool {
	return !o.announced.known && (!o.peer || now.Sub(l.resumedAt) < l.self.Heartbeat)
}

// toldBy returns the time since which messages of o might be missing that it has not named yet.
func (l *ledger) toldBy(o *origin) time.Time {
	return later(l.started, o.announced.reportedUntil)
}

// unnamedBefore returns when the gap of an outage begins on a patchy bus. That is before the outage, because messages
// that were missed earlier might have been named only during it.
func (l *ledger) unnamedBefore(since time.Time) time.Time {
	if !l.started.Before(since) { // there was no link before the outage
		return since
	}
	wait := toldWithin * l.self.Heartbeat
	before := since.Add(-wait)
	for _, o := range l.origins.m {
		n := &o.announced
		last := since
		if o.peer && !o.left && !o.lost && !o.dormant && n.beat.Before(last) { // it might have been cut off earlier
			last = n.beat
		}
		if at := last.Add(-wait - n.backlog); at.Before(before) {
			before = at
		}
	}
	if l.started.After(before) { // nothing from before the start is missing
		return l.started
	}
	return before
}

// countAnew starts the counts of all origins anew, because an outage is over.
func (l *ledger) countAnew() {
	for _, o := range l.origins.m {
		o.announced.known, o.announced.awaited, o.announced.notedAt = false, true, time.Time{}
	}
}

// doubt reports a gap for a message of o that was missed either since the link resumed or in the outage before. The two
// cannot be distinguished if the message was sent before anything of o arrived again. The gap is of all origins. So
// there are one or two after an outage, and not one for each origin.
func (l *ledger) doubt(o *origin, now time.Time) {
	heard := o.announced.heardAt
	if o.announced.awaited {
		heard = now
	}
	if !heard.After(l.doubted) {
		return
	}
	l.doubtful = true
	if !l.ground.scattered { // else there might be many until the origins are marked
		l.tellDoubts(now)
	}
}

// tellDoubts reports the gap of doubtful messages.
func (l *ledger) tellDoubts(now time.Time) {
	if !l.doubtful {
		return
	}
	l.doubtful, l.doubted = false, now
	l.handler.Gap(crosscast.Gap{Since: l.resumedAt, Until: now, Reason: reasons.GapLinkLost})
}

// toldUntil returns the time since which messages of o might be missing without a report. On a patchy bus that is
// before o's latest message, because lost messages before it might not have been named yet.
func (l *ledger) toldUntil(o *origin) time.Time {
	if !l.ground.patchy {
		return o.heard
	}
	return later(l.started, o.heard.Add(-toldWithin*l.self.Heartbeat-o.announced.backlog))
}

// maxBacklog is the longest time that a topic may wait to be named, in milliseconds: a hundred years. It keeps sums of
// times from overflowing.
const maxBacklog = uint64(100 * 365 * 24 * time.Hour / time.Millisecond)

// toldWithin is the largest number of heartbeats until a missed message is reported, if at most one of these heartbeats
// is missed, too, and no other topics wait.
const toldWithin = 4

// uvarint reads a number, and returns the remaining bytes; nil: there is no number.
func uvarint(data []byte) (uint64, []byte) {
	v, n := binary.Uvarint(data)
	if n <= 0 {
		return 0, nil
	}
	return v, data[n:len(data):len(data)]
}

// hashedTopics are topics by the hash of their names. Find returns none of several topics with the same hash, because
// the number of one would be a false alarm for the other.
type hashedTopics struct {
	m      map[uint64]*topic
	others map[uint64][]*topic // topics with the hash of one in m
}

func newHashedTopics() hashedTopics {
	return hashedTopics{map[uint64]*topic{}, map[uint64][]*topic{}}
}

func (h *hashedTopics) addTopic(hash uint64, t *topic) {
	if h.m[hash] == nil {
		h.m[hash] = t
	} else {
		h.others[hash] = append(h.others[hash], t)
	}
}

func (h *hashedTopics) removeTopic(hash uint64, t *topic) {
	same := h.others[hash]
	if h.m[hash] == t {
		if len(same) == 0 {
			delete(h.m, hash)
			return
		}
		h.m[hash], t = same[0], same[0]
	}
	if same = slices.DeleteFunc(same, func(other *topic) bool { return other == t }); len(same) > 0 {
		h.others[hash] = same
	} else {
		delete(h.others, hash)
	}
}

func (h *hashedTopics) find(hash uint64) *topic {
	if len(h.others) > 0 && len(h.others[hash]) > 0 {
		return nil
	}
	return h.m[hash]
}

// named returns the topic with a hash, if its subscription is confirmed and the link has resumed.
func (s *subscriptions) named(hash uint64) *topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.hashed.find(hash); t != nil && t.state == confirmed && s.resumed {
		return t
	}
	return nil
}
