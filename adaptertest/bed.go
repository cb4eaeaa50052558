package adaptertest

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A bed is the environment of one rule: a cluster, and its nodes, clients and peers. The bed ends everything that it
// makes. Only the goroutine of the test calls its methods, unless their comments say otherwise.
type bed struct {
	testing.TB
	ctx      context.Context // for calls that must end
	cancel   context.CancelFunc
	cluster  Cluster
	patience time.Duration
	// unordered: the driver lacks CapOrder. Then one fence to everyone does not prove anything: see fences.go.
	unordered bool

	heartbeat time.Duration // of nodes and peers that are made later
	linger    time.Duration // of nodes that are made later; zero: the node's default

	adapters int // how many were made
	nodes    []*node
	clients  []*client
	peers    []*peer
	fences   int

	mu     sync.Mutex // guards broken
	broken []string   // failures that breaks has noted
}

func newBed(tb testing.TB, h Harness) *bed {
	b := &bed{TB: tb, patience: cmp.Or(h.Patience, defaultPatience), heartbeat: cmp.Or(h.Heartbeat, time.Second)}
	b.ctx, b.cancel = context.WithTimeout(context.Background(), 6*b.patience)
	tb.Cleanup(b.cancel)
	_, b.unordered = h.Lacks[CapOrder]
	b.cluster = h.New(tb)
	return b
}

func (b *bed) offers(n needs) bool {
	c := &b.cluster
	switch n {
	case "":
		return true
	case needsLink:
		return c.Cut != nil && c.Restore != nil
	case needsDeaf:
		return c.Deafen != nil
	case needsDeny:
		return c.Deny != nil
	case needsBytes:
		return c.Peek != nil && c.Inject != nil
	}
	a := c.Adapter()
	b.adapters++
	switch ok := false; n {
	case needsSub:
		_, ok = a.(crosscast.AdapterSubscriber)
		return ok
	case needsReach:
		_, ok = a.(crosscast.AdapterDeliverer)
		return ok
	case needsForeign:
		_, ok = a.(crosscast.ForeignAdapter)
		return ok
	case needsObserver:
		_, ok = a.(crosscast.AdapterObserver)
		return ok
	}
	panic("adaptertest: unknown need: " + string(n))
}

// breaks notes a failure, for report. Any goroutine may call it.
func (b *bed) breaks(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.broken) < 10 {
		b.broken = append(b.broken, fmt.Sprintf(format, args...))
	}
}

func (b *bed) report() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.broken {
		b.Error(s)
	}
}

// condition describes the nodes' links for the text of a failure: a missing message might be a part of a gap.
func (b *bed) condition() string {
	var all []string
	for _, n := range b.nodes {
		link := n.Link()
		all = append(all, fmt.Sprintf("%s: publishing %q (%v), subscribing %q (%v), %d gaps, %d losses, dropped %v",
			n.Name(), link.Publishing.State, link.Publishing.Err, link.Subscribing.State, link.Subscribing.Err,
			n.gaps.Load(), n.lost.Load(), n.Stats().Adapter.Dropped))
	}
	return strings.Join(all, "\n")
}

// must fails the test at once if err is not nil.
func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("unexpected error: %v", err)
	}
}

// within fails the test at once unless f returns in time. f runs on another goroutine.
func (b *bed) within(what string, f func()) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(b.patience):
		b.cancel() // this might end f
		b.Fatalf("%s did not return within %v", what, b.patience)
	}
}

// bounded is within for a call with a context of its own that ends after d.
func (b *bed) bounded(call string, d time.Duration, when string, f func(ctx context.Context)) {
	b.Helper()
	b.within(fmt.Sprintf("%s %s, with a context of %v,", call, when, d), func() {
		ctx, cancel := context.WithTimeout(b.ctx, d)
		defer cancel()
		f(ctx)
	})
}

