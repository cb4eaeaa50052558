package crosscast_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/goldentest"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

var updateGolden = flag.Bool("update-golden", false, "rewrite testdata/instructions.txt, the golden instructions")

// A sequence is instructions one behind the other. What their bytes do not say is as a reader sets it.
type sequence []crosscast.Instruction

func (s sequence) bytes() (b []byte) {
	for i := range s {
		b = mustAppend(b, &s[i])
	}
	return b
}

func mustAppend(dst []byte, inst *crosscast.Instruction) []byte {
	dst, err := crosscast.AppendInstruction(dst, inst)
	if err != nil {
		panic(err)
	}
	return dst
}

// readAll reads instructions until the bytes end, and copies what a reader yields as far as later calls would change it.
// The error is that of Read. An instruction of a later version is left out.
func readAll(r *crosscast.InstructionReader, b []byte) (s sequence, err error) {
	for len(b) > 0 {
		inst, rest, err := r.Read(b)
		if err != nil {
			return s, err
		}
		if len(rest) >= len(b) {
			return s, errors.New("read nothing")
		}
		if b = rest; inst.Kind != 0 {
			s = append(s, cloneInstruction(inst))
		} else if !reflect.DeepEqual(*inst, crosscast.Instruction{}) {
			return s, fmt.Errorf("of a later version, and yet %+v", inst)
		}
	}
	return s, nil
}

// cloneInstruction copies what must be copied to be kept: not the answer.
func cloneInstruction(inst *crosscast.Instruction) crosscast.Instruction {
	c := *inst
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
	return rapid.OneOf(rapid.Just("/"), rapid.Just("/chat"), genName(limit.Name))
}

var genInstruction = rapid.Custom(func(t *rapid.T) crosscast.Instruction {
	inst := crosscast.Instruction{
		Kind: kind.Kind(rapid.IntRange(1, 255).Draw(t, "kind")), Volatile: rapid.Bool().Draw(t, "volatile"),
		Namespace: genNamespace().Draw(t, "namespace"),
	}
	if rapid.Bool().Draw(t, "event") {
		inst.Event = genName(limit.Name).Draw(t, "name")
	}
	switch rapid.IntRange(0, 3).Draw(t, "target") {
	case 0: // nobody
	case 1:
		inst.Target.Everyone = true
	default:
		inst.Target = crosscast.Target{
			Everyone:      rapid.Bool().Draw(t, "everyone"),
			Rooms:         genNames[string]().Draw(t, "rooms"),
			Users:         genNames[string]().Draw(t, "users"),
			Sockets:       genNames[crosscast.SocketID]().Draw(t, "sockets"),
			ExceptRooms:   genNames[string]().Draw(t, "except rooms"),
			ExceptUsers:   genNames[string]().Draw(t, "except users"),
			ExceptSockets: genNames[crosscast.SocketID]().Draw(t, "except sockets"),
		}
	}
	inst.Payload = genPayload.Draw(t, "payload")
	if e := inst.Payload.Encoding; e == crosscast.EncodingJSON || e == crosscast.EncodingBinary {
		n := rapid.SampledFrom([]int{0, 1, 31, 32, 255, 256, 65535, 65536}).Draw(t, "size")
		inst.Payload.Data = bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
	}
	for range rapid.SampledFrom([]int{0, 0, 0, 1, limit.Meta}).Draw(t, "meta") {
		text := rapid.OneOf(rapid.Just(""), genName(limit.Name))
		inst.Meta = append(inst.Meta, crosscast.KeyValue{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")})
	}
	if rapid.Bool().Draw(t, "node") {
		inst.Node = crosscast.NodeInfo{
			Name:      rapid.OneOf(rapid.Just(""), genName(limit.Name)).Draw(t, "name"),
			Heartbeat: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "ms")) * time.Millisecond,
		}
	}
	if rapid.Bool().Draw(t, "body") {
		genBody(t, &inst)
	}
	return inst
})

// genBody sets elements 8 to 14, each or not.
func genBody(t *rapid.T, inst *crosscast.Instruction) {
	inst.Rooms = genNames[string]().Draw(t, "rooms")
	inst.Reason = crosscast.Reason(genText().Draw(t, "reason"))
	inst.Ref = genText().Draw(t, "ref")
	if rapid.Bool().Draw(t, "ttl") {
		inst.TTL = time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "ms")) * time.Millisecond
	}
	if rapid.Bool().Draw(t, "question") {
		inst.Question = &crosscast.Question{
			Kind:   kind.Question(rapid.Byte().Draw(t, "kind")),
			Fields: kind.Fields(rapid.Byte().Draw(t, "fields")), Salt: rapid.Uint64().Draw(t, "salt"),
		}
	}
	if rapid.Bool().Draw(t, "answer") {
		inst.Answer = genAnswer.Draw(t, "answer")
	}
	if rapid.Bool().Draw(t, "presence") {
		inst.Presence = genPresence(t)
	}
}

