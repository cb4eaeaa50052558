package wire_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// sealedNode is a node whose handler keeps all that it gets.
type sealedNode struct {
	id   crosscast.NodeID
	a    *wire.Adapter
	port *membus.Port

	told // kinds, origins and events
}

func (n *sealedNode) Handle(inst *crosscast.Instruction) {
	n.add(fmt.Sprintf("%d %s %s", inst.Kind, inst.From, inst.Event))
}

func (*sealedNode) Awaits(string) bool                    { return true }
func (*sealedNode) Link(crosscast.LinkStatus)             {}
func (*sealedNode) Outage(time.Time, crosscast.GapReason) {}

// dropped returns how many messages were dropped for a reason, or for all.
func (n *sealedNode) dropped(reason string) (sum uint64) {
	for why, c := range n.a.AdapterStats().Dropped {
		if reason == "" || reason == why {
			sum += c
		}
	}
	return sum
}

// sealedBus is nodes on a scripted bus, in a bubble, and what has passed there.
type sealedBus struct {
	t        *testing.T
	hub      *membus.Hub
	nodes    []*sealedNode
	stranger *membus.Port // may publish everywhere

	scattered bool // nodes that are added say so of the bus

	mu       sync.Mutex
	captured []wire.Frame // guarded by mu
}

func onSealedBus(t *testing.T, n int, o wire.Options, f func(t *testing.T, b *sealedBus)) {
	synctest.Test(t, func(t *testing.T) {
		b := &sealedBus{t: t, hub: membus.New()}
		b.stranger = b.hub.Port("stranger")
		b.hub.OnExecute(func(f wire.Frame) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.captured = append(b.captured, wire.Frame{Topic: f.Topic, Data: slices.Clone(f.Data)})
		})
		defer func() {
			for _, n := range b.nodes {
				if err := n.a.Close(context.Background()); err != nil {
					t.Error("Close:", err)
				}
			}
		}()
		for range n {
			b.add(o)
		}
		f(t, b)
	})
}

func (b *sealedBus) add(o wire.Options) *sealedNode {
	b.t.Helper()
	n := &sealedNode{id: crosscast.NodeID(fmt.Sprintf("node%04d", len(b.nodes)))}
	n.port = b.hub.Port(string(n.id))
	if b.scattered {
		n.port.SetScattered()
	}
	n.a = wire.New(n.port, o)
	if err := n.a.Start(b.t.Context(), starting(crosscast.NodeInfo{ID: n.id, Name: "n", Heartbeat: time.Second}, n)); err != nil {
		b.t.Fatal(err)
	}
	b.nodes = append(b.nodes, n)
	b.publish(n, &crosscast.Instruction{Kind: kind.Hello, Target: crosscast.Target{Everyone: true}})
	return n
}

func (b *sealedBus) publish(n *sealedNode, inst *crosscast.Instruction) {
	b.t.Helper()
	if inst.Kind.Control() {
		inst.Node = crosscast.NodeInfo{ID: n.id, Name: "n", Heartbeat: time.Second}
	}
	if err := n.a.Publish(b.t.Context(), inst); err != nil {
		b.t.Error(err)
	}
	synctest.Wait()
}

func (b *sealedBus) subscribe(n *sealedNode, room1 string) {
	b.t.Helper()
	if err := n.a.Subscribe(b.t.Context(), room(room1)); err != nil {
		b.t.Fatal(err)
	}
}

