package wire_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// A closingBus is a bus that its adapter closes.
type closingBus struct {
	*membus.Port
	mistake error
	hangs   chan struct{} // nil: Close returns at once
	using   atomic.Int64  // calls of Publish under way
	closed  atomic.Int64  // calls of Close
	early   atomic.Bool   // it was closed while in use
}

func (b *closingBus) Check() error { return b.mistake }

func (b *closingBus) Publish(ctx context.Context, frames []wire.Frame) {
	b.using.Add(1)
	defer b.using.Add(-1)
	b.Port.Publish(ctx, frames)
}

func (b *closingBus) Close() error {
	b.closed.Add(1)
	b.early.Store(b.using.Load() > 0)
	if b.hangs != nil {
		<-b.hangs
	}
	return nil
}

// TestBusIsClosed: the bus is closed once, by Close and not by a failed start, when nothing uses it any more.
func TestBusIsClosed(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		bus := &closingBus{Port: hub.Port("p")}
		a := wire.New(bus, wire.Options{})
		bus.Down()
		o := crosscast.Options{Adapter: a, EmitOnly: emitOnly}
		if _, err := crosscast.Start(t.Context(), o); err == nil || bus.closed.Load() > 0 {
			t.Fatalf("a failed start: %v; closed %d times", err, bus.closed.Load())
		}
		bus.Up()
		n, err := crosscast.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		bus.SetLatency(time.Second)
		if err := n.To("room").Emit(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := errors.Join(n.Close(t.Context()), a.Close(t.Context())); err != nil {
				t.Error(err)
			}
		}
		if bus.closed.Load() != 1 || bus.early.Load() {
			t.Errorf("closed %d times; while it was in use: %v", bus.closed.Load(), bus.early.Load())
		}
	})
}

// TestBusIsClosedUnused: also by an adapter that never started. Close returns by its context, whatever the bus does.
func TestBusIsClosedUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &closingBus{Port: membus.New().Port("p"), hangs: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := wire.New(bus, wire.Options{}).Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second || bus.closed.Load() != 1 {
			t.Errorf("after %v: %v; closed %d times", time.Since(begin), err, bus.closed.Load())
		}
		close(bus.hangs)
	})
}

// TestBusWithAMistake: it fails each start, also one that does not wait for the bus, and is not used.
func TestBusWithAMistake(t *testing.T) {
	mistake := errors.New("made wrong")
	for _, o := range []crosscast.Options{{}, {EmitOnly: true}, {StartOffline: true}} {
		bus := &closingBus{mistake: mistake} // a nil Port panics
		o.Adapter = wire.New(bus, wire.Options{})
		if _, err := crosscast.Start(t.Context(), o); !errors.Is(err, mistake) || strings.Count(err.Error(), "crosscast:") > 1 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
