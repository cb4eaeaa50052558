package crosscast

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/internal/histogram"
)

// AdapterStats is a snapshot of an adapter's counters. They only rise, unless noted otherwise.
type AdapterStats struct {
	InstructionsIn, InstructionsOut uint64
	BytesIn, BytesOut               uint64
	FramesIn, FramesOut             uint64
	Dropped                         map[string]uint64 // instructions that were not passed on, by reason
	QueueBytes                      int               // bytes that wait to be published now
	// Connected is true while both halves of the link to the bus are live.
	Connected bool
	// Link is the state of the link now; the zero value if the adapter does not know it.
	Link LinkStatus
	// Denied is the number of channels whose subscription the bus refuses now.
	Denied int
	// Misrouted are the peers that spread rooms and users over the bus in another way than this node, because their
	// adapter has other options (such as Topics), and what that way is. Neither hears the other's emissions to rooms and
	// users. nil: there are none.
	Misrouted map[NodeID]string
	// Unopened are the nodes whose frames were dropped in the last minute because of the seal (wire.Seal), and why: they
	// have no seal or another key, or their clock is wrong. Neither hears the other. A stranger might have written such
	// frames, too. nil: there are none.
	Unopened map[NodeID]string
	// Opened are the frames that each key has opened, this node's own among them, by the name of the key; nil: there is no
	// seal.
	Opened map[string]uint64
	// EchoRoundTrip is the time of the latest echo: from handing the bus a message that this node also hears until it
	// came back. 0: there was none yet.
	EchoRoundTrip time.Duration
	// Reconnects is the number of times that a working link was replaced by another working one.
	Reconnects uint64
	// Times are durations by this node's clock. Publish is from handing a batch to the bus until its outcome was known.
	// Echo is every EchoRoundTrip. Receive, only with Options.Histograms, is from the arrival of a message until the node
	// has handled it, of one message in 64.
	Times struct{ Publish, Echo, Receive Histogram }
}

// A Histogram counts durations. Counts[i] is the number of those of at most 1 µs << i that are in no earlier element; the
// last element counts all longer ones. Counts is nil if nothing was measured. The numbers and the Sum only rise.
type Histogram struct {
	Counts []uint64
	Sum    time.Duration
}

func histogramOf(h *histogram.Histogram) (s Histogram) {
	s.Counts, s.Sum = h.Snapshot()
	return s
}

// Stats is a snapshot of a node. Its parts are read one after the other, so they might differ by events in between.
type Stats struct {
	Node NodeID // the node that it is about

	// The present state. Namespaces are "/" and those in use, Rooms and Users those with a socket, Memberships those of
	// sockets in rooms.
	Sockets, Namespaces, Rooms, Users, Memberships, Subscriptions int
	Peers                                                         int // other nodes heard of lately
	Suspects                                                      int // those of Peers whose heartbeats are missing
	// Lost are the nodes that have fallen silent without a goodbye in the last hour, and are not in Peers any more, the
	// latest 32. They have no Meta. A node leaves the list when another one of its name comes.
	Lost []Peer
	// Interests is the number of rooms and users that the node subscribes to at its adapter, including those that
	// linger. With a [ForeignAdapter] also single sockets.
	Interests int

	// Counters since Start. Delivered counts messages that reached this node's clients and subscriptions: one for each
	// conn whose Send returned nil, and one for each subscription that queued the message. A message for three sockets
	// counts three times. A conn might drop a message afterwards, as a Queue under QueueDropOldest does; it is still
	// counted here.
	Delivered uint64
	// Connects counts the sockets that Connect has returned, and Disconnects those that were closed, by reason. Every
	// Reason of this package is in Disconnects, and "application", which counts the application's own texts.
	Connects    uint64
	Disconnects map[Reason]uint64
	// Queues has the sums over the queues of this node's sockets, open and closed: conns that are a [Queue], or have its
	// Stats method by embedding one. A closed one might count a moment later. Only HighWater is the largest.
	Queues                          QueueStats
	InstructionsIn, InstructionsOut uint64 // handled, and accepted by the adapter
	Gaps, Losses                    uint64
	Panics                          uint64 // of the application's functions: see [PanicError]
	// Commands counts the commands of peers that this node has obeyed. Everybody who may publish on the bus can
	// command.
	Commands struct{ Joins, Leaves, Disconnects uint64 }
	// GapReasons and LossReasons count gaps and losses by reason. A reason that did not occur is not in them.
	GapReasons  map[GapReason]uint64
	LossReasons map[LossReason]uint64
	// Dropped counts items that this node did not pass on, by reason. A reason that did not occur is not in it.
	// Adapter.Dropped counts those of the adapter.
	Dropped map[DropReason]uint64
	// Queries counts the results that were read or closed: Complete, Incomplete (see [IncompleteError]), Closed before
	// they were complete, and Failed, because nothing was published.
	Queries struct{ Complete, Incomplete, Closed, Failed uint64 }
	// Times, only with Options.Histograms, are durations by this node's clock. Queue is from the delivery of a message to
	// this node's sockets until a [Queue] has written it to its client, of one message in 64. Peers is the round trip to
	// a peer and back, of each peer every tenth heartbeat; Peer.RoundTrip is the latest of one.
	Times struct{ Queue, Peers Histogram }
	// Joins counts the calls of Join, Connect, Subscribe and Add that waited for the adapter and were confirmed; with a
	// [ForeignAdapter] also queries in a namespace that was not subscribed yet. Total and Max are their waiting times.
	Joins struct {
		Count      uint64
		Total, Max time.Duration
	}

	QueueBytes int          // bytes that wait in the adapter now
	Connected  bool         // both halves of the link are live; also true if the adapter does not know, or without one
	Adapter    AdapterStats // its own counters, if it has any
}

