package crosscast_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// TestLimits: AppendInstruction refuses exactly what a reader would.
func TestLimits(t *testing.T) {
	name := func(n int) string { return strings.Repeat("n", n) }
	names := func(n int) []string { return slices.Repeat([]string{"n"}, n) }
	ids := func(n int) []crosscast.SocketID { return slices.Repeat([]crosscast.SocketID{"n"}, n) }
	most32 := math.MaxInt32 // a variable: one more is negative where an int has 32 bits
	answer := func(a crosscast.Answer) func(*crosscast.Instruction) {
		return func(inst *crosscast.Instruction) { inst.Answer = &a }
	}
	info := crosscast.SocketInfo{ID: "n", Rooms: []string{"n"}}
	socket := func(s crosscast.SocketInfo) func(*crosscast.Instruction) {
		return answer(crosscast.Answer{Sockets: []crosscast.SocketInfo{info, s}})
	}
	for _, test := range []struct {
		what string
		ok   bool
		is   error
		set  func(*crosscast.Instruction)
	}{
		{"nothing set", true, nil, func(inst *crosscast.Instruction) {}},
		{"kind 0", false, crosscast.ErrTooLarge, func(inst *crosscast.Instruction) { inst.Kind = 0 }},
		{"namespace 255", true, nil, func(inst *crosscast.Instruction) { inst.Namespace = name(255) }},
		{"namespace 256", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) { inst.Namespace = name(256) }},
		{"event 255", true, nil, func(inst *crosscast.Instruction) { inst.Event = name(255) }},
		{"event 256", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) { inst.Event = name(256) }},
		{"room 255", true, nil, func(inst *crosscast.Instruction) { inst.Target.Rooms = []string{name(255)} }},
		{"room 256", false, crosscast.ErrInvalidName,
			func(inst *crosscast.Instruction) { inst.Target.Rooms = []string{name(256)} }},
		{"room 0", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) {
			inst.Target.Rooms = []string{"a",
				""}
		}},
		{"user 0", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) { inst.Target.Users = []string{""} }},
		{"socket 0", false, crosscast.ErrInvalidName,
			func(inst *crosscast.Instruction) { inst.Target.Sockets = []crosscast.SocketID{""} }},
		{"except room 0", false, crosscast.ErrInvalidName,
			func(inst *crosscast.Instruction) { inst.Target.ExceptRooms = []string{""} }},
		{"except user 0", false, crosscast.ErrInvalidName,
			func(inst *crosscast.Instruction) { inst.Target.ExceptUsers = []string{""} }},
		{"except socket 256", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) {
			inst.Target.ExceptSockets = []crosscast.SocketID{crosscast.SocketID(name(256))}
		}},
		{"1024 rooms", true, nil, func(inst *crosscast.Instruction) { inst.Target.Rooms = names(1024) }},
		{"1025 rooms", false, crosscast.ErrTooLarge, func(inst *crosscast.Instruction) { inst.Target.Rooms = names(1025) }},
		{"1024 names", true, nil, func(inst *crosscast.Instruction) {
			inst.Target = crosscast.Target{Rooms: names(300), Users: names(300), Sockets: ids(200), ExceptRooms: names(100),
				ExceptUsers: names(100), ExceptSockets: ids(24)}
		}},
		{"1025 names", false, crosscast.ErrTooLarge, func(inst *crosscast.Instruction) {
			inst.Target = crosscast.Target{Rooms: names(300), Users: names(300), Sockets: ids(200), ExceptRooms: names(100),
				ExceptUsers: names(100), ExceptSockets: ids(25)}
		}},
		{"8 pairs", true, nil, func(inst *crosscast.Instruction) { inst.Meta = make([]crosscast.KeyValue, 8) }},
		{"9 pairs", false, crosscast.ErrTooLarge, func(inst *crosscast.Instruction) {
			inst.Meta = make([]crosscast.KeyValue,
				9)
		}},
		{"key 256", false, crosscast.ErrTooLarge,
			func(inst *crosscast.Instruction) { inst.Meta = []crosscast.KeyValue{{Key: name(256)}} }},
		{"value 256", false, crosscast.ErrTooLarge,
			func(inst *crosscast.Instruction) { inst.Meta = []crosscast.KeyValue{{Value: name(256)}} }},
		{"node 255", true, nil, func(inst *crosscast.Instruction) { inst.Node.Name = name(255) }},
		{"node 256", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) { inst.Node.Name = name(256) }},
		{"1024 rooms to join, beside 1024 names", true, nil, func(inst *crosscast.Instruction) {
			inst.Target.Rooms, inst.Rooms = names(1024), names(1024)
		}},
		{"1025 rooms to join", false, crosscast.ErrTooLarge, func(inst *crosscast.Instruction) { inst.Rooms = names(1025) }},
		{"room to join 0", false, crosscast.ErrInvalidName,
			func(inst *crosscast.Instruction) { inst.Rooms = []string{"a", ""} }},
		{"room to join 255", true, nil, func(inst *crosscast.Instruction) { inst.Rooms = []string{name(255)} }},
		{"room to join 256", false, crosscast.ErrInvalidName,
			func(inst *crosscast.Instruction) { inst.Rooms = []string{name(256)} }},
		{"reason 255", true, nil, func(inst *crosscast.Instruction) { inst.Reason = crosscast.Reason(name(255)) }},
		{"reason 256", false, crosscast.ErrTooLarge,
			func(inst *crosscast.Instruction) { inst.Reason = crosscast.Reason(name(256)) }},
		{"ref 255", true, nil, func(inst *crosscast.Instruction) { inst.Ref = name(255) }},
		{"ref 256", false, crosscast.ErrInvalidName, func(inst *crosscast.Instruction) { inst.Ref = name(256) }},
		{"part most", true, nil, answer(crosscast.Answer{Part: 1<<31 - 1})},
		{"part more", false, crosscast.ErrTooLarge, answer(crosscast.Answer{Part: most32 + 1})},
		{"part -1", false, crosscast.ErrTooLarge, answer(crosscast.Answer{Part: -1})},
		{"count most", true, nil, answer(crosscast.Answer{Count: 1<<31 - 1})},
		{"count more", false, crosscast.ErrTooLarge, answer(crosscast.Answer{Count: most32 + 1})},
		{"count -1", false, crosscast.ErrTooLarge, answer(crosscast.Answer{Count: -1})},
		{"many of everything", true, nil, answer(crosscast.Answer{
			Err: name(1 << 17), Users: make([]uint64, 1<<17), Sockets: slices.Repeat([]crosscast.SocketInfo{info}, 1<<17),
			Rooms:   slices.Repeat([]crosscast.RoomCount{{Room: "n"}}, 1<<17),
			Replies: slices.Repeat([]crosscast.Reply{{Socket: "n"}}, 1<<17),
		})},
		{"socket's ID 0", false, crosscast.ErrInvalidName, socket(crosscast.SocketInfo{})},
		{"socket's ID 255", true, nil, socket(crosscast.SocketInfo{ID: crosscast.SocketID(name(255))})},
		{"socket's ID 256", false, crosscast.ErrInvalidName,
			socket(crosscast.SocketInfo{ID: crosscast.SocketID(name(256))})},
		{"socket's user 255", true, nil, socket(crosscast.SocketInfo{ID: "n", User: name(255)})},
		{"socket's user 256", false, crosscast.ErrInvalidName, socket(crosscast.SocketInfo{ID: "n", User: name(256)})},
		{"socket's 3000 rooms", true, nil, socket(crosscast.SocketInfo{ID: "n", Rooms: names(3000)})},
		{"socket's room 0", false, crosscast.ErrInvalidName, socket(crosscast.SocketInfo{ID: "n", Rooms: []string{""}})},
		{"socket's room 256", false, crosscast.ErrInvalidName,
			socket(crosscast.SocketInfo{ID: "n", Rooms: []string{name(256)}})},
		{"socket's data", true, nil, socket(crosscast.SocketInfo{ID: "n", Data: make([]byte, 1<<17)})},
		{"counted room 0", false, crosscast.ErrInvalidName,
			answer(crosscast.Answer{Rooms: make([]crosscast.RoomCount, 1)})},
		{"counted room 256", false, crosscast.ErrInvalidName,
			answer(crosscast.Answer{Rooms: []crosscast.RoomCount{{Room: name(256)}}})},
		{"room's sockets most", true, nil,
			answer(crosscast.Answer{Rooms: []crosscast.RoomCount{{Room: "n", Sockets: 1<<31 - 1}}})},
		{"room's sockets more", false, crosscast.ErrTooLarge,
			answer(crosscast.Answer{Rooms: []crosscast.RoomCount{{Room: "n", Sockets: most32 + 1}}})},
		{"room's sockets -1", false, crosscast.ErrTooLarge,
			answer(crosscast.Answer{Rooms: []crosscast.RoomCount{{Room: "n", Sockets: -1}}})},
		{"reply of nobody", false, crosscast.ErrInvalidName, answer(crosscast.Answer{Replies: make([]crosscast.Reply, 1)})},
		{"reply of 256", false, crosscast.ErrInvalidName,
			answer(crosscast.Answer{Replies: []crosscast.Reply{{Socket: crosscast.SocketID(name(256))}}})},
	} {
		inst := crosscast.Instruction{Kind: kind.Emit}
		test.set(&inst)
		_, err := crosscast.AppendInstruction(nil, &inst)
		if (err == nil) != test.ok || !test.ok && !errors.Is(err, test.is) {
			t.Errorf("%s: AppendInstruction: %v", test.what, err)
		}
		if _, err := readAll(new(crosscast.InstructionReader), refereeWrites(t, &inst)); (err == nil) != test.ok {
			t.Errorf("%s: read: %v", test.what, err)
		}
	}
	encoding := crosscast.Payload{Encoding: crosscast.EncodingMsgPack + 1}
	for what, inst := range map[string]crosscast.Instruction{
		"payload": {Kind: 1, Payload: encoding}, "answer": {Kind: 1, Answer: &crosscast.Answer{Payload: encoding}},
		"reply": {Kind: 1, Answer: &crosscast.Answer{Replies: []crosscast.Reply{{Socket: "n", Payload: encoding}}}},
	} {
		if _, err := crosscast.AppendInstruction(nil, &inst); !errors.Is(err, crosscast.ErrTooLarge) {
			t.Errorf("%s: an encoding that the format does not have was not refused", what)
		}
	}
}

