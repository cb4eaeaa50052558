package crosscast

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/internal/activity"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// A Cluster connects nodes of one process, for tests and examples. Each node starts with an adapter of its own:
//
//	c := crosscast.NewCluster()
//	a, err := crosscast.Start(ctx, crosscast.Options{Adapter: c.Adapter()})
//	b, err := crosscast.Start(ctx, crosscast.Options{Adapter: c.Adapter()})
//
// An instruction is queued at each peer with interest in it, and handled on the peer's own goroutine. Nothing is lost,
// with one exception: a full queue makes the publisher wait, and if its context ends meanwhile, the peer gets a gap.
type Cluster struct {
	// QueueBytes limits each node's queue; default 4 MiB. Set it before the first Adapter.
	QueueBytes int

	busy activity.Counter // Settle waits for this

	mu    sync.Mutex      // guards nodes
	nodes []*localAdapter // never changed in place
}

const defaultLocalQueue = 4 << 20

// NewCluster makes a cluster without nodes.
func NewCluster() *Cluster { return new(Cluster) }

// Adapter makes the adapter of one more node.
func (c *Cluster) Adapter() Adapter {
	limit := c.QueueBytes
	if limit <= 0 {
		limit = defaultLocalQueue
	}
	return &localAdapter{
		cluster: c, limit: limit, names: make(map[Address]struct{}),
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
}

func (c *Cluster) snapshot() []*localAdapter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes
}

// localAdapter owns one goroutine, from Start to Close, which handles the items of its queue.
type localAdapter struct {
	cluster *Cluster
	limit   int
	id      NodeID
	name    string // the node's
	h       AdapterHandler
	wake    chan struct{}
	quit    chan struct{} // closed by Close
	ended   chan struct{} // closed when the goroutine has ended

	in, out, bytesIn, bytesOut, volatile, full atomic.Uint64

	mu    sync.Mutex // guards the following fields
	state localState
	link  LinkStatus
	deaf  bool                 // of an emitter, which hears only its inbox
	names map[Address]struct{} // interest
	queue []localItem
	bytes int           // of the queue
	room  chan struct{} // made by a call that waits for room; closed when there might be some
}

type localState uint8

const (
	localNew localState = iota
	localStarted
	localClosed
)

// A localItem is an instruction, which all receivers share, or a gap.
type localItem struct {
	inst *Instruction
	at   time.Time // when it was queued
	size int
	gap  *Gap
}

func (a *localAdapter) Start(_ context.Context, s AdapterStart) error {
	live := LinkHalf{State: reasons.LinkLive, Since: time.Now()}
	if err := a.attach(&s, LinkStatus{Publishing: live, Subscribing: live}); err != nil {
		return err
	}
	s.Handler.Link(a.link)
	return nil
}

// attach gives the adapter to a node.
func (a *localAdapter) attach(s *AdapterStart, link LinkStatus) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case localStarted:
		return fmt.Errorf("crosscast: the adapter is in use by node %q (%s)", a.name, a.id)
	case localClosed:
		return ErrClosed
	}
	a.state, a.id, a.name, a.h, a.deaf = localStarted, s.Self.ID, s.Self.Name, s.Handler, s.EmitOnly
	a.link = link
	guard.Go(a.work)
	c := a.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(slices.Clip(c.nodes), a)
	return nil
}

func (a *localAdapter) work() {
	for {
		for item, ok := a.next(); ok; item, ok = a.next() {
			a.handle(item)
		}
		select {
		case <-a.wake:
		case <-a.quit:
			close(a.ended)
			return
		}
	}
}

// handle passes on a gap or an instruction. Late is only the time that the instruction waited here.
func (a *localAdapter) handle(item localItem) {
	defer a.cluster.busy.End(1)
	if item.inst == nil {
		a.h.Gap(*item.gap)
		return
	}
	a.in.Add(1)
	a.bytesIn.Add(uint64(item.size))
	if item.inst.Ref == "" {
		a.h.Handle(item.inst)
		return
	}
	inst := *item.inst // the other receivers share it
	inst.Late = time.Since(item.at)
	a.h.Handle(&inst)
}

