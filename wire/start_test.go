package wire_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// What a node publishes the moment after Start returned goes out: its hello is such a thing, and a refused hello fails
// the node's start. Only the order of two steps on the reader's goroutine stands for that, so it is tried often.
func TestStartedMeansConnected(t *testing.T) {
	hub := membus.New()
	for range 500 {
		p := &peer{id: "node0000", port: hub.Port("node0000")}
		p.a = wire.New(p.port, wire.Options{})
		if err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id}, p)); err != nil {
			t.Fatal(err)
		}
		hello := &crosscast.Instruction{Kind: kind.Hello, Target: crosscast.Target{Everyone: true}}
		if _, err := p.a.Deliver(t.Context(), hello); err != nil {
			t.Error("right after Start:", err)
		}
		if err := p.a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// slowLog is a Logger's handler that takes a second for each line.
type slowLog struct{}

func (slowLog) Enabled(context.Context, slog.Level) bool  { return true }
func (slowLog) Handle(context.Context, slog.Record) error { time.Sleep(time.Second); return nil }
func (l slowLog) WithAttrs([]slog.Attr) slog.Handler      { return l }
func (l slowLog) WithGroup(string) slog.Handler           { return l }

// When Start has returned nil, the node knows that its link is live. A Watch would not wait for peers without that.
func TestStartedMeansLive(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		n, err := crosscast.Start(t.Context(), crosscast.Options{
			EmitOnly: emitOnly,
			Adapter:  wire.New(hub.Port("p"), wire.Options{Logger: slog.New(slowLog{})}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := n.Link(); !s.Live() || s.Publishing.State != reasons.LinkLive {
			t.Errorf("the link is %+v", s)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// startKinds runs f for a node and for an emitter, in a bubble.
func startKinds(t *testing.T, f func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool)) {
	for _, emitOnly := range []bool{false, true} {
		t.Run(fmt.Sprint("emitter ", emitOnly), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f(t, membus.New(), crosscast.NodeInfo{
					ID: "node0001", Name: "one", Heartbeat: time.Second,
				}, emitOnly)
			})
		})
	}
}

// Start returns by its context, whatever the bus does, and can be repeated. The next one waits for what the bus does
// not let end, so nothing of the first can touch it.
func TestStartAgain(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		p := &peer{id: self.ID, port: hub.Port("p")}
		p.a = wire.New(p.port, wire.Options{})
		failed := &peer{}
		if p.a.AdapterStats().Connected {
			t.Error("connected before it was started")
		}
		watched := make(chan struct{})
		defer close(watched)
		go func() { // as metrics do, at any time
			for {
				select {
				case <-watched:
					return
				case <-time.After(10 * time.Millisecond):
					p.a.AdapterStats()
				}
			}
		}()
		start := func(limit time.Duration) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			begin := time.Now()
			err := p.a.Start(ctx, starting(self, failed, emitOnly))
			if d := time.Since(begin); d > limit {
				t.Errorf("Start took %v instead of %v", d, limit)
			}
			return err
		}
		p.port.Down()
		if err := start(time.Second); err == nil || !strings.Contains(err.Error(), "membus: down") {
			t.Error("unreachable:", err)
		}
		p.port.Up()
		denied := fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrDenied)
		p.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: denied, Lost: true} })
		if err := start(time.Second); !errors.Is(err, crosscast.ErrDenied) {
			t.Error("publishing is denied:", err)
		}
		p.port.SetFate(nil)
		if !emitOnly {
			p.port.Deny("cc:all", true)
			if err := start(time.Second); !errors.Is(err, crosscast.ErrDenied) {
				t.Error("subscribing is denied:", err)
			}
			p.port.Deny("cc:all", false)
		}
		slow := 10 * time.Second
		p.port.SetLatency(slow)
		begin := time.Now()
		for range 3 {
			if err := start(500 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Error("slow:", err)
			}
		}
		p.port.SetLatency(0)

		if err := p.a.Start(t.Context(), starting(self, p, emitOnly)); err != nil {
			t.Fatal("once the bus works:", err)
		}
		if d := time.Since(begin); d > slow {
			t.Errorf("the last start had to wait until %v after the first", d)
		}
		other := &peer{id: "node0002", port: hub.Port("other")}
		other.a = wire.New(other.port, wire.Options{})
		if err := other.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: other.id, Heartbeat: time.Second}, other)); err != nil {
			t.Fatal(err)
		}
		subscribe(t, other, "A")
		inst := emitTo("A")
		if _, err := p.a.Deliver(t.Context(), inst); err != nil {
			t.Error("publishing:", err)
		}
		if !emitOnly {
			subscribe(t, p, "A")
			if _, err := other.a.Deliver(t.Context(), inst); err != nil {
				t.Error("publishing:", err)
			}
		}
		synctest.Wait()
		if want := map[bool]int{false: 1, true: 0}[emitOnly]; len(p.got()) != want || len(other.got()) != 1 {
			t.Errorf("got %q and %q", p.got(), other.got())
		}
		for _, a := range []*wire.Adapter{p.a, other.a} {
			if err := a.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if n := len(failed.got()) + len(failed.seen()) + len(failed.lost()); n > 0 {
			t.Errorf("those whose start failed were told of %d things", n)
		}
		if err := p.a.Start(t.Context(), starting(self, p, emitOnly)); !errors.Is(err, crosscast.ErrClosed) {
			t.Error("Start after Close:", err)
		}
	})
}

