package crosscast

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/nameset"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A Receiver receives messages by a function instead of a socket, for servers with a hub of their own, workers, and
// everything else that is not a client connection.
type Receiver struct {
	// OnMessage is called with each message to one of the subscription's rooms or users. Message.Target says which. It may
	// keep the message, which all receivers of this node share. Calls for one subscription are made one at a time and in
	// order, on a goroutine of the subscription. The first call might come before Subscribe returns. Required.
	OnMessage func(*Subscription, *Message)
	// OnGap is called in the place of messages that might have been missed. Optional.
	OnGap func(*Subscription, Gap)
	// QueueBytes bounds the memory of the messages that wait for OnMessage. Each takes about 500 bytes more than its
	// payload and names. Default: 1 MiB; 1 byte to 1 GiB. A message that finds the queue full is dropped, and becomes a
	// Gap with the reason "overflow" in its place.
	QueueBytes int
}

// A Subscription is a [Receiver] of rooms and users, which can be added and removed at any time: a hub has one for all of
// its clients. It gets each emission to at least one of them, once, from every node including this one. It gets no
// emissions to everyone or to sockets. Exceptions do not concern it. What one goroutine emits to one of its rooms or users
// arrives in the order of the calls. Its methods may be called concurrently, and by OnMessage. Add and Synced wait, so the
// next message waits too if OnMessage calls them.
type Subscription struct {
	ns *space // held until Close
	r  Receiver

	lane   lane[received]
	closed bool                   // guarded by lane.mu
	bytes  int                    // queued; guarded by lane.mu
	names  [2]nameset.Set[*group] // rooms and users; guarded by lane.mu, changed with the group's shard locked
}

// received is a message or, if m is nil, a gap.
type received struct {
	m    *Message
	size int
	gap  *Gap
}

const defaultQueueBytes = 1 << 20

// Subscribe makes a subscription to rooms, or to none yet. When it returns, the receiver gets all later emissions to
// them, from every node. Its errors are those of [Socket.Join]. An error means that there is no subscription, and no call
// of OnMessage or OnGap begins after Subscribe has returned. A link that is down is no error: the gap of the outage
// covers the rooms. It may be called concurrently.
func (ns *Namespace) Subscribe(ctx context.Context, r Receiver, rooms ...string) (*Subscription, error) {
	if r.OnMessage == nil {
		return nil, errors.New("crosscast: Subscribe without OnMessage")
	}
	if err := checkNames("room", rooms); err != nil {
		return nil, err
	}
	r.QueueBytes = cmp.Or(r.QueueBytes, defaultQueueBytes)
	if err := bounds.Size("crosscast: Receiver.QueueBytes", r.QueueBytes, 1); err != nil {
		return nil, err
	}
	n := ns.node
	if n.deaf != nil {
		return nil, n.deaf
	}
	s := &Subscription{r: r}
	s.lane.run, s.lane.taken = s.callReceiver, func(r received) { s.bytes -= r.size }
	s.lane.busy = n.busy
	waits, err := n.openSubscription(ns, s)
	if err != nil {
		return nil, err
	}
	if err := s.add(ctx, SpaceRoom, rooms, waits); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the subscription and discards its queue. It does not wait for a running call of OnMessage, so OnMessage
// may call it. No call begins after Close has returned. Further calls do nothing.
func (s *Subscription) Close() error {
	if !s.ns.node.removeSubscription(s) {
		return nil
	}
	names := s.discard()
	for i := range names {
		for g := range names[i].All() {
			g.dropSubscription(s)
		}
	}
	s.ns.release()
	return nil
}

// discard ends the calls to the receiver, and returns what s was subscribed to.
func (s *Subscription) discard() (names [2]nameset.Set[*group]) {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	names = s.names
	s.closed, s.lane.queue, s.names = true, nil, [2]nameset.Set[*group]{}
	return names
}

// Approximate memory of queued items: a message and a gap with their places in the queue, without names and payload;
// and one name of a gap.
const messageItem, gapItem, nameSize = 480, 256, 64

// messageSize is the memory that m takes in a queue.
func messageSize(m *Message) int {
	size := messageItem + len(m.Namespace) + len(m.Event) + len(m.Payload.Data)
	if m.Target != nil {
		size += m.Target.size()
	}
	return size + metaSize(m.Meta)
}

// size is the memory of the names of a target.
func (t *Target) size() (size int) {
	for _, names := range [...][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers} {
		for _, name := range names {
			size += 16 + len(name)
		}
	}
	return size + (16+socketIDLen)*(len(t.Sockets)+len(t.ExceptSockets))
}

func metaSize(pairs []KeyValue) (size int) {
	for _, kv := range pairs {
		size += 32 + len(kv.Key) + len(kv.Value)
	}
	return size
}

// handleMessage queues m, which the receivers may keep, and reports whether it did.
func (s *Subscription) handleMessage(m *Message) bool {
	size := messageSize(m)
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if s.closed {
		return false
	}
	if s.fitsLocked(size) {
		s.pushLocked(received{m: m, size: size})
		return true
	}
	s.ns.node.stats.drop(dropSubscription)
	if s.r.OnGap == nil {
		return false
	}
	names := s.commonLocked(m.Target)
	if len(names) == 0 { // they were removed meanwhile
		return false
	}
	now := time.Now()
	s.missLocked(Gap{Origin: m.From, Names: names, Since: now, Until: now, Reason: reasons.GapOverflow})
	return false
}

// handleGap queues g.
func (s *Subscription) handleGap(g Gap) {
	if s.r.OnGap == nil {
		return
	}
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if !s.closed {
		s.missLocked(g)
	}
}

// missLocked queues g. It widens the last item instead if that is a gap too, and either both are overflows or the queue
// is full. So each run of dropped messages is one gap, and a full queue holds at most one gap per message. A gap that
// goes on and one that has ended have different meanings, so they are merged only if the queue is more than twice as
// full as allowed.
func (s *Subscription) missLocked(g Gap) {
	size := gapItem + nameSize*len(g.Names)
	if q := s.lane.queue; len(q) > 0 && q[len(q)-1].m == nil {
		last := q[len(q)-1].gap
		alike := last.goesOn() == g.goesOn() || s.bytes > 2*s.r.QueueBytes
		if !s.fitsLocked(size) && alike || last.Reason == reasons.GapOverflow && g.Reason == reasons.GapOverflow {
			last.widen(&g)
			return
		}
	}
	s.pushLocked(received{gap: &g, size: size})
}

// fitsLocked reports whether the queue has room for size.
func (s *Subscription) fitsLocked(size int) bool { return s.bytes+size <= s.r.QueueBytes }

// pushLocked queues r.
func (s *Subscription) pushLocked(r received) {
	s.bytes += r.size
	s.lane.pushLocked(r)
}

// callReceiver is the lane's function.
func (s *Subscription) callReceiver(r received) {
	switch {
	case !s.concerns(r): // its rooms and users were removed after it was queued
	case r.m != nil:
		s.ns.node.call("Receiver.OnMessage", func() { s.r.OnMessage(s, r.m) })
	default:
		s.ns.node.call("Receiver.OnGap", func() { s.r.OnGap(s, *r.gap) })
	}
}
