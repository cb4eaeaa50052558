package adaptertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
)

type connect = crosscast.ConnectOptions

var targetRules = []rule{
	{
		name: "once-several-targets",
		text: "If an emission reaches a socket by several rooms, its user and its ID, the socket gets it once.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c := b.connect(n1, connect{User: "u", Rooms: []string{"r1", "r2"}})
			for i, n := range []*node{n0, n1, n2} {
				b.emit(n.To("r1", "r2").ToUser("u").ToSocket(c.ID()), fmt.Sprint("from-", i))
			}
			b.settle()
			c.wantAnyOrder("from-0", "from-1", "from-2")
		},
	},
	{
		name: "once-many-names",
		text: "If a socket is in all of hundreds of target rooms and users, it gets the emission once.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			rooms := numbered("r", 300)
			c1 := b.connect(n1, connect{User: "u7", Rooms: rooms})
			c2 := b.connect(n2, connect{Rooms: rooms[299:]})
			for k := range 10 {
				b.emit(n0.To(rooms[k:]...).ToUser(numbered("u", 50)...), fmt.Sprint("m", k))
			}
			b.settle()
			c1.want(numbered("m", 10)...)
			c2.want(numbered("m", 10)...)
		},
	},
	{
		name: "once-churn",
		text: "A socket that joins and leaves one of the target rooms, and is in another all the time, gets each " +
			"emission once.",
		run: func(b *bed) {
			b.linger = 1 // nanosecond, so that leaving ends the interest
			n0, n1, _ := b.three()
			c := b.connect(n1, connect{Rooms: []string{"stays"}})
			stop, churn := make(chan struct{}), sync.WaitGroup{}
			churn.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := c.Join(b.ctx, "churns"); err != nil {
						b.breaks("joining a room: %v", err)
					}
					c.Leave("churns")
				}
			})
			for i := range 500 {
				b.emit(n0.To("churns", "stays"), fmt.Sprint("m", i))
			}
			b.settle()
			close(stop)
			churn.Wait()
			c.want(numbered("m", 500)...)
		},
	},
	{
		name: "once-subscriptions",
		text: "A subscription to several of the target rooms gets the emission once. So does each of two overlapping " +
			"subscriptions.",
		run: func(b *bed) {
			n0, n1, _ := b.three()
			s1, s2 := b.subscribe(n1, "r1", "r2", "r3"), b.subscribe(n1, "r2")
			b.emit(n0.To("r1", "r2", "r3", "r4"), "remote")
			b.emit(n1.To("r1", "r2"), "local")
			for _, s := range []*client{s1, s2} {
				s.wait("remote", 1)
				s.wait("local", 1)
			}
			b.emit(n0.To("r2"), "last")
			for _, s := range []*client{s1, s2} {
				s.wait("last", 1)
				s.wantAnyOrder("remote", "local", "last")
			}
		},
	},
	{
		name: "once-repeated",
		text: "A message that the bus carries twice is handled once. (A client library might repeat a batch after a " +
			"broken connection.)",
		needs:      needsBytes,
		capability: CapHoles,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c1 := b.connect(n1, connect{User: "u", Rooms: []string{"r1", "r2"}})
			c2 := b.connect(n2, connect{Rooms: []string{"r2"}})
			b.emit(n0.To("r1"), "m0")
			b.emit(n0.To("r1", "r2").ToUser("u"), "m1")
			b.emit(n0.Everyone(), "m2")
			b.settle()
			c1.want("m0", "m1", "m2")
			c2.want("m1", "m2")
			for _, p := range b.cluster.Peek() {
				b.cluster.Inject(p)
			}
			b.settle()
			for _, c := range b.clients {
				if c == c1 || c == c2 {
					c.want()
				}
			}
		},
	},
	{
		name: "targets",
		text: "An emission reaches the members of its rooms, the sockets of its users, the sockets that it names, or " +
			"everyone, on every node, and nobody else.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			room1, room2 := b.connect(n1, connect{Rooms: []string{"r"}}), b.connect(n2, connect{Rooms: []string{"r"}})
			user1, user2 := b.connect(n1, connect{User: "u"}), b.connect(n2, connect{User: "u"})
			sock1, sock2 := b.connect(n1, connect{}), b.connect(n2, connect{})
			b.emit(n0.To("r"), "room")
			b.emit(n0.ToUser("u"), "user")
			b.emit(n0.ToSocket(sock1.ID()), "socket")
			b.emit(n0.ToSocket(sock1.ID(), sock2.ID()), "sockets")
			b.emit(n0.ToSocket(crosscast.SocketID(string(n1.ID())+"nobody-at-al")), "nobody")
			b.emit(n0.To("r").ToUser("u").ToSocket(sock2.ID()), "three")
			b.emit(n0.Everyone(), "everyone")
			b.emit(n0.To(), "nobody")
			b.emit(n0.To("empty").ToUser("none"), "nobody")
			b.settle()
			room1.want("room", "three", "everyone")
			room2.want("room", "three", "everyone")
			user1.want("user", "three", "everyone")
			user2.want("user", "three", "everyone")
			sock1.want("socket", "sockets", "everyone")
			sock2.want("sockets", "three", "everyone")
			n0.clients[0].want("everyone")
		},
	},
	{
		name: "spaces",
		text: "Rooms, users and sockets are separate spaces: a socket in a room that is named like a user or a " +
			"socket gets nothing of theirs.",
		capability: CapSeparateSpaces,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			alice := b.connect(n1, connect{User: "alice"})
			eve := b.connect(n2, connect{User: string(alice.ID()), Rooms: []string{"alice", string(alice.ID())}})
			eve1 := b.connect(n1, connect{User: "staff", Rooms: []string{"alice", string(alice.ID())}})
			member := b.connect(n2, connect{Rooms: []string{"staff"}})
			b.emit(n0.ToUser("alice"), "for the user")
			b.emit(n0.ToSocket(alice.ID()), "for the socket")
			b.emit(n0.To("staff"), "for the room")
			b.settle()
			alice.want("for the user", "for the socket")
			eve.want()
			eve1.want()
			member.want("for the room")
		},
	},
	{
		name: "echo",
		text: "A node never handles its own instructions: its own sockets get an emission once, and an excepted " +
			"sender never gets it.",
		run: func(b *bed) {
			n0, n1, _ := b.three()
			sender := b.connect(n0, connect{User: "s", Rooms: []string{"r"}})
			near, far := b.connect(n0, connect{Rooms: []string{"r"}}), b.connect(n1, connect{Rooms: []string{"r"}})
			b.emit(sender.To("r"), "room")
			b.emit(sender.Broadcast(), "broadcast")
			b.emit(sender.To("r", "r2"), "rooms")
			b.settle()
			sender.want()
			near.want("room", "broadcast", "rooms")
			far.want("room", "broadcast", "rooms")
			b.emit(n0.To("r").ToUser("s"), "to all three")
			b.settle()
			for _, c := range []*client{sender, near, far} {
				c.want("to all three")
			}
		},
	},
	{
		name: "exceptions",
		text: "Exceptions (rooms, users and sockets) hold on every node, for every target.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			plain1, plain2 := b.connect(n1, connect{Rooms: []string{"r"}}), b.connect(n2, connect{Rooms: []string{"r"}})
			muted := b.connect(n1, connect{Rooms: []string{"r", "muted"}})
			user := b.connect(n2, connect{User: "u", Rooms: []string{"r"}})
			b.emit(n0.To("r").Except("muted"), "room")
			b.emit(n0.To("r").ExceptUser("u"), "user")
			b.emit(n0.To("r").ExceptSocket(plain2.ID()), "socket")
			b.emit(n0.Everyone().Except("muted").ExceptUser("u").ExceptSocket(plain1.ID()), "all")
			b.emit(n0.ToUser("u").To("r").Except("r"), "nobody")
			b.emit(n0.ToSocket(muted.ID(), plain1.ID()).Except("muted", "none").ExceptUser("none"), "sockets")
			b.settle()
			plain1.want("room", "user", "socket", "sockets")
			plain2.want("room", "user", "all")
			muted.want("user", "socket")
			user.want("room", "socket")
		},
	},
	{
		name: "local",
		text: "A local emission stays on its node.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			var in []*client
			for _, n := range []*node{n0, n1, n2} {
				in = append(in, b.connect(n, connect{User: "u", Rooms: []string{"r"}}))
			}
			b.emit(n0.To("r").Local(), "room")
			b.emit(n0.ToUser("u").ToSocket(in[1].ID()).Local(), "user")
			b.emit(n0.Everyone().Local(), "everyone")
			b.settle()
			in[0].want("room", "user", "everyone")
			in[1].want()
			in[2].want()
		},
	},
	{
		name: "volatile",
		text: "A volatile emission on an idle link arrives. Volatile means that an emission may be dropped if it " +
			"would have to wait.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c1, c2 := b.connect(n1, connect{User: "u", Rooms: []string{"r"}}), b.connect(n2, connect{Rooms: []string{"r"}})
			for i, t := range []crosscast.BoundTarget{n0.To("r"), n0.Everyone(), n0.ToSocket(c1.ID(), c2.ID())} {
				b.emit(t.Volatile(), fmt.Sprint("m", i))
				b.settle()
				c1.want(fmt.Sprint("m", i))
				c2.want(fmt.Sprint("m", i))
			}
			b.emit(n0.ToUser("u").Volatile(), "user")
			b.settle()
			c1.want("user")
		},
	},
	{
		name: "namespaces",
		text: "Namespaces are independent: an emission does not reach the same room, the same user or everyone in " +
			"another namespace.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			spaces := []string{"/", "/chat", "chat", "/chat/", "r", "a:b", "a", "a#b", "{a}", "[a]", "*", "%2F", " ",
				"é\x00", strings.Repeat("n", 255)}
			in, other := make(map[string][]*client), make(map[string][]*client)
			for _, name := range spaces {
				for _, n := range []*node{n0, n1, n2} {
					in[name] = append(in[name], b.connectIn(n, name, connect{User: "u", Rooms: []string{"r"}}))
					other[name] = append(other[name], b.connectIn(n, name, connect{Rooms: []string{"b:r", "b#r"}}))
				}
			}
			for i, name := range spaces {
				ns, err := n0.Of(name)
				b.must(err)
				b.emit(ns.To("r"), fmt.Sprint("room of ", i))
				b.emit(ns.Everyone(), fmt.Sprint("everyone of ", i))
				b.emit(ns.ToUser("u"), fmt.Sprint("user of ", i))
				b.emit(ns.To("r", "x"), fmt.Sprint("rooms of ", i))
				b.emit(ns.To("b:r"), fmt.Sprint("other of ", i)) // in "a" it looks like "r" in "a:b"
				b.emit(ns.To("b#r"), fmt.Sprint("another of ", i))
			}
			b.settle()
			for i, name := range spaces {
				for _, c := range in[name] {
					c.want(numberOf(i, "room of ", "everyone of ", "user of ", "rooms of ")...)
				}
				for _, c := range other[name] {
					c.want(numberOf(i, "everyone of ", "other of ", "another of ")...)
				}
			}
		},
	},
	{
		name: "names",
		text: "A name is any text of 1 to 255 bytes. Different names are different rooms, users and events.",
		run: func(b *bed) {
			b.checkNames(slices.DeleteFunc(oddNames(), func(name string) bool { return !utf8.ValidString(name) }))
		},
	},
	{
		name: "names-bytes",
		text: "Names need not be text: rooms, users, events and namespaces may have any bytes. Different names are " +
			"different.",
		capability: CapByteNames,
		run: func(b *bed) {
			b.checkNames(slices.DeleteFunc(oddNames(), utf8.ValidString))
			var in []*client
			names := []string{"\xff", "\xfe", "\ufffd", "é\x00\xff"}
			for _, name := range names {
				in = append(in, b.connectIn(b.nodes[1], name, connect{}))
			}
			for _, name := range names {
				ns, err := b.nodes[0].Of(name)
				b.must(err)
				b.emit(ns.Everyone(), "in "+name)
			}
			b.settle()
			for i, c := range in {
				c.want("in " + names[i])
			}
		},
	},
	{
		name: "deliver",
		text: "Deliver returns the number of peers that an emission was handed to. It is never less than the number " +
			"of peers that received it. It is 0 and unknown if the bus cannot count.",
		needs: needsReach,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c := b.connect(n1, connect{User: "u", Rooms: []string{"r", "r2"}})
			b.connect(n2, connect{Rooms: []string{"r2"}})
			near := b.connect(n0, connect{Rooms: []string{"r"}})
			for _, try := range []struct {
				event   string
				t       crosscast.BoundTarget
				sockets int
				heard   int
			}{
				{"room", n0.To("r"), 1, 1},
				{"user", n0.ToUser("u"), 0, 1},
				{"socket", n0.ToSocket(c.ID()), 0, 1},
				{"rooms", n0.To("r", "r2"), 1, 2},
				{"everyone", n0.Everyone(), 2, 2},
				{"nobody", n0.To("nobody"), 0, 0},
			} {
				got, err := try.t.Deliver(b.ctx, try.event, nil)
				if err != nil {
					b.Errorf("Deliver to %s: %v", try.event, err)
				}
				tooFew := got.Known && got.Nodes < try.heard
				if got.Sockets != try.sockets || tooFew || !got.Known && got.Nodes != 0 {
					b.Errorf("Deliver to %s returned %+v, when %d sockets of its own node and %d peers hear it",
						try.event, got, try.sockets, try.heard)
				}
			}
			b.settle()
			c.want("room", "user", "socket", "rooms", "everyone")
			near.want("room", "rooms", "everyone")
		},
	},
	{
		name:       "deliver-nobody",
		text:       "Deliver returns that nobody was reached if no node has a member of the room, or a socket of the user.",
		needs:      needsReach,
		capability: CapInterest,
		run: func(b *bed) {
			n0, _, _ := b.three()
			if _, ok := n0.adapter.(crosscast.AdapterSubscriber); !ok {
				b.Skip("NOT CHECKED: not offered: crosscast.AdapterSubscriber")
			}
			for _, t := range []crosscast.BoundTarget{n0.To("nobody"), n0.ToUser("nobody")} {
				got, err := t.Deliver(b.ctx, "m", nil)
				b.must(err)
				if got.Sockets != 0 || got.Nodes != 0 {
					b.Errorf("Deliver to nobody returned %+v", got)
				}
			}
		},
	},
}