// TestMalformedArguments: what is not one array, or too deep, would break what it is put into, and is refused
// both by who writes and by who reads.
func TestMalformedArguments(t *testing.T) {
	for _, data := range []string{
		"", "\x01", "\xa1x", "\x81\xa1a\x01", "\xc4\x01x", "\xc0", "\xc1", "\x91", "\x92\x01", "\x91\x01\x01", "\x90\x90",
		"\x91\xc1", "\xdd\xff\xff\xff\xff\x01", "\x91\x81\xc0\x01", strings.Repeat("\x91", 513) + "\x01",
	} {
		args := crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte(data)}
		for what, inst := range map[string]crosscast.Instruction{
			"payload": {Kind: 1, Payload: args}, "answer": {Kind: 1, Answer: &crosscast.Answer{Payload: args}},
			"reply": {Kind: 1, Answer: &crosscast.Answer{Replies: []crosscast.Reply{{Socket: "n", Payload: args}}}},
		} {
			if _, err := crosscast.AppendInstruction(nil, &inst); err == nil {
				t.Errorf("%s: %.20q was not refused", what, data)
			}
		}
	}
}

// TestLimitOfTwoGigabytes: what may be longer than its length can say is refused. The memory is never touched.
func TestLimitOfTwoGigabytes(t *testing.T) {
	if raceEnabled || testing.Short() || unsafe.Sizeof(0) < 8 {
		t.Skip("the race detector touches all memory")
	}
	size := int64(1) << 31
	data := make([]byte, size)
	for what, a := range map[string]crosscast.Answer{
		"payload": {Payload: crosscast.Payload{Data: data}}, "err": {Err: unsafe.String(&data[0], len(data))},
		"reply": {Replies: []crosscast.Reply{{Socket: "n", Payload: crosscast.Payload{Data: data}}}},
		"data":  {Sockets: []crosscast.SocketInfo{{ID: "n", Data: data}}},
		"hands": {Sockets: []crosscast.SocketInfo{{ID: "n", Handshake: data}}},
		"users": {Users: unsafe.Slice((*uint64)(unsafe.Pointer(&data[0])), len(data)/8)},
	} {
		inst := crosscast.Instruction{Kind: kind.Answer, Answer: &a}
		if _, err := crosscast.AppendInstruction(nil, &inst); !errors.Is(err, crosscast.ErrTooLarge) {
			t.Errorf("%s of 2 GiB was not refused", what)
		}
	}
	inst := crosscast.Instruction{Kind: kind.Emit, Payload: crosscast.Payload{Data: data}}
	if _, err := crosscast.AppendInstruction(nil, &inst); !errors.Is(err, crosscast.ErrTooLarge) {
		t.Error("an emission of 2 GiB was not refused")
	}
}

