package crosscast_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
)

// presenceFrames are golden frames of watches, and of what is told to them.
func presenceFrames() []namedFrame {
	frame := func(name string, in crosscast.Instruction) namedFrame {
		in.Namespace, in.From, in.Rooms = "/", frameOrigin, []string{"room1"}
		return namedFrame{name, codecFrame{everyone, crosscast.FrameHeader{Origin: frameOrigin, Number: 2, Previous: 1},
			[]crosscast.Instruction{in}, []uint64{0}}}
	}
	toAll := crosscast.Target{Everyone: true}
	watch := crosscast.Instruction{
		Kind: crosscast.KindWatch, Flags: crosscast.Volatile, Target: toAll, TTL: 16 * time.Second,
	}
	renewal := watch
	renewal.Presence = &crosscast.Presence{Round: 300}
	tell := func(p crosscast.Presence) crosscast.Instruction {
		return crosscast.Instruction{Kind: crosscast.KindPresence, Presence: &p}
	}
	ann := crosscast.Member{Socket: "AAAAAAAABBBBBBBBBBBB", User: "ann"}
	nobody := crosscast.Member{Socket: "AAAAAAAACCCCCCCCCCCC"}
	return []namedFrame{
		frame("watch", watch),
		frame("watch-renewed", renewal),
		frame("watch-listed", crosscast.Instruction{Kind: crosscast.KindWatch, Flags: crosscast.Volatile,
			TTL: 16 * time.Second, Presence: &crosscast.Presence{Versions: []uint64{300}}}),
		frame("presence-whole", tell(crosscast.Presence{Version: 300, Part: 1, Last: true,
			Changes: []crosscast.PresenceChange{{Member: ann}, {Member: nobody}}})),
		frame("presence-changes", tell(crosscast.Presence{Since: 300, Version: 302,
			Changes: []crosscast.PresenceChange{{Member: ann, Left: true}, {Member: nobody, Left: true}}})),
		frame("presence-digest", tell(crosscast.Presence{Round: 300, Buckets: 1<<63 | 1, Sums: []uint64{1 << 60, 7}})),
		frame("presence-empty", tell(crosscast.Presence{Versions: []uint64{300}})),
		frame("presence-full", tell(crosscast.Presence{Full: true})),
	}
}