// beat lets so many heartbeats pass.
func (b *sealedBus) beat(times int) {
	for range times {
		for _, n := range b.nodes {
			b.publish(n, &crosscast.Instruction{Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}})
		}
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

// inject has the stranger publish messages.
func (b *sealedBus) inject(frames ...wire.Frame) {
	b.t.Helper()
	b.stranger.Publish(b.t.Context(), frames)
	for _, f := range frames {
		if f.Err != nil {
			b.t.Fatal(f.Err)
		}
	}
	synctest.Wait()
}

func (b *sealedBus) takeCaptured() []wire.Frame {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.captured
	b.captured = nil
	return all
}

// refused fails if anything that was injected has been accepted: handled, or told as a gap.
func (b *sealedBus) refused(what string) {
	b.t.Helper()
	for _, n := range b.nodes {
		if got, gaps := n.took(), n.tookGaps(); len(got)+len(gaps) > 0 {
			b.t.Errorf("%s: %s accepts %.200v, and reports %+v", what, n.id, got, gaps)
		}
	}
}

func (b *sealedBus) forget() {
	for _, n := range b.nodes {
		n.took()
		n.tookGaps()
	}
}

var required = wire.Options{Seal: wire.Seal{Keys: [][]byte{sealKey(1)}, Require: true}}

// allKinds are instructions of every kind, and some for rooms.
func allKinds() (all []*crosscast.Instruction) {
	for k := kind.Kind(1); k < 40; k++ {
		all = append(all, &crosscast.Instruction{
			Kind: k, Namespace: "/", Event: "forged", Ref: "r1", Target: crosscast.Target{Everyone: true}, Rooms: []string{"A"},
			Node: crosscast.NodeInfo{Name: "forged", Heartbeat: time.Second},
		})
	}
	return append(all, emitTo("A"))
}

// TestStranger: whoever may publish on every topic, and has no key, achieves nothing, whatever he writes.
func TestStranger(t *testing.T) {
	eachMode(t, func(t *testing.T, seal wire.Seal) {
		onSealedBus(t, 3, wire.Options{Seal: seal}, func(t *testing.T, b *sealedBus) {
			for _, n := range b.nodes {
				b.subscribe(n, "A")
			}
			b.beat(3)
			topics := []string{"cc:all", "cc:r:/:A"}
			for _, n := range b.nodes {
				topics = append(topics, "cc:n:"+string(n.id))
			}
			// Every kind of frame: without a seal, with that of another key, and with the name of the right key.
			other := wire.NewSealer(wire.Seal{Keys: [][]byte{sealKey(2)}}, "", "node0001", [16]byte(sealKey(7)))
			genuine := b.takeCaptured()[0].Data
			b.forget()
			number, sent := uint64(1<<40), 0
			for _, origin := range []crosscast.NodeID{"node0001", "stranger"} {
				for _, inst := range allKinds() {
					for _, topic := range topics {
						for _, control := range []bool{false, true} {
							number++
							plain := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: origin, Number: number, LossCount: 9, Control: control})
							plain = wire.AppendItem(plain, inst, noName, 0)
							sealed := other.Append(nil, topic, plain, number, time.Now())
							named := slices.Clone(sealed)
							copy(named, genuine[:wire.SealRunAt]) // its key and origin
							known := slices.Clone(named)
							copy(known, genuine[:wire.SealNumberAt]) // and its run
							b.inject(wire.Frame{Topic: topic, Data: plain}, wire.Frame{Topic: topic, Data: sealed},
								wire.Frame{Topic: topic, Data: named}, wire.Frame{Topic: topic, Data: known})
							sent++
						}
					}
				}
			}
			b.refused("forged frames")
			for _, n := range b.nodes {
				heard := uint64(sent) * 3 / 5 // everyone, the room and its own inbox
				for reason, want := range map[string]uint64{"unsealed": heard, "unknown key": heard, "broken seal": 2 * heard} {
					if got := n.dropped(reason); got != want {
						t.Errorf("%s has dropped %d as %q, and not %d", n.id, got, reason, want)
					}
				}
				if got := n.a.AdapterStats().Unopened; len(got) != 1 || got["stranger"] != "not sealed" {
					t.Errorf("%s names %v", n.id, got)
				}
			}
			b.works("A")
		})
	})
}

// works fails unless an emission reaches all nodes that are in the room, without a gap.
func (b *sealedBus) works(to string) {
	b.t.Helper()
	b.beat(1)
	b.forget()
	for _, n := range b.nodes {
		b.publish(n, emitTo(to))
		for _, other := range b.nodes {
			want := []string{fmt.Sprintf("%d %s %s", kind.Emit, n.id, to)}
			if other == n {
				want = nil
			}
			if got := other.took(); !slices.Equal(got, want) {
				b.t.Errorf("%s hears %v of %s", other.id, got, n.id)
			}
			if gaps := other.tookGaps(); len(gaps) > 0 {
				b.t.Errorf("%s reports %+v", other.id, gaps)
			}
		}
	}
}

