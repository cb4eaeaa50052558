package wire_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/goldentest"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

var updateGolden = flag.Bool("update-golden", false, "rewrite testdata/frames.txt, the golden frames")

const frameOrigin crosscast.NodeID = "AAAAAAAA"

var (
	noName   = crosscast.Address{} // that of a topic which stands for none
	frameTo1 = frameAddress("/", crosscast.SpaceRoom, "room1")
)

func frameAddress(ns string, space crosscast.Space, name string) crosscast.Address {
	return crosscast.Address{Namespace: ns, Space: space, Name: name}
}

// A codecFrame is a frame before it is bytes. What a frame does not carry is as a reader sets it.
type codecFrame struct {
	Topic  crosscast.Address
	Header wire.FrameHeader
	Items  []codecItem
}

// A codecItem is an instruction, what is told of quiet topics, or a routing.
type codecItem struct {
	Inst    *crosscast.Instruction
	Copy    uint64
	Quiet   []byte
	Routing string
}

func (f *codecFrame) bytes() []byte {
	b := wire.AppendFrameHeader(nil, &f.Header)
	for i := range f.Items {
		b = f.Items[i].append(b, f.Topic)
	}
	return b
}

func (it *codecItem) append(dst []byte, topic crosscast.Address) []byte {
	switch {
	case it.Routing != "":
		return wire.AppendRouting(dst, it.Routing)
	case it.Inst == nil:
		return wire.AppendQuiet(dst, it.Quiet)
	}
	return wire.AppendItem(dst, it.Inst, topic, it.Copy)
}

// readFrame reads a frame whole, and copies what it yields as far as later calls would change it. The error is that
// of Reset or Next, nil at the end of the frame.
func readFrame(r *wire.FrameReader, b []byte, topic crosscast.Address) (codecFrame, error) {
	f := codecFrame{Topic: topic}
	h, err := r.Reset(b, &topic)
	if err != nil {
		if _, _, _, again := r.Next(); again != err {
			return f, fmt.Errorf("Reset failed (%v), and Next returned %v", err, again)
		}
		return f, err
	}
	f.Header = *h
	f.Header.Losses = slices.Clone(h.Losses)
	for i := range f.Header.Losses {
		names := &f.Header.Losses[i].Names
		if cap(*names) != len(*names) {
			return f, errors.New("appending to the names of a loss would change another's")
		}
		*names = slices.Clone(*names)
	}
	for {
		inst, number, quiet, routing, err := r.NextRouting()
		if err != nil {
			if _, _, _, again := r.Next(); again != err {
				return f, fmt.Errorf("Next returned %v, and then %v", err, again)
			}
			if err == io.EOF {
				err = nil
			}
			return f, err
		}
		it := codecItem{Copy: number, Quiet: quiet, Routing: routing}
		if inst != nil {
			it.Inst = new(cloneInstruction(inst))
		}
		f.Items = append(f.Items, it)
	}
}

// cloneInstruction copies the parts that later calls would change.
func cloneInstruction(inst *crosscast.Instruction) crosscast.Instruction {
	c := *inst
	t := &c.Target
	t.Rooms, t.Users, t.Sockets = slices.Clone(t.Rooms), slices.Clone(t.Users), slices.Clone(t.Sockets)
	t.ExceptRooms, t.ExceptUsers = slices.Clone(t.ExceptRooms), slices.Clone(t.ExceptUsers)
	t.ExceptSockets = slices.Clone(t.ExceptSockets)
	c.Payload.Data = slices.Clone(c.Payload.Data)
	c.Meta, c.Rooms = slices.Clone(c.Meta), slices.Clone(c.Rooms)
	if c.Question != nil {
		c.Question = new(*c.Question)
	}
	return c
}

// Generators. Names come from a small set, so that they repeat and equal the topic's, or are any bytes.

func genName(max int) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"room1", "room2", "u9", "/", "AAAAAAAABBBBBBBBBBBB"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, max), func(b []byte) string { return string(b) }),
	)
}

func genNamespace() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just("/"), rapid.Just("/chat"), genName(limit.Name))
}

