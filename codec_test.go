package crosscast_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
)

var updateFrames = flag.Bool("update-frames", false, "rewrite testdata/frames.txt, the golden frames")

const frameOrigin crosscast.NodeID = "AAAAAAAA"

var (
	everyone = crosscast.Address{} // what everyone's topic stands for
	frameTo1 = crosscast.Address{Namespace: "/", Space: crosscast.RoomSpace, Name: "room1"}
)

func frameAddress(ns string, space crosscast.Space, name string) crosscast.Address {
	return crosscast.Address{Namespace: ns, Space: space, Name: name}
}

// A codecFrame is a frame before it is bytes. What a frame does not carry is as a reader sets it.
type codecFrame struct {
	Topic  crosscast.Address
	Header crosscast.FrameHeader
	In     []crosscast.Instruction
	Copies []uint64
}

func (f *codecFrame) bytes() []byte {
	b := crosscast.AppendFrameHeader(nil, &f.Header)
	for i := range f.In {
		b = crosscast.AppendInstruction(b, &f.In[i], f.Topic, f.Copies[i])
	}
	return b
}

// readFrame reads a frame whole, and copies what it yields as far as later calls would change it. The error is that
// of Reset or Next, nil at the end of the frame.
func readFrame(r *crosscast.FrameReader, b []byte, topic crosscast.Address) (codecFrame, error) {
	f := codecFrame{Topic: topic}
	h, err := r.Reset(b, topic)
	if err != nil {
		if _, _, again := r.Next(); again != err {
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
		in, number, err := r.Next()
		if err != nil {
			if _, _, again := r.Next(); again != err {
				return f, fmt.Errorf("Next returned %v, and then %v", err, again)
			}
			if err == io.EOF {
				err = nil
			}
			return f, err
		}
		f.In = append(f.In, cloneInstruction(in))
		f.Copies = append(f.Copies, number)
	}
}

// cloneInstruction copies what must be copied to be kept: not the answer.
func cloneInstruction(in *crosscast.Instruction) crosscast.Instruction {
	c := *in
	t := &c.Target
	t.Rooms, t.Users, t.Sockets = slices.Clone(t.Rooms), slices.Clone(t.Users), slices.Clone(t.Sockets)
	t.ExceptRooms, t.ExceptUsers = slices.Clone(t.ExceptRooms), slices.Clone(t.ExceptUsers)
	t.ExceptSockets = slices.Clone(t.ExceptSockets)
	c.Payload.Data = slices.Clone(c.Payload.Data)
	c.Meta = slices.Clone(c.Meta)
	c.Rooms = slices.Clone(c.Rooms)
	if c.Question != nil {
		q := *c.Question
		c.Question = &q
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

// genNames never yields an empty list that is not nil: a reader does not tell the two apart.
func genNames[S ~string]() *rapid.Generator[[]S] {
	return rapid.Custom(func(t *rapid.T) []S {
		if rapid.IntRange(0, 3).Draw(t, "absent") > 0 {
			return nil
		}
		name := rapid.Map(genName(40), func(s string) S { return S(s) })
		return rapid.SliceOfN(name, 1, rapid.SampledFrom([]int{1, 2, 3, 20}).Draw(t, "most")).Draw(t, "names")
	})
}

func genNamespace() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just("/"), rapid.Just("/chat"), genName(crosscast.MaxName))
}

var genTopic = rapid.Custom(func(t *rapid.T) crosscast.Address {
	space := crosscast.Space(rapid.IntRange(0, 2).Draw(t, "space"))
	if space == 0 {
		return everyone
	}
	return frameAddress(genNamespace().Draw(t, "namespace"), space, genName(crosscast.MaxName).Draw(t, "name"))
})

var genHeader = rapid.Custom(func(t *rapid.T) crosscast.FrameHeader {
	h := crosscast.FrameHeader{
		Origin: frameOrigin, Number: rapid.Uint64().Draw(t, "number"), Previous: rapid.Uint64().Draw(t, "previous"),
		Control: rapid.Bool().Draw(t, "control"),
	}
	if rapid.Bool().Draw(t, "no losses") {
		return h
	}
	h.LossCount = rapid.Uint64().Draw(t, "count")
	h.Losses = []crosscast.LossRange{}
	for range rapid.IntRange(0, crosscast.MaxLosses).Draw(t, "losses") {
		l := crosscast.LossRange{From: rapid.Uint64().Draw(t, "from"), To: rapid.Uint64().Draw(t, "to")}
		if rapid.Bool().Draw(t, "named") {
			l.Names = []crosscast.Address{}
			for range rapid.IntRange(0, crosscast.MaxLossNames).Draw(t, "names") {
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

func genInstruction(topic crosscast.Address) *rapid.Generator[crosscast.Instruction] {
	return rapid.Custom(func(t *rapid.T) crosscast.Instruction {
		in := crosscast.Instruction{
			Kind: crosscast.Kind(rapid.IntRange(1, 255).Draw(t, "kind")), Flags: crosscast.Flags(rapid.Byte().Draw(t,
				"flags")),
			Namespace: genNamespace().Draw(t, "namespace"), From: frameOrigin,
		}
		if rapid.Bool().Draw(t, "event") {
			in.Event = genName(crosscast.MaxName).Draw(t, "name")
		}
		switch rapid.IntRange(0, 2).Draw(t, "target") {
		case 0: // what the topic stands for
			in.Namespace = topic.Namespace
			switch topic.Space {
			case 0:
				in.Namespace = "/"
				in.Target.Everyone = true
			case crosscast.RoomSpace:
				in.Target.Rooms = []string{topic.Name}
			case crosscast.UserSpace:
				in.Target.Users = []string{topic.Name}
			}
		case 1: // the same names, in another way
			in.Target = crosscast.Target{
				Everyone: rapid.Bool().Draw(t, "everyone"),
				Rooms:    rapid.SampledFrom([][]string{nil, {"room1"}, {"room1", "room1"}}).Draw(t, "rooms"),
				Users:    rapid.SampledFrom([][]string{nil, {"room1"}}).Draw(t, "users"),
				Sockets:  rapid.SampledFrom([][]crosscast.SocketID{nil, {"room1"}}).Draw(t, "sockets"),
			}
			if topic.Space != 0 {
				in.Target.ExceptRooms = rapid.SampledFrom([][]string{nil, {topic.Name}}).Draw(t, "except")
			}
		default:
			in.Target = crosscast.Target{
				Everyone:      rapid.Bool().Draw(t, "everyone"),
				Rooms:         genNames[string]().Draw(t, "rooms"),
				Users:         genNames[string]().Draw(t, "users"),
				Sockets:       genNames[crosscast.SocketID]().Draw(t, "sockets"),
				ExceptRooms:   genNames[string]().Draw(t, "except rooms"),
				ExceptUsers:   genNames[string]().Draw(t, "except users"),
				ExceptSockets: genNames[crosscast.SocketID]().Draw(t, "except sockets"),
			}
		}
		in.Payload = genPayload.Draw(t, "payload")
		if e := in.Payload.Encoding; e == crosscast.EncodingJSON || e == crosscast.EncodingBinary {
			n := rapid.SampledFrom([]int{0, 1, 31, 32, 255, 256, 65535, 65536}).Draw(t, "size")
			in.Payload.Data = bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
		}
		for range rapid.SampledFrom([]int{0, 0, 0, 1, crosscast.MaxMeta}).Draw(t, "meta") {
			text := rapid.OneOf(rapid.Just(""), genName(crosscast.MaxName))
			in.Meta = append(in.Meta, crosscast.KeyValue{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")})
		}
		if rapid.Bool().Draw(t, "node") {
			in.Node = crosscast.NodeInfo{
				ID: frameOrigin, Name: rapid.OneOf(rapid.Just(""), genName(crosscast.MaxName)).Draw(t, "name"),
				Heartbeat: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "ms")) * time.Millisecond,
			}
		}
		if rapid.Bool().Draw(t, "body") {
			genBody(t, &in)
		}
		return in
	})
}

// genBody sets elements 9 to 14, each or not.
func genBody(t *rapid.T, in *crosscast.Instruction) {
	in.Rooms = genNames[string]().Draw(t, "rooms")
	in.Reason = crosscast.Reason(genText().Draw(t, "reason"))
	in.Ref = genText().Draw(t, "ref")
	if rapid.Bool().Draw(t, "ttl") {
		in.TTL = time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "ms")) * time.Millisecond
	}
	if rapid.Bool().Draw(t, "question") {
		in.Question = &crosscast.Question{
			Kind:   crosscast.QuestionKind(rapid.Byte().Draw(t, "kind")),
			Fields: crosscast.Fields(rapid.Byte().Draw(t, "fields")), Salt: rapid.Uint64().Draw(t, "salt"),
		}
	}
	if rapid.Bool().Draw(t, "answer") {
		in.Answer = genAnswer.Draw(t, "answer")
	}
	if rapid.Bool().Draw(t, "presence") {
		in.Presence = genPresence(t)
	}
}

func genText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), genName(crosscast.MaxName))
}

var genCount = rapid.SampledFrom([]int{0, 1, 127, 128, 1 << 16, 1<<31 - 1})

var genPayload = rapid.Custom(func(t *rapid.T) (p crosscast.Payload) {
	switch p.Encoding = crosscast.Encoding(rapid.IntRange(0, 3).Draw(t, "encoding")); p.Encoding {
	case crosscast.EncodingJSON, crosscast.EncodingBinary:
		p.Data = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
	case crosscast.EncodingArgs:
		p.Data = []byte(rapid.SampledFrom([]string{
			"\x90", "\x92\x01\xa1x", "\x91\x81\xa1k\xc4\x02\x00\xff", "\x92\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc0",
			"\xdc\x00\x10" + strings.Repeat("\xc3", 16), strings.Repeat("\x91", 300) + "\xcc\x80",
		}).Draw(t, "arguments"))
	}
	return p
})

// genList never yields an empty list that is not nil, as genNames.
func genList[T any](t *rapid.T, what string, element func(t *rapid.T) T) []T {
	n := rapid.SampledFrom([]int{0, 0, 1, 2, 20}).Draw(t, what)
	if n == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.Custom(element), 1, n).Draw(t, what)
}

