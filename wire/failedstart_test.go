package wire_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// What a hook has emitted while Start tries is lost when Start fails, and the hook that waits for it hears so: Start
// waits for the hook.
func TestHookOfAFailedStart(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		port := hub.Port("p")
		port.SetLatency(time.Second)
		denied := errors.Join(crosscast.ErrRefused, crosscast.ErrDenied)
		port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: denied, Lost: true} })
		if !emitOnly {
			port.Deny("cc:all", true)
		}
		a := wire.New(port, wire.Options{})
		flushed, delivered := make(chan error, 9), make(chan error, 9)
		_, err := crosscast.Start(t.Context(), crosscast.Options{
			EmitOnly: emitOnly, Adapter: a,
			OnLink: func(n *crosscast.Node, _ crosscast.LinkStatus) {
				if err := n.To("room").Emit(t.Context(), "x", nil); err != nil {
					t.Log("emit:", err)
					return
				}
				flushed <- n.Flush(context.Background())
				_, err := n.To("room").Deliver(context.Background(), "x", nil)
				delivered <- err
			},
		})
		if !errors.Is(err, crosscast.ErrDenied) {
			t.Error(err)
		}
		if err := <-flushed; !errors.As(err, new(*crosscast.LossError)) {
			t.Error("flush:", err)
		}
		if err := <-delivered; err == nil {
			t.Error("delivered")
		}
		if err := a.Close(t.Context()); err != nil { // it waits for what the bus still does
			t.Error(err)
		}
	})
}

// TestCallsAcrossStarts: a hook of a start that has failed might still call the adapter while the next one begins.
func TestCallsAcrossStarts(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		port := hub.Port("p")
		port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: crosscast.ErrRefused, Lost: true} })
		a := wire.New(port, wire.Options{})
		handler := &peer{id: self.ID, port: port, a: a}
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				inst := &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", From: self.ID, Event: "x"}
				for ctx.Err() == nil {
					_ = a.Publish(ctx, inst)
					_ = a.Subscribe(ctx, crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"})
					a.Proven()
					runtime.Gosched()
				}
			})
		}
		for range 20 {
			if err := a.Start(t.Context(), starting(self, handler, emitOnly)); !errors.Is(err, crosscast.ErrRefused) {
				t.Error(err)
			}
		}
		cancel()
		calls.Wait()
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
