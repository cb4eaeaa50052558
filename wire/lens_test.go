package wire_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// recordingBus keeps the frames that were published.
type recordingBus struct {
	*membus.Port
	frames chan wire.Frame
}

func (b *recordingBus) Publish(ctx context.Context, frames []wire.Frame) {
	b.Port.Publish(ctx, frames)
	for _, f := range frames {
		f.Data = slices.Clone(f.Data)
		b.frames <- f
	}
}

// TestLensOpens: with the key it sees what is sealed, however old; without it, or where a seal is required, an error.
func TestLensOpens(t *testing.T) {
	frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "node0001", Number: 1})
	frame = wire.AppendItem(frame, emitTo("A"), room("A"), 0)
	seal := wire.Seal{Keys: [][]byte{sealKey(1)}, Require: true}
	sealed := wire.NewSealer(seal, "", "node0001", [16]byte{1}).Append(nil, "cc:r:/:A", frame, 1, sealedAt.AddDate(-20, 0, 0))
	ofPart := wire.NewSealer(seal, "a", "node0001", [16]byte{1}).Append(nil, "cc:r:/:A", frame, 1, sealedAt)
	for _, c := range []struct {
		seal  wire.Seal
		part  string
		topic string
		frame []byte
		err   error
	}{
		{seal, "", "cc:r:/:A", sealed, nil},
		{seal, "", "cc:r:/:A", frame, wire.ErrSealed},
		{seal, "", "cc:r:/:B", sealed, wire.ErrSealed},
		{wire.Seal{}, "", "cc:r:/:A", sealed, wire.ErrSealed},
		{wire.Seal{Keys: [][]byte{sealKey(2)}}, "", "cc:r:/:A", sealed, wire.ErrSealed},
		{wire.Seal{Keys: [][]byte{sealKey(2)}}, "", "cc:r:/:A", frame, nil},
		{seal, "a", "cc:r:/:A", ofPart, nil},
		{seal, "", "cc:r:/:A", ofPart, wire.ErrSealed},
		{seal, "a", "cc:r:/:A", sealed, wire.ErrSealed},
	} {
		seen := 0
		l := &wire.Lens{Prefix: "cc", Seal: c.seal, Part: c.part}
		err := l.Read(c.topic, c.frame, func(inst *crosscast.Instruction) { seen++ })
		if !errors.Is(err, c.err) || c.err == nil && (err != nil || seen != 1) {
			t.Errorf("%v on %s of part %q: %v, %d instructions", c.seal, c.topic, c.part, err, seen)
		}
	}
}

// TestLens: it sees what is emitted, with the room of the topic.
func TestLens(t *testing.T) {
	bus := &recordingBus{membus.New().Port("p"), make(chan wire.Frame, 1000)}
	n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(bus, wire.Options{Prefix: "app"})})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(context.Background())
	odd, err := n.Of("/a:b")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []crosscast.BoundTarget{n.To("room 1"), odd.ToUser("ann:%"), n.Everyone(), n.To("a", "b")} {
		if _, err := target.Deliver(t.Context(), "said", "hello"); err != nil {
			t.Fatal(err)
		}
	}
	lens := &wire.Lens{Prefix: "app"}
	var seen []string
	for len(bus.frames) > 0 {
		f := <-bus.frames
		if err := lens.Read(f.Topic, f.Data, func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Emit {
				seen = append(seen, fmt.Sprint(inst.From == n.ID(), inst.Namespace, inst.Target.Everyone, inst.Target.Rooms,
					inst.Target.Users, inst.Event, string(inst.Payload.Data)))
			}
		}); err != nil {
			t.Errorf("%s: %v", f.Topic, err)
		}
		if err := lens.Read("other:all", f.Data, nil); !errors.Is(err, wire.ErrForeign) {
			t.Errorf("of another prefix: %v", err)
		}
	}
	want := []string{
		`true/false [room 1] []said"hello"`, `true/a:bfalse [] [ann:%]said"hello"`, `true/true [] []said"hello"`,
		`true/false [a b] []said"hello"`, `true/false [a b] []said"hello"`,
	}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("seen\n%q, want\n%q", seen, want)
	}
	if err := lens.Read("app:all", []byte("hello"), nil); !errors.Is(err, wire.ErrForeign) {
		t.Errorf("a foreign message: %v", err)
	}
}

// TestLensTopics: a topic's name is read as it is written, and nothing else is.
func TestLensTopics(t *testing.T) {
	lens := &wire.Lens{Prefix: "app"}
	rapid.Check(t, func(t *rapid.T) {
		a := crosscast.Address{
			Space:     rapid.SampledFrom([]crosscast.Space{crosscast.SpaceRoom, crosscast.SpaceUser}).Draw(t, "space"),
			Namespace: rapid.StringN(1, 20, 255).Draw(t, "namespace"), Name: rapid.StringN(1, 20, 255).Draw(t, "name"),
		}
		if got, ok := lens.Address(lens.Topic(a)); got != a || !ok {
			t.Fatalf("%q became %q, %v, by the topic %q", a, got, ok, lens.Topic(a))
		}
	})
	for topic, want := range map[string]bool{
		"app:all": true, "app:n:node0001": true, "other:all": false, "app:x": false, "app:r:/": false, "app:r:/:": false,
		"app:r:/:%zz": false, "app:r:/:a%62": false, "app": false, "": false, "app:in": false,
	} {
		if a, ok := lens.Address(topic); ok != want || a != (crosscast.Address{}) {
			t.Errorf("%q: %q, %v", topic, a, ok)
		}
	}
}
