package crosscast_test

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Instructions that lack only their end.
const (
	toTarget   = "\x94\x01\x00\xc0"
	toEvent    = "\x95\x01\x00\xc0\xc0"
	toPayload  = "\x96\x01\x00\xc0\xc0\xa1x"
	toMeta     = "\x97\x01\x00\xc0\xc0\xa1x\xc0"
	toNode     = "\x98\x01\x00\xc0\xc0\xa1x\xc0\xc0"
	nils       = "\xc0\xc0\xc0\xc0\xc0\xc0" // of elements 2 to 7
	toRooms    = "\x99\x01\x00" + nils
	toReason   = "\x9a\x01\x00" + nils + "\xc0"
	toRef      = "\x9b\x01\x00" + nils + "\xc0\xc0"
	toTTL      = "\x9c\x01\x00" + nils + "\xc0\xc0\xc0"
	toQuestion = "\x9d\x01\x00" + nils + "\xc0\xc0\xc0\xc0"
	toAnswer   = "\x9e\x01\x00" + nils + "\xc0\xc0\xc0\xc0\xc0"
	toExtra    = "\xdc\x00\x10\x01\x00" + nils + "\xc0\xc0\xc0\xc0\xc0\xc0\xc0"

	// Answers that lack only their end, in their elements.
	toErr         = toAnswer + "\x93\xc0\xc0"
	toCount       = toAnswer + "\x94\xc0\xc0\xc0"
	toUsers       = toAnswer + "\x95\xc0\xc0\xc0\xc0"
	toSockets     = toAnswer + "\x96\xc0\xc0\xc0\xc0\xc0"
	toRoomCounts  = toAnswer + "\x97\xc0\xc0\xc0\xc0\xc0\xc0"
	toReplies     = toAnswer + "\x98\xc0\xc0\xc0\xc0\xc0\xc0\xc0"
	toReply       = toAnswer + "\x99\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0"
	toHandled     = toAnswer + "\x9a\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0"
	toAnswerExtra = toAnswer + "\x9b\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0"
)