var genTopic = rapid.Custom(func(t *rapid.T) crosscast.Address {
	space := crosscast.Space(rapid.IntRange(0, 2).Draw(t, "space"))
	if space == 0 {
		return crosscast.Address{}
	}
	return frameAddress(genNamespace().Draw(t, "namespace"), space, genName(limit.Name).Draw(t, "name"))
})

var genHeader = rapid.Custom(func(t *rapid.T) wire.FrameHeader {
	h := wire.FrameHeader{
		Origin: frameOrigin, Number: rapid.Uint64().Draw(t, "number"), Previous: rapid.Uint64().Draw(t, "previous"),
		Control: rapid.Bool().Draw(t, "control"),
	}
	if rapid.Bool().Draw(t, "no losses") {
		return h
	}
	h.LossCount = rapid.Uint64().Draw(t, "count")
	h.Losses = []wire.LossRange{}
	for range rapid.IntRange(0, wire.MaxLosses).Draw(t, "losses") {
		l := wire.LossRange{From: rapid.Uint64().Draw(t, "from"), To: rapid.Uint64().Draw(t, "to"),
			Age: time.Duration(rapid.Uint32().Draw(t, "age")) * time.Millisecond}
		if rapid.Bool().Draw(t, "named") {
			l.Names = []crosscast.Address{}
			for range rapid.IntRange(0, wire.MaxLossNames).Draw(t, "names") {
				l.Names = append(l.Names, frameAddress(genNamespace().Draw(t, "namespace"),
					crosscast.Space(rapid.IntRange(1, 255).Draw(t, "space")), genName(20).Draw(t, "name")))
			}
		}
		h.Losses = append(h.Losses, l)
	}
	if h.LossCount == 0 && len(h.Losses) == 0 {
		h.Losses = nil
		return h
	}
	h.LossAge = time.Duration(rapid.Int64Range(0, math.MaxInt64/int64(time.Millisecond)).Draw(t, "age")) * time.Millisecond
	return h
})

// genItem draws instructions that differ in their targets, mostly: package crosscast tests the rest of them.
func genItem(topic crosscast.Address) *rapid.Generator[codecItem] {
	return rapid.Custom(func(t *rapid.T) codecItem {
		if rapid.IntRange(0, 9).Draw(t, "routing") == 0 {
			return codecItem{Routing: rapid.StringN(1, 40, -1).Draw(t, "routing")}
		}
		if rapid.IntRange(0, 5).Draw(t, "quiet") == 0 {
			return codecItem{Quiet: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "quiet")}
		}
		inst := &crosscast.Instruction{
			Kind: kind.Kind(rapid.IntRange(1, 255).Draw(t, "kind")), Namespace: genNamespace().Draw(t, "namespace"),
			From: frameOrigin, Event: rapid.OneOf(rapid.Just(""), genName(40)).Draw(t, "event"),
		}
		if rapid.IntRange(0, 3).Draw(t, "data") == 0 {
			inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")}
		}
		if rapid.IntRange(0, 3).Draw(t, "rest") == 0 {
			inst.Ref, inst.Rooms = "ref", []string{"room1"}
		}
		if inst.Kind.Control() {
			inst.Node.ID = frameOrigin
		}
		switch rapid.IntRange(0, 2).Draw(t, "target") {
		case 0: // what the topic stands for
			switch topic.Space {
			case crosscast.SpaceRoom:
				inst.Namespace, inst.Target.Rooms = topic.Namespace, []string{topic.Name}
			case crosscast.SpaceUser:
				inst.Namespace, inst.Target.Users = topic.Namespace, []string{topic.Name}
			}
		case 1:
			inst.Target.Everyone = true
		default: // the same names, in another way
			inst.Target = crosscast.Target{
				Everyone:    rapid.Bool().Draw(t, "everyone"),
				Rooms:       rapid.SampledFrom([][]string{nil, {"room1"}, {"room1", "room1"}, {topic.Name + "x"}}).Draw(t, "rooms"),
				Users:       rapid.SampledFrom([][]string{nil, {"room1"}, {"u9"}}).Draw(t, "users"),
				Sockets:     rapid.SampledFrom([][]crosscast.SocketID{nil, {"room1"}}).Draw(t, "sockets"),
				ExceptRooms: rapid.SampledFrom([][]string{nil, {"room1"}}).Draw(t, "except"),
			}
			if topic.Space != 0 && reflect.DeepEqual(inst.Target, crosscast.Target{}) {
				inst.Target.Everyone = true // on such a topic nobody is no target
			}
		}
		return codecItem{Inst: inst, Copy: rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(t, "copy")}
	})
}

