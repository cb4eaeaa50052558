package crosscast_test

import (
	"strconv"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

func benchEmission() *crosscast.Instruction {
	return &crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", From: "AAAAAAAA", Event: "roomMessage",
		Target:  crosscast.Target{Rooms: []string{"room1"}},
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: make([]byte, 128)},
	}
}

// benchInstructions are the shapes that are hot: to a room, from a socket to the others of its room, and to
// three rooms.
func benchInstructions() map[string]*crosscast.Instruction {
	room, sender, rooms, events := benchEmission(), benchEmission(), benchEmission(), benchEmission()
	sender.Target.ExceptSockets = []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}
	rooms.Target.Rooms = []string{"room1", "room2", "room3"}
	return map[string]*crosscast.Instruction{
		"room": room, "except-sender": sender, "three-rooms": rooms, "eight-events": events,
	}
}

func BenchmarkAppendInstruction(b *testing.B) {
	for name, inst := range benchInstructions() {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = crosscast.AppendInstruction(dst[:0], inst)
			}
		})
	}
}

// BenchmarkReadInstruction is the cost of an instruction among a hundred.
func BenchmarkReadInstruction(b *testing.B) {
	for name, inst := range benchInstructions() {
		b.Run(name, func(b *testing.B) {
			var data []byte
			for i := range 100 {
				if name == "eight-events" {
					inst.Event = "roomMessage" + strconv.Itoa(i%8)
				}
				data = mustAppend(data, inst)
			}
			var r crosscast.InstructionReader
			b.ReportAllocs()
			for i := 0; i < b.N; {
				var err error
				for rest := data; i < b.N && len(rest) > 0; i++ {
					if _, rest, err = r.Read(rest); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkReadAnswer is the cost of a part of an answer that tells of a thousand sockets.
func BenchmarkReadAnswer(b *testing.B) {
	data := manySockets(1000)
	var r crosscast.InstructionReader
	b.ReportAllocs()
	for b.Loop() {
		drain(b, &r, data)
	}
}
