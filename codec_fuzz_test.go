package crosscast_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
)

// A header without losses, and headers and instructions that lack only their end.
const (
	hostileHeader = "\x97\xa2cc\x01\xa8AAAAAAAA\xcf\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\xcf\x00\x00\x00\x00\x00\x00\x00\x01\x00\xc0"
	lossesHeader = "\x97\xa2cc\x01\xa8AAAAAAAA\x02\x01\x00"
	extraHeader  = "\x98\xa2cc\x01\xa8AAAAAAAA\x02\x01\x00\xc0"
	toTarget     = hostileHeader + "\x94\x01\x00\xc0"
	toEvent      = hostileHeader + "\x95\x01\x00\xc0\xc0"
	toPayload    = hostileHeader + "\x96\x01\x00\xc0\xc0\xa1x"
	toMeta       = hostileHeader + "\x98\x01\x00\xc0\xc0\xa1x\xc0\x00"
	toNode       = hostileHeader + "\x99\x01\x00\xc0\xc0\xa1x\xc0\x00\xc0"
	toExtra      = hostileHeader + "\x9a\x01\x00\xc0\xc0\xa1x\xc0\x00\xc0\xc0"
)

// hostileFrames are bytes that no node writes, and what a reader says of them: nil for what it takes.
func hostileFrames() (all []hostileFrame) {
	bad := func(err error, frames ...string) {
		for _, b := range frames {
			all = append(all, hostileFrame{b, err})
		}
	}
	bad(crosscast.ErrForeign,
		"", "\x97", "\x97\xa2c", "\x97\xa2cd\x01", "\x97\xc4\x02cc\x01", "\x90", "\x90\xa2cc\x01", "\xc0", "\xc1",
		"\x82\xa2cc\x01",
		`{"event":"x"}`, "hello", "0", "\x00", "\xff\xff\xff\xff",
		`42["roomMessage",{"a":1}]`, "socket.io#/#room1#",
		"\x93\xa6uid123\x83\xa4type\x02\xa4data\x92\xa1x\x01\xa3nsp\xa1/\x83\xa5rooms\x91\xa5room1",
		"\xdd\xff\xff\xff\xff", "\xdc\xff\xff", "\xdf\xff\xff\xff\xff", strings.Repeat("\x91", 1<<16),
		strings.Repeat("\xdc\xff\xff", 500),
	)
	bad(crosscast.ErrVersion,
		"\x92\xa2cc\x02", "\x92\xa2cc\x02\x91\x01", "\x92\xa2cc\x00", "\x92\xa2cc\xcd\x01\x01", "\xdc\x00\x02\xa2cc\x7f\xc1",
		strings.Replace(hostileHeader, "\xa2cc\x01", "\xa2cc\x02", 1),
	)
	bad(crosscast.ErrMalformed,
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
		// instructions
		hostileHeader+"\xc0", hostileHeader+"\x01", hostileHeader+"\x80", hostileHeader+"\xc1", hostileHeader+"\x90",
		hostileHeader+"\x91\xc0",
		hostileHeader+"\x91\x00", hostileHeader+"\x91\xff", hostileHeader+"\x91\xa1\x01", hostileHeader+"\x92\x01",
		hostileHeader+"\x92\xcd\x01\x00",
		hostileHeader+"\x92\x01\xa1\x01", hostileHeader+"\x93\x01\x00\xa0", hostileHeader+"\x93\x01\x00\xc4\x01/",
		hostileHeader+"\xdd\xff\xff\xff\xff\x01", hostileHeader+"\xdc\xff\xff\x01", hostileHeader+"\xdc\xff",
		hostileHeader+"\xdf\xff\xff\xff\xff", hostileHeader+"\xdd\x04\x00\x00\x00",
		toTarget+"\x01", toTarget+"\xc3", toTarget+"\x91\x01", toTarget+"\x92\xc2\xa1x", toTarget+"\x92\xc2\x91\xc0",
		toTarget+"\x92\xc2\x91\xa0",
		toTarget+"\x92\xc2\x91\x91\xa1x", toTarget+"\x92\xc2\xdd\xff\xff\xff\xff",
		toTarget+"\x92\xc2\xdc\x04\x01"+strings.Repeat("\xa1x", 1025),
		toTarget+"\x92\xc2\x91\xda\x01\x00"+strings.Repeat("x", 256),
		toEvent+"\xa0", toEvent+"\xa2x", toEvent+"\xd9", toEvent+"\xda\x00", toEvent+"\xdb\x7f\xff\xff\xff",
		toEvent+"\xdb\xff\xff\xff\xff",
		toEvent+"\xda\x01\x00"+strings.Repeat("x", 256), toEvent+"\xc4\x01x", toEvent+"\x01",
		toPayload+"\xc6\xff\xff\xff\xff", toPayload+"\xc6\xff\xff\xff", toPayload+"\xc4",
		toPayload+"\xdb\xff\xff\xff\xffx", toPayload+"\x01",
		toPayload+"\x90", toPayload+"\xc7\x01\x01x",
		toMeta+"\x91\xa1x", toMeta+"\x91\xa1x\xa1y", toMeta+"\xdc\x00\x12"+strings.Repeat("\xa1x", 18), toMeta+"\x92\xa1x\x01",
		toMeta+"\x92\xa1x\xc0", toMeta+"\x80",
		toMeta+"\xdd\xff\xff\xff\xfe",
		toNode+"\x90", toNode+"\x91\xa1x", toNode+"\x91\xa1x\x01", toNode+"\x92\xa1x\xff", toNode+"\x92\xc0\x01",
		toNode+"\x92\xa1x\xcf\x00\x00\x08\x63\x7b\xd0\x5a\xf7",
		toNode+"\x92\xa1x\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		toExtra, toExtra+"\xc1", toExtra+strings.Repeat("\x91", 1<<20), toExtra+strings.Repeat("\xdc\xff\xff", 500),
		toExtra+"\xdf\xff\xff\xff\xff", toExtra+"\xdf\x80\x00\x00\x00\xc0", toExtra+"\xc9\xff\xff\xff\xff\x01",
		toExtra+"\xc6\xff\xff\xff\xff",
		toExtra+"\xd8\x01", toExtra+"\xd4\x01", toExtra+"\xcb\x00", toExtra+"\xd3\x00", toExtra+"\x81\xc0",
		toExtra+"\x8f"+strings.Repeat("\xc0", 29),
		hostileHeader+"\x92\xcd\x01\x00\xc1",
	)
	bad(nil,
		hostileHeader, "\x96\xa2cc\x01\xa8AAAAAAAA\x02\x01\x00", lossesHeader+"\xc0", lossesHeader+"\x92\x01\x90",
		hostileHeader+"\x91\x01", hostileHeader+"\x92\x01\xcd\x01\x00", hostileHeader+"\xdd\x00\x00\x00\x01\xcc\x01",
		hostileHeader+"\x92\xcd\x01\x00\xc0",
		toTarget+"\x90", toTarget+"\x92\xc0\x91\xa1x", toTarget+"\x92\xc2\x90",
		toTarget+"\x92\xc2\xdc\x04\x00"+strings.Repeat("\xa1x", 1024),
		toNode+"\x92\xa0\xcf\x00\x00\x08\x63\x7b\xd0\x5a\xf6", toExtra+"\xd9\x01x",
		toExtra+strings.Repeat("\x91", 1<<20)+"\xc0", // deep, and whole
	)
	return all
}

