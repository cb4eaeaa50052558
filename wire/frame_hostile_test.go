package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// A header without losses, and headers that lack only their end.
const (
	hostileHeader = "\x97\xa2cc\x01\xa8AAAAAAAA\xcf\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\xcf\x00\x00\x00\x00\x00\x00\x00\x01\x00\xc0"
	lossesHeader = "\x97\xa2cc\x01\xa8AAAAAAAA\x02\x01\x00"
	extraHeader  = "\x98\xa2cc\x01\xa8AAAAAAAA\x02\x01\x00\xc0"
)

// hostileFrames are bytes that no node writes, with the reader's error; nil: it accepts them.
func hostileFrames() (all []hostileFrame) {
	bad := func(err error, frames ...string) {
		for _, b := range frames {
			all = append(all, hostileFrame{b, err})
		}
	}
	bad(wire.ErrForeign,
		"", "\x97", "\x97\xa2c", "\x97\xa2cd\x01", "\x97\xc4\x02cc\x01", "\x90", "\x90\xa2cc\x01", "\xc0", "\xc1",
		"\x82\xa2cc\x01",
		`{"event":"x"}`, "hello", "0", "\x00", "\xff\xff\xff\xff",
		`42["roomMessage",{"a":1}]`, "socket.io#/#room1#",
		"\x93\xa6uid123\x83\xa4type\x02\xa4data\x92\xa1x\x01\xa3nsp\xa1/\x83\xa5rooms\x91\xa5room1",
		"\xdd\xff\xff\xff\xff", "\xdc\xff\xff", "\xdf\xff\xff\xff\xff", strings.Repeat("\x91", 1<<16),
		strings.Repeat("\xdc\xff\xff", 500),
	)
	bad(wire.ErrVersion,
		"\x92\xa2cc\x02", "\x92\xa2cc\x02\x91\x01", "\x92\xa2cc\x00", "\x92\xa2cc\xcd\x01\x01", "\xdc\x00\x02\xa2cc\x7f\xc1",
		strings.Replace(hostileHeader, "\xa2cc\x01", "\xa2cc\x02", 1),
	)
	bad(wire.ErrMalformed,
		// the header
		"\x91\xa2cc", "\x91\xa2cc\x01", "\x92\xa2cc\x01", "\x92\xa2cc\xa11", "\x92\xa2cc\xff",
		"\x95\xa2cc\x01\xa8AAAAAAAA\x01\x01", "\x95\xa2cc\x01\xa8AAAAAAAA\x01\x01\x00",
		"\x96\xa2cc\x01\xa7AAAAAAA\x01\x01\x00", "\x96\xa2cc\x01\xa9AAAAAAAAA\x01\x01\x00",
		"\x96\xa2cc\x01\xc0\x01\x01\x00",
		"\x96\xa2cc\x01\xa8AAAAAAAA\xd3\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
		"\x96\xa2cc\x01\xa8AAAAAAAA\xd0\x80\x01\x00",
		"\x96\xa2cc\x01\xa8AAAAAAAA\xcb\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00", "\x96\xa2cc\x01\xa8AAAAAAAA\x01\xc0\x00",
		"\x96\xa2cc\x01\xdb\x7f\xff\xff\xffAAAAAAAA\x01\x01\x00", lossesHeader,
		// its losses
		lossesHeader+"\x01", lossesHeader+"\x90", lossesHeader+"\x91\x01", lossesHeader+"\x91\x01\x90",
		lossesHeader+"\x92\xc0\x90",
		lossesHeader+"\x92\x01\xc0",
		lossesHeader+"\x92\x01\x91\x92\x01", lossesHeader+"\x92\x01\x91\x91\x01\x01", lossesHeader+"\x92\x01\x91\x90",
		lossesHeader+"\x92\x01\xdc\x00\x11"+strings.Repeat("\x92\x01\x01", 17), lossesHeader+"\x92\x01\xdd\xff\xff\xff\xff",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x99"+strings.Repeat("\x93\x01\xc0\xa1x", 9),
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x91\x92\x01\xc0\xa1x",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x91\x93\x00\xc0\xa1x",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x91\x93\xcd\x01\x00\xc0\xa1x",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x91\x93\x01\xc0\xa0",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x91\x93\x01\xa0\xa1x",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\x91\x93\x01\xc0\xc0",
		lossesHeader+"\x92\x01\x91\x93\x01\x01\xa1x",
		extraHeader, extraHeader+"\xc1", extraHeader+strings.Repeat("\x91", 1<<16),
		// items
		hostileHeader+"\xc0", hostileHeader+"\x01", hostileHeader+"\x80", hostileHeader+"\xc1", hostileHeader+"\x90",
		hostileHeader+"\x91\xc0", hostileHeader+"\x91\x00", hostileHeader+"\x91\xff", hostileHeader+"\x92\x01",
		hostileHeader+"\xdd\xff\xff\xff\xff\x01", hostileHeader+"\xdc\xff\xff\x01", hostileHeader+"\xdc\xff",
		hostileHeader+"\xdf\xff\xff\xff\xff", hostileHeader+"\xdd\x04\x00\x00\x00",
		hostileHeader+"\x92\xcd\x01\x00\xc1", hostileHeader+"\xa0", hostileHeader+"\xa2x", hostileHeader+"\xda\x01\x00"+strings.Repeat("x", 256),
		hostileHeader+"\xc2",
		hostileHeader+"\x07", hostileHeader+"\x07\x07\x91\x01", hostileHeader+"\x07\xc4\x00", hostileHeader+"\xff\x91\x01",
		hostileHeader+"\xcd\x01", hostileHeader+"\xcd\x01\x00\xc0", hostileHeader+"\x07\x91",
		hostileHeader+"\xc4", hostileHeader+"\xc4\x02x", hostileHeader+"\xc6\xff\xff\xff\xff", hostileHeader+"\xc4\x00\xc0",
	)
	bad(nil,
		hostileHeader, "\x96\xa2cc\x01\xa8AAAAAAAA\x02\x01\x00", lossesHeader+"\xc0", lossesHeader+"\x92\x01\x90",
		hostileHeader+"\x91\x01", hostileHeader+"\x92\x01\xcd\x01\x00", hostileHeader+"\xdd\x00\x00\x00\x01\xcc\x01",
		hostileHeader+"\x92\xcd\x01\x00\xc0", hostileHeader+"\xc4\x00", hostileHeader+"\xc5\x00\x01x",
		hostileHeader+"\x07\x91\x01", hostileHeader+"\x00\x91\x01", hostileHeader+"\xd3\x00\x00\x00\x00\x00\x00\x00\x07\x91\x01",
		hostileHeader+"\x07\x92\xcd\x01\x00\xc0\x91\x01",
	)
	return all
}

