package wire_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/wire"
)

// TestInstructionBound is that nothing takes more bytes in a frame than is made room for, whatever part of an
// instruction is the long one.
func TestInstructionBound(t *testing.T) {
	const id = "AAAAAAAABBBBBBBBBBBB"
	text, data := strings.Repeat("x", crosscast.MaxName), bytes.Repeat([]byte("x"), 1<<16)
	args := crosscast.Payload{Encoding: crosscast.Args, Data: append([]byte{0x91, 0xc6, 0, 1, 0, 0}, data...)}
	names := []string{text, text}
	answer := func(a crosscast.Answer) crosscast.Instruction { return crosscast.Instruction{Answer: &a} }
	socket := func(s crosscast.SocketInfo) crosscast.Instruction {
		return answer(crosscast.Answer{Sockets: []crosscast.SocketInfo{s}})
	}
	for what, in := range map[string]crosscast.Instruction{
		"nothing":   {},
		"names":     {Namespace: "/" + text[1:], Event: text, Reason: crosscast.Reason(text), Ref: text},
		"rooms":     {Rooms: names},
		"target":    {Target: crosscast.Target{Rooms: names, Users: names, ExceptRooms: names, ExceptUsers: names}},
		"sockets":   {Target: crosscast.Target{Sockets: []crosscast.SocketID{id}, ExceptSockets: []crosscast.SocketID{id}}},
		"JSON":      {Payload: crosscast.Payload{Encoding: crosscast.JSON, Data: data}},
		"binary":    {Payload: crosscast.Payload{Encoding: crosscast.Binary, Data: data}},
		"arguments": {Payload: args},
		"meta":      {Meta: []crosscast.KeyValue{{Key: text, Value: text}}},
		"node":      {Node: crosscast.NodeInfo{Name: text, Heartbeat: time.Hour}},
		"question":  {TTL: time.Hour, Question: &crosscast.Question{Kind: 255, Fields: 255, Salt: 1<<64 - 1}},
		"presence": {Presence: &crosscast.Presence{Since: 1 << 63, Version: 1 << 63, Last: true,
			Changes: []crosscast.PresenceChange{{Member: crosscast.Member{Socket: id, User: text}, Left: true}}}},
		"error":     answer(crosscast.Answer{Part: 1 << 30, Count: 1 << 30, Last: true, Err: string(data), Handled: true}),
		"users":     answer(crosscast.Answer{Users: make([]uint64, 1<<13)}),
		"counts":    answer(crosscast.Answer{Rooms: []crosscast.RoomCount{{Room: text, Sockets: 1 << 30}}}),
		"reply":     answer(crosscast.Answer{Replies: []crosscast.Reply{{Socket: id, Payload: args}}}),
		"answer":    answer(crosscast.Answer{Payload: crosscast.Payload{Encoding: crosscast.JSON, Data: data}}),
		"data":      socket(crosscast.SocketInfo{ID: id, User: text, Rooms: names, Data: data}),
		"handshake": socket(crosscast.SocketInfo{ID: id, Handshake: data}),
	} {
		in.Kind = crosscast.KindAnswer
		n := len(crosscast.AppendInstruction(nil, &in, crosscast.Address{}, 1<<63))
		if bound := wire.InstructionBound(&in); n > bound || bound > n+600 {
			t.Errorf("%s: %d bytes, and room for %d", what, n, bound)
		}
	}
}