type hostileFrame struct {
	bytes string
	err   error
}

func TestHostileFrames(t *testing.T) {
	var r crosscast.FrameReader
	for _, h := range hostileFrames() {
		if _, err := readFrame(&r, []byte(h.bytes), everyone); !errors.Is(err, h.err) || h.err == nil && err != nil {
			t.Errorf("% .60x: %v, and not %v", h.bytes, err, h.err)
		}
	}
}

// TestImpliedTargetOfAnotherNamespace: a topic stands for a name in one namespace.
func TestImpliedTargetOfAnotherNamespace(t *testing.T) {
	chat := frameAddress("/chat", crosscast.UserSpace, "u9")
	for frame, topic := range map[string]crosscast.Address{
		hostileHeader + "\x93\x01\x00\xa5/chat": frameTo1, hostileHeader + "\x91\x01": chat,
	} {
		if got, err := readFrame(new(crosscast.FrameReader), []byte(frame), topic); !errors.Is(err, crosscast.ErrMalformed) {
			t.Errorf("topic %v: %+v, %v", topic, got.In, err)
		}
	}
}

// TestEveryPrefix: a frame that was cut is taken only where an instruction ends, and yields those before the cut.
func TestEveryPrefix(t *testing.T) {
	var r crosscast.FrameReader
	for _, g := range goldenFrames() {
		header := crosscast.AppendFrameHeader(nil, &g.frame.Header)
		ends := []int{len(header)}
		whole := header
		for i := range g.frame.In {
			whole = crosscast.AppendInstruction(whole, &g.frame.In[i], g.frame.Topic, g.frame.Copies[i])
			ends = append(ends, len(whole))
		}
		for n := range whole {
			got, err := readFrame(&r, slices.Clip(bytes.Clone(whole[:n])), g.frame.Topic)
			switch {
			case n < 8: // fewer than the header's elements
				if !errors.Is(err, crosscast.ErrForeign) {
					t.Errorf("%s: %d bytes: %v", g.name, n, err)
				}
			case slices.Contains(ends, n):
				if err != nil {
					t.Errorf("%s: %d bytes: %v", g.name, n, err)
				}
			case !errors.Is(err, crosscast.ErrMalformed):
				t.Errorf("%s: %d bytes: %v", g.name, n, err)
			}
			before := 0
			for _, end := range ends[1:] {
				if end <= n {
					before++
				}
			}
			if len(got.In) != before || before > 0 && !reflect.DeepEqual(got.In, g.frame.In[:before]) {
				t.Errorf("%s: %d bytes yield %d instructions, not %d", g.name, n, len(got.In), before)
			}
		}
	}
}