type hostileFrame struct {
	bytes string
	err   error
}

func TestHostileFrames(t *testing.T) {
	var r wire.FrameReader
	for _, h := range hostileFrames() {
		if _, err := readFrame(&r, []byte(h.bytes), noName); !errors.Is(err, h.err) || h.err == nil && err != nil {
			t.Errorf("% .60x: %v, and not %v", h.bytes, err, h.err)
		}
	}
}

// TestCopyNumberIsOfOneInstruction: what follows a copy number and is skipped takes the number with it.
func TestCopyNumberIsOfOneInstruction(t *testing.T) {
	f, err := readFrame(new(wire.FrameReader), []byte(hostileHeader+"\x07\x92\xcd\x01\x00\xc0\x91\x01\x08\x91\x01"), noName)
	if err != nil || len(f.Items) != 2 || f.Items[0].Copy != 0 || f.Items[1].Copy != 8 {
		t.Errorf("%+v, %v", f.Items, err)
	}
}

// TestImpliedTargetOfAnotherNamespace: a topic stands for a name in one namespace.
func TestImpliedTargetOfAnotherNamespace(t *testing.T) {
	chat := frameAddress("/chat", crosscast.SpaceUser, "u9")
	for frame, topic := range map[string]crosscast.Address{
		hostileHeader + "\x93\x01\x00\xa5/chat": frameTo1, hostileHeader + "\x91\x01": chat,
	} {
		if got, err := readFrame(new(wire.FrameReader), []byte(frame), topic); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("topic %v: %+v, %v", topic, got.Items, err)
		}
	}
}