// A DropReason is the reason why a node did not pass an item on. Each item counts for one reason:
//
//	conn          a conn refused a message
//	subscription  the queue of a subscription was full: one message of one subscription
//	unwanted      an emission of a peer, for nobody here
//	unknown       an instruction of a kind that this version does not know
//	answer        an answer that nobody waits for (any more)
//	reply         the same, of a client
//	busy          too much was under way for: a query or request of a peer; collecting the replies to a peer's
//	              emission, which is delivered anyway; a peer's watch; a peer's members of a room that is watched here
//	presence      a peer's report of a room that is not watched here, or that came before the peer was known
//	invalid       an emission, request or answer of a peer whose JSON is invalid or not UTF-8, or whose msgpack is; or an
//	              answer with an encoding that this version does not know
//	encoding      an emission or request of a peer with such an encoding
//	expired       a query, request or command of a peer that might not have waited any more
//
// [DropReasons] lists them.
type DropReason string

// DropReasons returns every [DropReason] of Stats.Dropped, for example to make a metric of each.
func DropReasons() []DropReason { return slices.Clone(dropNames[:]) }

// drop is an index of counters.dropped.
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
	dropEncoding
	drops
)

var dropNames = [drops]DropReason{
	"conn", "subscription", "unwanted", "unknown", "answer", "reply", "busy", "presence", "invalid", "expired", "encoding",
}

// counters are the node's. The counters of the hot path are changed once for each broadcast.
type counters struct {
	delivered, in, out atomic.Uint64

	dropped [drops]atomic.Uint64

	commands [3]atomic.Uint64 // join, leave, disconnect

	gaps, losses, panics atomic.Uint64
	gapReasons           tally[GapReason]
	lossReasons          tally[LossReason]

	connects    atomic.Uint64
	disconnects [len(reasonNames)]atomic.Uint64
	queries     [4]atomic.Uint64 // by queryOutcome
	queues      queueTotals

	joins              atomic.Uint64
	joinTotal, joinMax atomic.Int64
}

// maxReasons is the number of reasons that are counted. An adapter might use reasons of its own; those above the limit
// are counted only in the total.
const maxReasons = 32

// tally counts by reason.
type tally[R ~string] struct {
	mu sync.Mutex
	m  map[R]uint64 // guarded by mu
}

func (t *tally[R]) count(reason R) {
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

func (c *counters) noteJoin(d time.Duration) {
	c.joins.Add(1)
	c.joinTotal.Add(int64(d))
	for {
		old := c.joinMax.Load()
		if int64(d) <= old || c.joinMax.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Stats returns a snapshot of this node. [Servers.Stats] queries the peers.
func (n *Node) Stats() Stats {
	c := &n.stats
	s := Stats{
		Node:           n.id,
		Delivered:      c.delivered.Load(),
		InstructionsIn: c.in.Load(), InstructionsOut: c.out.Load(),
		Gaps: c.gaps.Load(), Losses: c.losses.Load(), Panics: c.panics.Load(),
		GapReasons: c.gapReasons.snapshot(), LossReasons: c.lossReasons.snapshot(),
		Connects: c.connects.Load(), Disconnects: make(map[Reason]uint64, len(reasonNames)),
		Dropped:   make(map[DropReason]uint64),
		Connected: true,
	}
	s.Commands.Joins, s.Commands.Leaves, s.Commands.Disconnects =
		c.commands[0].Load(), c.commands[1].Load(), c.commands[2].Load()
	s.Peers, s.Suspects = n.peers.count()
	s.Lost = n.peers.gone(time.Now())
	for i, reason := range reasonNames {
		s.Disconnects[reason] = c.disconnects[i].Load()
	}
	s.Queries.Complete, s.Queries.Incomplete, s.Queries.Closed, s.Queries.Failed =
		c.queries[queryComplete].Load(), c.queries[queryIncomplete].Load(), c.queries[queryClosed].Load(),
		c.queries[queryFailed].Load()
	if t := n.times; t != nil {
		s.Times.Queue, s.Times.Peers = histogramOf(&t.queue), histogramOf(&t.peers)
	}
	s.Queues = c.queues.sum(n)
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
		if ns.node.interests != nil {
			for i := range sh.groups {
				s.Interests += sh.groups[i].Len()
			}
		}
		sh.mu.Unlock()
	}
}