// hostile are bytes that no node writes.
func hostile() []string {
	return []string{
		"\x97", "\x90", "\x82\xa2cc\x01", `{"event":"x"}`, "hello", "0", "\x00", "\xff\xff\xff\xff",
		"\xdd\xff\xff\xff\xff", "\xdc\xff\xff", "\xdf\xff\xff\xff\xff", strings.Repeat("\x91", 1<<16),
		strings.Repeat("\xdc\xff\xff", 500),
		"\xc0", "\x01", "\x80", "\xc1", "\x90",
		"\x91\xc0",
		"\x91\x00", "\x91\xff", "\x91\xa1\x01", "\x92\x01",
		"\x92\xcd\x01\x00",
		"\x92\x01\xa1\x01", "\x93\x01\x00\xa0", "\x93\x01\x00\xc4\x01/",
		"\xdd\xff\xff\xff\xff\x01", "\xdc\xff\xff\x01", "\xdc\xff",
		"\xdf\xff\xff\xff\xff", "\xdd\x04\x00\x00\x00",
		toTarget + "\x01", toTarget + "\xc3", toTarget + "\x91\x01", toTarget + "\x92\xc2\xa1x", toTarget + "\x92\xc2\x91\xc0",
		toTarget + "\x92\xc2\x91\xa0",
		toTarget + "\x92\xc2\x91\x91\xa1x", toTarget + "\x92\xc2\xdd\xff\xff\xff\xff",
		toTarget + "\x92\xc2\xdc\x04\x01" + strings.Repeat("\xa1x", 1025),
		toTarget + "\x92\xc2\x91\xda\x01\x00" + strings.Repeat("x", 256),
		toEvent + "\xa0", toEvent + "\xa2x", toEvent + "\xd9", toEvent + "\xda\x00", toEvent + "\xdb\x7f\xff\xff\xff",
		toEvent + "\xdb\xff\xff\xff\xff",
		toEvent + "\xda\x01\x00" + strings.Repeat("x", 256), toEvent + "\xc4\x01x", toEvent + "\x01",
		toPayload + "\xc6\xff\xff\xff\xff", toPayload + "\xc6\xff\xff\xff", toPayload + "\xc4",
		toPayload + "\xdb\xff\xff\xff\xffx", toPayload + "\x01",
		toPayload + "\x91", toPayload + "\x92\x01", toPayload + "\x91\xc1", toPayload + "\xdd\xff\xff\xff\xff\x01",
		toPayload + "\x91\x81\xc0\x01", toPayload + strings.Repeat("\x91", 513) + "\x01",
		toPayload + strings.Repeat("\x91", 1<<20) + "\x01",
		toPayload + "\x80", toPayload + "\xc7\x01\x01x",
		toMeta + "\x91\xa1x", toMeta + "\x91\xa1x\xa1y", toMeta + "\xdc\x00\x12" + strings.Repeat("\xa1x", 18),
		toMeta + "\x92\xa1x\x01",
		toMeta + "\x92\xa1x\xc0", toMeta + "\x80",
		toMeta + "\xdd\xff\xff\xff\xfe",
		toNode + "\x90", toNode + "\x91\xa1x", toNode + "\x91\xa1x\x01", toNode + "\x92\xa1x\xff", toNode + "\x92\xc0\x01",
		toNode + "\x92\xa1x\xcf\x00\x00\x08\x63\x7b\xd0\x5a\xf7",
		toNode + "\x92\xa1x\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		toRooms, toRooms + "\x01", toRooms + "\xa1x", toRooms + "\x91", toRooms + "\x91\xa0", toRooms + "\x91\xc0",
		toRooms + "\x92\xa1x", toRooms + "\x91\xc4\x01x", toRooms + "\xdc\x04\x01" + strings.Repeat("\xa1x", 1025),
		toRooms + "\xdd\xff\xff\xff\xff", toRooms + "\x91\xda\x01\x00" + strings.Repeat("x", 256),
		toReason, toReason + "\x01", toReason + "\xa2x", toReason + "\xc4\x01x", toReason + "\xda\x01\x00" + strings.Repeat("x", 256),
		toRef, toRef + "\x01", toRef + "\xa0", toRef + "\xa2x", toRef + "\xc4\x01x", toRef + "\xda\x01\x00" + strings.Repeat("x", 256),
		toTTL, toTTL + "\xff", toTTL + "\xa1x", toTTL + "\xcd\x01", toTTL + "\xcf\x00\x00\x08\x63\x7b\xd0\x5a\xf7",
		toTTL + "\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		toQuestion, toQuestion + "\x01", toQuestion + "\x90", toQuestion + "\x91\x01", toQuestion + "\x92\x01\x01",
		toQuestion + "\x93\x01\x01", toQuestion + "\x93\xff\x01\x01", toQuestion + "\x93\x01\xff\x01",
		toQuestion + "\x93\x01\x01\xff", toQuestion + "\x93\xc0\x01\x01", toQuestion + "\x93\x01\x01\xa1x",
		toQuestion + "\x94\x01\x01\x01", toQuestion + "\x94\x01\x01\x01\xc1",
		toAnswer, toAnswer + "\x01", toAnswer + "\xa1x", toAnswer + "\x81\xc0\xc0", toAnswer + "\x91", toAnswer + "\x91\xff",
		toAnswer + "\x91\xa1x", toAnswer + "\x91\xce\x80\x00\x00\x00", toAnswer + "\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		toAnswer + "\x92\xc0\x01", toAnswer + "\xdd\xff\xff\xff\xff", toAnswer + "\xdc\xff\xff\xc0",
		toErr + "\x01", toErr + "\xa2x", toErr + "\xc4\x01x", toErr + "\xdb\xff\xff\xff\xff",
		toCount + "\xff", toCount + "\xce\x80\x00\x00\x00", toCount + "\xa1x",
		toUsers + "\x90", toUsers + "\x01", toUsers + "\xa8AAAAAAAA", toUsers + "\xa0", toUsers + "\xc4\x07AAAAAAA",
		toUsers + "\xc4\x09AAAAAAAAA", toUsers + "\xc4\x08AAAAAAA", toUsers + "\xc6\xff\xff\xff\xf8", toUsers + "\xc4",
		toSockets + "\x01", toSockets + "\x80", toSockets + "\x91\xa1x", toSockets + "\x91\xc0", toSockets + "\x91\x90",
		toSockets + "\x91\x91\xa1x", toSockets + "\x91\x93\xa1x\xc0\xc0\xc0\xc0", toSockets + "\x91\x94\xa0\xc0\xc0\xc0",
		toSockets + "\x91\x94\xc0\xa1x\xc0\xc0", toSockets + "\x91\x94\x01\xa1x\xc0\xc0",
		toSockets + "\x91\x94\xda\x01\x00" + strings.Repeat("x", 256) + "\xc0\xc0\xc0",
		toSockets + "\x91\x94\xa1x\xda\x01\x00" + strings.Repeat("x", 256) + "\xc0\xc0",
		toSockets + "\x91\x94\xa1x\x01\xc0\xc0", toSockets + "\x91\x94\xa1x\xc0\xa1x\xc0",
		toSockets + "\x91\x94\xa1x\xc0\x91\xa0\xc0",
		toSockets + "\x91\x94\xa1x\xc0\x91\xc0\xc0", toSockets + "\x91\x94\xa1x\xc0\x92\xa1x\xc0",
		toSockets + "\x91\x94\xa1x\xc0\x91\xda\x01\x00" + strings.Repeat("x", 256) + "\xc0",
		toSockets + "\x91\x94\xa1x\xc0\xdd\xff\xff\xff\xff\xc0", toSockets + "\x91\x94\xa1x\xc0\xc0\x01",
		toSockets + "\x91\x94\xa1x\xc0\xc0\xc4\x01x", toSockets + "\x91\x94\xa1x\xc0\xc0\xa2x",
		toSockets + "\x91\x95\xa1x\xc0\xc0\xc0", toSockets + "\x91\x95\xa1x\xc0\xc0\xc0\xc1",
		toSockets + "\x91\x95\xa1x\xc0\xc0\xc0\x90", toSockets + "\x91\x95\xa1x\xc0\xc0\xc0\xc4\x01x",
		toSockets + "\x91\x96\xa1x\xc0\xc0\xc0\xc0",
		toSockets + "\x92\x94\xa1x\xc0\xc0\xc0", toSockets + "\xdd\xff\xff\xff\xff", toSockets + strings.Repeat("\x91", 1<<16),
		toSockets + "\xdc\x10\x00" + strings.Repeat("\xc0", 6*1<<12),
		toRoomCounts + "\x01", toRoomCounts + "\x91\xa1x", toRoomCounts + "\x91\x90", toRoomCounts + "\x91\x91\xa1x",
		toRoomCounts + "\x91\x91\xa1x\x01", toRoomCounts + "\x91\x92\xa0\x01", toRoomCounts + "\x91\x92\xc0\x01",
		toRoomCounts + "\x91\x92\xda\x01\x00" + strings.Repeat("x", 256) + "\x01", toRoomCounts + "\x91\x92\xa1x\xff",
		toRoomCounts + "\x91\x92\xa1x\xc0", toRoomCounts + "\x91\x92\xa1x\xce\x80\x00\x00\x00",
		toRoomCounts + "\x91\x93\xa1x\x01", toRoomCounts + "\x92\x92\xa1x\x01", toRoomCounts + "\xdd\xff\xff\xff\xff",
		toReplies + "\x01", toReplies + "\x91\xa1x", toReplies + "\x91\x90", toReplies + "\x91\x92\xa1x\xc0",
		toReplies + "\x91\x92\xa1x\xc0\xc2", toReplies + "\x91\x93\xa0\xc0\xc2", toReplies + "\x91\x93\xc0\xc0\xc2",
		toReplies + "\x91\x93\xda\x01\x00" + strings.Repeat("x", 256) + "\xc0\xc2", toReplies + "\x91\x93\xa1x\x01\xc2",
		toReplies + "\x91\x93\xa1x\x80\xc2", toReplies + "\x91\x93\xa1x\xc0\xc0", toReplies + "\x91\x93\xa1x\xc0\x01",
		toReplies + "\x91\x93\xa1x\xc6\xff\xff\xff\xff\xc2", toReplies + "\x91\x94\xa1x\xc0\xc2",
		toReplies + "\x92\x93\xa1x\xc0\xc2", toReplies + "\xdd\xff\xff\xff\xff",
		toReply + "\x01", toReply + "\x80", toReply + "\x91", toReply + "\xc6\xff\xff\xff\xff", toReply + "\xa2x", toHandled + "\x01",
		toHandled + "\xa1x",
		toAnswerExtra, toAnswerExtra + "\xc1", toAnswerExtra + strings.Repeat("\x91", 1<<16),
		toAnswerExtra + "\xdf\xff\xff\xff\xff",
		toExtra, toExtra + "\xc1", toExtra + strings.Repeat("\x91", 1<<20), toExtra + strings.Repeat("\xdc\xff\xff", 500),
		toExtra + "\xdf\xff\xff\xff\xff", toExtra + "\xdf\x80\x00\x00\x00\xc0", toExtra + "\xc9\xff\xff\xff\xff\x01",
		toExtra + "\xc6\xff\xff\xff\xff",
		toExtra + "\xd8\x01", toExtra + "\xd4\x01", toExtra + "\xcb\x00", toExtra + "\xd3\x00", toExtra + "\x81\xc0",
		toExtra + "\x8f" + strings.Repeat("\xc0", 29),
		"\x92\xcd\x01\x00\xc1",
	}
}

