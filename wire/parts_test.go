package wire_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/wire"
)

// TestMemoryOfParts runs the rules over three buses of the example, which are cut together.
func TestMemoryOfParts(t *testing.T) {
	adaptertest.Run(t, adaptertest.Harness{
		Lacks: map[adaptertest.Capability]string{adaptertest.CapOrder: "buses do not know each other"},
		Exceptions: map[string]string{
			"driver-heard":      "it is the latest time of the parts, which note theirs at different moments",
			"outage-of-another": "links break one after the other, and what a node could not publish on one may be a loss that its peers report",
		},
		New: func(testing.TB) adaptertest.Cluster {
			var buses []*hub
			for range 3 {
				buses = append(buses, &hub{links: map[*subscriber]bool{}})
			}
			var ports [][]*port
			cut := func(i int, cut bool) {
				for _, p := range ports[i] {
					p.setCut(cut)
				}
			}
			return adaptertest.Cluster{
				Adapter: func() crosscast.Adapter {
					var parts []wire.Part
					var own []*port
					for i, bus := range buses {
						p := &port{hub: bus}
						own = append(own, p)
						parts = append(parts, wire.Part{Name: fmt.Sprint("part", i), Bus: p})
					}
					ports = append(ports, own)
					return wire.NewParts(parts, wire.Options{})
				},
				Cut:     func(i int) { cut(i, true) },
				Restore: func(i int) { cut(i, false) },
			}
		},
	})
}

// TestInvalidParts: invalid parts are an error of the start.
func TestInvalidParts(t *testing.T) {
	for _, names := range [][]string{nil, {""}, {"a", "a"}, {"a b"}, {strings.Repeat("a", 33)}} {
		var parts []wire.Part
		for _, name := range names {
			parts = append(parts, wire.Part{Name: name, Bus: &port{hub: &hub{links: map[*subscriber]bool{}}}})
		}
		_, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.NewParts(parts, wire.Options{})})
		if err == nil || !strings.Contains(err.Error(), "art") {
			t.Errorf("%q: %v", names, err)
		}
	}
}

// TestHome: with a part that is Home, no name is on it, and everyone is. Two of them, or no other part, are an error.
func TestHome(t *testing.T) {
	parts := func(homes ...bool) (parts []wire.Part) {
		for i, home := range homes {
			parts = append(parts, wire.Part{Name: fmt.Sprint("part", i), Bus: &port{hub: &hub{links: map[*subscriber]bool{}}}, Home: home})
		}
		return parts
	}
	p := wire.NewParts(parts(false, true, false), wire.Options{})
	have := map[string]int{}
	for i := range 1000 {
		have[wire.PartOf(p, room(fmt.Sprint("room", i)))]++
	}
	if have["part0"] < 400 || have["part2"] < 400 || have["part1"] > 0 {
		t.Errorf("rooms are on %v", have)
	}
	if got := wire.PartOf(p, crosscast.Address{}); got != "part1" {
		t.Errorf("everyone is on %s", got)
	}
	for _, homes := range [][]bool{{true}, {true, true, false}} {
		if _, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.NewParts(parts(homes...), wire.Options{})}); err == nil {
			t.Errorf("started with %v", homes)
		}
	}
}

// TestOnePartIsDown: whichever it is, the adapter can tell who is silent, and has heard the peer just now.
func TestOnePartIsDown(t *testing.T) {
	inPartBubble(t, 2, wire.Options{}, func(t *testing.T, c *partCluster) {
		n, peer := c.nodes[0], c.nodes[1]
		a := n.a.(crosscast.AdapterObserver)
		for _, part := range partNames {
			n.ports[part].Down()
			time.Sleep(5 * time.Second) // lasts: the time is a bubble's
			if age := time.Since(a.Heard(peer.ID())); age > 2*time.Second || !a.Proven() {
				t.Errorf("while %s is down, the peer was heard %v ago, proven: %t", part, age, a.Proven())
			}
			n.ports[part].Up()
			time.Sleep(5 * time.Second) // lasts: the time is a bubble's
		}
	})
}