func genText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), genName(limit.Name))
}

var genCount = rapid.SampledFrom([]int{0, 1, 127, 128, 1 << 16, 1<<31 - 1})

var genPayload = rapid.Custom(func(t *rapid.T) (p crosscast.Payload) {
	switch p.Encoding = crosscast.Encoding(rapid.IntRange(0, 4).Draw(t, "encoding")); p.Encoding {
	case crosscast.EncodingJSON, crosscast.EncodingBinary, crosscast.EncodingMsgPack:
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
			return crosscast.RoomCount{Room: genName(limit.Name).Draw(t, "room"), Sockets: genCount.Draw(t, "sockets")}
		}),
		Replies: genList(t, "replies", func(t *rapid.T) crosscast.Reply {
			return crosscast.Reply{Socket: id.Draw(t, "id"), Payload: genPayload.Draw(t, "payload"),
				Silent: rapid.Bool().Draw(t, "silent")}
		}),
		Payload: genPayload.Draw(t, "payload"), Handled: rapid.Bool().Draw(t, "handled"),
	}
})

func genSequence(t *rapid.T) (s sequence) {
	for range rapid.IntRange(0, 4).Draw(t, "instructions") {
		s = append(s, genInstruction.Draw(t, "instruction"))
	}
	return s
}

// roundTrips is the property that what is written is read back.
func roundTrips(r *crosscast.InstructionReader) func(*rapid.T) {
	return func(t *rapid.T) {
		s := genSequence(t)
		got, err := readAll(r, s.bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("read\n%+v\nwritten\n%+v", got, s)
		}
	}
}

func TestInstructionRoundTrip(t *testing.T) {
	rapid.Check(t, roundTrips(new(crosscast.InstructionReader)))
}

// golden are instructions whose bytes are written down in testdata/instructions.txt: a change of the format shows there.
func golden() []named {
	ada := "ada"
	emit := func(ns string, to crosscast.Target) crosscast.Instruction {
		return crosscast.Instruction{Kind: kind.Emit, Namespace: ns, Target: to, Event: "x",
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("{}")}}
	}
	one := func(inst crosscast.Instruction) sequence { return sequence{inst} }
	node := crosscast.NodeInfo{Name: "server-1", Heartbeat: time.Second}
	toRoom := crosscast.Target{Rooms: []string{"room1"}}

	full := emit("/chat", crosscast.Target{Everyone: true, Rooms: []string{"room1", "room2"}, Users: []string{ada},
		Sockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}, ExceptRooms: []string{"muted"}, ExceptUsers: []string{"eve"},
		ExceptSockets: []crosscast.SocketID{"AAAAAAAACCCCCCCCCCCC"}})
	full.Kind, full.Volatile = 200, true
	full.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{0, 1, 2}}
	full.Meta = []crosscast.KeyValue{{Key: "traceparent", Value: "00-01"}, {}}
	full.Node = node
	everybody := crosscast.Target{Everyone: true}
	tell := func(inst crosscast.Instruction, to crosscast.Target) sequence {
		inst.Namespace, inst.Target = "/", to
		return one(inst)
	}
	hello := tell(crosscast.Instruction{Kind: kind.Hello, Node: node}, everybody)
	two := sequence{emit("/", toRoom), emit("/", toRoom)}
	two[1].Event = strings.Repeat("e", 200)
	two[1].Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: bytes.Repeat([]byte{'b'}, 300)}

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
	bodies[0].Rooms, bodies[0].Reason, bodies[0].Ref = []string{"lobby"}, "r", "a9"
	bodies[0].TTL, bodies[0].Question = time.Hour, &crosscast.Question{Kind: 255, Fields: 255, Salt: 1<<64 - 1}
	bodies[0].Answer = wholeAnswer
	bodies = append(bodies, emit("/", everybody)) // with none of it

	emitArgs := emit("/", toRoom) // 1, {"b":<bytes 02 03>}
	emitArgs.Payload = crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\x81\xa1b\xc4\x02\x02\x03")}
	emitPack := emit("/", toRoom) // 2.5
	emitPack.Payload = crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte("\xcb\x40\x04\x00\x00\x00\x00\x00\x00")}

	return append([]named{
		{"emission-to-a-room", one(emit("/", toRoom))},
		{"emission-to-a-user", one(emit("/chat", crosscast.Target{Users: []string{ada}}))},
		{"emission-to-everyone", one(emit("/", everybody))},
		{"emission-to-nobody", one(emit("/", crosscast.Target{}))},
		{"emission-to-all-but-the-sender", one(emit("/", crosscast.Target{Rooms: []string{"room1"},
			ExceptSockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}}))},
		{"two-emissions", two},
		{"all-elements", one(full)},
		{"hello", hello},
		{"join", tell(crosscast.Instruction{Kind: kind.Join, Rooms: []string{"room1", "lobby"}},
			crosscast.Target{Users: []string{ada}})},
		{"leave", tell(crosscast.Instruction{Kind: kind.Leave, Rooms: []string{"lobby"}}, everybody)},
		{"disconnect", tell(crosscast.Instruction{Kind: kind.Disconnect, Reason: crosscast.ReasonServer},
			crosscast.Target{Sockets: []crosscast.SocketID{"AAAAAAAABBBBBBBBBBBB"}})},
		{"acknowledged-emission", one(acknowledged)},
		{"ask", tell(crosscast.Instruction{Kind: kind.Ask, Ref: "a2", TTL: time.Second,
			Question: &crosscast.Question{Kind: kind.AskCount, Fields: kind.FieldUser, Salt: 1 << 40}}, everybody)},
		{"request", tell(crosscast.Instruction{Kind: kind.Request, Event: "x", Payload: json("[]"), Ref: "a3"},
			everybody)},
		{"answer", tell(crosscast.Instruction{Kind: kind.Answer, Ref: "a2", Answer: wholeAnswer}, everybody)},
		{"answer-of-nothing", tell(crosscast.Instruction{Kind: kind.Answer, Answer: &crosscast.Answer{}},
			everybody)},
		{"all-bodies", bodies},
		{"emission-of-arguments", one(emitArgs)},
		{"emission-of-msgpack", one(emitPack)},
		{"answer-of-arguments", tell(crosscast.Instruction{Kind: kind.Answer, Ref: "a2", Answer: &crosscast.Answer{
			Replies: []crosscast.Reply{{Socket: "AAAAAAAABBBBBBBBBBBB", Payload: emitArgs.Payload}},
			Payload: crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte{0x90}},
		}}, everybody)},
		{"answer-of-a-handshake", tell(crosscast.Instruction{Kind: kind.Answer, Ref: "a2",
			Answer: &crosscast.Answer{Sockets: []crosscast.SocketInfo{
				{ID: "AAAAAAAABBBBBBBBBBBB", Handshake: []byte(`{"url":"/"}`)}, info,
			}}}, everybody)},
	}, presenceGolden()...)
}

