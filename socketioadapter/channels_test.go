package socketioadapter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestChannels: the channels on which a node hears and emits, in each mode. "-" is the namespace's own channel.
func TestChannels(t *testing.T) {
	room := func(name string) crosscast.Address {
		return crosscast.Address{Namespace: "/n", Space: crosscast.SpaceRoom, Name: name}
	}
	user := crosscast.Address{Namespace: "/n", Space: crosscast.SpaceUser, Name: "u"}
	for _, c := range []struct {
		name    string
		address crosscast.Address
		room    string   // its name in Socket.IO
		own     []string // modes in which it has a channel of its own
	}{
		{"a room", room("r"), "r", []string{"classic", "dynamic", "private"}},
		{"a user", user, "user:u", []string{"classic", "dynamic", "private"}},
		{"a user whose room looks like a socket",
			crosscast.Address{Namespace: "/n", Space: crosscast.SpaceUser, Name: strings.Repeat("u", 15)},
			"user:" + strings.Repeat("u", 15), []string{"classic", "private"}},
		{"a socket", crosscast.Address{Namespace: "/n", Space: crosscast.SpaceSocket, Name: string(socketA)},
			string(socketA), []string{"classic", "private"}},
		{"a room of 20 letters", room("12345678901234567890"), "12345678901234567890", []string{"classic", "private"}},
		{"of 20 bytes, but 10 letters", room("éééééééééé"), "éééééééééé",
			[]string{"classic", "dynamic", "private"}},
		{"of 20 letters of two bytes", room(strings.Repeat("é", 20)), strings.Repeat("é", 20),
			[]string{"classic", "private"}},
		{"of 20 characters, but 21 units", room(strings.Repeat("x", 19) + "😀"), strings.Repeat("x", 19) + "😀",
			[]string{"classic", "dynamic", "private"}},
		{"of 10 characters, but 20 units", room(strings.Repeat("😀", 10)), strings.Repeat("😀", 10),
			[]string{"classic", "private"}},
		{"of signs of patterns", room(`*?[a]\#`), `*?[a]\#`, []string{"classic", "dynamic", "private"}},
	} {
		for mode, o := range modes {
			want := "socket.io#/n#"
			var hears []string
			if slices.Contains(c.own, mode) {
				want += c.room + "#"
				hears = []string{want}
			}
			s := newSide(t, "bbbbbbbb", o)
			if got := s.Topics(c.address); !slices.Equal(got, hears) {
				t.Errorf("%s, %s: a member's node hears %q instead of %q", mode, c.name, got, hears)
			}
			in := &crosscast.Instruction{Kind: kind.Emit, Namespace: "/n", Event: "e"}
			named := c.address
			switch c.address.Space {
			case crosscast.SpaceRoom:
				in.Target.Rooms = []string{c.address.Name, c.address.Name}
			case crosscast.SpaceUser:
				in.Target.Users = []string{c.address.Name}
			case crosscast.SpaceSocket:
				in.Target.Sockets = []crosscast.SocketID{crosscast.SocketID(c.address.Name)}
				named = crosscast.Address{} // a loss of it is one of sockets
			}
			all := s.write(in)
			if len(all) != 1 || all[0].channel != want || all[0].name != named {
				t.Errorf("%s, %s: an emission is %q, expected on %q for %v", mode, c.name, all, want, named)
			}
			in.Target.Rooms = append(in.Target.Rooms, "another")
			in.Target.ExceptRooms = []string{"x"}
			if all = s.write(in); len(all) != 1 || all[0].channel != "socket.io#/n#" || all[0].name != (crosscast.Address{}) {
				t.Errorf("%s, %s: an emission to two rooms is %q", mode, c.name, all)
			}
			in.Ref = "1"
			in.Target.Rooms = nil
			channel := "socket.io#/n#"
			if mode == "classic" {
				channel = "socket.io-request#/n#"
			}
			if all = s.write(in); len(all) > 0 && all[0].channel != channel {
				t.Errorf("%s, %s: an acknowledged emission is on %q instead of %q", mode, c.name, all[0].channel, channel)
			}
		}
	}
}

// TestOneRoomInTwoSpaces: a room and a user that Socket.IO has one name for are one room.
func TestOneRoomInTwoSpaces(t *testing.T) {
	s := newSide(t, "aaaaaaaa", classic)
	for _, target := range []crosscast.Target{
		{Rooms: []string{"user:u"}, Users: []string{"u"}},
		{Users: []string{"u", "u"}},
		{Rooms: []string{string(socketA)}, Sockets: []crosscast.SocketID{socketA}},
	} {
		all := s.write(&crosscast.Instruction{Kind: kind.Emit, Target: target, Event: "e"})
		if len(all) != 1 || all[0].channel == "socket.io#/#" {
			t.Errorf("%+v goes to %q", target, all)
		}
	}
	for _, target := range []crosscast.Target{
		{Rooms: []string{"u"}, Users: []string{"u"}},
		{Rooms: []string{"user:u", "user:v"}},
		{Users: []string{"u"}, Sockets: []crosscast.SocketID{socketA}},
	} {
		all := s.write(&crosscast.Instruction{Kind: kind.Emit, Target: target, Event: "e"})
		if len(all) != 1 || all[0].channel != "socket.io#/#" {
			t.Errorf("%+v goes to %q", target, all)
		}
	}
}