// next takes the oldest item.
func (a *localAdapter) next() (localItem, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 || a.state == localClosed {
		return localItem{}, false
	}
	item := a.queue[0]
	a.queue[0] = localItem{}
	if a.queue = a.queue[1:]; len(a.queue) == 0 {
		a.queue = nil
	}
	a.bytes -= item.size
	if a.room != nil {
		close(a.room)
		a.room = nil
	}
	return item, true
}

func (a *localAdapter) running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == localStarted
}

func (a *localAdapter) Publish(ctx context.Context, inst *Instruction) error {
	_, err := a.Deliver(ctx, inst)
	return err
}

// Deliver hands inst to the queues of its receivers. Their number is exact.
func (a *localAdapter) Deliver(ctx context.Context, inst *Instruction) (Receipt, error) {
	if !a.running() {
		return Receipt{}, ErrClosed
	}
	item := localItem{size: localSize(inst)}
	receipt := Receipt{Known: true}
	var err error
	for _, p := range a.cluster.snapshot() {
		if p == a || inst.To != "" && inst.To != p.id || inst.To == "" && !p.wants(inst) {
			continue
		}
		if item.inst == nil {
			item.inst, item.at = inst.clone(), time.Now()
		}
		took, perr := p.put(ctx, a, item)
		if took {
			receipt.Nodes++
		}
		if perr != nil {
			err = perr
		}
	}
	a.out.Add(1)
	a.bytesOut.Add(uint64(item.size))
	return receipt, err
}

// wants reports whether the node has interest in inst.
func (a *localAdapter) wants(inst *Instruction) bool {
	if a.deaf {
		return false
	}
	t := &inst.Target
	if inst.Kind != kind.Emit || inst.Ref != "" || t.Everyone {
		return true
	}
	for _, id := range t.Sockets {
		if id.Node() == a.id {
			return true
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hears(inst.Namespace, SpaceRoom, t.Rooms) || a.hears(inst.Namespace, SpaceUser, t.Users)
}

func (a *localAdapter) hears(namespace string, space Space, names []string) bool {
	for _, name := range names {
		if _, ok := a.names[Address{namespace, space, name}]; ok {
			return true
		}
	}
	return false
}

// put queues item, and reports whether it did. While the queue is full it waits, bounded by ctx. Instructions that
// never wait are dropped.
func (a *localAdapter) put(ctx context.Context, from *localAdapter, item localItem) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// An item that is larger than the limit gets in when the queue is empty.
	for a.state == localStarted && a.bytes > 0 && a.bytes+item.size > a.limit {
		switch {
		case item.inst.Kind.Control():
			return false, nil
		case item.inst.Volatile:
			a.volatile.Add(1)
			return false, ErrNotConnected
		}
		if a.room == nil {
			a.room = make(chan struct{})
		}
		room := a.room
		a.mu.Unlock()
		select {
		case <-room:
		case <-from.quit:
			a.mu.Lock() // for the deferred Unlock
			return false, ErrClosed
		case <-ctx.Done():
		}
		a.mu.Lock()
		if ctx.Err() != nil && a.state == localStarted {
			a.full.Add(1)
			a.overflowLocked(item.inst)
			return false, ctx.Err()
		}
	}
	if a.state != localStarted {
		return false, nil
	}
	a.pushLocked(item)
	return true, nil
}

// pushLocked queues item.
func (a *localAdapter) pushLocked(item localItem) {
	a.cluster.busy.Begin()
	a.queue = append(a.queue, item)
	a.bytes += item.size
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// overflowLocked queues a gap in the place of inst. If there is a gap of the same origin with nothing for clients after
// it, that one is widened. Some kinds carry nothing for clients and change nothing: only their sender misses them.
func (a *localAdapter) overflowLocked(inst *Instruction) {
	switch inst.Kind {
	case kind.Ask, kind.Answer, kind.Request, kind.Watch, kind.Presence:
		return
	}
	now := time.Now()
	gap := Gap{Origin: inst.From, Names: inst.names(), Since: now, Until: now, Reason: reasons.GapOverflow}
	for i := len(a.queue) - 1; i >= 0; i-- {
		item := &a.queue[i]
		if item.inst == nil && item.gap.Origin == inst.From {
			item.gap.widen(&gap)
			return
		}
		if item.inst != nil && item.inst.From == inst.From && !item.inst.Kind.Control() {
			break
		}
	}
	a.pushLocked(localItem{gap: &gap})
}

// names returns the rooms and users in inst's target; nil: inst is for others too.
func (inst *Instruction) names() []Address {
	t := &inst.Target
	if inst.Kind != kind.Emit || t.Everyone || len(t.Sockets) > 0 {
		return nil
	}
	var names []Address
	for _, r := range t.Rooms {
		names = append(names, Address{inst.Namespace, SpaceRoom, r})
	}
	for _, u := range t.Users {
		names = append(names, Address{inst.Namespace, SpaceUser, u})
	}
	return names
}

func (a *localAdapter) Subscribe(_ context.Context, names ...Address) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != localStarted {
		return ErrClosed
	}
	for _, name := range names {
		a.names[name] = struct{}{}
	}
	return nil
}

func (a *localAdapter) Unsubscribe(_ context.Context, names ...Address) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != localStarted {
		return ErrClosed
	}
	for _, name := range names {
		delete(a.names, name)
	}
	return nil
}