// An adapter that a node has is refused to others, by the name of that node, which is not disturbed.
func TestOneAdapterForTwoNodes(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		p := &peer{id: self.ID, port: hub.Port("p")}
		p.a = wire.New(p.port, wire.Options{})
		second := func(when string) {
			t.Helper()
			begin := time.Now()
			err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: "node0002", Name: "two"}, &peer{}))
			if err == nil || !strings.Contains(err.Error(), `in use by node "one"`) || time.Since(begin) > 0 {
				t.Errorf("%s, after %v: %v", when, time.Since(begin), err)
			}
		}
		p.port.SetLatency(time.Second)
		started := make(chan error)
		go func() { started <- p.a.Start(t.Context(), starting(self, p, emitOnly)) }()
		synctest.Wait()
		second("while the first is starting")
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		second("once it has started")
		p.port.SetLatency(0)
		if _, err := p.a.Deliver(t.Context(), emitTo("A")); err != nil {
			t.Error("the first cannot publish any more:", err)
		}
		if err := p.a.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A Close while Start is under way makes it fail.
func TestCloseWhileStarting(t *testing.T) {
	startKinds(t, func(t *testing.T, hub *membus.Hub, self crosscast.NodeInfo, emitOnly bool) {
		port := hub.Port("p")
		port.SetLatency(time.Second)
		a := wire.New(port, wire.Options{})
		started := make(chan error)
		go func() { started <- a.Start(t.Context(), starting(self, &peer{}, emitOnly)) }()
		synctest.Wait()
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-started; !errors.Is(err, crosscast.ErrClosed) {
			t.Error("Start:", err)
		}
		synctest.Wait()
		if n := port.Links(); n > 0 {
			t.Errorf("%d links are open", n)
		}
	})
}

// What fails between the adapter's start and the node's hello is an outage, which the node makes up for, and no error.
func TestHelloThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		port := hub.Port("p")
		frames := 0
		port.SetFate(func(wire.Frame) membus.Fate {
			if frames++; frames == 2 { // the first one is the adapter's own
				return membus.Fate{Err: errors.New("membus: no answer"), Down: true, Lost: true}
			}
			return membus.Fate{}
		})
		start := func(name string, port *membus.Port) *crosscast.Node {
			n, err := crosscast.Start(t.Context(), crosscast.Options{Name: name, Adapter: wire.New(port, wire.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close(context.Background()) })
			return n
		}
		other := start("other", hub.Port("other"))
		start("one", port)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if peers := other.Nodes(); len(peers) != 1 || peers[0].Name != "one" {
			t.Errorf("after two heartbeats: %v", peers)
		}
	})
}
