package crosscast_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/crosscast/crosscast"
)

// TestLimits: CheckInstruction refuses exactly what a reader would.
func TestLimits(t *testing.T) {
	name := func(n int) string { return strings.Repeat("n", n) }
	names := func(n int) []string { return slices.Repeat([]string{"n"}, n) }
	ids := func(n int) []crosscast.SocketID { return slices.Repeat([]crosscast.SocketID{"n"}, n) }
	most32 := math.MaxInt32 // a variable: one more is negative where an int has 32 bits
	answer := func(a crosscast.Answer) func(*crosscast.Instruction) {
		return func(in *crosscast.Instruction) { in.Answer = &a }
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
		{"nothing set", true, nil, func(in *crosscast.Instruction) {}},
		{"kind 0", false, crosscast.ErrTooLarge, func(in *crosscast.Instruction) { in.Kind = 0 }},
		{"namespace 255", true, nil, func(in *crosscast.Instruction) { in.Namespace = name(255) }},
		{"namespace 256", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) { in.Namespace = name(256) }},
		{"event 255", true, nil, func(in *crosscast.Instruction) { in.Event = name(255) }},
		{"event 256", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) { in.Event = name(256) }},
		{"room 255", true, nil, func(in *crosscast.Instruction) { in.Target.Rooms = []string{name(255)} }},
		{"room 256", false, crosscast.ErrInvalidName,
			func(in *crosscast.Instruction) { in.Target.Rooms = []string{name(256)} }},
		{"room 0", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) {
			in.Target.Rooms = []string{"a",
				""}
		}},
		{"user 0", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) { in.Target.Users = []string{""} }},
		{"socket 0", false, crosscast.ErrInvalidName,
			func(in *crosscast.Instruction) { in.Target.Sockets = []crosscast.SocketID{""} }},
		{"except room 0", false, crosscast.ErrInvalidName,
			func(in *crosscast.Instruction) { in.Target.ExceptRooms = []string{""} }},
		{"except user 0", false, crosscast.ErrInvalidName,
			func(in *crosscast.Instruction) { in.Target.ExceptUsers = []string{""} }},
		{"except socket 256", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) {
			in.Target.ExceptSockets = []crosscast.SocketID{crosscast.SocketID(name(256))}
		}},
		{"1024 rooms", true, nil, func(in *crosscast.Instruction) { in.Target.Rooms = names(1024) }},
		{"1025 rooms", false, crosscast.ErrTooLarge, func(in *crosscast.Instruction) { in.Target.Rooms = names(1025) }},
		{"1024 names", true, nil, func(in *crosscast.Instruction) {
			in.Target = crosscast.Target{Rooms: names(300), Users: names(300), Sockets: ids(200), ExceptRooms: names(100),
				ExceptUsers: names(100), ExceptSockets: ids(24)}
		}},
		{"1025 names", false, crosscast.ErrTooLarge, func(in *crosscast.Instruction) {
			in.Target = crosscast.Target{Rooms: names(300), Users: names(300), Sockets: ids(200), ExceptRooms: names(100),
				ExceptUsers: names(100), ExceptSockets: ids(25)}
		}},
		{"8 pairs", true, nil, func(in *crosscast.Instruction) { in.Meta = make([]crosscast.KeyValue, 8) }},
		{"9 pairs", false, crosscast.ErrTooLarge, func(in *crosscast.Instruction) {
			in.Meta = make([]crosscast.KeyValue,
				9)
		}},
		{"key 256", false, crosscast.ErrTooLarge,
			func(in *crosscast.Instruction) { in.Meta = []crosscast.KeyValue{{Key: name(256)}} }},
		{"value 256", false, crosscast.ErrTooLarge,
			func(in *crosscast.Instruction) { in.Meta = []crosscast.KeyValue{{Value: name(256)}} }},
		{"node 255", true, nil, func(in *crosscast.Instruction) { in.Node.Name = name(255) }},
		{"node 256", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) { in.Node.Name = name(256) }},
		{"1024 rooms to join, beside 1024 names", true, nil, func(in *crosscast.Instruction) {
			in.Target.Rooms, in.Rooms = names(1024), names(1024)
		}},
		{"1025 rooms to join", false, crosscast.ErrTooLarge, func(in *crosscast.Instruction) { in.Rooms = names(1025) }},
		{"room to join 0", false, crosscast.ErrInvalidName,
			func(in *crosscast.Instruction) { in.Rooms = []string{"a", ""} }},
		{"room to join 255", true, nil, func(in *crosscast.Instruction) { in.Rooms = []string{name(255)} }},
		{"room to join 256", false, crosscast.ErrInvalidName,
			func(in *crosscast.Instruction) { in.Rooms = []string{name(256)} }},
		{"reason 255", true, nil, func(in *crosscast.Instruction) { in.Reason = crosscast.Reason(name(255)) }},
		{"reason 256", false, crosscast.ErrTooLarge,
			func(in *crosscast.Instruction) { in.Reason = crosscast.Reason(name(256)) }},
		{"ref 255", true, nil, func(in *crosscast.Instruction) { in.Ref = name(255) }},
		{"ref 256", false, crosscast.ErrInvalidName, func(in *crosscast.Instruction) { in.Ref = name(256) }},
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
		in := crosscast.Instruction{Kind: crosscast.KindEmit}
		test.set(&in)
		if err := crosscast.CheckInstruction(&in); (err == nil) != test.ok || !test.ok && !errors.Is(err, test.is) {
			t.Errorf("%s: CheckInstruction: %v", test.what, err)
		}
		f := codecFrame{everyone, crosscast.FrameHeader{Origin: frameOrigin}, []crosscast.Instruction{in}, []uint64{0}}
		_, err := readFrame(new(crosscast.FrameReader), f.bytes(), everyone)
		if (err == nil) != test.ok || !test.ok && !errors.Is(err, crosscast.ErrMalformed) {
			t.Errorf("%s: read: %v", test.what, err)
		}
	}
	encoding := crosscast.Payload{Encoding: 4}
	for what, in := range map[string]crosscast.Instruction{
		"payload": {Kind: 1, Payload: encoding}, "answer": {Kind: 1, Answer: &crosscast.Answer{Payload: encoding}},
		"reply": {Kind: 1, Answer: &crosscast.Answer{Replies: []crosscast.Reply{{Socket: "n", Payload: encoding}}}},
	} {
		if !errors.Is(crosscast.CheckInstruction(&in), crosscast.ErrTooLarge) {
			t.Errorf("%s: an encoding that the format does not have was not refused", what)
		}
	}
}