// TestEveryPrefix: a frame that was cut is taken only where an instruction ends, and yields those before the cut.
func TestEveryPrefix(t *testing.T) {
	var r wire.FrameReader
	for _, g := range goldenFrames() {
		header := wire.AppendFrameHeader(nil, &g.frame.Header)
		ends := []int{len(header)}
		whole := header
		for i := range g.frame.Items {
			whole = g.frame.Items[i].append(whole, g.frame.Topic)
			ends = append(ends, len(whole))
		}
		for n := range whole {
			got, err := readFrame(&r, slices.Clip(bytes.Clone(whole[:n])), g.frame.Topic)
			switch {
			case n < 8: // fewer than the header's elements
				if !errors.Is(err, wire.ErrForeign) {
					t.Errorf("%s: %d bytes: %v", g.name, n, err)
				}
			case slices.Contains(ends, n):
				if err != nil {
					t.Errorf("%s: %d bytes: %v", g.name, n, err)
				}
			case !errors.Is(err, wire.ErrMalformed):
				t.Errorf("%s: %d bytes: %v", g.name, n, err)
			}
			before := 0
			for _, end := range ends[1:] {
				if end <= n {
					before++
				}
			}
			if len(got.Items) != before || before > 0 && !reflect.DeepEqual(got.Items, g.frame.Items[:before]) {
				t.Errorf("%s: %d bytes yield %d instructions, not %d", g.name, n, len(got.Items), before)
			}
		}
	}
}

// warmReader returns a reader whose own tables are made, as are those of all readers after a while.
func warmReader(t testing.TB) *wire.FrameReader {
	r := new(wire.FrameReader)
	inst := crosscast.Instruction{Kind: kind.Emit, Event: "x", Meta: make([]crosscast.KeyValue, limit.Meta)}
	inst.Target.Rooms = slices.Repeat([]string{"n"}, limit.Names)
	inst.Rooms = inst.Target.Rooms
	header := goldenFrames()[9].frame
	header.Items = nil
	drain(t, r, wire.AppendItem(header.bytes(), &inst, noName, 0), &noName)
	inst.Target, inst.Rooms = crosscast.Target{Sockets: slices.Repeat([]crosscast.SocketID{"n"}, limit.Names)}, nil
	drain(t, r, wire.AppendItem(header.bytes(), &inst, noName, 0), &noName)
	return r
}

func drain(t testing.TB, r *wire.FrameReader, b []byte, topic *crosscast.Address) {
	_, err := r.Reset(b, topic)
	for err == nil {
		_, _, _, err = r.Next()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
}

// readCost reads a whole frame, and returns the allocated bytes.
func readCost(r *wire.FrameReader, b []byte, topic *crosscast.Address) (spent uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = r.Reset(b, topic)
	for err == nil {
		_, _, _, err = r.Next()
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// checkHostile reads b, and fails unless it costs what it may and yields what can be written. What instructions cost is
// tested in package crosscast: here it is a part of them at most.
func checkHostile(t testing.TB, r *wire.FrameReader, b []byte, topic crosscast.Address) {
	most := 28*uint64(len(b)) + 16<<10
	spent, err := readCost(r, b, &topic)
	// What is counted is the process's: somebody else may have allocated meanwhile. Only a reader that does not know
	// the names yet can tell.
	for range 5 {
		if spent <= most {
			break
		}
		*r = *warmReader(t)
		spent, err = readCost(r, b, &topic)
	}
	if spent > most {
		t.Fatalf("%d bytes allocated for %d of input", spent, len(b))
	}
	if err != io.EOF && !errors.Is(err, wire.ErrForeign) && !errors.Is(err, wire.ErrVersion) && !errors.Is(err, wire.ErrMalformed) {
		t.Fatalf("an error of another kind: %v", err)
	}

	f, _ := readFrame(r, b, topic)
	if f.Header.Origin == "" {
		return
	}
	again, err := readFrame(r, f.bytes(), topic)
	if f.Header.LossCount == 0 && len(f.Header.Losses) == 0 {
		f.Header.Losses, f.Header.LossAge = nil, 0
	}
	if err != nil || !reflect.DeepEqual(again, f) {
		t.Fatalf("read\n%+v\nwritten and read again (%v)\n%+v", f, err, again)
	}
}

func FuzzFrameReader(f *testing.F) {
	for _, g := range goldenFrames() {
		f.Add(g.frame.bytes(), uint8(g.frame.Topic.Space))
	}
	for _, h := range hostileFrames() {
		if len(h.bytes) < 1<<12 {
			f.Add([]byte(h.bytes), uint8(0))
		}
	}
	r := warmReader(f)
	f.Fuzz(func(t *testing.T, b []byte, space uint8) {
		topic := noName
		if space%3 != 0 {
			topic = frameAddress("/", crosscast.Space(space%3), "room1")
		}
		checkHostile(t, r, b, topic)
	})
}

// FuzzFrameRoundTrip is TestFrameRoundTrip with the fuzzer's choices.
func FuzzFrameRoundTrip(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		frameRoundTrips(new(wire.FrameReader))(t) // what an input covers must not depend on those before it
	}))
}

