package wire_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

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

// addSkewed adds a node with a wrong clock.
func (b *sealedBus) addSkewed(by time.Duration) (*sealedNode, *skewed) {
	b.t.Helper()
	n := &sealedNode{id: "late0000"}
	bus := &skewed{b.hub.Port("late"), by, wire.NewOpener(required.Seal, "")}
	n.a = wire.New(bus, required)
	if err := n.a.Start(b.t.Context(), starting(crosscast.NodeInfo{ID: n.id, Heartbeat: time.Second}, n)); err != nil {
		b.t.Fatal(err)
	}
	b.nodes = append(b.nodes, n)
	return n, bus
}

// TestWrongClock: a peer whose clock differs too much is refused, named, and a gap, until its clock is right.
func TestWrongClock(t *testing.T) {
	onSealedBus(t, 2, required, func(t *testing.T, b *sealedBus) {
		n, bus := b.addSkewed(-5 * time.Minute)
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
		number := uint64(0)
		send := func(topic string, age time.Duration) time.Time {
			number++
			sent := time.Now().Add(-age)
			b.injectFrame(required.Seal, "node0009", topic, number, sent)
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

// injectFrame publishes an empty frame of a node.
func (b *sealedBus) injectFrame(seal wire.Seal, id, topic string, number uint64, sent time.Time) {
	b.t.Helper()
	run := [16]byte{}
	copy(run[:], id)
	frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: crosscast.NodeID(id), Number: number})
	s := wire.NewSealer(seal, "", crosscast.NodeID(id), run)
	b.inject(wire.Frame{Topic: topic, Data: s.Append(nil, topic, frame, number, sent)})
}

// TestWrongClockUntilTheEnd: a node whose clock stays wrong is a gap until it is gone.
func TestWrongClockUntilTheEnd(t *testing.T) {
	onSealedBus(t, 2, required, func(t *testing.T, b *sealedBus) {
		late, _ := b.addSkewed(-5 * time.Minute)
		b.beat(10)
		for _, n := range b.nodes[:2] {
			n.tookGaps()
		}
		b.nodes = b.nodes[:2]
		late.a.Close(t.Context())
		died := time.Now()
		b.beat(12 * 60)
		for _, n := range b.nodes {
			if gaps := n.clockGaps(); len(gaps) != 1 || gaps[0].Origin != late.id || died.Sub(gaps[0].Since) < 5*time.Second || gaps[0].Until.Before(died) {
				t.Errorf("%s reports %+v", n.id, gaps)
			}
		}
	})
}

// clockGaps returns the gaps that a node has reported because of a clock.
func (n *sealedNode) clockGaps() []crosscast.Gap {
	return slices.DeleteFunc(n.tookGaps(), func(g crosscast.Gap) bool { return g.Reason != reasons.GapClock })
}

// TestWrongClockAmongMany: however many others are refused meanwhile, the gaps of a wrong clock leave no time out.
func TestWrongClockAmongMany(t *testing.T) {
	other := required.Seal
	other.Keys = [][]byte{sealKey(2)}
	for name, crowd := range map[string]func(b *sealedBus, number uint64){
		"strangers": func(b *sealedBus, number uint64) { // more than are named
			for i := range 200 {
				id := fmt.Sprintf("no%06d", i)
				b.injectFrame(other, id, "cc:all", number, time.Now())
			}
		},
		"captured": func(b *sealedBus, number uint64) { // more than are remembered
			for i := 0; i < wire.MaxClocks && number == 1; i++ { // it is filled once
				b.injectFrame(required.Seal, fmt.Sprintf("no%06d", i), "cc:r:/:A", 1, sealedAt)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onSealedBus(t, 1, required, func(t *testing.T, b *sealedBus) {
				n := b.nodes[0]
				b.subscribe(n, "A")
				b.beat(10)
				crowd(b, 1)
				late, bus := b.addSkewed(5 * time.Minute)
				b.nodes = b.nodes[:1]
				defer late.a.Close(t.Context())
				began := time.Now()
				until := began
				check := func(what string) {
					t.Helper()
					for _, g := range n.clockGaps() {
						if g.Origin != late.id || g.Since.After(until) {
							t.Errorf("%s: after %v there is a gap %+v", what, until.Sub(began), g)
						}
						until = g.Until
					}
				}
				for i := range uint64(4) {
					crowd(b, i+2)
					time.Sleep(300 * time.Millisecond) // lasts
					b.publish(late, emitTo("A"))
					crowd(b, i+6)
					time.Sleep(700 * time.Millisecond) // lasts
					b.publish(late, &crosscast.Instruction{Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}})
					check("wrong")
				}
				crowd(b, 10)
				bus.by = 0
				b.publish(late, &crosscast.Instruction{Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}})
				check("right")
				if !until.Equal(time.Now()) || until.Sub(began) < 4*time.Second {
					t.Errorf("the gaps end after %v, the clock was wrong for %v", until.Sub(began), time.Since(began))
				}
			})
		})
	}
}