var genAnswer = rapid.Custom(func(t *rapid.T) *crosscast.Answer {
	id := rapid.Map(genName(40), func(s string) crosscast.SocketID { return crosscast.SocketID(s) })
	return &crosscast.Answer{
		Part: genCount.Draw(t, "part"), Last: rapid.Bool().Draw(t, "last"),
		Err: rapid.OneOf(genText(), rapid.Just(strings.Repeat("e", 1000))).Draw(t, "err"), Count: genCount.Draw(t, "count"),
		Users: genList(t, "users", func(t *rapid.T) uint64 { return rapid.Uint64().Draw(t, "hash") }),
		Sockets: genList(t, "sockets", func(t *rapid.T) crosscast.SocketInfo {
			s := crosscast.SocketInfo{ID: id.Draw(t, "id"), User: genText().Draw(t, "user"),
				Rooms: genNames[string]().Draw(t, "rooms")}
			if rapid.Bool().Draw(t, "has data") {
				s.Data = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data")
			}
			if rapid.Bool().Draw(t, "has handshake") {
				s.Handshake = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "handshake")
			}
			return s
		}),
		Rooms: genList(t, "rooms", func(t *rapid.T) crosscast.RoomCount {
			return crosscast.RoomCount{Room: genName(crosscast.MaxName).Draw(t, "room"), Sockets: genCount.Draw(t, "sockets")}
		}),
		Replies: genList(t, "replies", func(t *rapid.T) crosscast.Reply {
			return crosscast.Reply{Socket: id.Draw(t, "id"), Payload: genPayload.Draw(t, "payload"),
				Silent: rapid.Bool().Draw(t, "silent")}
		}),
		Payload: genPayload.Draw(t, "payload"), Handled: rapid.Bool().Draw(t, "handled"),
	}
})