// unusual are bytes that no node of this version writes, and that a reader takes.
func unusual() []string {
	return []string{
		"\x91\x01", "\x92\x01\xcd\x01\x00", "\xdd\x00\x00\x00\x01\xcc\x01",
		"\x92\xcd\x01\x00\xc0",
		toTarget + "\x90", toTarget + "\x92\xc0\x91\xa1x", toTarget + "\x92\xc2\x90",
		toTarget + "\x92\xc2\xdc\x04\x00" + strings.Repeat("\xa1x", 1024),
		toPayload + "\x90", toPayload + "\xdd\x00\x00\x00\x01\xdc\x00\x00", toPayload + strings.Repeat("\x91", 512) + "\xc4\x00",
		toNode + "\x92\xa0\xcf\x00\x00\x08\x63\x7b\xd0\x5a\xf6", toExtra + "\xd9\x01x",
		toExtra + strings.Repeat("\x91", 1<<20) + "\xc0", // deep, and whole
		toRooms + "\x90", toRooms + "\xc0", toRooms + "\xdc\x04\x00" + strings.Repeat("\xa1x", 1024), toReason + "\xa0",
		toReason + "\xc0",
		toRef + "\xa1x", toRef + "\xc0", toTTL + "\xcf\x00\x00\x08\x63\x7b\xd0\x5a\xf6", toTTL + "\x00", toQuestion + "\xc0",
		toQuestion + "\x93\x00\x00\x00", toQuestion + "\x94\x01\x01\x01\xc0", toQuestion + "\x93\xcd\x01\x00\xcd\x01\x00\x00",
		toAnswer + "\xc0", toAnswer + "\x90", toAnswer + "\x91\xc0", toAnswer + "\x91\xce\x7f\xff\xff\xff", toErr + "\xa0",
		toUsers + "\xc4\x00",
		toUsers + "\xc4\x08AAAAAAAA", toSockets + "\x90", toSockets + "\x91\x94\xa1x\xc0\xc0\xc0",
		toSockets + "\x91\x94\xa1x\xa0\x90\xa0",
		toSockets + "\x91\x95\xa1x\xc0\xc0\xc0\xa1x", toSockets + "\x91\x96\xa1x\xc0\xc0\xc0\xc0\x90",
		toRoomCounts + "\x90", toRoomCounts + "\x91\x92\xa1x\x00",
		toRoomCounts + "\x91\x93\xa1x\x00\xc3", toReplies + "\x90", toReplies + "\x91\x93\xa1x\xc0\xc2",
		toReplies + "\x91\x93\xa1x\xc4\x00\xc3", toReplies + "\x91\x94\xa1x\xa0\xc3\xc0", toReply + "\xc0", toReply + "\xa0",
		toReply + "\xc4\x00",
		toHandled + "\xc3", toHandled + "\xc0", toAnswerExtra + "\xc3", toAnswerExtra + "\x92\xa1x\x01",
	}
}