// Flush returns at once, because Publish hands over.
func (a *localAdapter) Flush(context.Context) error {
	if !a.running() {
		return ErrClosed
	}
	return nil
}

func (a *localAdapter) Close(ctx context.Context) error {
	a.mu.Lock()
	if a.state == localNew {
		close(a.ended)
	}
	if a.state != localClosed {
		a.state = localClosed
		a.cluster.busy.End(len(a.queue))
		a.queue, a.bytes, a.names = nil, 0, nil
		if a.room != nil {
			close(a.room)
			a.room = nil
		}
		close(a.quit)
	}
	a.mu.Unlock()
	c := a.cluster
	c.mu.Lock()
	c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(p *localAdapter) bool { return p == a })
	c.mu.Unlock()
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Activity makes the node count its work, so that Settle can wait for it.
func (a *localAdapter) Activity() *activity.Counter { return &a.cluster.busy }

func (a *localAdapter) Listen(context.Context) error { return nil }

// AdapterStats implements [AdapterMeter]. Frames are not counted, and bytes are estimated: nothing is encoded.
func (a *localAdapter) AdapterStats() AdapterStats {
	s := AdapterStats{
		InstructionsIn: a.in.Load(), InstructionsOut: a.out.Load(),
		BytesIn: a.bytesIn.Load(), BytesOut: a.bytesOut.Load(),
		Dropped: map[string]uint64{"volatile": a.volatile.Load(), "overflow": a.full.Load()},
	}
	maps.DeleteFunc(s.Dropped, func(_ string, v uint64) bool { return v == 0 })
	a.mu.Lock()
	s.QueueBytes, s.Connected, s.Link = a.bytes, a.state == localStarted, a.link
	a.mu.Unlock()
	return s
}

// localItemSize is the memory of an instruction and its place in the queue, without the data that it points to.
const localItemSize = 512

// localSize estimates the memory of a queued instruction.
func localSize(inst *Instruction) int {
	size := localItemSize + len(inst.Event) + len(inst.Payload.Data) + inst.Target.size() + metaSize(inst.Meta)
	for _, r := range inst.Rooms {
		size += 16 + len(r)
	}
	if inst.Answer != nil {
		size += answerSize(inst.Answer)
	}
	if inst.Presence != nil {
		size += presenceSize(inst.Presence)
	}
	return size
}

func (inst *Instruction) clone() *Instruction {
	c := *inst
	c.Target = *inst.Target.clone()
	c.Rooms = slices.Clone(inst.Rooms)
	if inst.Question != nil {
		q := *inst.Question
		c.Question = &q
	}
	c.Payload.Data = slices.Clone(inst.Payload.Data)
	c.Meta = slices.Clone(inst.Meta)
	return &c
}