// TestHome: the channels that a node and an emitter hear for a namespace. None of them belongs to another namespace.
func TestHome(t *testing.T) {
	for mode, want := range map[string][2][]string{
		"classic": {
			{"K#/#", "K-request#/#", "K-response#/#", "K-response#/#aaaaaaaa#"},
			{"K-response#/#", "K-response#/#aaaaaaaa.#"},
		},
		"dynamic": {{"K#/#", "K#/#6161616161616161#"}, {"K#/#6161616161616161.#"}},
	} {
		o := modes[mode]
		o.Key = "K"
		for i, emitter := range []bool{false, true} {
			s := startSide(t, crosscast.NodeInfo{ID: "aaaaaaaa"}, o, emitter)
			if got := s.Home(); !slices.Equal(got, want[i]) {
				t.Errorf("%s, emitter %v: home is %q instead of %q", mode, emitter, got, want[i])
			}
			other := s.Topics(crosscast.Address{Namespace: "/n", Space: crosscast.SpaceNamespace})
			if watched := socketioadapter.Watched(s.Dialect); !slices.Equal(watched, []string{"/", "/n"}) {
				t.Errorf("%s: servers are counted in %q", mode, watched)
			}
			for k := range want[i] {
				if got, want := other[k], strings.Replace(want[i][k], "#/#", "#/n#", 1); got != want {
					t.Errorf("%s, emitter %v: of another namespace it hears %q instead of %q", mode, emitter, got, want)
				}
			}
		}
	}
}

// TestNamespacesWithNumberSigns: where two namespaces and their rooms make the same channel, the message decides.
func TestNamespacesWithNumberSigns(t *testing.T) {
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		a, b := newSide(t, "aaaaaaaa", o), newSide(t, "bbbbbbbb", o)
		in := &crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/a#b", Event: "e", Target: crosscast.Target{Rooms: []string{"c"}},
		}
		for _, ns := range []string{"/a", "/a#b", "/a#b#c"} {
			in.Namespace = ns
			in.Target.Rooms[0] = strings.TrimPrefix(strings.TrimPrefix("/a#b#c#d", ns), "#")
			all := a.write(in)
			if got := b.read(all...); len(got) != 1 || !strings.Contains(got[0], " ns=\""+ns+"\" ") {
				t.Errorf("an emission in %s to %s is told as %q", ns, in.Target.Rooms[0], got)
			}
			all[0].channel = "socket.io#/x#"
			if _, err := b.Read(all[0].channel, []byte(all[0].data)); err == nil {
				t.Errorf("an emission in %s is taken from the channel of /x", ns)
			}
		}
	})
}

// TestEmptyNamespaces: the channels of a namespace that is not in use any more are given up, and come back with it.
func TestEmptyNamespaces(t *testing.T) {
	for _, o := range []socketioadapter.Options{classic, sharded} {
		t.Run(fmt.Sprint("mode ", o.Mode), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			rdb := s.Client()
			a := socketioadapter.New(rdb, o)
			n, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{
				Adapter: a, Linger: 50 * time.Millisecond,
			})
			must(t, err)
			defer n.Close(redistest.Within(t, redistest.Patience))
			heard := func() int {
				channels := rdb.PubSubChannels
				if o.Mode == socketioadapter.Sharded {
					channels = rdb.PubSubShardChannels
				}
				all, err := channels(t.Context(), "*").Result()
				must(t, err)
				return len(all)
			}
			alone := heard()
			for range 2 {
				for i := range 20 {
					ns, err := n.Of(fmt.Sprint("/", i))
					must(t, err)
					c, err := ns.Connect(redistest.Within(t, redistest.Patience), discard{}, crosscast.ConnectOptions{})
					must(t, err)
					if i == 0 && heard() <= alone {
						t.Error("a namespace in use is not heard")
					}
					c.Close(crosscast.ReasonLeft)
				}
				for deadline := time.Now().Add(redistest.Patience); heard() > alone; {
					if time.Now().After(deadline) {
						t.Fatalf("%d channels, and %d while no namespace was in use", heard(), alone)
					}
					time.Sleep(10 * time.Millisecond) // poll
				}
			}
			if got := a.Counted(); got != 1 {
				t.Errorf("peers are counted in %d namespaces", got)
			}
		})
	}
}

type discard struct{}

func (discard) Send(*crosscast.Message) error { return nil }
func (discard) Close(crosscast.Reason)        {}