// TestDocumentedPresenceBytes holds the bytes that the documentation of the format shows, behind the fourteen elements
// before.
func TestDocumentedPresenceBytes(t *testing.T) {
	in := presenceFrames()[0].frame.In[0]
	got := fmt.Sprintf("% x", crosscast.AppendInstruction(nil, &in, everyone, 0))
	if want := "9d 0b 01 c0 c0 c0 c0 00 90 c0 91 a5 72 6f 6f 6d 31 c0 c0 cd 3e 80"; got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func genPresence(t *rapid.T) *crosscast.Presence {
	p := &crosscast.Presence{
		Since: rapid.Uint64().Draw(t, "since"), Version: rapid.Uint64().Draw(t, "version"),
		Part: int(rapid.Int32Range(0, 1<<31-1).Draw(t, "part")), Last: rapid.Bool().Draw(t, "last"),
	}
	for range rapid.SampledFrom([]int{0, 1, 2, 15, 16, 70}).Draw(t, "changes") {
		c := crosscast.PresenceChange{Left: rapid.Bool().Draw(t, "left")}
		c.Socket = crosscast.SocketID(rapid.StringMatching(`[A-Za-z0-9_-]{20}`).Draw(t, "socket"))
		c.User = rapid.OneOf(rapid.Just(""), genName(crosscast.MaxName)).Draw(t, "user")
		p.Changes = append(p.Changes, c)
	}
	some := rapid.SampledFrom([]int{0, 0, 1, 15, 16, 64})
	for range some.Draw(t, "sums") {
		p.Sums = append(p.Sums, rapid.Uint64().Draw(t, "sum"))
	}
	for range some.Draw(t, "versions") {
		p.Versions = append(p.Versions, rapid.Uint64().Draw(t, "room's version"))
	}
	if rapid.Bool().Draw(t, "rest") {
		p.Round, p.Buckets = rapid.Uint64().Draw(t, "round"), rapid.Uint64().Draw(t, "buckets")
		p.Full = rapid.Bool().Draw(t, "full")
	}
	return p
}

// TestPresenceRoundTrip: what is written is read back, by this package and by the referee, who reads the documentation;
// and what the referee writes, with elements of a later version behind it, is read.
func TestPresenceRoundTrip(t *testing.T) {
	var r crosscast.FrameReader
	rapid.Check(t, func(t *rapid.T) {
		f := presenceFrames()[0].frame
		f.In[0].Presence = genPresence(t)
		if err := crosscast.CheckInstruction(&f.In[0]); err != nil {
			t.Fatal(err)
		}
		got, err := readFrame(&r, f.bytes(), everyone)
		if err != nil || !reflect.DeepEqual(got, f) {
			t.Fatalf("read %v\n%+v\nwritten\n%+v", err, got.In[0].Presence, f.In[0].Presence)
		}

		b := f.bytes()
		dec := msgpack.NewDecoder(bytes.NewReader(b[len(crosscast.AppendFrameHeader(nil, &f.Header)):]))
		v, err := dec.DecodeInterface()
		if err != nil {
			t.Fatal(err)
		}
		e := v.([]any)
		if read := refereePresence(e[15].([]any)); !reflect.DeepEqual(read, *f.In[0].Presence) {
			t.Fatalf("the referee read\n%+v\nwritten\n%+v", read, f.In[0].Presence)
		}
		p := e[15].([]any)
		for len(p) < 10 {
			p = append(p, nil)
		}
		if list, _ := p[4].([]any); list != nil {
			for i, c := range list {
				for c := c.([]any); len(c) < 3; {
					c = append(c, nil)
					list[i] = c
				}
				list[i] = append(list[i].([]any), "later", 7)
			}
		}
		e[15] = append(p, []any{"later"}, nil)
		buf := bytes.NewBuffer(crosscast.AppendFrameHeader(nil, &f.Header))
		if err := msgpack.NewEncoder(buf).Encode(append(e, "later")); err != nil {
			t.Fatal(err)
		}
		if got, err := readFrame(&r, buf.Bytes(), everyone); err != nil || !reflect.DeepEqual(got, f) {
			t.Fatalf("read %v\n%+v\nthe referee wrote\n%+v", err, got, f)
		}
	})
}

func refereePresence(e []any) (p crosscast.Presence) {
	full := make([]any, 10)
	copy(full, e)
	p.Since, p.Version, p.Part = number(full[0]), number(full[1]), int(number(full[2]))
	p.Last, _ = full[3].(bool)
	list, _ := full[4].([]any)
	for _, v := range list {
		c := make([]any, 3)
		copy(c, v.([]any))
		change := crosscast.PresenceChange{Member: crosscast.Member{Socket: crosscast.SocketID(c[0].(string))}}
		change.User, _ = c[1].(string)
		change.Left, _ = c[2].(bool)
		p.Changes = append(p.Changes, change)
	}
	p.Round, p.Buckets = number(full[5]), number(full[6])
	for i, to := range map[int]*[]uint64{7: &p.Sums, 8: &p.Versions} {
		numbers, _ := full[i].([]any)
		for _, v := range numbers {
			*to = append(*to, number(v))
		}
	}
	p.Full, _ = full[9].(bool)
	return p
}

// TestHostilePresence: bytes that no node writes are refused, and cost no more than they may.
func TestHostilePresence(t *testing.T) {
	in := presenceFrames()[0].frame.In[0]
	in.Presence = &crosscast.Presence{}
	header := string(crosscast.AppendFrameHeader(nil, &presenceFrames()[0].frame.Header))
	to := header + strings.TrimSuffix(string(crosscast.AppendInstruction(nil, &in, everyone, 0)), "\x90")
	id, changes := "\xb4AAAAAAAABBBBBBBBBBBB", "\x95\xc0\x01\xc0\xc3"
	nine := "\x99" + strings.Repeat("\xc0", 8)
	r := warmReader(t)
	for _, h := range []string{
		"", "\x01", "\xa1x", "\x81\x01\x01", "\x91\xa1x", "\x91\xff", "\x93\x01\x01\xce\x80\x00\x00\x00",
		"\x94\x01\x01\x00\x01", changes + "\x01", changes + "\x91\x90", changes + "\x91" + id, changes + "\x91\x91\xa1x",
		changes + "\x91\x91\xc0", changes + "\x91\x92" + id + "\x01", changes + "\x91\x93" + id + "\xc0\x01",
		changes + "\x91\x92" + id + "\xda\x01\x00" + strings.Repeat("x", 256), changes + "\xdd\xff\xff\xff\xff",
		changes + "\xdd\xff\xff\xff\xff" + strings.Repeat("\x91"+id, 1000),
		"\x96\xc0\xc0\xc0\xc0\xc0\xa1x", nine + "\x01", nine + "\xdc\xff\xff", nine + "\x91\xa1x", nine + "\x91\xc0",
		nine + "\xdc\x04\x01" + strings.Repeat("\x01", 1025), "\x98\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xdc\x00\x41" + strings.Repeat("\x01", 65),
		changes + "\xdc\xff\xff" + strings.Repeat("\xc0", 60000),
	} {
		if _, err := readFrame(r, []byte(to+h), everyone); !errors.Is(err, crosscast.ErrMalformed) {
			t.Errorf("% .60x: %v", h, err)
		}
		checkHostile(t, r, []byte(to+h), everyone)
	}
	checkHostile(t, r, []byte(to+changes+"\xdc\x03\xe8"+strings.Repeat("\x92"+id+"\xa1u", 1000)), everyone)
	checkHostile(t, r, []byte(to+nine+"\xdc\x04\x00"+strings.Repeat("\x01", 1024)), everyone)
	checkHostile(t, r, []byte(header+strings.Repeat(to[len(header):]+"\x90", 1000)), everyone)

	for _, p := range []crosscast.Presence{
		{Part: -1}, {Sums: make([]uint64, 65)}, {Versions: make([]uint64, 1025)}, {Changes: []crosscast.PresenceChange{{}}},
		{Changes: []crosscast.PresenceChange{{Member: crosscast.Member{
			Socket: "AAAAAAAABBBBBBBBBBBB", User: strings.Repeat("u", 256)}}}},
	} {
		in.Presence = &p
		if err := crosscast.CheckInstruction(&in); err == nil {
			t.Errorf("%+v may be written", p)
		}
	}
}