// TestMalformedArguments: what is not one array, or too deep, would break the frame that it is put into, and is refused
// both by who writes and by who reads.
func TestMalformedArguments(t *testing.T) {
	for _, data := range []string{
		"", "\x01", "\xa1x", "\x81\xa1a\x01", "\xc4\x01x", "\xc0", "\xc1", "\x91", "\x92\x01", "\x91\x01\x01", "\x90\x90",
		"\x91\xc1", "\xdd\xff\xff\xff\xff\x01", "\x91\x81\xc0\x01", strings.Repeat("\x91", 513) + "\x01",
	} {
		args := crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte(data)}
		for what, in := range map[string]crosscast.Instruction{
			"payload": {Kind: 1, Payload: args}, "answer": {Kind: 1, Answer: &crosscast.Answer{Payload: args}},
			"reply": {Kind: 1, Answer: &crosscast.Answer{Replies: []crosscast.Reply{{Socket: "n", Payload: args}}}},
		} {
			if crosscast.CheckInstruction(&in) == nil {
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
		in := crosscast.Instruction{Kind: crosscast.KindAnswer, Answer: &a}
		if !errors.Is(crosscast.CheckInstruction(&in), crosscast.ErrTooLarge) {
			t.Errorf("%s of 2 GiB was not refused", what)
		}
	}
	in := crosscast.Instruction{Kind: crosscast.KindEmit, Payload: crosscast.Payload{Data: data}}
	if !errors.Is(crosscast.CheckInstruction(&in), crosscast.ErrTooLarge) {
		t.Error("an emission of 2 GiB was not refused")
	}
}

// TestQuestionOfLaterVersion: the bits of its fields that are known stay, and its kind is none that is known.
func TestQuestionOfLaterVersion(t *testing.T) {
	got, err := readFrame(new(crosscast.FrameReader), []byte(toQuestion+"\x94\xcd\x01\x02\xcd\x01\x05\x07\x90"), everyone)
	if want := (crosscast.Question{Fields: 5, Salt: 7}); err != nil || *got.In[0].Question != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestEmptyListsAreNil, and what is empty and may be kept is no part of the frame.
func TestEmptyListsAreNil(t *testing.T) {
	b := []byte(toRooms + "\x90" +
		toAnswer[len(hostileHeader):] + "\x9a\xc0\xc0\xa0\xc0\xc4\x00\x90\x90\x90\xa0\xc0" + // all that can be empty
		toAnswer[len(hostileHeader):] + "\x96\xc0\xc0\xc0\xc0\xc0\x91\x94\xa1x\xa0\x90\xa0")
	f, err := readFrame(new(crosscast.FrameReader), b, everyone)
	if err != nil {
		t.Fatal(err)
	}
	a := *f.In[1].Answer
	frame, data := uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(unsafe.SliceData(a.Payload.Data)))
	if data >= frame && data <= frame+uintptr(len(b)) {
		t.Error("an empty payload keeps the frame")
	}
	want := crosscast.Answer{Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte{}}}
	if f.In[0].Rooms != nil || !reflect.DeepEqual(a, want) ||
		!reflect.DeepEqual(f.In[2].Answer.Sockets, []crosscast.SocketInfo{{ID: "x"}}) {
		t.Errorf("%+v %+v %+v", f.In[0], a, f.In[2].Answer)
	}
}

