package adaptertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// A peer is a bare adapter with a Handler that only records.
type peer struct {
	crosscast.Adapter
	b      *bed
	index  int
	info   crosscast.NodeInfo
	closed bool

	log  *log                              // the handled instructions, as messages with the instruction's event
	hold func(inst *crosscast.Instruction) // called by Handle, which it might delay; set before the peer starts

	mu     sync.Mutex               // guards the fields below
	got    []*crosscast.Instruction // clones, in the order of arrival
	gaps   []crosscast.Gap
	losses []crosscast.Loss
	silent bool // Close has returned
}

// newID returns the ID of a node that there is not.
func newID() crosscast.NodeID { return crosscast.NodeID(rand.Text()[:8]) }

func (b *bed) newPeer() *peer {
	p := &peer{b: b, index: b.adapters, Adapter: b.cluster.Adapter(), log: newLog()}
	p.info = crosscast.NodeInfo{
		ID: newID(), Name: fmt.Sprintf("peer-%d", p.index), Heartbeat: b.heartbeat,
	}
	b.adapters++
	return p
}

// begin returns the argument of Start for p.
func (p *peer) begin() crosscast.AdapterStart {
	return crosscast.AdapterStart{Self: p.info, Handler: p}
}

// startPeer starts p and closes it at the end.
func (b *bed) startPeer(p *peer) *peer {
	b.Helper()
	if err := p.Start(b.ctx, p.begin()); err != nil {
		b.Fatalf("Start: %v", err)
	}
	b.peers = append(b.peers, p)
	for _, name := range b.fenceRooms() {
		p.hear(room(name))
	}
	b.Cleanup(func() {
		if p.closed {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), b.patience)
		defer cancel()
		if p.Close(ctx); ctx.Err() != nil {
			b.Errorf("Close took longer than %v", b.patience)
		}
		p.end()
	})
	return p
}

func (b *bed) threePeers() (p0, p1, p2 *peer) {
	for len(b.peers) < 3 {
		b.startPeer(b.newPeer())
	}
	return b.peers[0], b.peers[1], b.peers[2]
}

// end notes that Close has returned, so that the Handler must not be called any more.
func (p *peer) end() {
	p.closed = true
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
}

func (p *peer) check(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent {
		p.b.breaks("THE RULE: once Close has returned nil, the Handler is not called again.\nSEEN: %s was "+
			"called.", what)
	}
}

// Handle implements crosscast.AdapterHandler.
func (p *peer) Handle(inst *crosscast.Instruction) {
	p.check("Handle")
	if inst.From == p.info.ID {
		p.b.breaks("THE RULE: a node never handles what it published.\nSEEN: it handled its own %q.", inst.Event)
	}
	if !p.log.enter(inst.From) {
		p.b.breaks("THE RULE: Handle is never called concurrently for one origin.\nSEEN: two calls at once.")
	}
	defer p.log.exit(inst.From)
	if p.hold != nil {
		p.hold(inst)
	}
	c := cloneInstruction(inst)
	p.mu.Lock()
	p.got = append(p.got, c)
	p.mu.Unlock()
	p.log.add(entry{msg: &crosscast.Message{Event: c.Event, From: c.From}})
}

// Gap implements crosscast.AdapterHandler.
func (p *peer) Gap(g crosscast.Gap) {
	p.check("Gap")
	p.mu.Lock()
	p.gaps = append(p.gaps, g)
	p.mu.Unlock()
	p.log.add(entry{gap: &g})
}

// Awaits implements crosscast.AdapterHandler.
func (p *peer) Awaits(string) bool { return true }

// Outage implements crosscast.AdapterHandler.
func (p *peer) Outage(time.Time, crosscast.GapReason) { p.check("Outage") }

// Link implements crosscast.AdapterHandler.
func (p *peer) Link(crosscast.LinkStatus) {}

// Loss implements crosscast.AdapterHandler.
func (p *peer) Loss(l crosscast.Loss) {
	p.check("Loss")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses = append(p.losses, l)
}

// emission returns an instruction of p.
func (p *peer) emission(event string, t crosscast.Target) *crosscast.Instruction {
	return &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", From: p.info.ID, Event: event, Target: t}
}

func (p *peer) publish(inst *crosscast.Instruction) {
	p.b.Helper()
	if err := p.Publish(p.b.ctx, inst); err != nil {
		p.b.Fatalf("Publish: %v", err)
	}
}

