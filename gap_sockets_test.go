package crosscast_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
)

// affected lists the sockets of a gap, by their conns' names, with the rooms that Affected names.
func affected(t *testing.T, ns *crosscast.Namespace, names ...crosscast.Address) string {
	t.Helper()
	most, sockets := ns.Affected(crosscast.Gap{Names: names})
	var all []string
	for s, rooms := range sockets {
		text := string(*s.Conn().(*namedConn))
		if rooms != nil {
			text += "[" + sorted(rooms) + "]"
		}
		all = append(all, text)
	}
	if len(all) != most {
		t.Errorf("%d sockets, and Affected said %d", len(all), most)
	}
	for range sockets {
		t.Error("it can be ranged over twice")
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// A namedConn only has a name.
type namedConn string

func (*namedConn) Send(*crosscast.Message) error { return nil }
func (*namedConn) Close(crosscast.Reason)        {}

// TestAffected: each socket that a gap concerns, once, with the names of the rooms that it is in, and no others.
func TestAffected(t *testing.T) {
	withCrowds(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		other := of(t, n, "other")
		join := func(ns *crosscast.Namespace, name, user string, rooms ...string) *crosscast.Socket {
			conn := namedConn(name)
			return connectUser(t, ns, &conn, user, rooms...)
		}
		var many []string
		for i := range 17 {
			many = append(many, fmt.Sprintf("m%02d", i))
		}
		both := join(n.Namespace, "both", "ann", "r", "s", "unnamed")
		join(n.Namespace, "r", "", "r")
		join(n.Namespace, "none", "bob")
		join(n.Namespace, "sixteen", "", many[:16]...)
		join(n.Namespace, "seventeen", "", many...)
		join(other, "other", "ann", "r")

		room := func(names ...string) (all []crosscast.Address) {
			for _, name := range names {
				all = append(all, crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name})
			}
			return all
		}
		user := func(name string) crosscast.Address {
			return crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: name}
		}
		for _, v := range []struct {
			names []crosscast.Address
			want  string
		}{
			{room("r"), "both[r] r[r]"},
			{room("r", "s", "empty"), "both[r s] r[r]"},
			{room("r", "r"), "both[r] r[r]"},
			{append(room("r"), user("ann")), "both r[r]"},
			{[]crosscast.Address{user("bob"), user("")}, "none"},
			{[]crosscast.Address{{Namespace: "/", Space: crosscast.SpaceSocket, Name: string(both.ID())}}, "both"},
			{append(room("r"), crosscast.Address{Namespace: "/", Space: crosscast.SpaceNamespace}), "both none r seventeen sixteen"},
			{[]crosscast.Address{{Namespace: "other", Space: crosscast.SpaceNamespace}}, ""},
			{[]crosscast.Address{{Namespace: "other", Space: crosscast.SpaceRoom, Name: "r"}}, ""},
			{[]crosscast.Address{}, ""},
			{nil, "both none r seventeen sixteen"},
			{room(many...), "seventeen sixteen[" + sorted(many[:16]) + "]"},
		} {
			equal(t, fmt.Sprint(v.names), affected(t, n.Namespace, v.names...), v.want)
		}
		equal(t, "another namespace", affected(t, other), "other")
		equal(t, "one without sockets", affected(t, of(t, n, "third")), "")
	})
}

// TestAffectedNamesPresentRooms: a socket that has left or closed since is named no room.
func TestAffectedNamesPresentRooms(t *testing.T) {
	n := start(t, crosscast.Options{})
	var sockets []*crosscast.Socket
	for i := range 4 {
		conn := namedConn(fmt.Sprint(i))
		sockets = append(sockets, connect(t, n.Namespace, &conn, "r", "s"))
	}
	most, all := n.Affected(crosscast.Gap{Names: []crosscast.Address{
		{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}, {Namespace: "/", Space: crosscast.SpaceRoom, Name: "s"},
	}})
	_, everyone := n.Affected(crosscast.Gap{})
	ok(t, sockets[0].Leave("r"))
	ok(t, sockets[1].Leave("r", "s"))
	sockets[2].Close(crosscast.ReasonServer)
	var got []string
	for s, rooms := range all {
		got = append(got, fmt.Sprintf("%s[%s]", *s.Conn().(*namedConn), sorted(rooms)))
	}
	slices.Sort(got)
	for s := range everyone {
		if s.Closed() {
			t.Error("a closed socket")
		}
	}
	equal(t, "sockets", fmt.Sprint(got, most), "[0[s] 3[r s]] 4")
}

// TestAffectedAllocatesNothingASocket counts at 1 socket and at 1,000.
func TestAffectedAllocatesNothingASocket(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget under the race detector")
	}
	count := func(sockets int) float64 {
		n := start(t, crosscast.Options{})
		for range sockets {
			conn := namedConn("")
			connect(t, n.Namespace, &conn, "r", "s", "t")
		}
		g := crosscast.Gap{Names: []crosscast.Address{
			{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}, {Namespace: "/", Space: crosscast.SpaceRoom, Name: "s"},
		}}
		return testing.AllocsPerRun(100, func() {
			seen := 0
			_, all := n.Affected(g)
			for _, rooms := range all {
				seen += len(rooms)
			}
			if seen != 2*sockets {
				t.Errorf("%d rooms", seen)
			}
		})
	}
	if one, many := count(1), count(1000); many > one+1 {
		t.Errorf("%v allocations for a socket, %v for 1,000", one, many)
	}
}
