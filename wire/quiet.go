package wire

import (
	"encoding/binary"
	"time"

	"github.com/crosscast/crosscast/internal/mpack"
)

// Quiet topics, as their origin names them; quiet_heard.go is the receiver's half.
//
// A frame that was missed is betrayed by its successor on the topic. The last frame has none, and on a [Patchy] bus it
// can be missed though every link stands. So there a heartbeat to everyone names the topics that have become quiet, each
// with the number of its last frame:
//
//   - A topic is named once its last frame was accepted before the previous heartbeat; whoever publishes to it again
//     before that need not name it. Everyone's topic is never named: each heartbeat has the number of the last frame there.
//   - Each is named in two heartbeats that the bus has accepted, because one may be missed by the same fault. Those named
//     are counted: a receiver that sees the count jump has missed both, and takes it for a gap of all of that origin.
//   - The count is repeated for some heartbeats more, until a peer that hears none of them has given the origin up. Then a
//     heartbeat is as on any other bus.
//   - When too many topics wait, none of them is named and the count jumps over all.
//
// An emitter, which has no heartbeats, sends notices as long as it has something to tell. On Close, what waits is named
// at once.
//
// They travel as an item of the frame, behind the heartbeat, as bytes:
//
//	uvarint  how many topics the origin had counted before the first of these
//	uvarint  for how many milliseconds the longest that waits to be named has been waiting, rounded up; 0: none waits
//	then for each topic, in the order of their numbers:
//	8 bytes  FNV-1a of the topic's name, big-endian
//	uvarint  the number of its last frame, less that of the topic before
//
// A number is less than that of the frame that it travels in. A heartbeat to one node, which is an answer to its
// introduction, has the count and no topics: that node counts from there.
type quiet struct {
	first, last *outTopic // those that wait to be named, the longest quiet one first
	waiting     int
	counted     uint64  // those that have been named or given up
	old, new    []named // in a heartbeat that was accepted, and in none yet
	tail        int     // heartbeats that still repeat the count
	beat        time.Time
	topics      []byte // scratch: the payload from the first topic on
	payload     []byte // scratch
}

// named is one topic in a heartbeat.
type named struct{ hash, number uint64 }

const (
	maxWaiting = 1 << 16                   // topics that wait to be named
	maxQuiet   = 16 << 10                  // bytes of what one heartbeat tells of them
	maxNamed   = 8 + binary.MaxVarintLen64 // bytes of one topic
	quietTail  = 8                         // heartbeats that repeat the count; a peer is given up after six
)

// hashTopic is the same on all nodes.
func hashTopic(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}

// idle reports whether there is nothing to tell.
func (q *quiet) idle() bool { return q.first == nil && len(q.old)+len(q.new) == 0 && q.tail == 0 }

// accepted puts a topic behind all others that wait: a frame of it was accepted that was sent at the given time. It
// returns how many are given up.
func (q *quiet) accepted(t *outTopic, at time.Time) (givenUp int) {
	if t.kind == toEveryone {
		return 0
	}
	if t.quietTopic == nil {
		t.quietTopic = &quietTopic{}
	}
	if t.waits {
		q.remove(t)
	}
	t.waits, t.sent, t.before, t.after = true, at, q.last, nil
	if q.last == nil {
		q.first = t
	} else {
		q.last.after = t
	}
	q.last = t
	q.waiting++
	if q.waiting <= maxWaiting {
		return 0
	}
	givenUp = q.waiting
	for q.first != nil {
		q.remove(q.first)
	}
	q.counted += uint64(givenUp)
	q.old, q.new, q.tail = q.old[:0], q.new[:0], quietTail
	return givenUp
}

func (q *quiet) remove(t *outTopic) {
	if t.before == nil {
		q.first = t.after
	} else {
		t.before.after = t.after
	}
	if t.after == nil {
		q.last = t.before
	} else {
		t.after.before = t.before
	}
	t.waits, t.before, t.after = false, nil, nil
	q.waiting--
}

// announce appends to a heartbeat, which has a number and was not sent yet, what it has to tell. With all, every topic
// that waits has become quiet.
func (q *quiet) announce(f *frame, now time.Time, all bool) {
	q.topics = q.topics[:0]
	if f.toEveryone() {
		q.nameTopics(all)
		q.beat = now
		if len(q.topics) == 0 && q.tail == 0 {
			return
		}
		f.names = true
	}
	first, age := q.counted-uint64(len(q.old)+len(q.new)), time.Duration(0)
	if q.first != nil {
		age = now.Sub(q.first.sent) + time.Millisecond
	}
	q.payload = binary.AppendUvarint(q.payload[:0], first)
	q.payload = binary.AppendUvarint(q.payload, uint64(max(age, 0)/time.Millisecond))
	q.payload = append(q.payload, q.topics...)
	f.buf = mpack.AppendBin(f.buf, q.payload)
}

// nameTopics fills topics: with those that were named before, and with as many others as there is room for.
func (q *quiet) nameTopics(all bool) {
	previous := uint64(0)
	name := func(n named) {
		q.topics = binary.BigEndian.AppendUint64(q.topics, n.hash)
		q.topics = binary.AppendUvarint(q.topics, n.number-previous)
		previous = n.number
	}
	for _, n := range q.old {
		name(n)
	}
	for _, n := range q.new {
		name(n)
	}
	for q.first != nil && len(q.topics) < maxQuiet-4*maxNamed && (all || !q.first.sent.After(q.beat)) {
		t := q.first
		q.remove(t)
		n := named{hashTopic(t.name), t.last}
		q.new = append(q.new, n)
		q.counted++
		name(n)
	}
}

// beatAccepted says that the bus has accepted a heartbeat that names topics.
func (q *quiet) beatAccepted() {
	switch {
	case len(q.old)+len(q.new) > 0:
		q.tail = quietTail
	case q.tail > 0:
		q.tail--
	}
	q.old, q.new = q.new, q.old[:0]
}

// settleQuiet notes that the bus has accepted a frame.
func (b *outbox) settleQuiet(f *frame, sent time.Time) {
	q := b.quiet
	switch {
	case q == nil:
	case f.names:
		q.beatAccepted()
	case !f.control:
		if !b.presence.beats {
			if q.idle() {
				q.beat = sent
			}
			if f.toEveryone() { // a notice has the number
				q.tail = quietTail
			}
		}
		if n := q.accepted(f.topic, sent); n > 0 {
			b.stats.dropped[dropUnnamed].Add(uint64(n))
		}
	}
}

// hasUnnamed reports whether there are topics that no heartbeat has named, or that no notice has told of.
func (b *outbox) hasUnnamed() bool {
	q := b.quiet
	return q != nil && (q.first != nil || len(q.new) > 0 || !b.presence.beats && q.tail >= quietTail)
}
