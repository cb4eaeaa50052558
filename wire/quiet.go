package wire

import (
	"encoding/binary"
	"time"

	"github.com/crosscast/crosscast/internal/mpack"
)

// quiet is the sender's half of naming quiet topics. The receiver's half is in quiet_heard.go.
//
// A receiver notices a missed frame by the next frame on the same topic. The last frame of a topic has no next frame.
// On a [Patchy] bus it can be missed although every link stands. On such a bus, heartbeats to everyone name the topics
// that have become quiet, each with the number of its last frame:
//
//   - A heartbeat names a topic if the topic's last frame was sent before the previous heartbeat. Everyone's topic is
//     never named, because each heartbeat has the number of the last frame there.
//   - Each topic is named in two heartbeats that the bus has accepted, because the same fault might hide one of them.
//     The origin counts the named topics. If the count jumps, the receiver has missed both heartbeats, and reports a
//     gap of all of that origin.
//   - More heartbeats repeat the count, until peers that receive none of them have taken the origin for dead. After
//     that, heartbeats are like those on any other bus.
//   - If too many topics wait, none of them is named, and the count jumps over all of them.
//
// An emitter has no heartbeats. It sends notices instead, as long as there are topics or a count to send. Close names
// all waiting topics at once.
//
// The names are an item of the frame, behind the heartbeat. The item is bytes:
//
//	uvarint  how many topics the origin had counted before the first of these
//	uvarint  for how many milliseconds the oldest waiting topic has waited to be named, rounded up; 0: no topic waits
//	then for each topic, in the order of their numbers:
//	8 bytes  FNV-1a of the topic's name, big-endian
//	uvarint  the number of its last frame, less that of the topic before
//
// Each number is less than the number of the frame around it. A heartbeat to one node answers that node's introduction.
// It has the count and no topics, and the node counts from there.
type quiet struct {
	first, last *outTopic // the topics that wait to be named, the longest quiet one first
	waiting     int
	counted     uint64  // topics that were named or given up
	old, new    []named // topics in one accepted heartbeat; topics in no accepted heartbeat yet
	tail        int     // how many more heartbeats repeat the count
	beat        time.Time
	topics      []byte // scratch: the payload from the first topic on
	payload     []byte // scratch
}

// named is one topic in a heartbeat.
type named struct{ hash, number uint64 }

const (
	maxWaiting = 1 << 16                   // topics that wait to be named
	maxQuiet   = 16 << 10                  // bytes for quiet topics in one heartbeat
	maxNamed   = 8 + binary.MaxVarintLen64 // bytes of one topic
	quietTail  = 8                         // heartbeats that repeat the count; a peer is dead after six missing ones
)

// hashTopic returns the FNV-1a hash of a topic's name. All nodes must agree on it.
func hashTopic(name string) uint64 { return hashPart(hashStart, name) }

const hashStart, hashPrime = 14695981039346656037, 1099511628211

// hashPart continues a hash.
func hashPart(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h
}

// idle reports whether there is no topic and no count to send.
func (q *quiet) idle() bool { return q.first == nil && len(q.old)+len(q.new) == 0 && q.tail == 0 }

// accepted notes that the bus has accepted a frame on topic t, sent at the given time. It puts t behind all other
// waiting topics. If too many topics wait, it gives up all of them, and returns how many there were.
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

// announce appends quiet topics and their count to the heartbeat f, which has a number and was not sent yet. If all is
// set, every waiting topic counts as quiet.
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

// nameTopics fills q.topics: first with the topics that earlier heartbeats named, then with as many others as there is
// room for.
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

// beatAccepted notes that the bus has accepted a heartbeat that names topics or repeats the count.
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
			if f.toEveryone() { // a notice has the number of the last frame there
				q.tail = quietTail
			}
		}
		if n := q.accepted(f.topic, sent); n > 0 {
			b.stats.dropped[dropUnnamed].Add(uint64(n))
		}
	}
}

// hasUnnamed reports whether there are topics that no accepted heartbeat has named. For an emitter it also reports
// whether no notice was accepted since the last frame to everyone or the last named topic.
func (b *outbox) hasUnnamed() bool {
	q := b.quiet
	return q != nil && (q.first != nil || len(q.new) > 0 || !b.presence.beats && q.tail >= quietTail)
}