// frameRoundTrips is the property that what is written is read back.
func frameRoundTrips(r *crosscast.FrameReader) func(*rapid.T) {
	return func(t *rapid.T) {
		f := codecFrame{Topic: genTopic.Draw(t, "topic"), Header: genHeader.Draw(t, "header")}
		for range rapid.IntRange(0, 4).Draw(t, "instructions") {
			in := genInstruction(f.Topic).Draw(t, "instruction")
			if err := crosscast.CheckInstruction(&in); err != nil {
				t.Fatal(err)
			}
			f.In = append(f.In, in)
			f.Copies = append(f.Copies, rapid.Uint64().Draw(t, "copy"))
		}
		b := f.bytes()
		f.Header.Number, f.Header.Previous = rapid.Uint64().Draw(t, "number"), rapid.Uint64().Draw(t, "previous")
		crosscast.PatchFrameNumbers(b, f.Header.Number, f.Header.Previous)
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
	rapid.Check(t, frameRoundTrips(new(crosscast.FrameReader)))
}

// goldenFrames are frames whose bytes are written down in testdata/frames.txt: a change of the format shows there.
func goldenFrames() []namedFrame {
	ada := "ada"
	emit := func(ns string, to crosscast.Target) crosscast.Instruction {
		return crosscast.Instruction{Kind: crosscast.KindEmit, Namespace: ns, From: frameOrigin, Target: to, Event: "x",
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("{}")}}
	}
	one := func(topic crosscast.Address, in crosscast.Instruction) codecFrame {
		return codecFrame{topic, crosscast.FrameHeader{Origin: frameOrigin, Number: 2, Previous: 1},
			[]crosscast.Instruction{in}, []uint64{0}}
	}
	node := crosscast.NodeInfo{ID: frameOrigin, Name: "server-1", Heartbeat: time.Second}
	toRoom := crosscast.Target{Rooms: []string{"room1"}}

	full := emit("/chat", crosscast.Target{Everyone: true, Rooms: []string{"room1", "room2"}, Users: []string{ada},
		Sockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}, ExceptRooms: []string{"muted"}, ExceptUsers: []string{"eve"},
		ExceptSockets: []crosscast.SocketID{"AAAAAAAACCCCCCCCCCCC"}})
	full.Kind, full.Flags = 200, crosscast.Volatile|0x80
	full.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{0, 1, 2}}
	full.Meta = []crosscast.KeyValue{{Key: "traceparent", Value: "00-01"}, {}}
	full.Node = node
	allElements := one(everyone, full)
	allElements.Copies[0] = 300

	hello := one(everyone, crosscast.Instruction{Kind: crosscast.KindHello, Namespace: "/", From: frameOrigin,
		Target: crosscast.Target{Everyone: true}, Node: node})
	hello.Header = crosscast.FrameHeader{Origin: frameOrigin, Number: 1, Control: true}

	losses := one(everyone, crosscast.Instruction{Kind: crosscast.KindGoodbye, Namespace: "/", From: frameOrigin,
		Target: crosscast.Target{Everyone: true}})
	losses.Header.LossCount = 200
	losses.Header.Losses = []crosscast.LossRange{
		{From: 1, To: 1 << 20}, {From: 1 << 40, To: 1 << 40, Names: []crosscast.Address{
			frameTo1, frameAddress("/chat", crosscast.UserSpace, ada)}}, {From: 3, To: 4, Names: []crosscast.Address{}}}

	two := one(frameTo1, emit("/", toRoom))
	two.In, two.Copies = append(two.In, emit("/", toRoom)), append(two.Copies, 0)
	two.In[1].Event = strings.Repeat("e", 200)
	two.In[1].Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: bytes.Repeat([]byte{'b'}, 300)}

	everybody := crosscast.Target{Everyone: true}
	tell := func(in crosscast.Instruction, to crosscast.Target) codecFrame {
		in.Namespace, in.From, in.Target = "/", frameOrigin, to
		return one(everyone, in)
	}
	acknowledged := emit("/", toRoom)
	acknowledged.Ref, acknowledged.TTL = "a1", 5*time.Second
	json := func(s string) crosscast.Payload {
		return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(s)}
	}
	info := crosscast.SocketInfo{ID: "AAAAAAAABBBBBBBBBBBB", User: ada, Rooms: []string{"room1", "room2"},
		Data: []byte(`{"a":1}`)}
	wholeAnswer := &crosscast.Answer{
		Part: 300, Last: true, Err: "half of it", Count: 70000, Users: []uint64{1, 1<<64 - 1},
		Sockets: []crosscast.SocketInfo{info, {ID: "AAAAAAAACCCCCCCCCCCC"}},
		Rooms:   []crosscast.RoomCount{{Room: "room1", Sockets: 128}, {Room: "room2"}},
		Replies: []crosscast.Reply{{Socket: "AAAAAAAABBBBBBBBBBBB", Payload: json("true")},
			{Socket: "AAAAAAAACCCCCCCCCCCC", Silent: true},
			{Socket: "AAAAAAAADDDDDDDDDDDD", Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{}}}},
		Payload: json(""), Handled: true,
	}
	bodies := tell(full, full.Target)
	bodies.In[0].Rooms, bodies.In[0].Reason, bodies.In[0].Ref = []string{"lobby"}, "r", "a9"
	bodies.In[0].TTL, bodies.In[0].Question = time.Hour, &crosscast.Question{Kind: 255, Fields: 255, Salt: 1<<64 - 1}
	bodies.In[0].Answer = wholeAnswer
	bodies.In, bodies.Copies = append(bodies.In, emit("/", everybody)), append(bodies.Copies, 0) // with none of it

	emitArgs := emit("/", toRoom) // 1, {"b":<bytes 02 03>}
	emitArgs.Payload = crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\x81\xa1b\xc4\x02\x02\x03")}

	return append([]namedFrame{
		{"empty", codecFrame{Topic: everyone, Header: crosscast.FrameHeader{Origin: frameOrigin, Number: 1<<64 - 1}}},
		{"emission-to-the-topics-room", one(frameTo1, emit("/", toRoom))},
		{"emission-to-the-topics-user", one(frameAddress("/chat", crosscast.UserSpace, ada), emit("/chat",
			crosscast.Target{Users: []string{ada}}))},
		{"emission-to-everyone", one(everyone, emit("/", crosscast.Target{Everyone: true}))},
		{"emission-to-nobody", one(frameTo1, emit("/", crosscast.Target{}))},
		{"emission-to-all-but-the-sender", one(frameTo1, emit("/", crosscast.Target{Rooms: []string{"room1"},
			ExceptSockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}}))},
		{"two-emissions", two},
		{"all-elements", allElements},
		{"hello", hello},
		{"losses", losses},
		{"join", tell(crosscast.Instruction{Kind: crosscast.KindJoin, Rooms: []string{"room1", "lobby"}},
			crosscast.Target{Users: []string{ada}})},
		{"leave", tell(crosscast.Instruction{Kind: crosscast.KindLeave, Rooms: []string{"lobby"}}, everybody)},
		{"disconnect", tell(crosscast.Instruction{Kind: crosscast.KindDisconnect, Reason: crosscast.ReasonServer},
			crosscast.Target{Sockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}})},
		{"acknowledged-emission", one(frameTo1, acknowledged)},
		{"ask", tell(crosscast.Instruction{Kind: crosscast.KindAsk, Ref: "a2", TTL: time.Second,
			Question: &crosscast.Question{Kind: crosscast.AskCount, Fields: crosscast.FieldUser, Salt: 1 << 40}}, everybody)},
		{"request", tell(crosscast.Instruction{Kind: crosscast.KindRequest, Event: "x", Payload: json("[]"), Ref: "a3"},
			everybody)},
		{"answer", tell(crosscast.Instruction{Kind: crosscast.KindAnswer, Ref: "a2", Answer: wholeAnswer}, everybody)},
		{"answer-of-nothing", tell(crosscast.Instruction{Kind: crosscast.KindAnswer, Answer: &crosscast.Answer{}},
			everybody)},
		{"all-bodies", bodies},
		{"emission-of-arguments", one(frameTo1, emitArgs)},
		{"answer-of-arguments", tell(crosscast.Instruction{Kind: crosscast.KindAnswer, Ref: "a2", Answer: &crosscast.Answer{
			Replies: []crosscast.Reply{{Socket: "AAAAAAAABBBBBBBBBBBB", Payload: emitArgs.Payload}},
			Payload: crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte{0x90}},
		}}, everybody)},
		{"answer-of-a-handshake", tell(crosscast.Instruction{Kind: crosscast.KindAnswer, Ref: "a2",
			Answer: &crosscast.Answer{Sockets: []crosscast.SocketInfo{
				{ID: "AAAAAAAABBBBBBBBBBBB", Handshake: []byte(`{"url":"/"}`)}, info,
			}}}, everybody)},
	}, presenceFrames()...)
}

