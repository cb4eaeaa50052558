package wire_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// TestNodeWithoutTheKey: all others name it within two heartbeats, and say what is wrong; it names them; and it is named
// no more when it is gone.
func TestNodeWithoutTheKey(t *testing.T) {
	key2 := required
	key2.Seal.Keys = [][]byte{sealKey(2)}
	for _, c := range []struct {
		name  string
		o     wire.Options
		want  string // what the others say
		peers string // what it says of them
	}{
		{"no seal", wire.Options{}, "not sealed", "sealed with key " + wire.KeyName(sealKey(1))},
		{"another key", key2, "sealed with key " + wire.KeyName(sealKey(2)), "sealed with key " + wire.KeyName(sealKey(1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			onSealedBus(t, 3, required, func(t *testing.T, b *sealedBus) {
				for _, n := range b.nodes {
					b.subscribe(n, "A")
				}
				alien := b.add(c.o)
				b.subscribe(alien, "A")
				b.forget()
				b.beat(2)
				for _, n := range b.nodes[:3] {
					if got := n.a.AdapterStats().Unopened; !maps.Equal(got, map[crosscast.NodeID]string{alien.id: c.want}) {
						t.Errorf("%s names %v", n.id, got)
					}
				}
				if got := alien.a.AdapterStats().Unopened; len(got) != 3 || got["node0000"] != c.peers {
					t.Errorf("it names %v", got)
				}
				b.publish(alien, emitTo("A"))
				b.publish(b.nodes[0], emitTo("A"))
				for _, n := range b.nodes[1:3] {
					if got := n.took(); !slices.Contains(got, fmt.Sprintf("%d node0000 A", kind.Emit)) ||
						slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, string(alien.id)) }) {
						t.Errorf("%s hears %v", n.id, got)
					}
				}
				if got := alien.took(); len(got) > 0 {
					t.Error("it hears", got)
				}
				b.nodes = b.nodes[:3]
				alien.a.Close(t.Context())
				b.beat(62)
				for _, n := range b.nodes {
					if got := n.a.AdapterStats().Unopened; got != nil {
						t.Errorf("%s names %v", n.id, got)
					}
				}
			})
		})
	}
}

// TestLyingFrame: a frame inside that says something else than its seal is dropped.
func TestLyingFrame(t *testing.T) {
	onSealedBus(t, 2, required, func(t *testing.T, b *sealedBus) {
		b.forget()
		s := wire.NewSealer(required.Seal, "", "node0009", [16]byte(sealKey(7)))
		for i, h := range []wire.FrameHeader{{Origin: "node0001", Number: 5}, {Origin: "node0009", Number: 6}} {
			frame := wire.AppendItem(wire.AppendFrameHeader(nil, &h), allKinds()[0], noName, 0)
			b.inject(wire.Frame{Topic: "cc:all", Data: s.Append(nil, "cc:all", frame, 5, time.Now())})
			for _, n := range b.nodes {
				if got := n.took(); len(got) > 0 || n.dropped("malformed") != uint64(i+1) {
					t.Errorf("%s accepts %v", n.id, got)
				}
			}
		}
	})
}