// eventually polls until ok returns true. It fails the test at once if that takes too long.
func (b *bed) eventually(what string, ok func() bool) {
	b.Helper()
	deadline := time.Now().Add(b.patience)
	for !ok() {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %v", what, b.patience)
		}
		time.Sleep(time.Millisecond) // between calls of ok
	}
}

// A node is a crosscast.Node with its reports.
type node struct {
	*crosscast.Node
	b       *bed
	index   int // of its adapter
	adapter crosscast.Adapter
	offline bool // it starts without waiting for the bus
	closed  bool
	heard   *log // fences to rooms; nil: it hears none
	gaps    atomic.Int64
	lost    atomic.Int64 // losses
	unsent  atomic.Int64 // instructions in them

	mu      sync.Mutex // guards the fields below
	clients []*client
	onGap   func(*crosscast.Node, crosscast.Gap) // optional: called in OnGap
}

// three returns three nodes, each with one client, so that every node has a client that receives fences.
func (b *bed) three() (n0, n1, n2 *node) {
	for len(b.nodes) < 3 {
		b.start()
	}
	return b.nodes[0], b.nodes[1], b.nodes[2]
}

func (b *bed) start() *node {
	b.Helper()
	n := b.newNode()
	if err := n.start(b.ctx, false); err != nil {
		b.Fatalf("starting a node: %v", err)
	}
	b.nodes = append(b.nodes, n)
	b.connect(n, crosscast.ConnectOptions{})
	return n
}

// newNode returns a node that is not started yet.
func (b *bed) newNode() *node {
	n := &node{b: b, index: b.adapters, adapter: b.cluster.Adapter()}
	b.adapters++
	return n
}

// start starts the node, as an emitter if emitOnly is set. The node is closed at the end of the test. After an error,
// start may be called again.
func (n *node) start(ctx context.Context, emitOnly bool) (err error) {
	o := crosscast.Options{
		Name: fmt.Sprintf("node-%d", n.index), Adapter: n.adapter, Heartbeat: n.b.heartbeat, Linger: n.b.linger,
		EmitOnly: emitOnly, StartOffline: n.offline, OnLoss: n.loss,
	}
	if !emitOnly {
		o.OnGap = n.gap
	}
	if n.Node, err = crosscast.Start(ctx, o); err == nil {
		n.b.Cleanup(n.end)
		n.hearFences(emitOnly)
	}
	return err
}

// end closes the node, with any state of its link.
func (n *node) end() {
	if n.closed {
		return
	}
	n.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), n.b.patience)
	defer cancel()
	if err := n.Close(ctx); ctx.Err() != nil {
		n.b.Errorf("closing a node at the end took longer than %v: %v", n.b.patience, err)
	}
}

// gap is the node's OnGap. It enters the gap in the log of each client, among the messages. That a busy machine let the
// process stand still says nothing about a driver.
func (n *node) gap(started *crosscast.Node, g crosscast.Gap) {
	if g.Reason == reasons.GapPaused {
		return
	}
	n.mu.Lock()
	clients, onGap := n.clients, n.onGap
	n.mu.Unlock()
	for _, c := range clients {
		c.log.add(entry{gap: &g})
	}
	if onGap != nil {
		onGap(started, g)
	}
	n.gaps.Add(1)
}

func (n *node) loss(_ *crosscast.Node, l crosscast.Loss) {
	n.unsent.Add(int64(l.Instructions))
	n.lost.Add(1)
}

// connect connects a client. It fails the test at once for an error.
func (b *bed) connect(n *node, o crosscast.ConnectOptions) *client {
	b.Helper()
	return b.connectIn(n, "/", o)
}

// laterMillisecond returns when the clock shows another millisecond.
func (b *bed) laterMillisecond() {
	began := time.Now().UnixMilli()
	b.eventually("the clock goes on", func() bool { return time.Now().UnixMilli() > began })
}

func (b *bed) connectIn(n *node, namespace string, o crosscast.ConnectOptions) *client {
	b.Helper()
	c, err := b.tryConnect(n, namespace, o)
	if err != nil {
		b.Fatalf("connecting a client: %v", err)
	}
	return c
}

