package socketioadapter_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
	"github.com/crosscast/crosscast/wire"
)

// channelsOf are all channels that a node hears, and one of a room.
func channelsOf(s *side) []string {
	return append(s.Home(), s.Topics(crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"})...)
}

// FuzzRead: any message becomes an instruction that the node accepts, or is dropped with an error.
func FuzzRead(f *testing.F) {
	add := func(mode uint8, data string) {
		for on := range 5 {
			f.Add(mode, uint8(on), []byte(data))
		}
	}
	for _, file := range []struct {
		name string
		mode uint8
	}{{"classic.txt", 0}, {"emitter.txt", 0}, {"sharded.txt", 1}} {
		for _, messages := range captured(f, file.name) {
			for _, m := range messages {
				add(file.mode, m.data)
			}
		}
	}
	for mode, answers := range [][]string{
		{
			`{"requestId":"aaaaaaaa~1","sockets":["x",{"id":"y","rooms":["y",1,"user:z"],"data":[{}],"handshake":null}]}`,
			"\x84\xa4type\x09\xa9requestId\xaaaaaaaaaa~1\xa6packet\xc4\x01x\xa3sid\xa1s",
			`{"requestId":"x","type":2,"sid":"aaaaaaaa------------","room":"r"}`,
			`{"requestId":"x","type":0,"rooms":["r"]}`, `{"echo":7,"uid":"aaaaaaaa"}`,
		},
		{
			`{"type":8,"data":{"requestId":"6161616161616161~1","sockets":["x",{"id":"y"}]},"uid":"u","nsp":"/"}`,
			`{"type":2,"data":{"echo":7},"uid":"6161616161616161","nsp":"/"}`,
		},
	} {
		for _, data := range answers {
			add(uint8(mode), data)
		}
	}
	f.Fuzz(func(t *testing.T, mode, on uint8, data []byte) {
		s := newSide(t, "aaaaaaaa", [...]socketioadapter.Options{classic, sharded}[mode%2])
		s.node = func(in *crosscast.Instruction) {
			if len(in.Event) > limit.Name || in.From == "aaaaaaaa" || in.Namespace == "" {
				t.Errorf("told was %s", describe(in))
			}
			if (in.Kind == kind.Emit || in.Kind == kind.Request) && in.Event == "" {
				t.Errorf("an emission without an event: %s", describe(in))
			}
			g := &in.Target
			names := slices.Concat(g.Rooms, g.Users, g.ExceptRooms, g.ExceptUsers, in.Rooms)
			for _, name := range names {
				if len(name) == 0 || len(name) > limit.Name {
					t.Errorf("a name of %d bytes", len(name))
				}
			}
			if in.Ref == "" || in.Kind == kind.Answer {
				return
			}
			// A node's answer.
			s.write(&crosscast.Instruction{Kind: kind.Answer, To: in.From, Ref: in.Ref, Answer: &crosscast.Answer{
				Last: true, Handled: true, Count: 1, Replies: []crosscast.Reply{{Socket: socketA}},
			}})
		}
		channel := channelsOf(s)[int(on)%len(channelsOf(s))]
		if n := reads([...]socketioadapter.Options{classic, sharded}[mode%2], channel, string(data), true); n > bound(string(data)) {
			t.Errorf("to read %d bytes, %d are allocated", len(data), n)
		}
		number, err := s.Read(channel, data)
		if err != nil && !errors.Is(err, wire.ErrForeign) && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("the error is neither ErrForeign nor ErrMalformed: %v", err)
		}
		if err != nil && (number != 0 || len(s.told) > 0) {
			t.Errorf("beside the error %v there is an echo %d, or the node was told %q", err, number, s.told)
		}
	})
}

// FuzzNames: a broadcast reaches its room, user or socket, whatever the name.
func FuzzNames(f *testing.F) {
	for i, name := range []string{
		"r", "user:u", "é", "\xff", "#", "a#b#", "12345678901234567890",
		"😀😀😀😀😀😀😀😀😀😀", "\x00", "*", `"\`,
	} {
		f.Add(uint8(i), "/"+name, name)
	}
	f.Fuzz(func(t *testing.T, mode uint8, ns, name string) {
		if len(name) == 0 || len(name) > limit.Name || len(ns) == 0 || len(ns) > limit.Name {
			return
		}
		o := modes[[...]string{"classic", "dynamic", "static", "private"}[mode%4]]
		a, b := newSide(t, "aaaaaaaa", o), newSide(t, "bbbbbbbb", o)
		for _, c := range []struct {
			address crosscast.Address
			target  crosscast.Target
		}{
			{crosscast.Address{Namespace: ns, Space: crosscast.SpaceRoom, Name: name}, crosscast.Target{Rooms: []string{name}}},
			{crosscast.Address{Namespace: ns, Space: crosscast.SpaceUser, Name: name}, crosscast.Target{Users: []string{name}}},
		} {
			all := a.write(&crosscast.Instruction{Kind: kind.Emit, Namespace: ns, Event: "e", Target: c.target})
			hears := append(b.Topics(c.address), b.Topics(crosscast.Address{Namespace: ns, Space: crosscast.SpaceNamespace})...)
			if len(all) != 1 || !slices.Contains(hears, all[0].channel) {
				t.Fatalf("it is written to %q, and a member's node hears %q", all, hears)
			}
			found := false
			b.node = func(in *crosscast.Instruction) {
				found = in.Namespace == ns && (slices.Contains(in.Target.Rooms, name) && c.target.Users == nil ||
					slices.Contains(in.Target.Users, name) && c.target.Rooms == nil)
			}
			b.read(all...)
			if !found {
				t.Errorf("it is told as something else")
			}
		}
	})
}