// warmReader returns a reader whose own tables are made, as are those of all readers after a while.
func warmReader(t testing.TB) *crosscast.FrameReader {
	r := new(crosscast.FrameReader)
	in := crosscast.Instruction{Kind: crosscast.KindEmit, Event: "x", Meta: make([]crosscast.KeyValue,
		crosscast.MaxMeta)}
	header := crosscast.AppendFrameHeader(nil, &goldenFrames()[9].frame.Header)
	in.Target.Rooms = slices.Repeat([]string{"n"}, crosscast.MaxNames)
	b := crosscast.AppendInstruction(header, &in, everyone, 0)
	in.Target = crosscast.Target{Sockets: slices.Repeat([]crosscast.SocketID{"n"}, crosscast.MaxNames)}
	drain(t, r, crosscast.AppendInstruction(b, &in, everyone, 0), everyone)
	return r
}

// readCost reads a frame whole, and returns what was allocated meanwhile.
func readCost(r *crosscast.FrameReader, b []byte, topic crosscast.Address) (spent uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = r.Reset(b, topic)
	for err == nil {
		_, _, err = r.Next()
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// checkHostile reads b, and fails unless it costs what it may and yields what can be written.
func checkHostile(t testing.TB, r *crosscast.FrameReader, b []byte, topic crosscast.Address) {
	spent, err := readCost(r, b, topic)
	// What is counted is the process's: somebody else may have allocated meanwhile. Only a reader that does not know
	// the names yet can tell.
	for range 5 {
		if spent <= uint64(4*len(b)+4<<10) {
			break
		}
		*r = *warmReader(t)
		spent, err = readCost(r, b, topic)
	}
	if spent > uint64(4*len(b)+4<<10) {
		t.Fatalf("%d bytes allocated for %d of input", spent, len(b))
	}
	if err != io.EOF && !errors.Is(err, crosscast.ErrForeign) && !errors.Is(err,
		crosscast.ErrVersion) && !errors.Is(err, crosscast.ErrMalformed) {
		t.Fatalf("an error of another kind: %v", err)
	}

	f, _ := readFrame(r, b, topic)
	if f.Header.Origin == "" {
		return
	}
	for i := range f.In {
		if err := crosscast.CheckInstruction(&f.In[i]); err != nil {
			t.Fatalf("yielded %+v, which may not be written: %v", f.In[i], err)
		}
	}
	again, err := readFrame(r, f.bytes(), topic)
	if f.Header.LossCount == 0 && len(f.Header.Losses) == 0 {
		f.Header.Losses = nil
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
		topic := everyone
		if space%3 != 0 {
			topic = frameAddress("/", crosscast.Space(space%3), "room1")
		}
		checkHostile(t, r, b, topic)
	})
}

// FuzzFrameRoundTrip is TestFrameRoundTrip with the fuzzer's choices.
func FuzzFrameRoundTrip(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(frameRoundTrips(new(crosscast.FrameReader))))
}

// TestHostileFramesAreCheap is what FuzzFrameReader checks, for frames that are too large for its corpus.
func TestHostileFramesAreCheap(t *testing.T) {
	r := warmReader(t)
	for _, h := range hostileFrames() {
		checkHostile(t, r, []byte(h.bytes), everyone)
	}
	for _, b := range [][]byte{manyNames(1<<20, 1000), []byte(toTarget + "\x92\xc2\xdc\x04\x00" + twoByteNames(1024))} {
		checkHostile(t, r, b, everyone)
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