// hear subscribes to names, if the driver can.
func (p *peer) hear(names ...crosscast.Address) {
	p.b.Helper()
	if s, ok := p.Adapter.(crosscast.AdapterSubscriber); ok {
		if err := s.Subscribe(p.b.ctx, names...); err != nil {
			p.b.Fatalf("Subscribe: %v", err)
		}
	}
}

// hearIn subscribes to a namespace, if the driver needs that.
func (p *peer) hearIn(namespace string) {
	p.b.Helper()
	if _, ok := p.Adapter.(crosscast.ForeignAdapter); ok {
		p.hear(crosscast.Address{Namespace: namespace, Space: crosscast.SpaceNamespace})
	}
}

// settlePeers is settle for peers.
func (b *bed) settlePeers() {
	b.Helper()
	b.fences++
	fence := fmt.Sprintf("%s%d", fencePrefix, b.fences)
	open := slices.DeleteFunc(slices.Clone(b.peers), func(p *peer) bool { return p.closed })
	for _, p := range open {
		p.publish(p.emission(fence, crosscast.Target{Everyone: true}))
		for _, name := range b.fenceRooms() {
			p.publish(p.emission(fence, crosscast.Target{Rooms: []string{name}}))
		}
	}
	for _, p := range open {
		p.wait(fence, (len(open)-1)*(1+len(b.fenceRooms())))
	}
}

func (p *peer) wait(event string, n int) {
	p.b.Helper()
	came := 0
	if !p.log.await(p.b.patience, func() bool { came = p.log.count[event]; return came >= n }) {
		p.b.Fatalf("%s waited %v for the instruction %q, which came %d times instead of %d\n%s",
			p.info.Name, p.b.patience, event, came, n, p.b.conditionOfPeers())
	}
}

// conditionOfPeers describes the faults that peers know, for the text of a failure.
func (b *bed) conditionOfPeers() string {
	var out strings.Builder
	for _, p := range b.peers {
		p.mu.Lock()
		fmt.Fprintf(&out, "%s: gaps %+v, losses %+v", p.info.Name, p.gaps, p.losses)
		p.mu.Unlock()
		if m, ok := p.Adapter.(crosscast.AdapterMeter); ok {
			fmt.Fprintf(&out, ", %+v", m.AdapterStats())
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// handled returns the instructions since the last call, in order, without fences.
func (p *peer) handled() []*crosscast.Instruction {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return slices.DeleteFunc(got, func(inst *crosscast.Instruction) bool { return strings.HasPrefix(inst.Event, fencePrefix) })
}

// events returns the events that came since the last call.
func (p *peer) events() []string {
	var events []string
	for _, inst := range p.handled() {
		events = append(events, inst.Event)
	}
	return events
}

func (p *peer) want(events ...string) {
	p.b.Helper()
	if got := p.events(); !slices.Equal(got, events) {
		p.b.Errorf("%s got %s instead of %s", p.info.Name, list(got), list(events))
	}
}

func room(name string) crosscast.Address {
	return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name}
}

func user(name string) crosscast.Address {
	return crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: name}
}

func toRoom(names ...string) crosscast.Target { return crosscast.Target{Rooms: names} }

func cloneInstruction(inst *crosscast.Instruction) *crosscast.Instruction {
	c := *inst
	t := &c.Target
	for _, names := range []*[]string{&t.Rooms, &t.Users, &t.ExceptRooms, &t.ExceptUsers} {
		*names = cloneNames(*names)
	}
	t.Sockets, t.ExceptSockets = cloneNames(t.Sockets), cloneNames(t.ExceptSockets)
	c.Namespace, c.Event, c.Node.Name = strings.Clone(c.Namespace), strings.Clone(c.Event), strings.Clone(c.Node.Name)
	c.From, c.To, c.Node.ID = clone(c.From), clone(c.To), clone(c.Node.ID)
	c.Payload.Data = slices.Clone(c.Payload.Data)
	c.Rooms = cloneNames(c.Rooms)
	c.Meta = slices.Clone(c.Meta)
	for i := range c.Meta {
		c.Meta[i] = crosscast.KeyValue{Key: strings.Clone(c.Meta[i].Key), Value: strings.Clone(c.Meta[i].Value)}
	}
	return &c
}

func clone[S ~string](s S) S { return S(strings.Clone(string(s))) }

func cloneNames[S ~string](names []S) []S {
	c := slices.Clone(names)
	for i := range c {
		c[i] = clone(c[i])
	}
	return c
}