// TestAnswersMayBeKept, while everything else is reused.
func TestAnswersMayBeKept(t *testing.T) {
	var r crosscast.FrameReader
	next := func(n int) *crosscast.Answer {
		id := crosscast.SocketID(fmt.Sprint("socket", n))
		payload := crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{byte(n)}}
		want := crosscast.Answer{
			Part: n, Users: []uint64{uint64(n)}, Payload: payload,
			Sockets: []crosscast.SocketInfo{{ID: id, Rooms: []string{string(id)}, Data: payload.Data, Handshake: payload.Data}},
			Rooms:   []crosscast.RoomCount{{Room: string(id)}}, Replies: []crosscast.Reply{{Socket: id, Payload: payload}},
		}
		f := codecFrame{everyone, crosscast.FrameHeader{Origin: frameOrigin},
			[]crosscast.Instruction{{Kind: crosscast.KindAnswer, Answer: &want}}, []uint64{0}}
		b := f.bytes()
		if _, err := r.Reset(b, everyone); err != nil {
			t.Fatal(err)
		}
		in, _, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		clear(b)
		if !reflect.DeepEqual(in.Answer, &want) {
			t.Errorf("read %+v, wanted %+v", in.Answer, want)
		}
		return in.Answer
	}
	first := next(1)
	if next(2); first.Part != 1 || first.Users[0] != 1 || first.Sockets[0].Rooms[0] != "socket1" ||
		first.Sockets[0].Data[0] != 1 || first.Rooms[0].Room != "socket1" || first.Replies[0].Payload.Data[0] != 1 {
		t.Errorf("the next answer changed it: %+v", first)
	}
}

// TestYieldedRoomsAreClosed: appending to rooms does not change what the reader has.
func TestYieldedRoomsAreClosed(t *testing.T) {
	var r crosscast.FrameReader
	if _, err := r.Reset([]byte(toRooms+"\x93\xa1x\xa1y\xa1z"), everyone); err != nil {
		t.Fatal(err)
	}
	if in, _, err := r.Next(); err != nil || len(in.Rooms) != 3 || cap(in.Rooms) != 3 {
		t.Errorf("%+v, %v", in, err)
	}
}