// checkNames checks that rooms, users and events of these names are different.
func (b *bed) checkNames(names []string) {
	n0, n1, n2 := b.three()
	nodes, at := [2]*node{n1, n2}, [2][]string{}
	for i, name := range names {
		at[i%2] = append(at[i%2], name)
	}
	var rooms [2]*client
	for i, n := range nodes {
		rooms[i] = b.connect(n, connect{})
		b.must(rooms[i].Join(b.ctx, at[i]...))
	}
	for _, name := range names {
		b.emit(n0.To(name), name)
	}
	b.settle()
	for i := range nodes {
		rooms[i].wantAnyOrder(at[i]...)
	}
	users := map[string]*client{}
	for i, n := range nodes { // there is a room of that name, too
		for _, name := range at[i][:min(100, len(at[i]))] {
			users[name] = b.connect(n, connect{User: name})
		}
	}
	for name := range users {
		b.emit(n0.ToUser(name), name)
	}
	b.settle()
	for name, user := range users {
		user.want(name)
	}
	for _, c := range rooms {
		c.want()
	}
}

// oddNames returns names that a driver might have to escape, and names that look like escaped ones.
func oddNames() []string {
	var names []string
	for i := range 256 {
		names = append(names, string([]byte{byte(i)}), "x"+string([]byte{byte(i)})+"y")
	}
	names = append(names,
		"%3A", "%3a", "%25", "%2525", "%", "%%", "a:b", "a:b:", ":a", "::", "{a}", "{a", "a}", "{}", "}{", "{a}:b",
		"room", "Room", " room", "room ", "room\n", "r*", "r?", "[ab]", `a\b`, "a/b", "/a", "a.b", "a.*", "a.>", ">",
		"$a", "$SYS",
		"all", "n:", "r:/:room", "u:/:room", "r:", "null", "0", "-1", "é", "e\u0301", "日本語",
		"😀", "\xc3", "\xff\xfe", "\x00\x00",
		strings.Repeat("n", 254), strings.Repeat("n", 255), strings.Repeat("\xff", 255),
		strings.Repeat("%", 255), strings.Repeat(":", 255),
	)
	slices.Sort(names)
	return slices.Compact(names)
}

func numberOf(i int, events ...string) []string {
	for k := range events {
		events[k] += fmt.Sprint(i)
	}
	return events
}

// subscribe makes a subscription that records its messages and gaps.
func (b *bed) subscribe(n *node, rooms ...string) *client {
	b.Helper()
	_, s, err := b.trySubscribe(context.WithoutCancel(b.ctx), n, rooms...)
	if err != nil {
		b.Fatalf("subscribing: %v", err)
	}
	return s
}

func (b *bed) trySubscribe(
	ctx context.Context, n *node, rooms ...string,
) (*crosscast.Subscription, *client, error) {
	s := &client{b: b, node: n, log: newLog()}
	sub, err := n.Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { s.log.add(entry{msg: m}) },
		OnGap:     func(_ *crosscast.Subscription, g crosscast.Gap) { s.log.add(entry{gap: &g}) },
	}, rooms...)
	return sub, s, err
}
