package wire_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// TestInstructionBound is that nothing takes more bytes in a frame than is made room for, whatever part of an
// instruction is the long one.
func TestInstructionBound(t *testing.T) {
	const id = "AAAAAAAABBBBBBBBBBBB"
	text, data := strings.Repeat("x", limit.Name), bytes.Repeat([]byte("x"), 1<<16)
	args := crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: append([]byte{0x91, 0xc6, 0, 1, 0, 0}, data...)}
	names := []string{text, text}
	answer := func(a crosscast.Answer) crosscast.Instruction { return crosscast.Instruction{Answer: &a} }
	socket := func(s crosscast.SocketInfo) crosscast.Instruction {
		return answer(crosscast.Answer{Sockets: []crosscast.SocketInfo{s}})
	}
	for what, inst := range map[string]crosscast.Instruction{
		"nothing":   {},
		"names":     {Namespace: "/" + text[1:], Event: text, Reason: crosscast.Reason(text), Ref: text},
		"rooms":     {Rooms: names},
		"target":    {Target: crosscast.Target{Rooms: names, Users: names, ExceptRooms: names, ExceptUsers: names}},
		"sockets":   {Target: crosscast.Target{Sockets: []crosscast.SocketID{id}, ExceptSockets: []crosscast.SocketID{id}}},
		"JSON":      {Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: data}},
		"binary":    {Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: data}},
		"arguments": {Payload: args},
		"msgpack":   {Payload: crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: data}},
		"meta":      {Meta: []crosscast.KeyValue{{Key: text, Value: text}}},
		"node":      {Node: crosscast.NodeInfo{Name: text, Heartbeat: time.Minute}},
		"question":  {TTL: time.Hour, Question: &crosscast.Question{Kind: 255, Fields: 255, Salt: 1<<64 - 1}},
		"presence": {Presence: &crosscast.Presence{Since: 1 << 63, Version: 1 << 63, Last: true, Round: 1 << 63,
			Buckets: 1 << 63, Sums: []uint64{1 << 63, 1 << 63}, Versions: []uint64{1 << 63, 1 << 63}, Full: true,
			Changes: []crosscast.PresenceChange{{Member: crosscast.Member{Socket: id, User: text,
				Presence: []byte(strings.Repeat("1", 1024))}, Left: true, At: 1 << 63}}}},
		"error":     answer(crosscast.Answer{Part: 1 << 30, Count: 1 << 30, Last: true, Err: string(data), Handled: true}),
		"users":     answer(crosscast.Answer{Users: make([]uint64, 1<<13)}),
		"counts":    answer(crosscast.Answer{Rooms: []crosscast.RoomCount{{Room: text, Sockets: 1 << 30}}}),
		"reply":     answer(crosscast.Answer{Replies: []crosscast.Reply{{Socket: id, Payload: args}}}),
		"answer":    answer(crosscast.Answer{Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: data}}),
		"data":      socket(crosscast.SocketInfo{ID: id, User: text, Rooms: names, Data: data}),
		"handshake": socket(crosscast.SocketInfo{ID: id, Handshake: data}),
	} {
		inst.Kind = kind.Answer
		n := len(wire.AppendItem(nil, &inst, crosscast.Address{}, 1<<63))
		if bound := wire.InstructionBound(&inst); n > bound || bound > n+600 {
			t.Errorf("%s: %d bytes, and room for %d", what, n, bound)
		}
	}
}

// TestHostileFrameIsBounded: a frame of as many bytes as may be, and of instructions as small as may be, is no more work
// than one instruction may be. What was not handed over is a gap, and the node hears what comes next.
func TestHostileFrameIsBounded(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "stranger", Number: 7})
		frame = append(frame, bytes.Repeat([]byte{0x91, byte(kind.Emit)}, (2<<20-len(frame))/2)...)
		c.hub.Port("stranger").Publish(t.Context(), []wire.Frame{{Topic: "cc:r:/:A", Data: frame}})
		a.a.Publish(t.Context(), emitTo("A"))
		synctest.Wait()
		got, gaps := b.got(), b.seen()
		if n := len(got); n != wire.MaxItems+1 || got[n-1] != "A" {
			t.Errorf("%d instructions were handed over, and then %q", n, got[max(0, n-1):])
		}
		if len(gaps) != 1 || gaps[0].Origin != "stranger" || gaps[0].From != 7 || gaps[0].Reason != reasons.GapHole {
			t.Errorf("gaps %+v", gaps)
		}
		if d := b.a.AdapterStats().Dropped; d["malformed"] != 1 {
			t.Errorf("dropped %v", d)
		}
	})
}

// TestFramesKeepToTheirItems: peers accept every frame that a node packs, however small its instructions are.
func TestFramesKeepToTheirItems(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		most := 0
		c.hub.OnExecute(func(f wire.Frame) { most = max(most, len(f.Data)) })
		a.port.SetLatency(time.Millisecond)
		const n = 20_000
		small := &crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/", Event: "x", Target: crosscast.Target{Rooms: []string{"A"}},
		}
		many := *small
		many.Target.ExceptSockets = slices.Repeat([]crosscast.SocketID{"n"}, 300)
		for i := range n {
			inst := small
			if i%1000 == 0 {
				inst = &many
			}
			if err := a.a.Publish(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, gaps := len(b.got()), b.seen(); got != n || len(gaps) != 0 {
			t.Errorf("%d of %d delivered, gaps %+v", got, n, gaps)
		}
		if most < 7*wire.MaxItems/3 {
			t.Errorf("frames of at most %d bytes: nothing was packed", most)
		}
	})
}

// A call with thousands of names does not keep the lock that each message needs.
func TestManyNamesLetMessagesIn(t *testing.T) {
	a := wire.New(membus.New().Port("a"), wire.Options{})
	names := make([]crosscast.Address, 4096)
	for i := range names {
		names[i] = room(fmt.Sprint(i))
	}
	if n := wire.MostHeld(a, names); n > 64 {
		t.Errorf("%d of %d topics at a time", n, len(names))
	}
}
