package wire_test

import (
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// What a node publishes the moment after Start returned goes out: its hello is such a thing, and a refused hello fails
// the node's start. Only the order of two steps on the reader's goroutine stands for that, so it is tried often.
func TestStartedMeansConnected(t *testing.T) {
	hub := membus.New()
	for range 500 {
		p := &peer{id: "node0000", port: hub.Port("node0000")}
		p.a = wire.New(p.port, wire.Options{})
		if err := p.a.Start(t.Context(), crosscast.NodeInfo{ID: p.id}, p); err != nil {
			t.Fatal(err)
		}
		hello := &crosscast.Instruction{Kind: crosscast.KindHello, Target: crosscast.Target{Everyone: true}}
		if _, err := p.a.Deliver(t.Context(), hello); err != nil {
			t.Error("right after Start:", err)
		}
		if err := p.a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