type named struct {
	name string
	sequence
}

func TestGoldenInstructions(t *testing.T) {
	all := golden()
	written := make([]goldentest.Named, len(all))
	for i, g := range all {
		written[i] = goldentest.Named{Name: g.name, Bytes: g.bytes()}
	}
	read := goldentest.Compare(t, "testdata/instructions.txt", *updateGolden, written)
	var r crosscast.InstructionReader
	for _, g := range all {
		if got, err := readAll(&r, read[g.name]); err != nil || !reflect.DeepEqual(got, g.sequence) {
			t.Errorf("%s: read %v\n%+v\nwanted\n%+v", g.name, err, got, g.sequence)
		}
	}
}

// TestDocumentedBytes holds the bytes that the documentation of the format shows.
func TestDocumentedBytes(t *testing.T) {
	inst := benchEmission()
	inst.Event, inst.Payload.Data, inst.Target = "x", []byte("{}"), crosscast.Target{Everyone: true}
	if b := mustAppend(nil, inst); fmt.Sprintf("% x", b) != "96 01 00 c0 91 c3 a1 78 a2 7b 7d" {
		t.Errorf("instruction % x", b)
	}
}

// TestDefaultNamespace: an empty one is "/", which costs nothing.
func TestDefaultNamespace(t *testing.T) {
	inst := crosscast.Instruction{Kind: kind.Emit}
	short := mustAppend(nil, &inst)
	if inst.Namespace = "/"; !bytes.Equal(short, mustAppend(nil, &inst)) || len(short) != 2 {
		t.Errorf("% x", short)
	}
	if got, err := readAll(new(crosscast.InstructionReader), short); err != nil || got[0].Namespace != "/" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestRefusedInstructionLeavesBytes: what cannot be written leaves no part of it.
func TestRefusedInstructionLeavesBytes(t *testing.T) {
	inst := benchEmission()
	inst.Ref = strings.Repeat("r", limit.Name+1)
	b, err := crosscast.AppendInstruction([]byte("before"), inst)
	if !errors.Is(err, crosscast.ErrInvalidName) || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDurationsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 0: 0, 1: time.Millisecond, 1500 * time.Microsecond: 2 * time.Millisecond,
		1<<63 - 1: (1<<63 - 1) / 1_000_000 * 1_000_000,
	} {
		inst := crosscast.Instruction{Kind: kind.Hello, Node: crosscast.NodeInfo{Name: "n", Heartbeat: d}, TTL: d}
		got, err := readAll(new(crosscast.InstructionReader), mustAppend(nil, &inst))
		if err != nil || got[0].Node.Heartbeat != want || got[0].TTL != want {
			t.Errorf("%v: read %v %v", d, got, err)
		}
	}
}
