package crosscast_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// tap is an adapter of a cluster in which a test can lose what goes out or comes in, and see it.
type tap struct {
	full
	mu        sync.Mutex
	handler   crosscast.AdapterHandler
	out, in   func(*crosscast.Instruction) bool // to be lost
	published map[kind.Kind]int
}

type full interface {
	crosscast.Adapter
	crosscast.AdapterSubscriber
	crosscast.AdapterDeliverer
}

func newTap(c *crosscast.Cluster) *tap {
	return &tap{full: c.Adapter().(full), published: map[kind.Kind]int{}}
}

// threeTaps starts three nodes.
func threeTaps(tb testing.TB) (nodes []*crosscast.Node, taps []*tap) {
	tb.Helper()
	cluster := crosscast.NewCluster()
	for range 3 {
		p := newTap(cluster)
		taps = append(taps, p)
		nodes = append(nodes, start(tb, crosscast.Options{Adapter: p, Logger: slog.New(slog.DiscardHandler)}))
	}
	return nodes, taps
}

func (p *tap) lose(f func(*crosscast.Instruction) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = f
}

func (p *tap) loseAnswers() {
	p.lose(func(inst *crosscast.Instruction) bool { return inst.Kind == kind.Answer })
}

func (p *tap) miss(f func(*crosscast.Instruction) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = f
}

func (p *tap) count(k kind.Kind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.published[k]
}

func (p *tap) lost(inst *crosscast.Instruction) bool {
	p.mu.Lock()
	p.published[inst.Kind]++
	f := p.out
	p.mu.Unlock()
	return f != nil && f(inst)
}

func (p *tap) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	if p.lost(inst) {
		return nil
	}
	return p.full.Publish(ctx, inst)
}

func (p *tap) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	if p.lost(inst) {
		return crosscast.Receipt{Known: true}, nil
	}
	return p.full.Deliver(ctx, inst)
}

func (p *tap) Start(ctx context.Context, s crosscast.AdapterStart) error {
	p.handler = s.Handler
	s.Handler = tappedHandler{s.Handler, p}
	return p.full.Start(ctx, s)
}

type tappedHandler struct {
	crosscast.AdapterHandler
	p *tap
}

func (h tappedHandler) Handle(inst *crosscast.Instruction) {
	h.p.mu.Lock()
	f := h.p.in
	h.p.mu.Unlock()
	if f == nil || !f(inst) {
		h.AdapterHandler.Handle(inst)
	}
}