func (b *bed) tryConnect(n *node, namespace string, o crosscast.ConnectOptions) (*client, error) {
	b.Helper()
	ns, err := n.Of(namespace)
	b.must(err)
	c := &client{b: b, node: n, log: newLog()}
	n.mu.Lock()
	n.clients = append(n.clients[:len(n.clients):len(n.clients)], c)
	n.mu.Unlock()
	if c.Socket, err = ns.Connect(b.ctx, conn{c}, o); err == nil {
		b.clients = append(b.clients, c)
	}
	return c, err
}

// emit emits an event. It fails the test at once for an error.
func (b *bed) emit(t crosscast.BoundTarget, event string) {
	b.Helper()
	if err := t.Emit(b.ctx, event, nil); err != nil {
		b.Fatalf("emitting %q: %v", event, err)
	}
}

// settle returns when every earlier emission of the nodes has reached each client, or will never reach it. For that,
// every node emits a fence to everyone, and settle waits until every client has all fences.
func (b *bed) settle() {
	b.Helper()
	b.fences++
	fence := fmt.Sprintf("%s%d", fencePrefix, b.fences)
	spaces := map[string]bool{}
	for _, c := range b.clients {
		spaces[c.Namespace().Name()] = true
	}
	from := 0
	for _, n := range b.nodes {
		if n.closed {
			continue
		}
		from++
		for name := range spaces {
			ns, err := n.Of(name)
			b.must(err)
			if err := ns.Emit(b.ctx, fence, nil); err != nil {
				b.Fatalf("emitting a fence to everyone: %v", err)
			}
		}
		n.emitFences(fence)
	}
	for _, c := range b.clients {
		if !c.node.closed && !c.Closed() {
			c.wait(fence, from)
		}
	}
	for _, n := range b.nodes {
		if !n.closed {
			n.waitForFences(fence, from)
		}
	}
}

// cut breaks nodes' links, and returns when each node has noticed.
func (b *bed) cut(nodes ...*node) {
	b.Helper()
	for _, n := range nodes {
		b.cluster.Cut(n.index)
	}
	for _, n := range nodes {
		b.eventually("noticing that the link is cut", func() bool { return !n.connected() && n.fencesAreCut() })
	}
}

// restore repairs nodes' links, and returns when each node has reported the gap of its outage.
func (b *bed) restore(nodes ...*node) {
	b.Helper()
	before := make([]int64, len(nodes))
	for i, n := range nodes {
		before[i] = n.gaps.Load()
	}
	for _, n := range nodes {
		b.cluster.Restore(n.index)
	}
	for i, n := range nodes {
		b.restored(n)
		b.eventually("the gap of the outage, once the link is back", func() bool { return n.gaps.Load() > before[i] })
	}
}

// restored returns when the node's link is up again.
func (b *bed) restored(n *node) {
	b.Helper()
	b.eventually("the link's recovery", n.connected)
}

// needSubscriber skips a rule about waiting for subscriptions if the driver has none.
func (b *bed) needSubscriber(n *node) {
	b.Helper()
	if _, ok := n.adapter.(crosscast.AdapterSubscriber); !ok {
		b.Skip("NOT CHECKED: not offered: crosscast.AdapterSubscriber")
	}
}

// connected reports whether the node's link is up, by the driver's AdapterStats or by its reports of the link.
func (n *node) connected() bool {
	if _, ok := n.adapter.(crosscast.AdapterMeter); ok {
		return n.Stats().Connected
	}
	link := n.Link()
	if link.Subscribing.State == "" {
		n.b.Skip("NOT CHECKED: the driver is no AdapterMeter, and does not tell of its link, so nobody can see whether it stands")
	}
	return link.Live()
}

// defaultPayload returns the size of the largest payload of a node with the default options.
func defaultPayload(a crosscast.Adapter) int {
	if s, ok := a.(crosscast.AdapterSizer); ok {
		return min(1<<20, s.MaxPayload())
	}
	return 1 << 20
}