// TestQuestionOfLaterVersion: the bits of its fields that are known stay, and its kind is none that is known.
func TestQuestionOfLaterVersion(t *testing.T) {
	got, err := readAll(new(crosscast.InstructionReader), []byte(toQuestion+"\x94\xcd\x01\x02\xcd\x01\x05\x07\x90"))
	if want := (crosscast.Question{Fields: 5, Salt: 7}); err != nil || *got[0].Question != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestEmptyListsAreNil, and what is empty and may be kept is no part of the bytes.
func TestEmptyListsAreNil(t *testing.T) {
	b := []byte(toRooms + "\x90" +
		toAnswer + "\x9a\xc0\xc0\xa0\xc0\xc4\x00\x90\x90\x90\xa0\xc0" + // all that can be empty
		toAnswer + "\x96\xc0\xc0\xc0\xc0\xc0\x91\x94\xa1x\xa0\x90\xa0")
	f, err := readAll(new(crosscast.InstructionReader), b)
	if err != nil {
		t.Fatal(err)
	}
	a := *f[1].Answer
	from, data := uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(unsafe.SliceData(a.Payload.Data)))
	if data >= from && data <= from+uintptr(len(b)) {
		t.Error("an empty payload keeps the bytes")
	}
	want := crosscast.Answer{Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte{}}}
	if f[0].Rooms != nil || !reflect.DeepEqual(a, want) ||
		!reflect.DeepEqual(f[2].Answer.Sockets, []crosscast.SocketInfo{{ID: "x"}}) {
		t.Errorf("%+v %+v %+v", f[0], a, f[2].Answer)
	}
}