func genFrame(t *rapid.T) codecFrame {
	f := codecFrame{Topic: genTopic.Draw(t, "topic"), Header: genHeader.Draw(t, "header")}
	for range rapid.IntRange(0, 4).Draw(t, "items") {
		f.Items = append(f.Items, genItem(f.Topic).Draw(t, "item"))
	}
	return f
}

// frameRoundTrips checks that a written frame is read back unchanged.
func frameRoundTrips(r *wire.FrameReader) func(*rapid.T) {
	return func(t *rapid.T) {
		f := genFrame(t)
		b := f.bytes()
		f.Header.Number, f.Header.Previous = rapid.Uint64().Draw(t, "number"), rapid.Uint64().Draw(t, "previous")
		wire.PatchNumbers(b, f.Header.Number, f.Header.Previous)
		got, err := readFrame(r, b, f.Topic)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, f) {
			t.Fatalf("read\n%+v\nwritten\n%+v", got, f)
		}
	}
}

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, frameRoundTrips(new(wire.FrameReader)))
}

// goldenFrames are frames whose bytes are written down in testdata/frames.txt: a change of the format shows there.
func goldenFrames() []namedFrame {
	emit := func(ns string, to crosscast.Target) crosscast.Instruction {
		return crosscast.Instruction{Kind: kind.Emit, Namespace: ns, From: frameOrigin, Target: to, Event: "x",
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("{}")}}
	}
	header := wire.FrameHeader{Origin: frameOrigin, Number: 2, Previous: 1}
	one := func(topic crosscast.Address, inst crosscast.Instruction) codecFrame {
		return codecFrame{topic, header, []codecItem{{Inst: &inst}}}
	}
	everybody, toRoom := crosscast.Target{Everyone: true}, crosscast.Target{Rooms: []string{"room1"}}
	ada := frameAddress("/chat", crosscast.SpaceUser, "ada")

	copied := one(frameTo1, emit("/", crosscast.Target{Rooms: []string{"room1", "room2"}}))
	copied.Items[0].Copy = 300
	copied.Items = append(copied.Items, one(frameTo1, emit("/", toRoom)).Items...)

	hello := one(noName, crosscast.Instruction{Kind: kind.Hello, Namespace: "/", From: frameOrigin,
		Target: everybody, Node: crosscast.NodeInfo{ID: frameOrigin, Name: "server-1", Heartbeat: time.Second}})
	hello.Header = wire.FrameHeader{Origin: frameOrigin, Number: 1, Control: true}
	routed := hello
	routed.Items = append([]codecItem{{Routing: "64,own"}}, hello.Items...)
	quiet := hello
	quiet.Items = append(slices.Clone(hello.Items), codecItem{Quiet: []byte("named")})

	losses := one(noName, crosscast.Instruction{Kind: kind.Goodbye, Namespace: "/", From: frameOrigin,
		Target: everybody})
	losses.Header.LossCount = 200
	losses.Header.Losses = []wire.LossRange{
		{From: 1, To: 1 << 20}, {From: 1 << 40, To: 1 << 40, Names: []crosscast.Address{
			frameTo1, ada}}, {From: 3, To: 4, Names: []crosscast.Address{}}}
	aged := losses
	aged.Header.LossAge = 70 * time.Second
	aged.Header.Losses = slices.Clone(aged.Header.Losses)
	aged.Header.Losses[1].Age = 71 * time.Second

	return []namedFrame{
		{"empty", codecFrame{Topic: noName, Header: wire.FrameHeader{Origin: frameOrigin, Number: 1<<64 - 1}}},
		{"emission-to-the-topics-room", one(frameTo1, emit("/", toRoom))},
		{"emission-to-the-topics-user", one(ada, emit("/chat", crosscast.Target{Users: []string{"ada"}}))},
		{"emission-to-everyone", one(noName, emit("/", everybody))},
		{"emission-to-nobody", one(noName, emit("/", crosscast.Target{}))},
		{"emission-to-all-but-the-sender", one(frameTo1, emit("/", crosscast.Target{Rooms: []string{"room1"},
			ExceptSockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}}))},
		{"copied-and-not", copied},
		{"hello", hello},
		{"hello-with-a-routing", routed},
		{"quiet", quiet},
		{"losses", losses},
		{"losses-of-some-age", aged},
	}
}