func TestHostileInstructions(t *testing.T) {
	var r crosscast.InstructionReader
	for _, b := range hostile() {
		if got, err := readAll(&r, []byte(b)); err == nil {
			t.Errorf("% .60x: read as %+v", b, got)
		}
	}
	for _, b := range unusual() {
		if _, err := readAll(&r, []byte(b)); err != nil {
			t.Errorf("% .60x: %v", b, err)
		}
	}
}

// TestEveryPrefix: an instruction that was cut is refused, and what was before it is not.
func TestEveryPrefix(t *testing.T) {
	var r crosscast.InstructionReader
	for _, g := range golden() {
		whole := g.bytes()
		ends := []int{0}
		for i := range g.sequence {
			ends = append(ends, ends[i]+len(g.sequence[i:i+1].bytes()))
		}
		for n := range whole {
			got, err := readAll(&r, slices.Clip(bytes.Clone(whole[:n])))
			if (err == nil) != slices.Contains(ends, n) {
				t.Errorf("%s: %d bytes: %v", g.name, n, err)
			}
			before := 0
			for _, end := range ends[1:] {
				if end <= n {
					before++
				}
			}
			if len(got) != before || before > 0 && !reflect.DeepEqual(got, g.sequence[:before]) {
				t.Errorf("%s: %d bytes yield %d instructions, not %d", g.name, n, len(got), before)
			}
		}
	}
}