// TestHostileFramesAreCheap checks the same as FuzzFrameReader, for frames that are too large for its corpus.
func TestHostileFramesAreCheap(t *testing.T) {
	r := warmReader(t)
	for _, h := range hostileFrames() {
		checkHostile(t, r, []byte(h.bytes), noName)
	}
}

// TestFrameItems: a frame of many small instructions or names is no more work than one instruction may be. What goes
// beyond is not yielded, and the rest of the frame costs nothing.
func TestFrameItems(t *testing.T) {
	const most = wire.MaxItems
	small := "\x91\x01"
	named := "\x94\x01\x00\xc0\x92\xc2\x93\xa1x\xa1x\xa1x"        // to three rooms
	rooms := "\x99\x05\x00\xc0\xc0\xc0\xc0\xc0\xc0\x92\xa1x\xa1x" // to join
	skipped := "\x92\xcd\x01\x00\xc0"
	names := slices.Repeat([]string{"n"}, limit.Names)
	largest := string(wire.AppendItem(nil, &crosscast.Instruction{
		Kind: kind.Join, Target: crosscast.Target{Rooms: names}, Rooms: names}, noName, 0))
	for what, test := range map[string]struct {
		items  string
		yields int
		err    error
	}{
		"as many as may be":         {strings.Repeat(small, most), most, io.EOF},
		"one more":                  {strings.Repeat(small, most+1), most, wire.ErrMalformed},
		"two megabytes":             {strings.Repeat(small, 1<<20), most, wire.ErrMalformed},
		"hellos":                    {strings.Repeat("\x91\x02", 1<<20), most, wire.ErrMalformed},
		"copies":                    {strings.Repeat("\x07"+small, 1<<20), most, wire.ErrMalformed},
		"quiet topics":              {strings.Repeat("\xc4\x00", 1<<20), most, wire.ErrMalformed},
		"routings":                  {strings.Repeat("\xa1x", 1<<20), most, wire.ErrMalformed},
		"names":                     {strings.Repeat(named, 1<<17), most / 4, wire.ErrMalformed},
		"rooms":                     {strings.Repeat(rooms, 1<<17), most / 3, wire.ErrMalformed},
		"kinds that are not known":  {strings.Repeat(skipped, 1<<18) + small, 1, io.EOF},
		"the largest, and one more": {largest + small, 1, wire.ErrMalformed},
	} {
		var r wire.FrameReader
		_, err := r.Reset([]byte(hostileHeader+test.items), &noName)
		n := -1
		for ; err == nil; n++ {
			_, _, _, err = r.Next()
		}
		if n != test.yields || !errors.Is(err, test.err) {
			t.Errorf("%s: %d items, and then %v; want %d, %v", what, n, err, test.yields, test.err)
		}
	}
}