type namedFrame struct {
	name  string
	frame codecFrame
}

func TestGoldenFrames(t *testing.T) {
	all := goldenFrames()
	written := make([]goldentest.Named, len(all))
	for i, g := range all {
		written[i] = goldentest.Named{Name: g.name, Bytes: g.frame.bytes()}
	}
	read := goldentest.Compare(t, "testdata/frames.txt", *updateGolden, written)
	var r wire.FrameReader
	for _, g := range all {
		if got, err := readFrame(&r, read[g.name], g.frame.Topic); err != nil || !reflect.DeepEqual(got, g.frame) {
			t.Errorf("%s: read %v\n%+v\nwanted\n%+v", g.name, err, got, g.frame)
		}
	}
}

// TestDocumentedBytes holds the bytes that the documentation of the format shows.
func TestDocumentedBytes(t *testing.T) {
	inst := &goldenFrames()[1].frame.Items[0]
	if b := inst.append(nil, frameTo1); fmt.Sprintf("% x", b) != "96 01 00 c0 c0 a1 78 a2 7b 7d" {
		t.Errorf("instruction % x", b)
	}
	h := wire.FrameHeader{Origin: frameOrigin, Number: 0x0102030405060708, Previous: 1, Control: true}
	b := wire.AppendFrameHeader(nil, &h)
	want := "97 a2 63 63 01 a8 41 41 41 41 41 41 41 41 cf 01 02 03 04 05 06 07 08 cf 00 00 00 00 00 00 00 01 01 c0"
	if fmt.Sprintf("% x", b) != want || len(b) != wire.HeaderLen+1 {
		t.Errorf("header % x", b)
	}
}

func TestTargetOfTopicCostsOneByte(t *testing.T) {
	user := frameAddress("/chat", crosscast.SpaceUser, "u9")
	for _, test := range []struct {
		name    string
		topic   crosscast.Address
		ns      string
		target  crosscast.Target
		implied bool
	}{
		{"everyone", noName, "/", crosscast.Target{Everyone: true}, false},
		{"noName, another namespace", noName, "/chat", crosscast.Target{Everyone: true}, false},
		{"room", frameTo1, "/", crosscast.Target{Rooms: []string{"room1"}}, true},
		{"room, default namespace left out", frameTo1, "", crosscast.Target{Rooms: []string{"room1"}}, true},
		{"user", user, "/chat", crosscast.Target{Users: []string{"u9"}}, true},
		{"nobody", noName, "/", crosscast.Target{}, true},
		{"room on everyone's topic", noName, "/", crosscast.Target{Rooms: []string{"room1"}}, false},
		{"everyone on a room's topic", frameTo1, "/", crosscast.Target{Everyone: true}, false},
		{"everyone and the room", frameTo1, "/", crosscast.Target{Everyone: true, Rooms: []string{"room1"}}, false},
		{"everyone and a room", noName, "/", crosscast.Target{Everyone: true, Rooms: []string{"room1"}}, false},
		{"another room", frameTo1, "/", crosscast.Target{Rooms: []string{"room2"}}, false},
		{"two rooms", frameTo1, "/", crosscast.Target{Rooms: []string{"room1", "room2"}}, false},
		{"a user with the room's name", frameTo1, "/", crosscast.Target{Users: []string{"room1"}}, false},
		{"a room with the user's name", user, "/chat", crosscast.Target{Rooms: []string{"u9"}}, false},
		{"the room and a user", frameTo1, "/", crosscast.Target{Rooms: []string{"room1"}, Users: []string{"u9"}}, false},
		{"the room and a socket", frameTo1, "/", crosscast.Target{Rooms: []string{"room1"},
			Sockets: []crosscast.SocketID{"s"}}, false},
		{"another namespace", frameTo1, "/chat", crosscast.Target{Rooms: []string{"room1"}}, false},
		{"an exception", frameTo1, "/", crosscast.Target{Rooms: []string{"room1"}, ExceptUsers: []string{"u9"}}, false},
	} {
		inst := crosscast.Instruction{Kind: kind.Emit, Namespace: test.ns, From: frameOrigin, Target: test.target,
			Event: "x"}
		f := codecFrame{test.topic, wire.FrameHeader{Origin: frameOrigin}, []codecItem{{Inst: &inst}}}
		b := f.bytes()
		if inst.Namespace == "" {
			inst.Namespace = "/"
		}
		got, err := readFrame(new(wire.FrameReader), b, test.topic)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%s: %v\n%+v\nwanted\n%+v", test.name, err, got, f)
		}
		inst.Target = crosscast.Target{} // one byte, too
		f.Topic = noName
		if shortest := len(b) == len(f.bytes()); shortest != test.implied {
			t.Errorf("%s: target of one byte: %v", test.name, shortest)
		}
	}
}