// TestAnswersMayBeKept, while everything else is reused.
func TestAnswersMayBeKept(t *testing.T) {
	var r crosscast.InstructionReader
	next := func(n int) *crosscast.Answer {
		id := crosscast.SocketID(fmt.Sprint("socket", n))
		payload := crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{byte(n)}}
		want := crosscast.Answer{
			Part: n, Users: []uint64{uint64(n)}, Payload: payload,
			Sockets: []crosscast.SocketInfo{{ID: id, Rooms: []string{string(id)}, Data: payload.Data, Handshake: payload.Data}},
			Rooms:   []crosscast.RoomCount{{Room: string(id)}}, Replies: []crosscast.Reply{{Socket: id, Payload: payload}},
		}
		b := mustAppend(nil, &crosscast.Instruction{Kind: kind.Answer, Answer: &want})
		inst, _, err := r.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		clear(b)
		if !reflect.DeepEqual(inst.Answer, &want) {
			t.Errorf("read %+v, wanted %+v", inst.Answer, want)
		}
		return inst.Answer
	}
	first := next(1)
	if next(2); first.Part != 1 || first.Users[0] != 1 || first.Sockets[0].Rooms[0] != "socket1" ||
		first.Sockets[0].Data[0] != 1 || first.Rooms[0].Room != "socket1" || first.Replies[0].Payload.Data[0] != 1 {
		t.Errorf("the next answer changed it: %+v", first)
	}
}

// TestYieldedRoomsAreClosed: appending to rooms does not change what the reader has.
func TestYieldedRoomsAreClosed(t *testing.T) {
	var r crosscast.InstructionReader
	inst, _, err := r.Read([]byte(toRooms + "\x93\xa1x\xa1y\xa1z"))
	if err != nil || len(inst.Rooms) != 3 || cap(inst.Rooms) != 3 {
		t.Errorf("%+v, %v", inst, err)
	}
}

// TestYieldedStringsAreOwn: strings outlive the bytes; the payload is a part of them.
func TestYieldedStringsAreOwn(t *testing.T) {
	for _, g := range golden() {
		b := g.bytes()
		got, err := readAll(new(crosscast.InstructionReader), b) // clones slices, not strings
		if err != nil {
			t.Fatal(err)
		}
		clear(b)
		if !reflect.DeepEqual(got, g.sequence) {
			t.Errorf("%s: changed with its bytes:\n%+v", g.name, got)
		}
	}
	b := mustAppend(nil, benchEmission())
	got, _, err := new(crosscast.InstructionReader).Read(b)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] = '!'
	if d := got.Payload.Data; d[len(d)-1] != '!' || cap(d) != len(d) {
		t.Error("the payload is not a part of the bytes, closed behind")
	}
}

// manyNames returns n emissions, each with another event, and to a user and a socket of its own.
func manyNames(from, n int) (b []byte) {
	for i := from; i < from+n; i++ {
		b = mustAppend(b, &crosscast.Instruction{Kind: kind.Emit, Event: fmt.Sprint("event", i),
			Target: crosscast.Target{Users: []string{fmt.Sprint("user", i)},
				Sockets: []crosscast.SocketID{crosscast.SocketID(fmt.Sprintf("AAAAAAAA%012d", i))}}})
	}
	return b
}

func drain(t testing.TB, r *crosscast.InstructionReader, b []byte) {
	var err error
	for len(b) > 0 {
		if _, b, err = r.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}
