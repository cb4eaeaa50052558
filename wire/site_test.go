package wire_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// site is nodes and an emitter on one bus, in a bubble, with heartbeats of 1 s.
type site struct {
	t    *testing.T
	hub  *membus.Hub
	port *membus.Port // the emitter's
	bus  *countingBus // over it
	e    *crosscast.Node

	ports []*membus.Port
	nodes []*crosscast.Node

	mu   sync.Mutex // guards what follows
	got  [][]string // by node: events of its client, which is in room "r"
	gaps [][]crosscast.Gap
	last *crosscast.Message // that any of them got

	options wire.Options // of nodes that are started from now on
}

// withEmitter runs f with n nodes and an emitter.
func withEmitter(t *testing.T, n int, f func(t *testing.T, s *site)) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, hub: membus.New()}
		for range n {
			s.add()
		}
		s.port = s.hub.Port("emitter")
		s.bus = &countingBus{Port: s.port}
		s.e = s.start(s.bus, s.port, crosscast.Options{EmitOnly: true})
		f(t, s)
		synctest.Wait()
	})
}

// countingBus counts its links, and may be slow to say that it has published.
type countingBus struct {
	*membus.Port
	dials  atomic.Int64
	saying atomic.Int64 // how long that takes
}

func (b *countingBus) Dial(ctx context.Context) (wire.Link, error) {
	b.dials.Add(1)
	return b.Port.Dial(ctx)
}

func (b *countingBus) Publish(ctx context.Context, frames []wire.Frame) {
	b.Port.Publish(ctx, frames)
	time.Sleep(time.Duration(b.saying.Load()))
}

func (s *site) start(bus wire.Bus, p *membus.Port, o crosscast.Options) *crosscast.Node {
	a := wire.New(bus, s.options)
	o.Adapter, o.MaxPayload = a, min(1<<20, a.MaxPayload())
	n, err := crosscast.Start(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		p.Up()
		p.SetFate(nil)
		n.Close(context.Background())
	})
	return n
}

// add starts one more node, with a client in room "r".
func (s *site) add() {
	i := len(s.nodes)
	s.got, s.gaps = append(s.got, nil), append(s.gaps, nil)
	p := s.hub.Port("node")
	n := s.start(p, p, crosscast.Options{OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gaps[i] = append(s.gaps[i], g)
	}})
	s.ports, s.nodes = append(s.ports, p), append(s.nodes, n)
	conn := client(func(m *crosscast.Message) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got[i] = append(s.got[i], m.Event)
		s.last = m.Clone()
	})
	if _, err := n.Connect(s.t.Context(), conn, crosscast.ConnectOptions{User: "u", Rooms: []string{"r"}}); err != nil {
		s.t.Fatal(err)
	}
}

type client func(m *crosscast.Message)

func (c client) Send(m *crosscast.Message) error { c(m); return nil }
func (client) Close(crosscast.Reason)            {}

// want fails unless the clients of all nodes got events since the last look.
func (s *site) want(events ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.got {
		if !slices.Equal(s.got[i], events) {
			s.t.Errorf("node %d got %q, want %q", i, s.got[i], events)
		}
		s.got[i] = nil
	}
}

// seen returns the gaps of node i since the last look.
func (s *site) seen(i int) []crosscast.Gap {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	gaps := s.gaps[i]
	s.gaps[i] = nil
	return gaps
}

func (s *site) emit(event string, to ...string) {
	s.t.Helper()
	target := s.e.Everyone()
	if len(to) > 0 {
		target = s.e.To(to...)
	}
	if err := target.Emit(s.t.Context(), event, nil); err != nil {
		s.t.Error("emit:", err)
	}
}

// count asks how many sockets are in room "r".
func (s *site) count() (int, error) { return s.e.To("r").Count(s.t.Context()) }

func (s *site) wantCount(n int) {
	s.t.Helper()
	if got, err := s.count(); got != n || err != nil {
		s.t.Errorf("count: %d, %v; want %d", got, err, n)
	}
}

// told is what a node was told.
type told struct {
	mu     sync.Mutex // guards the fields below
	got    []string
	gaps   []crosscast.Gap
	losses []crosscast.Loss
}

func (d *told) add(got string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, got)
}

func (d *told) Gap(g crosscast.Gap) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gaps = append(d.gaps, g)
}

func (d *told) Loss(l crosscast.Loss) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.losses = append(d.losses, l)
}

// took returns what came since the last call.
func (d *told) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.got
	d.got = nil
	return got
}

func (d *told) tookGaps() []crosscast.Gap {
	d.mu.Lock()
	defer d.mu.Unlock()
	gaps := d.gaps
	d.gaps = nil
	return gaps
}
