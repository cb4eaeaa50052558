package wire_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// A node that starts without a bus takes no time, says what its link is like, and hears of everything since its start
// as of an outage. Its first link is no reconnection.
func TestStartOffline(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		listener := &peer{id: "node0002", port: hub.Port("listener")}
		listener.a = wire.New(listener.port, wire.Options{})
		if err := listener.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: listener.id, Heartbeat: time.Second}, listener)); err != nil {
			t.Fatal(err)
		}
		subscribe(t, listener, "A")
		p := &peer{id: self.ID, port: hub.Port("p")}
		p.a = wire.New(p.port, wire.Options{})
		p.port.Down()
		s := starting(self, p, emitOnly)
		s.Offline = true
		began := time.Now()
		if err := p.a.Start(t.Context(), s); err != nil || time.Since(began) != 0 {
			t.Fatalf("Start took %v: %v", time.Since(began), err)
		}
		state := func() crosscast.LinkState {
			link := p.a.AdapterStats().Link
			if emitOnly {
				return link.Publishing.State
			}
			return link.Subscribing.State
		}
		want := func(when string, wanted crosscast.LinkState) {
			t.Helper()
			if got := state(); got != wanted {
				t.Errorf("%s: the link is %q", when, got)
			}
			if p.a.AdapterStats().Connected || p.a.Proven() {
				t.Errorf("%s: connected", when)
			}
		}
		time.Sleep(time.Minute)
		want("after a minute", reasons.LinkDown)
		p.port.Refuse(fmt.Errorf("%w: wrong password", crosscast.ErrDenied))
		time.Sleep(time.Minute)
		want("refused", reasons.LinkDenied)

		if err := p.a.Publish(t.Context(), emitTo("A")); err != nil {
			t.Error("what is published meanwhile is queued:", err)
		}
		volatile := emitTo("A")
		volatile.Volatile = true
		if err := p.a.Publish(t.Context(), volatile); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("a volatile instruction:", err)
		}
		time.Sleep(6 * time.Second) // longer than MaxAge
		if l := p.lost(); len(l) != 1 || l[0].Reason != reasons.LossExpired {
			t.Errorf("losses: %+v", l)
		}
		p.port.Refuse(nil)
		p.port.Up()
		// Until the bus is tried again, which might take the longest pause.
		time.Sleep(20 * time.Second)
		if err := p.a.Publish(t.Context(), emitTo("A")); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s := p.a.AdapterStats(); !s.Connected || s.Reconnects != 0 {
			t.Errorf("once the bus works: %+v", s)
		}
		if got := listener.got(); len(got) != 1 {
			t.Errorf("the listener got %q", got)
		}
		gaps := p.seen()
		switch {
		case emitOnly && len(gaps) != 0:
			t.Errorf("an emitter has gaps: %+v", gaps)
		case !emitOnly && (len(gaps) == 0 || gaps[0].Names != nil || !gaps[0].Since.Equal(began) || gaps[0].Reason != reasons.GapLinkLost):
			t.Errorf("gaps: %+v", gaps)
		}
		for _, p := range []*peer{p, listener} {
			if err := p.a.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// What is wrong with the options, and not with the bus, is an error of Start.
func TestStartOfflineWithWrongOptions(t *testing.T) {
	hub := membus.New()
	_, err := crosscast.Start(t.Context(), crosscast.Options{
		StartOffline: true, Adapter: wire.New(hub.Port("p"), wire.Options{MaxFrame: -1}),
	})
	if err == nil {
		t.Error("a negative MaxFrame")
	}
	_, err = crosscast.Start(t.Context(), crosscast.Options{
		StartOffline: true, MaxPayload: 1 << 29, Adapter: wire.New(hub.Port("p"), wire.Options{}),
	})
	if err == nil {
		t.Error("payloads that the adapter does not carry")
	}
}

// A node that was never connected ends like one in an outage: at once, and what waits is a loss.
func TestCloseOffline(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, _ crosscast.NodeInfo, emitOnly bool) {
		port := hub.Port("p")
		port.Down()
		n, err := crosscast.Start(t.Context(), crosscast.Options{
			StartOffline: true, EmitOnly: emitOnly, Adapter: wire.New(port, wire.Options{}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Emit(t.Context(), "e", nil); err != nil {
			t.Error(err)
		}
		began := time.Now()
		var lost *crosscast.LossError
		if err := n.Close(t.Context()); !errors.As(err, &lost) || time.Since(began) > time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if err := n.Ready(); !errors.Is(err, crosscast.ErrClosed) {
			t.Error("Ready:", err)
		}
	})
}