// TestCapturedTraffic: whoever has captured all that has passed achieves nothing with it, on any topic, while the nodes
// run, or after their books were forgotten.
func TestCapturedTraffic(t *testing.T) {
	eachMode(t, func(t *testing.T, seal wire.Seal) {
		onSealedBus(t, 3, wire.Options{Seal: seal}, func(t *testing.T, b *sealedBus) {
			for _, n := range b.nodes {
				b.subscribe(n, "A")
				b.subscribe(n, "B")
			}
			leaver := b.add(wire.Options{Seal: seal})
			for _, n := range b.nodes {
				for _, inst := range allKinds() {
					if !inst.Kind.Control() && inst.Kind != kind.Goodbye {
						b.publish(n, inst)
					}
				}
				b.publish(n, emitTo("B"))
			}
			b.beat(3)
			b.publish(leaver, &crosscast.Instruction{Kind: kind.Goodbye, Target: crosscast.Target{Everyone: true}})
			b.nodes = b.nodes[:3]
			if err := leaver.a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.beat(1)
			captured := b.takeCaptured()
			b.forget()

			again := func(when string) {
				t.Helper()
				b.inject(captured...)
				b.inject(captured...)
				b.refused("replayed " + when)
			}
			again("at once")
			topics := map[string]bool{"cc:r:/:A": true, "cc:r:/:B": true}
			for _, f := range captured {
				topics[f.Topic] = true
			}
			for _, f := range captured {
				for topic := range topics {
					if topic != f.Topic {
						b.inject(wire.Frame{Topic: topic, Data: f.Data})
					}
				}
			}
			b.refused("moved to another topic")
			one := captured[len(captured)-1]
			for _, f := range captured {
				if f.Topic == "cc:r:/:B" {
					one = f
				}
			}
			for n := range one.Data {
				b.inject(wire.Frame{Topic: one.Topic, Data: one.Data[:n]})
			}
			for bit := range 8 * len(one.Data) {
				bad := slices.Clone(one.Data)
				bad[bit/8] ^= 1 << (bit % 8)
				b.inject(wire.Frame{Topic: one.Topic, Data: bad})
			}
			b.refused("cut or changed")
			b.works("A")
			b.beat(13 * 60) // the books of the node that has left are forgotten, and what is left is not fresh
			b.forget()
			again("after 13 min")
			b.works("B")
		})
	})
}

// TestCapturedBeforeStart: a node that starts later refuses what is not fresh, and is told of no peer that is gone.
func TestCapturedBeforeStart(t *testing.T) {
	onSealedBus(t, 2, required, func(t *testing.T, b *sealedBus) {
		b.subscribe(b.nodes[0], "A")
		b.publish(b.nodes[1], emitTo("A"))
		b.beat(3)
		captured := b.takeCaptured()
		for _, n := range b.nodes {
			n.port.Down()
		}
		time.Sleep(3 * time.Minute)
		n := b.add(required)
		b.subscribe(n, "A")
		n.took()
		b.inject(captured...)
		if got, gaps := n.took(), n.tookGaps(); len(got)+len(gaps) > 0 || n.dropped("stale") == 0 {
			t.Errorf("%v, %+v, %d are stale", got, gaps, n.dropped("stale"))
		}
		for _, n := range b.nodes {
			n.port.Up()
		}
	})
}

// TestCapturedWithoutOrder: where rooms have no order between them, what was captured in a room before a node joined it is
// refused when it is old, though the node knows the run.
func TestCapturedWithoutOrder(t *testing.T) {
	onSealedBus(t, 0, required, func(t *testing.T, b *sealedBus) {
		b.scattered = true
		a, other := b.add(required), b.add(required)
		b.publish(a, emitTo("A"))
		captured := slices.DeleteFunc(b.takeCaptured(), func(f wire.Frame) bool { return f.Topic != "cc:r:/:A" })
		b.beat(125)
		b.forget()
		b.subscribe(other, "A")
		b.inject(captured...)
		gaps := other.tookGaps()
		if got := other.took(); len(got) > 0 || other.dropped("stale") != 1 || len(gaps) != 1 || gaps[0].Reason != reasons.GapLate {
			t.Errorf("%v, %+v, %v", got, gaps, other.a.AdapterStats().Dropped)
		}
		b.subscribe(a, "A")
		b.works("A")
	})
}