// TestYieldedStringsAreOwn: strings outlive the frame.
func TestYieldedStringsAreOwn(t *testing.T) {
	for _, g := range goldenFrames() {
		b := g.frame.bytes()
		got, err := readFrame(new(wire.FrameReader), b, g.frame.Topic) // clones slices, not strings
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Items {
			got.Items[i].Quiet = slices.Clone(got.Items[i].Quiet)
		}
		clear(b)
		if !reflect.DeepEqual(got, g.frame) {
			t.Errorf("%s: changed with its bytes:\n%+v", g.name, got)
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var r wire.FrameReader
	buf := make([]byte, 0, 1<<16)
	for _, g := range goldenFrames() {
		b := g.frame.bytes()
		drain(t, &r, b, &g.frame.Topic)
		if n := testing.AllocsPerRun(100, func() { drain(t, &r, b, &g.frame.Topic) }); n != 0 {
			t.Errorf("%s: %v allocations to read it", g.name, n)
		}
		n := testing.AllocsPerRun(100, func() {
			buf = wire.AppendFrameHeader(buf[:0], &g.frame.Header)
			for i := range g.frame.Items {
				buf = g.frame.Items[i].append(buf, g.frame.Topic)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations to write it", g.name, n)
		}
	}
}

// TestReaderForgets: the memory of a reader is bounded, for any number of origins and names of losses.
func TestReaderForgets(t *testing.T) {
	var r wire.FrameReader
	h := wire.FrameHeader{LossCount: 1, Losses: []wire.LossRange{{From: 1, To: 1, Names: make([]crosscast.Address, 1)}}}
	before := memtest.Heap()
	for i := range 100_000 {
		h.Origin = crosscast.NodeID(fmt.Sprintf("%08d", i))
		h.Losses[0].Names[0] = frameAddress("/", crosscast.SpaceRoom, fmt.Sprint("room", i))
		drain(t, &r, wire.AppendFrameHeader(nil, &h), &noName)
	}
	if after := memtest.Heap(); after > before+1<<20 {
		t.Errorf("a reader keeps %d bytes after 200,000 names", after-before)
	}
	runtime.KeepAlive(&r)
}

func BenchmarkAppendFrameHeader(b *testing.B) {
	dst := make([]byte, 0, 1024)
	h := wire.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6}
	b.ReportAllocs()
	for b.Loop() {
		dst = wire.AppendFrameHeader(dst[:0], &h)
	}
}

func BenchmarkFrameReaderReset(b *testing.B) {
	frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6})
	var r wire.FrameReader
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Reset(frame, &frameTo1); err != nil {
			b.Fatal(err)
		}
	}
}

// benchInstructions are the shapes that are hot: to the topic's room, from a socket to the others of its room, and to
// three rooms.
func benchInstructions() map[string]*crosscast.Instruction {
	hot := func() *crosscast.Instruction {
		return &crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/", From: "AAAAAAAA", Event: "roomMessage",
			Target:  crosscast.Target{Rooms: []string{"room1"}},
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: make([]byte, 128)},
		}
	}
	sender, rooms := hot(), hot()
	sender.Target.ExceptSockets = []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}
	rooms.Target.Rooms = []string{"room1", "room2", "room3"}
	return map[string]*crosscast.Instruction{
		"implied": hot(), "except-sender": sender, "three-rooms": rooms, "eight-events": hot(),
	}
}

func BenchmarkAppendInstruction(b *testing.B) {
	for name, inst := range benchInstructions() {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = wire.AppendInstruction(dst[:0], inst, frameTo1)
			}
		})
	}
}

// BenchmarkFrameReaderNext is the cost of an instruction in a frame of a hundred.
func BenchmarkFrameReaderNext(b *testing.B) {
	for name, inst := range benchInstructions() {
		b.Run(name, func(b *testing.B) {
			frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "AAAAAAAA", Number: 7, Previous: 6})
			for i := range 100 {
				if name == "eight-events" {
					inst.Event = fmt.Sprint("roomMessage", i%8)
				}
				frame = wire.AppendItem(frame, inst, frameTo1, 0)
			}
			var r wire.FrameReader
			b.ReportAllocs()
			for i := 0; i < b.N; {
				if _, err := r.Reset(frame, &frameTo1); err != nil {
					b.Fatal(err)
				}
				for ; i < b.N; i++ {
					if _, _, _, err := r.Next(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
