package crosscast

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// AdapterStats is a snapshot of an adapter's counters; they only rise, except where noted.
type AdapterStats struct {
	InstructionsIn, InstructionsOut uint64
	BytesIn, BytesOut               uint64
	FramesIn, FramesOut             uint64
	Dropped                         map[string]uint64 // what was not passed on, by reason
	QueueBytes                      int               // waiting to be published now
	// Connected is true while both halves of the link to the bus are live.
	Connected bool
	// Link is the state of the link now, its zero value when the adapter cannot tell.
	Link LinkStatus
	// Denied is the number of channels whose subscription the bus refuses now.
	Denied int
	// EchoRoundTrip is the time that the latest echo took, from when this node handed the bus a message that it also hears
	// until that came back. 0: there was none yet.
	EchoRoundTrip time.Duration
	// Reconnects is how often a link that had worked was replaced by another one that works.
	Reconnects uint64
}

// Stats is a snapshot of a node. Its parts are read one after the other, so they may differ by what happens meanwhile.
type Stats struct {
	// What there is now. Namespaces are "/" and those in use, Rooms and Users those with a socket, Memberships of
	// sockets in rooms.
	Sockets, Namespaces, Rooms, Users, Memberships, Subscriptions int
	Peers                                                         int // other nodes heard of lately

	// What happened since Start.
	// Delivered counts what reached this node's clients and subscriptions: one for each conn whose Send returned nil, and
	// one for each subscription that queued the message. A message for three sockets counts three times. A conn that
	// drops a message afterwards, as a Queue under QueueDropOldest does, is still counted here.
	Delivered                       uint64
	InstructionsIn, InstructionsOut uint64 // handled, and accepted by the adapter
	Gaps, Losses                    uint64
	Panics                          uint64 // of functions of the application's: see [PanicError]
	// Commands are those of peers that this node has obeyed: whoever may publish on the bus can command.
	Commands struct{ Joins, Leaves, Disconnects uint64 }
	// GapReasons and LossReasons are the same by reason; a reason that there was not is not in them.
	GapReasons  map[GapReason]uint64
	LossReasons map[LossReason]uint64
	// Dropped counts what this node did not pass on, by reason; a reason that there was not is not in it. Adapter.Dropped
	// has what the adapter did not pass on.
	Dropped map[DropReason]uint64
	// Joins are the calls of Join, Connect and Subscribe that waited for the adapter, and got what they waited for; with a
	// [ForeignAdapter] also questions in a namespace that was not heard yet. Total and Max say how long they waited.
	Joins struct {
		Count      uint64
		Total, Max time.Duration
	}

	QueueBytes int          // waiting in the adapter now
	Connected  bool         // whether both halves of the link are live; true when the adapter cannot tell, or without one
	Adapter    AdapterStats // its own counters, if it has any
}

// A DropReason says why a node did not pass something on. One thing that is dropped counts for one reason:
//
//	conn          a conn refused a message
//	subscription  the queue of a subscription was full: one message of one subscription
//	unwanted      an emission of a peer, for nobody here
//	unknown       an instruction of a kind that this version does not know
//	answer        an answer that nobody waits for (any more)
//	reply         the same, of a client
//	busy          a question or request of a peer, while too many were under way; the wish for replies to an emission of a
//	              peer, which is delivered all the same; a watch of a peer, or a room of one's own, for want of room
//	presence      what a peer reported of a room that nobody watches here, or before the peer was known
//	invalid       an emission, request or answer of a peer with JSON that is none, or not UTF-8
//	expired       a question, request or command of a peer that might not have waited any more
//
// [DropReasons] lists them.
type DropReason string

// DropReasons returns every [DropReason] that Stats.Dropped may have, for example to make a metric of each.
func DropReasons() []DropReason { return slices.Clone(dropNames[:]) }

// drop is a place in counters.dropped.
type drop uint8

const (
	dropConn drop = iota
	dropSubscription
	dropUnwanted
	dropUnknown
	dropAnswer
	dropReply
	dropBusy
	dropPresence
	dropInvalid
	dropExpired
	drops
)

var dropNames = [drops]DropReason{
	"conn", "subscription", "unwanted", "unknown", "answer", "reply", "busy", "presence", "invalid", "expired",
}

// counters are the node's. Those of the hot path are added to once for each broadcast.
type counters struct {
	delivered, in, out atomic.Uint64

	dropped [drops]atomic.Uint64

	commands [3]atomic.Uint64 // join, leave, disconnect

	gaps, losses, panics atomic.Uint64
	gapReasons           tally[GapReason]
	lossReasons          tally[LossReason]

	joins              atomic.Uint64
	joinTotal, joinMax atomic.Int64
}

// maxReasons is how many reasons are counted. An adapter might make up others than those that there are; what is too
// much is counted in the total only.
const maxReasons = 32

// tally counts by reason.
type tally[R ~string] struct {
	mu sync.Mutex
	m  map[R]uint64 // guarded by mu
}

func (t *tally[R]) add(reason R) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[R]uint64)
	}
	if _, known := t.m[reason]; known || len(t.m) < maxReasons {
		t.m[reason]++
	}
}

func (t *tally[R]) snapshot() map[R]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.m)
}

func (c *counters) drop(why drop) { c.dropped[why].Add(1) }

func (c *counters) joined(d time.Duration) {
	c.joins.Add(1)
	c.joinTotal.Add(int64(d))
	for {
		old := c.joinMax.Load()
		if int64(d) <= old || c.joinMax.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Stats returns a snapshot.
func (n *Node) Stats() Stats {
	c := &n.stats
	s := Stats{
		Peers:          n.peers.len(),
		Delivered:      c.delivered.Load(),
		InstructionsIn: c.in.Load(), InstructionsOut: c.out.Load(),
		Gaps: c.gaps.Load(), Losses: c.losses.Load(), Panics: c.panics.Load(),
		GapReasons: c.gapReasons.snapshot(), LossReasons: c.lossReasons.snapshot(),
		Dropped:   make(map[DropReason]uint64),
		Connected: true,
	}
	s.Commands.Joins, s.Commands.Leaves, s.Commands.Disconnects =
		c.commands[0].Load(), c.commands[1].Load(), c.commands[2].Load()
	s.Joins.Count = c.joins.Load()
	s.Joins.Total, s.Joins.Max = time.Duration(c.joinTotal.Load()), time.Duration(c.joinMax.Load())
	for i, reason := range dropNames {
		if v := c.dropped[i].Load(); v > 0 {
			s.Dropped[reason] = v
		}
	}
	n.mu.Lock()
	s.Subscriptions = len(n.subs)
	n.mu.Unlock()
	for ns := range n.spaces.all() {
		s.Namespaces++
		ns.count(&s)
	}
	if m, ok := n.adapter.(AdapterMeter); ok {
		s.Adapter = m.AdapterStats()
		s.QueueBytes, s.Connected = s.Adapter.QueueBytes, s.Adapter.Connected
	}
	return s
}

func (ns *space) count(s *Stats) {
	ns.allShard.mu.Lock()
	s.Sockets += len(ns.all.sockets)
	ns.allShard.mu.Unlock()
	for i := range ns.shards {
		sh := &ns.shards[i]
		sh.mu.Lock()
		s.Rooms += int(sh.used[SpaceRoom-1])
		s.Users += int(sh.used[SpaceUser-1])
		s.Memberships += int(sh.members)
		sh.mu.Unlock()
	}
}