// TestFloodOfRuns: invented nodes and runs take no memory and no room, and change nothing for the peers.
func TestFloodOfRuns(t *testing.T) {
	onSealedBus(t, 3, required, func(t *testing.T, b *sealedBus) {
		for _, n := range b.nodes {
			b.subscribe(n, "A")
		}
		b.beat(2)
		forged := slices.Clone(b.takeCaptured()[0].Data)
		b.forget()
		for i := range 1000 {
			binary.BigEndian.PutUint64(forged[wire.SealRunAt:], uint64(i))
			copy(forged[wire.SealRunAt-8:], fmt.Sprintf("%08d", i))
			b.inject(wire.Frame{Topic: "cc:all", Data: forged})
		}
		b.refused("a flood of new runs")
		for _, n := range b.nodes {
			if got := wire.Known(n.a); got != [3]int{3, 2, 64} { // its own run is one of them
				t.Errorf("%s knows %v runs, origins and strangers", n.id, got)
			}
		}
		b.works("A")
	})
}

// TestUnsealedForgeries: while frames without a seal are accepted, nobody speaks for a node that seals, not even before
// it is heard.
func TestUnsealedForgeries(t *testing.T) {
	o := wire.Options{Seal: wire.Seal{Keys: [][]byte{sealKey(1)}}}
	onSealedBus(t, 1, o, func(t *testing.T, b *sealedBus) {
		b.subscribe(b.nodes[0], "A")
		forge := func(origin crosscast.NodeID, number uint64) {
			data := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: origin, Number: number})
			b.inject(wire.Frame{Topic: "cc:r:/:A", Data: wire.AppendItem(data, emitTo("A"), room("A"), 0)})
		}
		forge("node0001", 1<<60)
		if got := b.nodes[0].took(); len(got) != 1 {
			t.Fatal("a node without a seal is not heard:", got)
		}
		b.subscribe(b.add(o), "A")
		b.beat(1)
		if gaps := b.nodes[0].tookGaps(); len(gaps) != 1 || gaps[0].Reason != reasons.GapForged || gaps[0].Origin != "node0001" {
			t.Errorf("gaps %+v", gaps)
		}
		b.forget()
		forge("node0001", 1<<60)
		forge("node0000", 1<<61)
		b.refused("forged without a seal")
		if got := b.nodes[0].dropped("unsealed"); got != 2 {
			t.Error(got, "are dropped")
		}
		b.works("A")
	})
}

// TestSealedFramesNeverHeal: of a number that only the origin itself can have written, its lower ones are copies, and
// heal nothing.
func TestSealedFramesNeverHeal(t *testing.T) {
	onSealedBus(t, 2, required, func(t *testing.T, b *sealedBus) {
		s := wire.NewSealer(required.Seal, "", "node0009", [16]byte(sealKey(7)))
		beat := func(number uint64) {
			frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "node0009", Number: number, Control: true})
			frame = wire.AppendItem(frame, &crosscast.Instruction{
				Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}, Node: crosscast.NodeInfo{Heartbeat: time.Second},
			}, noName, 0)
			b.inject(wire.Frame{Topic: "cc:all", Data: s.Append(nil, "cc:all", frame, number, time.Now())})
			b.beat(1)
		}
		for n := range uint64(10) {
			beat(n + 1)
		}
		beat(1 << 40)
		b.forget()
		for n := range uint64(10) {
			beat(n + 11)
		}
		for _, n := range b.nodes {
			if n.dropped("forged") != 0 || n.dropped("copy") != 10 || len(n.tookGaps()) != 0 {
				t.Errorf("%s has dropped %v", n.id, n.a.AdapterStats().Dropped)
			}
		}
	})
}
