package wire_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/histogram"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// TestReceiveTimes: with Histograms one event in 64 is measured, from its arrival until the node has handled it.
func TestReceiveTimes(t *testing.T) {
	for _, on := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			hub := membus.New()
			start := func(name string) (*crosscast.Node, *wire.Adapter) {
				a := wire.New(hub.Port(name), wire.Options{})
				n, err := crosscast.Start(t.Context(), crosscast.Options{Name: name, Adapter: a, Histograms: on, Heartbeat: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { n.Close(t.Context()) })
				return n, a
			}
			one, _ := start("one")
			two, a := start("two")
			if _, err := two.Connect(t.Context(), sleeper{}, crosscast.ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			for range 2 * histogram.Every {
				if err := one.Everyone().Emit(t.Context(), "e", nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			got := a.AdapterStats().Times.Receive
			if !on {
				if got.Counts != nil {
					t.Errorf("without the option: %+v", got)
				}
				return
			}
			if got.Counts[12] != 2 || got.Sum != 6*time.Millisecond {
				t.Errorf("%+v", got)
			}
		})
	}
}

// sleeper is a conn that takes 3 ms.
type sleeper struct{}

func (sleeper) Send(*crosscast.Message) error { time.Sleep(3 * time.Millisecond); return nil }

func (sleeper) Close(crosscast.Reason) {}