// warmReader returns a reader whose own tables are made, as are those of all readers after a while.
func warmReader(t testing.TB) *crosscast.InstructionReader {
	r := new(crosscast.InstructionReader)
	inst := crosscast.Instruction{Kind: kind.Emit, Event: "x", Meta: make([]crosscast.KeyValue, limit.Meta)}
	inst.Target.Rooms = slices.Repeat([]string{"n"}, limit.Names)
	inst.Rooms = inst.Target.Rooms
	drain(t, r, mustAppend(nil, &inst))
	inst.Target = crosscast.Target{Sockets: slices.Repeat([]crosscast.SocketID{"n"}, limit.Names)}
	drain(t, r, mustAppend(nil, &inst))
	return r
}

// readCost reads instructions until there is no other, and returns what was allocated meanwhile.
func readCost(r *crosscast.InstructionReader, b []byte) (spent uint64) {
	return allocates(func() {
		var err error
		for err == nil && len(b) > 0 {
			_, b, err = r.Read(b)
		}
	})
}

// allocates returns how many bytes this process allocates while f runs.
func allocates(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// mayCost is what reading b may allocate. Only an answer may cost more than strings do, and it takes an instruction of
// 14 elements or more, or of a number that is written in more than a byte.
func mayCost(b []byte) uint64 {
	n := uint64(len(b))
	if !slices.ContainsFunc(b, func(c byte) bool { return c == 0x9e || c == 0x9f || c == 0xdc || c == 0xdd }) {
		return 4*n + 4<<10
	}
	return maxAnswerCost*n + 16<<10
}

// maxAnswerCost bounds what an answer takes in memory beside its bytes: 104/6 for a list of sockets, 16/2 for a list of
// rooms in the first of them, with neither as long as it says, and 16/10 for strings of 9 bytes are 26.9; and sizes are
// rounded up.
const maxAnswerCost = 28

// checkHostile reads b, and fails unless it costs what it may and yields what can be written.
func checkHostile(t testing.TB, r *crosscast.InstructionReader, b []byte) {
	spent := readCost(r, b)
	// What is counted is the process's: somebody else may have allocated meanwhile. Only a reader that does not know
	// the names yet can tell.
	for range 5 {
		if spent <= mayCost(b) {
			break
		}
		*r = *warmReader(t)
		spent = readCost(r, b)
	}
	if spent > mayCost(b) {
		t.Fatalf("%d bytes allocated for %d of input", spent, len(b))
	}
	s, _ := readAll(r, b)
	s = slices.DeleteFunc(s, later)
	var written []byte
	for i := range s {
		var err error
		if written, err = crosscast.AppendInstruction(written, &s[i]); err != nil {
			t.Fatalf("yielded %+v, which may not be written: %v", s[i], err)
		}
	}
	if again, err := readAll(r, written); err != nil || len(again)+len(s) > 0 && !reflect.DeepEqual(again, s) {
		t.Fatalf("read\n%+v\nwritten and read again (%v)\n%+v", s, err, again)
	}
}

// later reports whether inst has a payload of an encoding of a later version, which a node counts, and nobody writes.
func later(inst crosscast.Instruction) bool {
	payloads := []crosscast.Payload{inst.Payload}
	if inst.Answer != nil {
		payloads = append(payloads, inst.Answer.Payload)
		for _, r := range inst.Answer.Replies {
			payloads = append(payloads, r.Payload)
		}
	}
	return slices.ContainsFunc(payloads, func(p crosscast.Payload) bool { return p.Encoding > crosscast.EncodingMsgPack })
}

func FuzzInstructionReader(f *testing.F) {
	for _, g := range golden() {
		f.Add(g.bytes())
	}
	for _, b := range append(hostile(), unusual()...) {
		if len(b) < 1<<12 {
			f.Add([]byte(b))
		}
	}
	r := warmReader(f)
	f.Fuzz(func(t *testing.T, b []byte) { checkHostile(t, r, b) })
}

// FuzzInstructionRoundTrip is TestInstructionRoundTrip with the fuzzer's choices.
func FuzzInstructionRoundTrip(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		roundTrips(new(crosscast.InstructionReader))(t) // what an input covers must not depend on those before it
	}))
}

