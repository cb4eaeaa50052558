package crosscast_test

import (
	"io"
	"reflect"
	"testing"

	"github.com/crosscast/crosscast"
)

func TestFrameRoundTrip(t *testing.T) {
	room := crosscast.Address{Namespace: "/", Space: crosscast.RoomSpace, Name: "room1"}
	h := crosscast.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6, LossCount: 2,
		Losses: []crosscast.LossRange{{From: 1, To: 2}, {From: 3, To: 3, Names: []crosscast.Address{room}}}}
	in := crosscast.Instruction{Kind: crosscast.KindEmit, Namespace: "/", From: "AAAAAAAA", Event: "x",
		Target:  crosscast.Target{Rooms: []string{"room1"}},
		Payload: crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`{}`)}}
	b := crosscast.AppendInstruction(crosscast.AppendFrameHeader(nil, &h), &in, room, 0)
	crosscast.PatchFrameNumbers(b, 9, 8)
	h.Number, h.Previous = 9, 8
	var r crosscast.FrameReader
	got, err := r.Reset(b, room)
	if err != nil || !reflect.DeepEqual(*got, h) {
		t.Fatalf("%v %+v", err, got)
	}
	out, n, err := r.Next()
	if err != nil || n != 0 || !reflect.DeepEqual(*out, in) {
		t.Fatalf("%v %d %+v", err, n, out)
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
}
