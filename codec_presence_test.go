package crosscast_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// presenceGolden are golden instructions of watches, and of what is told to them.
func presenceGolden() []named {
	one := func(name string, inst crosscast.Instruction) named {
		inst.Namespace, inst.Rooms = "/", []string{"room1"}
		return named{name, sequence{inst}}
	}
	toAll := crosscast.Target{Everyone: true}
	watch := crosscast.Instruction{
		Kind: kind.Watch, Volatile: true, Target: toAll, TTL: 16 * time.Second,
	}
	renewal := watch
	renewal.Presence = &crosscast.Presence{Round: 300}
	tell := func(p crosscast.Presence) crosscast.Instruction {
		return crosscast.Instruction{Kind: kind.Presence, Presence: &p}
	}
	ann := crosscast.Member{Socket: "AAAAAAAABBBBBBBBBBBB", User: "ann"}
	away := crosscast.Member{Socket: "AAAAAAAABBBBBBBBBBBB", User: "ann", Presence: []byte(`{"away":true}`)}
	nobody := crosscast.Member{Socket: "AAAAAAAACCCCCCCCCCCC"}
	return []named{
		one("watch", watch),
		one("watch-renewed", renewal),
		one("watch-listed", crosscast.Instruction{Kind: kind.Watch, Volatile: true,
			TTL: 16 * time.Second, Presence: &crosscast.Presence{Versions: []uint64{300}}}),
		one("presence-whole", tell(crosscast.Presence{Version: 300, Part: 1, Last: true,
			Changes: []crosscast.PresenceChange{{Member: ann}, {Member: nobody}}})),
		one("presence-changes", tell(crosscast.Presence{Since: 300, Version: 302,
			Changes: []crosscast.PresenceChange{{Member: ann, Left: true}, {Member: nobody, Left: true}}})),
		one("presence-data", tell(crosscast.Presence{Since: 300, Version: 301,
			Changes: []crosscast.PresenceChange{{Member: away, At: 1_800_000_000_000}}})),
		one("presence-digest", tell(crosscast.Presence{Round: 300, Buckets: 1<<63 | 1, Sums: []uint64{1 << 60, 7}})),
		one("presence-empty", tell(crosscast.Presence{Versions: []uint64{300}})),
		one("presence-full", tell(crosscast.Presence{Full: true})),
	}
}

// TestDocumentedPresenceBytes holds the bytes that the documentation of the format shows, behind the fourteen elements
// before.
func TestDocumentedPresenceBytes(t *testing.T) {
	inst := presenceGolden()[0].sequence[0]
	got := fmt.Sprintf("% x", mustAppend(nil, &inst))
	if want := "9c 0b 01 c0 91 c3 c0 c0 c0 c0 91 a5 72 6f 6f 6d 31 c0 c0 cd 3e 80"; got != want {
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
		c.User = rapid.OneOf(rapid.Just(""), genName(limit.Name)).Draw(t, "user")
		if rapid.Bool().Draw(t, "shows") {
			c.Presence = []byte(rapid.StringN(1, -1, limit.Presence).Draw(t, "presence"))
			c.At = rapid.Uint64().Draw(t, "at")
		}
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
	var r crosscast.InstructionReader
	rapid.Check(t, func(t *rapid.T) {
		s := presenceGolden()[0].sequence
		s[0].Presence = genPresence(t)
		b := s.bytes()
		got, err := readAll(&r, b)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("read %v\n%+v\nwritten\n%+v", err, got[0].Presence, s[0].Presence)
		}

		v, err := msgpack.NewDecoder(bytes.NewReader(b)).DecodeInterface()
		if err != nil {
			t.Fatal(err)
		}
		e := v.([]any)
		if read := refereePresence(e[14].([]any)); !reflect.DeepEqual(read, *s[0].Presence) {
			t.Fatalf("the referee read\n%+v\nwritten\n%+v", read, s[0].Presence)
		}
		p := e[14].([]any)
		for len(p) < 10 {
			p = append(p, nil)
		}
		if list, _ := p[4].([]any); list != nil {
			for i, c := range list {
				for c := c.([]any); len(c) < 5; {
					c = append(c, nil)
					list[i] = c
				}
				list[i] = append(list[i].([]any), "later", 7)
			}
		}
		e[14] = append(p, []any{"later"}, nil)
		buf := new(bytes.Buffer)
		if err := msgpack.NewEncoder(buf).Encode(append(e, "later")); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(&r, buf.Bytes()); err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("read %v\n%+v\nthe referee wrote\n%+v", err, got, s)
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
		c := make([]any, 5)
		copy(c, v.([]any))
		change := crosscast.PresenceChange{Member: crosscast.Member{Socket: crosscast.SocketID(c[0].(string))}}
		change.User, _ = c[1].(string)
		change.Left, _ = c[2].(bool)
		if data, _ := c[3].(string); data != "" {
			change.Presence = []byte(data)
		}
		change.At = number(c[4])
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
	inst := presenceGolden()[0].sequence[0]
	inst.Presence = &crosscast.Presence{}
	to := strings.TrimSuffix(string(mustAppend(nil, &inst)), "\x90")
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
		changes + "\x91\x94" + id + "\xc0\xc0\x01", changes + "\x91\x95" + id + "\xc0\xc0\xc0\xa1x",
		changes + "\x91\x94" + id + "\xc0\xc0\xda\x04\x01" + strings.Repeat("1", 1025),
		changes + "\x91\x94" + id + "\xc0\xc0\xdb\xff\xff\xff\xff",
		changes + "\xdc\xff\xff" + strings.Repeat("\xc0", 60000),
	} {
		if got, err := readAll(r, []byte(to+h)); err == nil {
			t.Errorf("% .60x: read as %+v", h, got)
		}
		checkHostile(t, r, []byte(to+h))
	}
	checkHostile(t, r, []byte(to+changes+"\xdc\x03\xe8"+strings.Repeat("\x92"+id+"\xa1u", 1000)))
	checkHostile(t, r, []byte(to+changes+"\xdc\x03\xe8"+strings.Repeat("\x95"+id+"\xa1u\xc2\xa11\x01", 1000)))
	checkHostile(t, r, []byte(to+nine+"\xdc\x04\x00"+strings.Repeat("\x01", 1024)))
	checkHostile(t, r, []byte(strings.Repeat(to+"\x90", 1000)))

	for _, p := range []crosscast.Presence{
		{Part: -1}, {Sums: make([]uint64, 65)}, {Versions: make([]uint64, 1025)}, {Changes: []crosscast.PresenceChange{{}}},
		{Changes: []crosscast.PresenceChange{{Member: crosscast.Member{
			Socket: "AAAAAAAABBBBBBBBBBBB", User: strings.Repeat("u", 256)}}}},
		{Changes: []crosscast.PresenceChange{{Member: crosscast.Member{
			Socket: "AAAAAAAABBBBBBBBBBBB", Presence: make([]byte, 1025)}}}},
	} {
		inst.Presence = &p
		if _, err := crosscast.AppendInstruction(nil, &inst); err == nil {
			t.Errorf("%+v may be written", p)
		}
	}
}