// TestHostileInstructionsAreCheap is what FuzzInstructionReader checks, for bytes that are too many for its corpus.
func TestHostileInstructionsAreCheap(t *testing.T) {
	r := warmReader(t)
	for _, b := range append(hostile(), unusual()...) {
		checkHostile(t, r, []byte(b))
	}
	for _, b := range [][]byte{manyNames(1<<20, 600), []byte(toTarget + "\x92\xc2\xdc\x04\x00" + twoByteNames(1024))} {
		checkHostile(t, r, b)
	}
}

// costlyAnswers are answers that cost the most for their bytes.
func costlyAnswers() map[string]string {
	const n = 60000
	size := "\xdc\xea\x60"
	socket := "\x94\xa1x\xc0\xc0\xc0"
	return map[string]string{
		"sockets": toSockets + size + strings.Repeat(socket, n),
		"a list of rooms in a list of sockets, neither true": toSockets + size + "\x94\xa1x\xc0\xdd\x00\x02\xa0\x00" +
			strings.Repeat("\xa1x", 1000) + strings.Repeat("\xc0", 6*n),
		"the same, with strings": toSockets + size + "\x94\xa1x\xc0\xdd\x00\x02\xa0\x00" +
			nineByteNames(40000),
		"more sockets than fit": toSockets + size + strings.Repeat("\xc0", n),
		"more replies than fit": toReplies + size + strings.Repeat("\xc0", n),
		"rooms of sockets":      toSockets + "\x91\x94\xa1x\xc0" + size + strings.Repeat("\xa1x", n) + "\xc0",
		"rooms":                 toRoomCounts + size + strings.Repeat("\x92\xa1x\x00", n),
		"replies":               toReplies + size + strings.Repeat("\x93\xa1x\xc0\xc2", n),
		"replies of bytes":      toReplies + size + strings.Repeat("\x93\xa1x\xc4\x01x\xc2", n),
		"users":                 toUsers + "\xc6\x00\x07\x53\x00" + strings.Repeat("x", 8*n),
		"empty answers":         strings.Repeat(toAnswer+"\x90", n),
		"answers of one socket": strings.Repeat(toAnswer+"\x96\xc0\xc0\xc0\xc0\xc0\x91"+socket, n),
	}
}

func nineByteNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\xa9%09d", i)
	}
	return b.String()
}

// TestCostOfAnswers holds the factor of InstructionReader's comment.
func TestCostOfAnswers(t *testing.T) {
	r := warmReader(t)
	for what, b := range costlyAnswers() {
		spent := readCost(r, []byte(b))
		t.Logf("%s: %.1f times the %d bytes of input", what, float64(spent)/float64(len(b)), len(b))
		checkHostile(t, r, []byte(b))
	}
}

// twoByteNames returns n different names, the smallest that cost an allocation.
func twoByteNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("\xa2")
		b.WriteByte(byte(i >> 8))
		b.WriteByte(byte(i))
	}
	return b.String()
}
