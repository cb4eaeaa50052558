package crosscast

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast/kind"
)

// FuzzRoster: whatever a peer reports, the bytes that count for its list are those of the list, and of users there are
// only those with a socket.
func FuzzRoster(f *testing.F) {
	member := func(i int, user, data string, at uint64) PresenceChange {
		c := PresenceChange{Member: Member{Socket: SocketID(fmt.Sprintf("node0000%012d", i)), User: user}, At: at}
		if data != "" {
			c.Presence = []byte(data)
		}
		return c
	}
	for _, reports := range [][]Presence{
		{{Version: 3, Last: true, Changes: []PresenceChange{member(1, "ann", "1", 1), member(2, "ann", "2", 2), member(2, "bob", "3", 1)}}},
		{
			{Version: 1, Last: true},
			{Since: 1, Version: 3, Changes: []PresenceChange{member(1, "ann", "1", 5), member(2, "ann", "2", 1)}},
			{Since: 3, Version: 4, Changes: []PresenceChange{{Member: member(1, "ann", "", 0).Member, Left: true}}},
			{Version: 5, Changes: []PresenceChange{member(1, "ann", "1", 1)}}, {Version: 5, Part: 1, Last: true},
		},
	} {
		var b []byte
		for i := range reports {
			b, _ = AppendInstruction(b, &Instruction{Kind: kind.Presence, Namespace: "/", Presence: &reports[i]})
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var reader InstructionReader
		r := &roster{self: "self0000"}
		for len(b) > 0 {
			inst, rest, err := reader.Read(b)
			if err != nil {
				break
			}
			if b = rest; inst.Presence == nil {
				continue
			}
			r.apply("node0000", inst.Presence)
			size, users := 0, make(map[string]int)
			l := r.nodes["node0000"]
			if l == nil {
				continue
			}
			for id, user := range l.members {
				if size += memberSize + len(user); l.shows[id] != nil {
					size += shownSize + len(l.shows[id].data)
				}
				if user != "" {
					users[user]++
				}
			}
			if size != l.size || len(users) != len(r.users) || len(l.shows) > len(l.members) || len(r.shows) > len(users) {
				t.Fatalf("%d bytes, not %d; %d users, not %d", l.size, size, len(r.users), len(users))
			}
			for user, n := range users {
				if r.users[user] != n {
					t.Fatalf("%q has %d sockets, not %d", user, r.users[user], n)
				}
			}
		}
		r.removeNode("node0000")
		if len(r.users)+len(r.shows) != 0 {
			t.Fatal("left over:", r.users, r.shows)
		}
	})
}