// TestNamesOfTopicsAreChecked: that a topic stands for a name does not make it one that an instruction may have.
func TestNamesOfTopicsAreChecked(t *testing.T) {
	for _, n := range []int{0, limit.Name + 1} {
		name := strings.Repeat("n", n)
		inst := &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", Target: crosscast.Target{Rooms: []string{name}}}
		if _, err := wire.AppendInstruction(nil, inst, frameAddress("/", crosscast.SpaceRoom, name)); !errors.Is(err, crosscast.ErrInvalidName) {
			t.Errorf("a room of %d bytes: %v", n, err)
		}
	}
}

func TestHeaderShortensLosses(t *testing.T) {
	h := wire.FrameHeader{Origin: frameOrigin, LossCount: 99}
	for i := range uint64(wire.MaxLosses + 3) {
		h.Losses = append(h.Losses, wire.LossRange{From: i, To: i, Names: make([]crosscast.Address, 0)})
	}
	last := &h.Losses[len(h.Losses)-1]
	last.Names = slices.Repeat([]crosscast.Address{frameTo1}, wire.MaxLossNames+1)
	got, err := new(wire.FrameReader).Reset(wire.AppendFrameHeader(nil, &h), &noName)
	if err != nil {
		t.Fatal(err)
	}
	last.Names = nil
	h.Losses = h.Losses[3:]
	if !reflect.DeepEqual(*got, h) {
		t.Errorf("read\n%+v\nwanted\n%+v", *got, h)
	}
}

func TestHeaderRefusesOrigin(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for an origin of 7 bytes")
		}
	}()
	wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "AAAAAAA"})
}

// The referee is another implementation of msgpack, and of the format on top of it, written from the documentation and not
// from the code: here of all that a frame has beside instructions.

// refereeReads is what the referee reads of a frame: its header, and whether and how many times each item is there.
func refereeReads(b []byte) (h wire.FrameHeader, items []any) {
	dec := msgpack.NewDecoder(bytes.NewReader(b))
	next := func() any {
		v, err := dec.DecodeInterface()
		if err != nil {
			return err
		}
		return v
	}
	number := func(v any) uint64 {
		if r := reflect.ValueOf(v); r.CanUint() {
			return r.Uint()
		} else if r.Int() >= 0 {
			return uint64(r.Int())
		}
		panic("negative")
	}
	e := next().([]any)
	if len(e) != 7 || e[0].(string) != "cc" || number(e[1]) != 1 {
		panic("no header")
	}
	h = wire.FrameHeader{Origin: crosscast.NodeID(e[2].(string)), Number: e[3].(uint64), Previous: e[4].(uint64),
		Control: number(e[5]) == 1}
	if e[6] != nil {
		losses := e[6].([]any)
		h.LossCount = number(losses[0])
		h.Losses = []wire.LossRange{}
		for _, v := range losses[1].([]any) {
			l := v.([]any)
			loss := wire.LossRange{From: number(l[0]), To: number(l[1])}
			if len(l) > 3 {
				loss.Age = time.Duration(number(l[3])) * time.Millisecond
			}
			if l[2] != nil {
				loss.Names = []crosscast.Address{}
				for _, v := range l[2].([]any) {
					a := v.([]any)
					ns, _ := a[1].(string)
					if a[1] == nil {
						ns = "/"
					}
					loss.Names = append(loss.Names, frameAddress(ns, crosscast.Space(number(a[0])), a[2].(string)))
				}
			}
			h.Losses = append(h.Losses, loss)
		}
		if len(losses) > 2 {
			h.LossAge = time.Duration(number(losses[2])) * time.Millisecond
		}
	}
	for {
		switch v := next().(type) {
		case error:
			if v != io.EOF {
				panic(v)
			}
			return h, items
		case []any:
			items = append(items, number(v[0]))
		case string:
			items = append(items, v)
		case []byte:
			items = append(items, string(v))
		default:
			items = append(items, "copy", number(v))
		}
	}
}

func TestRefereeReadsWhatWeWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFrame(t)
		var want []any
		for _, it := range f.Items {
			if it.Inst == nil {
				want = append(want, string(it.Quiet)+it.Routing)
				continue
			}
			if it.Copy != 0 {
				want = append(want, "copy", it.Copy)
			}
			want = append(want, uint64(it.Inst.Kind))
		}
		h, items := refereeReads(f.bytes())
		if !reflect.DeepEqual(h, f.Header) || !reflect.DeepEqual(items, want) {
			t.Fatalf("the referee read\n%+v %v\nwritten\n%+v %v", h, items, f.Header, want)
		}
	})
}

// TestWeReadWhatTheRefereeWrites: a header of values of any width, with what a later version may add behind the header, its
// losses, and their ranges and addresses, and instructions of kinds that this one skips.
func TestWeReadWhatTheRefereeWrites(t *testing.T) {
	later := []any{nil, true, -1, 1.5, "text", []byte("bytes"), []any{1, []any{"x", map[string]any{"k": nil}}},
		msgpack.RawMessage{0xd4, 1, 2}, msgpack.RawMessage("\xdf\x00\x00\x00\x01\xc0\xc0")}
	var r wire.FrameReader
	rapid.Check(t, func(t *rapid.T) {
		f := genFrame(t)
		more := func(e ...any) any {
			return append(e, rapid.SliceOfN(rapid.SampledFrom(later), 0, 3).Draw(t, "more")...)
		}
		h := &f.Header
		var losses any
		if h.LossCount > 0 || h.Losses != nil {
			ranges := []any{}
			for _, l := range h.Losses {
				var names any
				if l.Names != nil {
					list := []any{}
					for _, a := range l.Names {
						list = append(list, more(uint64(a.Space), a.Namespace, a.Name))
					}
					names = list
				}
				ranges = append(ranges, more(l.From, l.To, names, uint64(l.Age/time.Millisecond)))
			}
			losses = more(h.LossCount, ranges, uint64(h.LossAge/time.Millisecond))
		}
		flags := uint64(0)
		if h.Control {
			flags = 1
		}
		buf := new(bytes.Buffer)
		enc := msgpack.NewEncoder(buf)
		enc.UseCompactInts(rapid.Bool().Draw(t, "compact"))
		if err := enc.Encode(more("cc", uint64(1), string(h.Origin), h.Number, h.Previous, flags, losses)); err != nil {
			t.Fatal(err)
		}
		for i := range f.Items {
			if rapid.IntRange(0, 3).Draw(t, "later kind") == 0 {
				if err := enc.Encode(rapid.SampledFrom([]any{[]any{uint64(256)}, []any{uint64(1 << 40), "?",
					[]any{-1}}}).Draw(t, "kind")); err != nil {
					t.Fatal(err)
				}
			}
			buf.Write(f.Items[i].append(nil, f.Topic))
		}
		got, err := readFrame(&r, buf.Bytes(), f.Topic)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Fatalf("read %v\n%+v\nthe referee wrote\n%+v", err, got, f)
		}
	})
}
