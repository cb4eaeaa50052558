package wire_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
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

// skewed is a bus whose sealed frames have another time than that of the bubble, as those of a node with a wrong clock. It
// seals again what it gets.
type skewed struct {
	*membus.Port
	by     time.Duration
	opener *wire.Opener
}

func (s *skewed) Publish(ctx context.Context, frames []wire.Frame) {
	for i, f := range frames {
		frame, why := s.opener.OpenFrame(f.Topic, f.Data, time.Now())
		if why != "" {
			panic(why)
		}
		run := [16]byte(f.Data[wire.SealRunAt:])
		again := wire.NewSealer(required.Seal, "", "late0000", run)
		frames[i].Data = again.Append(nil, f.Topic, frame, binary.BigEndian.Uint64(f.Data[wire.SealNumberAt:]), time.Now().Add(s.by))
	}
	s.Port.Publish(ctx, frames)
}

// TestWrongClock: a peer whose clock differs too much is refused, named, and a gap, until its clock is right.
func TestWrongClock(t *testing.T) {
	onSealedBus(t, 2, required, func(t *testing.T, b *sealedBus) {
		n := &sealedNode{id: "late0000"}
		bus := &skewed{b.hub.Port("late"), -5 * time.Minute, wire.NewOpener(required.Seal, "")}
		n.a = wire.New(bus, required)
		if err := n.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: n.id, Heartbeat: time.Second}, n)); err != nil {
			t.Fatal(err)
		}
		b.nodes = append(b.nodes, n)
		began := time.Now()
		old := b.takeCaptured()
		b.inject(old...) // a frame of the past that comes twice is no clock that goes on
		b.inject(old...)
		for _, other := range b.nodes[:2] {
			for _, g := range other.tookGaps() {
				t.Errorf("%s reports %+v", other.id, g)
			}
		}
		b.beat(2)
		for _, other := range b.nodes[:2] {
			gaps := slices.DeleteFunc(other.tookGaps(), func(g crosscast.Gap) bool { return g.Origin != n.id })
			if len(gaps) != 1 || gaps[0].Reason != reasons.GapClock || gaps[0].Since.After(began) || gaps[0].Names != nil {
				t.Errorf("%s reports %+v", other.id, gaps)
			}
			if got := other.a.AdapterStats().Unopened[n.id]; got != "its clock is 5m0s behind" {
				t.Errorf("%s says %q", other.id, got)
			}
		}
		b.beat(10)
		bus.by = -10 * time.Second
		b.beat(2)
		for _, other := range b.nodes[:2] {
			gaps := slices.DeleteFunc(other.tookGaps(), func(g crosscast.Gap) bool { return g.Origin != n.id })
			if len(gaps) != 1 || gaps[0].Reason != reasons.GapClock || gaps[0].Until.Sub(gaps[0].Since) < 9*time.Second {
				t.Errorf("%s reports %+v at last", other.id, gaps)
			}
			if got := other.a.AdapterStats().Unopened; got != nil {
				t.Errorf("%s names %v", other.id, got)
			}
		}
	})
}

// TestStaleBeforeFresh: what a node refuses because it is old, as after a long call of a hook, is a gap as soon as its origin
// is known, because it might have been genuine.
func TestStaleBeforeFresh(t *testing.T) {
	onSealedBus(t, 1, required, func(t *testing.T, b *sealedBus) {
		n := b.nodes[0]
		b.subscribe(n, "A")
		time.Sleep(10 * time.Minute) // lasts: the time is a bubble's
		n.tookGaps()
		s := wire.NewSealer(required.Seal, "", "node0009", [16]byte(sealKey(7)))
		number := uint64(0)
		send := func(topic string, age time.Duration) time.Time {
			number++
			frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "node0009", Number: number})
			sent := time.Now().Add(-age)
			b.inject(wire.Frame{Topic: topic, Data: s.Append(nil, topic, frame, number, sent)})
			return sent
		}
		since := send("cc:all", 4*time.Minute)
		send("cc:r:/:A", 3*time.Minute)
		send("cc:all", time.Minute)
		gaps := n.tookGaps()
		if len(gaps) != 1 || gaps[0].Origin != "node0009" || gaps[0].Since.After(since) || gaps[0].Reason != reasons.GapClock {
			t.Errorf("%d are stale, gaps %+v", n.dropped("stale"), gaps)
		}
		send("cc:all", 0)
		if gaps := n.tookGaps(); len(gaps) > 0 {
			t.Errorf("again: %+v", gaps)
		}
	})
}