// TestYieldedStringsAreOwn: strings outlive the frame; the payload is a part of it.
func TestYieldedStringsAreOwn(t *testing.T) {
	for _, g := range goldenFrames() {
		b := g.frame.bytes()
		got, err := readFrame(new(crosscast.FrameReader), b, g.frame.Topic) // clones slices, not strings
		if err != nil {
			t.Fatal(err)
		}
		clear(b)
		if !reflect.DeepEqual(got, g.frame) {
			t.Errorf("%s: changed with its bytes:\n%+v", g.name, got)
		}
	}
	in := benchEmission()
	b := crosscast.AppendInstruction(crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: frameOrigin}), in,
		frameTo1, 0)
	var r crosscast.FrameReader
	if _, err := r.Reset(b, frameTo1); err != nil {
		t.Fatal(err)
	}
	got, _, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] = '!'
	if d := got.Payload.Data; d[len(d)-1] != '!' || cap(d) != len(d) {
		t.Error("the payload is not a part of the frame, closed behind")
	}
}

// TestFrameItems: a frame of many small instructions or names is no more work than one instruction may be. What goes
// beyond is not yielded, and the rest of the frame costs nothing.
func TestFrameItems(t *testing.T) {
	const most = crosscast.MaxFrameItems
	small := "\x91\x01"                                     // to everyone
	named := toTarget[len(hostileHeader):] + "\x92\xc2\x93" // and three rooms
	named = "\x94" + named[1:] + "\xa1x\xa1x\xa1x"
	rooms := "\x9a\x05\x00" + nils + "\x92\xa1x\xa1x" // to join
	skipped := "\x92\xcd\x01\x00\xc0"
	for what, test := range map[string]struct {
		instructions string
		yields       int
		err          error
	}{
		"as many as may be":         {strings.Repeat(small, most), most, io.EOF},
		"one more":                  {strings.Repeat(small, most+1), most, crosscast.ErrMalformed},
		"two megabytes":             {strings.Repeat(small, 1<<20), most, crosscast.ErrMalformed},
		"hellos":                    {strings.Repeat("\x91\x02", 1<<20), most, crosscast.ErrMalformed},
		"names":                     {strings.Repeat(named, 1<<17), most / 4, crosscast.ErrMalformed},
		"rooms":                     {strings.Repeat(rooms, 1<<17), most / 3, crosscast.ErrMalformed},
		"kinds that are not known":  {strings.Repeat(skipped, 1<<18) + small, 1, io.EOF},
		"the largest, and one more": {largestInstruction() + small, 1, crosscast.ErrMalformed},
	} {
		var r crosscast.FrameReader
		_, err := r.Reset([]byte(hostileHeader+test.instructions), everyone)
		n := -1
		for ; err == nil; n++ {
			_, _, err = r.Next()
		}
		if n != test.yields || !errors.Is(err, test.err) {
			t.Errorf("%s: %d instructions, and then %v; want %d, %v", what, n, err, test.yields, test.err)
		}
	}
}

// largestInstruction has as many names as may be in its target, and as many rooms.
func largestInstruction() string {
	names := slices.Repeat([]string{"n"}, crosscast.MaxNames)
	in := crosscast.Instruction{Kind: crosscast.KindJoin, Target: crosscast.Target{Rooms: names}, Rooms: names}
	return string(crosscast.AppendInstruction(nil, &in, everyone, 0))
}

// manyNames returns a frame of n emissions, each with another event, and to a user and a socket of its own.
func manyNames(from, n int) []byte {
	b := crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: frameOrigin})
	for i := from; i < from+n; i++ {
		in := crosscast.Instruction{Kind: crosscast.KindEmit, Event: fmt.Sprint("event", i), Target: crosscast.Target{
			Users:   []string{fmt.Sprint("user", i)},
			Sockets: []crosscast.SocketID{crosscast.SocketID(fmt.Sprintf("AAAAAAAA%012d", i))}}}
		b = crosscast.AppendInstruction(b, &in, everyone, 0)
	}
	return b
}

func drain(t testing.TB, r *crosscast.FrameReader, b []byte, topic crosscast.Address) {
	_, err := r.Reset(b, topic)
	for err == nil {
		_, _, err = r.Next()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
}