type namedFrame struct {
	name  string
	frame codecFrame
}

const goldenPath = "testdata/frames.txt"

func TestGoldenFrames(t *testing.T) {
	if *updateFrames {
		var out bytes.Buffer
		out.WriteString("# Frames of version 1 in hexadecimal: go test -run TestGoldenFrames -update-frames rewrites them.\n")
		for _, g := range goldenFrames() {
			fmt.Fprintf(&out, "%s %x\n", g.name, g.frame.bytes())
		}
		if err := os.WriteFile(goldenPath, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(goldenPath)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	golden := map[string][]byte{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, digits, _ := strings.Cut(lines.Text(), " ")
		if name == "#" {
			continue
		}
		if golden[name], err = hex.DecodeString(digits); err != nil {
			t.Fatal(name, err)
		}
	}
	var r crosscast.FrameReader
	for _, g := range goldenFrames() {
		if b := g.frame.bytes(); !bytes.Equal(b, golden[g.name]) {
			t.Errorf("%s: written\n%x\ngolden\n%x", g.name, b, golden[g.name])
		}
		if got, err := readFrame(&r, golden[g.name], g.frame.Topic); err != nil || !reflect.DeepEqual(got, g.frame) {
			t.Errorf("%s: read %v\n%+v\nwanted\n%+v", g.name, err, got, g.frame)
		}
		delete(golden, g.name)
	}
	for name := range golden {
		t.Errorf("%s: golden, but not tested", name)
	}
}

// TestDocumentedBytes holds the bytes that the documentation of the format shows.
func TestDocumentedBytes(t *testing.T) {
	in := benchEmission()
	in.Event, in.Payload.Data = "x", []byte("{}")
	if b := crosscast.AppendInstruction(nil, in, frameTo1, 0); fmt.Sprintf("% x", b) != "96 01 00 c0 c0 a1 78 a2 7b 7d" {
		t.Errorf("instruction % x", b)
	}
	h := crosscast.FrameHeader{Origin: frameOrigin, Number: 0x0102030405060708, Previous: 1, Control: true}
	b := crosscast.AppendFrameHeader(nil, &h)
	want := "97 a2 63 63 01 a8 41 41 41 41 41 41 41 41 cf 01 02 03 04 05 06 07 08 cf 00 00 00 00 00 00 00 01 01 c0"
	if fmt.Sprintf("% x", b) != want || len(b) != crosscast.FrameHeaderLen+1 {
		t.Errorf("header % x", b)
	}
}

func TestTargetOfTopicCostsOneByte(t *testing.T) {
	user := frameAddress("/chat", crosscast.UserSpace, "u9")
	for _, test := range []struct {
		name    string
		topic   crosscast.Address
		ns      string
		target  crosscast.Target
		implied bool
	}{
		{"everyone", everyone, "/", crosscast.Target{Everyone: true}, true},
		{"everyone, another namespace", everyone, "/chat", crosscast.Target{Everyone: true}, true},
		{"room", frameTo1, "/", crosscast.Target{Rooms: []string{"room1"}}, true},
		{"room, default namespace left out", frameTo1, "", crosscast.Target{Rooms: []string{"room1"}}, true},
		{"user", user, "/chat", crosscast.Target{Users: []string{"u9"}}, true},
		{"nobody", everyone, "/", crosscast.Target{}, false},
		{"room on everyone's topic", everyone, "/", crosscast.Target{Rooms: []string{"room1"}}, false},
		{"everyone on a room's topic", frameTo1, "/", crosscast.Target{Everyone: true}, false},
		{"everyone and the room", frameTo1, "/", crosscast.Target{Everyone: true, Rooms: []string{"room1"}}, false},
		{"everyone and a room", everyone, "/", crosscast.Target{Everyone: true, Rooms: []string{"room1"}}, false},
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
		in := crosscast.Instruction{Kind: crosscast.KindEmit, Namespace: test.ns, From: frameOrigin, Target: test.target,
			Event: "x"}
		f := codecFrame{test.topic, crosscast.FrameHeader{Origin: frameOrigin}, []crosscast.Instruction{in}, []uint64{0}}
		b := f.bytes()
		if in.Namespace == "" {
			f.In[0].Namespace = "/"
		}
		got, err := readFrame(new(crosscast.FrameReader), b, test.topic)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%s: %v\n%+v\nwanted\n%+v", test.name, err, got, f)
		}
		f.In[0].Target = crosscast.Target{} // one byte, too
		f.Topic = frameAddress("", crosscast.RoomSpace, "")
		if shortest := len(b) == len(f.bytes()); shortest != (test.implied || test.target.IsNobody()) {
			t.Errorf("%s: target of one byte: %v", test.name, shortest)
		}
	}
}

func TestDurationsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 0: 0, 1: time.Millisecond, 1500 * time.Microsecond: 2 * time.Millisecond,
		1<<63 - 1: (1<<63 - 1) / 1_000_000 * 1_000_000,
	} {
		in := crosscast.Instruction{Kind: crosscast.KindHello, Target: crosscast.Target{Everyone: true},
			Node: crosscast.NodeInfo{Name: "n", Heartbeat: d}, TTL: d}
		f := codecFrame{everyone, crosscast.FrameHeader{Origin: frameOrigin}, []crosscast.Instruction{in}, []uint64{0}}
		got, err := readFrame(new(crosscast.FrameReader), f.bytes(), everyone)
		if err != nil || got.In[0].Node.Heartbeat != want || got.In[0].TTL != want {
			t.Errorf("%v: read %v %v", d, got.In, err)
		}
	}
}

func TestHeaderShortensLosses(t *testing.T) {
	h := crosscast.FrameHeader{Origin: frameOrigin, LossCount: 99}
	for i := range uint64(crosscast.MaxLosses + 3) {
		h.Losses = append(h.Losses, crosscast.LossRange{From: i, To: i, Names: make([]crosscast.Address, 0)})
	}
	last := &h.Losses[len(h.Losses)-1]
	last.Names = slices.Repeat([]crosscast.Address{frameTo1}, crosscast.MaxLossNames+1)
	got, err := new(crosscast.FrameReader).Reset(crosscast.AppendFrameHeader(nil, &h), everyone)
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
	crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: "AAAAAAA"})
}
