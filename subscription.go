package crosscast

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// A Receiver is a function instead of a socket: for servers that have a hub of their own, for workers, and for
// whatever else is no client connection.
type Receiver struct {
	// OnMessage is called with each message to one of the rooms. It may keep the message, which all receivers of
	// this node share. Calls for one subscription are made one at a time and in order, on a goroutine of the
	// subscription. Required.
	OnMessage func(*Message)
	// OnGap is called in the place of messages that may have been missed. Optional.
	OnGap func(Gap)
	// QueueBytes bounds the messages that wait for OnMessage; default 1 MiB. When it is full a message is dropped
	// and becomes a Gap with GapOverflow in its place.
	QueueBytes int
}

// A Subscription is a [Receiver] in rooms. It gets what is emitted to at least one of its rooms, once, by any node,
// this one included; not what is emitted to everyone, to users or to sockets, and exceptions do not concern it.
type Subscription struct {
	ns    *Namespace
	rooms []string
	r     Receiver

	closing atomic.Bool
	bytes   atomic.Int64 // of the queued messages; added to under lane.mu
	lane    lane[received]
}

// received is a message or, when m is nil, a gap.
type received struct {
	m    *Message
	size int
	gap  Gap
}

const defaultQueueBytes = 1 << 20

// Subscribe adds a receiver to rooms, and returns when it gets everything that is emitted to them later, on any node.
// When the subscription is nil nothing happened. An error beside one means what it means for [Socket.Join]: it stands,
// and gets what this node emits, but what peers emit may not reach it yet. Use it, or close it.
func (ns *Namespace) Subscribe(ctx context.Context, r Receiver, rooms ...string) (*Subscription, error) {
	switch {
	case r.OnMessage == nil:
		return nil, errors.New("crosscast: Subscribe without OnMessage")
	case r.QueueBytes < 0:
		return nil, errors.New("crosscast: Subscribe with a negative QueueBytes")
	case len(rooms) == 0:
		return nil, errors.New("crosscast: Subscribe without a room")
	}
	if err := checkNames("room", rooms); err != nil {
		return nil, err
	}
	if r.QueueBytes == 0 {
		r.QueueBytes = defaultQueueBytes
	}
	n := ns.node
	rooms = slices.Clone(rooms)
	slices.Sort(rooms)
	s := &Subscription{ns: ns, rooms: slices.Compact(rooms), r: r}
	s.lane.run = s.handle
	if !n.addSubscription(s) {
		return nil, ErrClosed
	}
	var waits []*interest
	for _, room := range s.rooms {
		waits = ns.subscribe(s, room, waits)
	}
	return s, n.interests.wait(ctx, waits)
}

// Close ends the subscription; what is queued for it is discarded. It does not wait for a call of OnMessage that is
// being made, so it may be called from within one; no call begins after it returned. Further Closes do nothing.
func (s *Subscription) Close() error {
	if !s.ns.node.removeSubscription(s) {
		return nil
	}
	for _, room := range s.rooms {
		s.ns.unsubscribe(s, room)
	}
	s.discard()
	return nil
}

// discard ends the calls of the receiver.
func (s *Subscription) discard() {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	s.closing.Store(true)
	s.lane.queue = nil
}

func (ns *Namespace) subscribe(s *Subscription, room string, waits []*interest) []*interest {
	sh := ns.shardOf(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.group(ns, RoomSpace, room)
	g.subs = append(g.subs, s)
	if it := g.interest; it != nil && !it.confirmed.Load() {
		waits = append(waits, it)
	}
	return waits
}

func (ns *Namespace) unsubscribe(s *Subscription, room string) {
	sh := ns.shardOf(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.groups[RoomSpace-1][room]
	if g == nil {
		return
	}
	if i := slices.Index(g.subs, s); i >= 0 {
		g.subs = slices.Delete(g.subs, i, i+1)
		g.unused()
	}
}

// message queues m, which is the receivers' to keep.
func (s *Subscription) message(m *Message) {
	size := messageSize + len(m.Event) + len(m.Payload.Data)
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if s.closing.Load() {
		return
	}
	if s.bytes.Load()+int64(size) > int64(s.r.QueueBytes) {
		s.ns.node.stats.subscription.Add(1)
		if s.r.OnGap != nil {
			s.overflow(m)
		}
		return
	}
	s.bytes.Add(int64(size))
	s.lane.push(received{m: m, size: size})
}

// messageSize is about what a queued message takes beside its event and payload.
const messageSize = 256

// overflow queues a gap for m, or widens the last one; s.lane.mu is held.
func (s *Subscription) overflow(m *Message) {
	now := time.Now()
	q := s.lane.queue
	if n := len(q); n == 0 || q[n-1].m != nil || q[n-1].gap.Reason != GapOverflow {
		s.lane.push(received{gap: Gap{Origin: m.From, Since: now, Reason: GapOverflow}})
		q = s.lane.queue
	}
	g := &q[len(q)-1].gap
	g.Until = now
	if g.Origin != m.From {
		g.Origin = ""
	}
	for _, room := range m.Target.Rooms {
		a := Address{s.ns.name, RoomSpace, room}
		if slices.Contains(s.rooms, room) && !slices.Contains(g.Names, a) {
			g.Names = append(g.Names, a)
		}
	}
}

// gap queues g if it concerns one of the rooms.
func (s *Subscription) gap(g Gap) {
	if s.r.OnGap == nil || !s.concerned(&g) {
		return
	}
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	if !s.closing.Load() {
		s.lane.push(received{gap: g})
	}
}

func (s *Subscription) concerned(g *Gap) bool {
	if g.Names == nil {
		return true
	}
	return slices.ContainsFunc(s.rooms, func(room string) bool {
		return g.Covers(Address{s.ns.name, RoomSpace, room})
	})
}

// handle is the lane's function.
func (s *Subscription) handle(r received) {
	switch {
	case s.closing.Load():
	case r.m == nil:
		s.r.OnGap(r.gap)
	default:
		s.r.OnMessage(r.m)
	}
	s.bytes.Add(-int64(r.size))
}
