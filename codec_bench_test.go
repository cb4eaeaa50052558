package crosscast_test

import (
	"io"
	"strconv"
	"testing"

	"github.com/crosscast/crosscast"
)

var benchRoom = crosscast.Address{Namespace: "/", Space: crosscast.RoomSpace, Name: "room1"}

func benchEmission() *crosscast.Instruction {
	return &crosscast.Instruction{
		Kind: crosscast.KindEmit, Namespace: "/", From: "AAAAAAAA", Event: "roomMessage",
		Target:  crosscast.Target{Rooms: []string{"room1"}},
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: make([]byte, 128)},
	}
}

// benchInstructions are the shapes that are hot: to the topic's room, from a socket to the others of its room, and to
// three rooms.
func benchInstructions() map[string]*crosscast.Instruction {
	implied, sender, rooms, events := benchEmission(), benchEmission(), benchEmission(), benchEmission()
	sender.Target.ExceptSockets = []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}
	rooms.Target.Rooms = []string{"room1", "room2", "room3"}
	return map[string]*crosscast.Instruction{
		"implied": implied, "except-sender": sender, "three-rooms": rooms, "eight-events": events,
	}
}

func BenchmarkAppendInstruction(b *testing.B) {
	for name, in := range benchInstructions() {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst = crosscast.AppendInstruction(dst[:0], in, benchRoom, 0)
			}
		})
	}
}

func BenchmarkAppendFrameHeader(b *testing.B) {
	dst := make([]byte, 0, 1024)
	h := crosscast.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6}
	b.ReportAllocs()
	for b.Loop() {
		dst = crosscast.AppendFrameHeader(dst[:0], &h)
	}
}

func BenchmarkFrameReaderReset(b *testing.B) {
	frame := crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6})
	var r crosscast.FrameReader
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Reset(frame, benchRoom); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFrameReaderNext is the cost of an instruction in a frame of a hundred.
func BenchmarkFrameReaderNext(b *testing.B) {
	for name, in := range benchInstructions() {
		b.Run(name, func(b *testing.B) {
			frame := crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6})
			for i := range 100 {
				if name == "eight-events" {
					in.Event = "roomMessage" + strconv.Itoa(i%8)
				}
				frame = crosscast.AppendInstruction(frame, in, benchRoom, 0)
			}
			var r crosscast.FrameReader
			b.ReportAllocs()
			for i := 0; i < b.N; {
				if _, err := r.Reset(frame, benchRoom); err != nil {
					b.Fatal(err)
				}
				for ; i < b.N; i++ {
					if _, _, err := r.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkReadAnswer is the cost of a part of an answer that tells of a thousand sockets.
func BenchmarkReadAnswer(b *testing.B) {
	frame := manySockets(1000)
	var r crosscast.FrameReader
	b.ReportAllocs()
	for b.Loop() {
		drain(b, &r, frame, everyone)
	}
}
