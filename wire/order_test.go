package wire_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

func TestAnEmissionToSeveralRoomsKeepsItsPlace(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B", "C")
		a.port.SetLatency(time.Millisecond)
		var want []string
		for range 20 {
			for _, rooms := range [][]string{{"A"}, {"B"}, {"A", "B"}, {"C"}, {"B"}, {"C", "A"}} {
				a.a.Publish(t.Context(), emitTo(rooms...))
				want = append(want, strings.Join(rooms, "+"))
			}
			all := emitTo()
			all.Target.Everyone, all.Event = true, "all"
			a.a.Publish(t.Context(), all)
			want = append(want, "all")
		}
		a.a.Flush(t.Context())
		synctest.Wait()
		got := b.got()
		if len(got) != len(want) {
			t.Fatalf("%d delivered, want %d", len(got), len(want))
		}
		// Single rooms may change places between two emissions to several; those may not.
		pack := func(events []string) []string {
			var out, run []string
			flush := func() {
				slices.Sort(run)
				out = append(out, strings.Join(run, " "))
				run = nil
			}
			for _, e := range events {
				if len(e) == 1 {
					run = append(run, e)
					continue
				}
				flush()
				out = append(out, e)
			}
			flush()
			return out
		}
		if !slices.Equal(pack(got), pack(want)) {
			t.Errorf("order\n got %v\nwant %v", got, want)
		}
	})
}

// Between a client's own address, its user's, a room's and everyone's there is an order, and within each; between two
// rooms there is none.
func TestWhatOneGoroutineEmitsKeepsItsOrder(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		user := crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "u"}
		if err := b.a.Subscribe(t.Context(), room("A"), user); err != nil {
			t.Fatal(err)
		}
		a.port.SetLatency(time.Millisecond)
		targets := []crosscast.Target{
			{Rooms: []string{"A"}}, {Users: []string{"u"}}, {Rooms: []string{"A"}},
			{Sockets: []crosscast.SocketID{crosscast.SocketID(string(b.id) + "socket000000")}}, {Everyone: true}, {Everyone: true},
		}
		var want []string
		for i := range 200 {
			inst := &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", From: a.id}
			inst.Target, inst.Event = targets[i*i%len(targets)], strconv.Itoa(i)
			if i%7 == 3 { // so large that it has a frame of its own
				inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, 16<<10)}
			}
			if err := a.a.Publish(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
			want = append(want, inst.Event)
		}
		a.a.Flush(t.Context())
		synctest.Wait()
		if got := b.got(); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

// TestInstructionsToOneInboxShareAFrame: instructions of all kinds to one node share a frame, and so do instructions to
// everyone, if no others are between them.
func TestInstructionsToOneInboxShareAFrame(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		frames := 0
		c.hub.OnExecute(func(wire.Frame) { frames++ })
		a.port.SetLatency(time.Millisecond)
		emitOne := func(i int, inst crosscast.Instruction) {
			inst.Namespace, inst.From, inst.Event = "/", a.id, strconv.Itoa(i)
			if err := a.a.Publish(t.Context(), &inst); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 300 { // the first of all is a frame of its own
			emitOne(i, crosscast.Instruction{Kind: kind.Request, To: c.peers[1+i%2].id})
		}
		for i := range 100 {
			emitOne(i, crosscast.Instruction{Kind: kind.Emit, Target: crosscast.Target{Everyone: true}})
		}
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, p := range c.peers[1:] {
			if n := p.a.AdapterStats().InstructionsIn; n < 250 {
				t.Errorf("%s: %d of 250 instructions", p.id, n)
			}
		}
		if frames > 5 {
			t.Errorf("%d frames", frames)
		}
	})
}
