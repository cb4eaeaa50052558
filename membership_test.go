package crosscast_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
)

// The model: what a cluster of nodes must do, said as naively as possible.
type (
	modelSocket struct {
		*crosscast.Socket
		node  int
		user  string
		rooms map[string]bool
		got   recorder
		open  bool
	}
	modelSub struct {
		*crosscast.Subscription
		node         int
		rooms, users map[string]int // calls that have added them
		got          log
		fence        chan struct{}
	}
	model struct {
		nodes   []*crosscast.Node
		sockets []*modelSocket
		subs    []*modelSub
		events  []map[string]*[]string // by node and room
		seen    []*roomLog
		emitted int
	}
)

// roomLog is what OnRoom was told, by room.
type roomLog struct {
	mu     sync.Mutex
	events map[string][]string
}

func (l *roomLog) hook(_ *crosscast.Node, e crosscast.RoomEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := [...]string{"", "created", "deleted", "joined ", "left "}[e.Kind]
	if e.Socket != nil {
		text += string(e.Socket.ID())
	}
	l.events[e.Room] = append(l.events[e.Room], text)
}

var (
	modelRooms = []string{"r0", "r1", "r2", "r3", "u0"} // u0: a room named like a user
	modelUsers = []string{"", "u0", "u1", "r0"}
)

func subset[T any](t *rapid.T, label string, of []T) []T {
	if len(of) == 0 || rapid.Bool().Draw(t, "no "+label) {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(of), 1, 3).Draw(t, label) // with repetitions
}

func newModel(t *rapid.T, nodes int) *model {
	m := new(model)
	cluster := crosscast.NewCluster()
	for i := range nodes {
		l := &roomLog{events: make(map[string][]string)}
		o := crosscast.Options{OnRoom: l.hook}
		if nodes > 1 {
			o.Adapter = cluster.Adapter()
		}
		n, err := crosscast.Start(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		m.nodes, m.seen, m.events = append(m.nodes, n), append(m.seen, l), append(m.events, make(map[string]*[]string))
		m.addSub(t, i, nil) // so that every node has one that the fence reaches
	}
	return m
}

func (m *model) event(node int, room, text string) {
	l := m.events[node][room]
	if l == nil {
		l = new([]string)
		m.events[node][room] = l
	}
	*l = append(*l, text)
}

func (m *model) members(node int, room string) (members []*modelSocket) {
	for _, s := range m.sockets {
		if s.open && s.node == node && s.rooms[room] {
			members = append(members, s)
		}
	}
	return members
}

func (m *model) join(s *modelSocket, room string) {
	if s.rooms[room] {
		return
	}
	if len(m.members(s.node, room)) == 0 {
		m.event(s.node, room, "created")
	}
	s.rooms[room] = true
	m.event(s.node, room, "joined "+string(s.ID()))
}

func (m *model) leave(s *modelSocket, room string) {
	if !s.rooms[room] {
		return
	}
	delete(s.rooms, room)
	m.event(s.node, room, "left "+string(s.ID()))
	if len(m.members(s.node, room)) == 0 {
		m.event(s.node, room, "deleted")
	}
}

func (m *model) connect(t *rapid.T) {
	s := &modelSocket{
		node: rapid.IntRange(0, len(m.nodes)-1).Draw(t, "node"), open: true, rooms: make(map[string]bool),
		user: rapid.SampledFrom(modelUsers).Draw(t, "user"),
	}
	rooms := subset(t, "rooms", modelRooms)
	socket, err := m.nodes[s.node].Connect(ctx, &s.got, crosscast.ConnectOptions{User: s.user, Rooms: rooms})
	if err != nil {
		t.Fatal(err)
	}
	s.Socket = socket
	m.sockets = append(m.sockets, s)
	for _, room := range rooms {
		m.join(s, room)
	}
}

func (m *model) anyOpen(t *rapid.T) *modelSocket {
	var open []*modelSocket
	for _, s := range m.sockets {
		if s.open {
			open = append(open, s)
		}
	}
	if len(open) == 0 {
		t.Skip("no socket")
	}
	return open[rapid.IntRange(0, len(open)-1).Draw(t, "socket")]
}

func (m *model) addSub(t *rapid.T, node int, rooms []string) {
	s := &modelSub{node: node, rooms: map[string]int{}, users: map[string]int{}, fence: make(chan struct{}, 1)}
	addCalls(s.rooms, rooms, 1)
	sub, err := m.nodes[node].Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, msg *crosscast.Message) {
			if msg.Event == "fence" {
				s.fence <- struct{}{}
			} else {
				s.got.add("%s", msg.Event)
			}
		}}, append([]string{"fence"}, rooms...)...)
	if err != nil {
		t.Fatal(err)
	}
	s.Subscription = sub
	m.subs = append(m.subs, s)
}

// addCalls adds calls to the count of each name, once, and keeps it from falling below 0.
func addCalls(in map[string]int, names []string, calls int) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		in[name] = max(0, in[name]+calls)
	}
}

// change adds names to a subscription, or removes some.
func (m *model) change(t *rapid.T, calls int) {
	s := m.subs[rapid.IntRange(0, len(m.subs)-1).Draw(t, "subscription")]
	rooms, users := subset(t, "rooms", modelRooms), subset(t, "users", modelUsers[1:])
	var err error
	if calls > 0 {
		err = errors.Join(s.Add(ctx, rooms...), s.AddUser(ctx, users...))
	} else {
		err = errors.Join(s.Remove(rooms...), s.RemoveUser(users...))
	}
	if err != nil {
		t.Fatal(err)
	}
	addCalls(s.rooms, rooms, calls)
	addCalls(s.users, users, calls)
}

// emit emits to a target that is drawn, and checks who gets it: each recipient once, and nobody else.
func (m *model) emit(t *rapid.T) {
	var ids []crosscast.SocketID
	for _, s := range m.sockets {
		ids = append(ids, s.ID()) // also of closed ones
	}
	from := rapid.IntRange(0, len(m.nodes)-1).Draw(t, "from")
	rooms, users, sockets := subset(t, "rooms", modelRooms), subset(t, "users", modelUsers[1:]), subset(t, "ids", ids)
	noRooms, noUsers := subset(t, "except rooms", modelRooms), subset(t, "except users", modelUsers[1:])
	noSockets := subset(t, "except ids", ids)
	everyone, local := rapid.Bool().Draw(t, "everyone"), rapid.Bool().Draw(t, "local")

	target := m.nodes[from].To()
	if everyone {
		target = m.nodes[from].Everyone()
	}
	target = target.To(rooms...).ToUser(users...).ToSocket(sockets...).
		Except(noRooms...).ExceptUser(noUsers...).ExceptSocket(noSockets...)
	if local {
		target = target.Local()
	}
	m.emitted++
	event := fmt.Sprint("e", m.emitted)
	if err := target.Emit(ctx, event, nil); err != nil {
		t.Fatal(err)
	}
	m.fence(t, from)

	for i, s := range m.sockets {
		expected := ""
		in := func(rooms []string) bool {
			return slices.ContainsFunc(rooms, func(r string) bool { return s.rooms[r] })
		}
		if s.open && (!local || s.node == from) &&
			(everyone || in(rooms) || slices.Contains(users, s.user) || slices.Contains(sockets, s.ID())) &&
			!in(noRooms) && !slices.Contains(noUsers, s.user) && !slices.Contains(noSockets, s.ID()) {
			expected = event
		}
		if got := s.got.take(); got != expected {
			t.Fatalf("socket %d got %q, want %q", i, got, expected)
		}
	}
	for i, s := range m.subs {
		expected := ""
		in := func(names []string, mine map[string]int) bool {
			return slices.ContainsFunc(names, func(name string) bool { return mine[name] > 0 })
		}
		if (in(rooms, s.rooms) || in(users, s.users)) && (!local || s.node == from) {
			expected = event
		}
		if got := s.got.take(); got != expected {
			t.Fatalf("subscription %d got %q, want %q", i, got, expected)
		}
	}
}

// fence waits until everything that a node emitted has been handled everywhere.
func (m *model) fence(t *rapid.T, from int) {
	if err := m.nodes[from].To("fence").Emit(ctx, "fence", nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range m.subs {
		<-s.fence
	}
}

// check compares what can be asked with the model.
func (m *model) check(t *rapid.T) {
	for node, n := range m.nodes {
		var rooms []string
		memberships, users, sockets := 0, map[string]bool{}, 0
		for _, room := range modelRooms {
			var expected, got []string
			for _, s := range m.members(node, room) {
				expected = append(expected, string(s.ID()))
			}
			for _, s := range n.Members(room) {
				got = append(got, string(s.ID()))
			}
			if sorted(got) != sorted(expected) {
				t.Fatalf("node %d: members of %s: got %q, want %q", node, room, got, expected)
			}
			if memberships += len(got); len(got) > 0 {
				rooms = append(rooms, room)
			}
		}
		if got := sorted(n.Rooms()); got != sorted(rooms) {
			t.Fatalf("node %d: rooms: got %q, want %q", node, got, rooms)
		}
		for _, s := range m.sockets {
			if s.open && s.node == node {
				sockets++
				if s.user != "" {
					users[s.user] = true
				}
			}
		}
		if _, err := n.CheckGroups(); err != nil {
			t.Fatalf("node %d: %v", node, err)
		}
		st := n.Stats()
		got := [...]int{st.Sockets, st.Rooms, st.Users, st.Memberships}
		if expected := [...]int{sockets, len(rooms), len(users), memberships}; got != expected {
			t.Fatalf("node %d: sockets, rooms, users, memberships: got %v, want %v", node, got, expected)
		}
	}
	for i, s := range m.sockets {
		var rooms []string
		for r := range s.rooms {
			rooms = append(rooms, r)
		}
		if got := sorted(s.Rooms()); s.open && got != sorted(rooms) {
			t.Fatalf("socket %d: rooms: got %q, want %q", i, got, rooms)
		}
		if s.Closed() == s.open || (m.nodes[s.node].Socket(s.ID()) == s.Socket) != s.open {
			t.Fatalf("socket %d: open: want %v", i, s.open)
		}
	}
}

// end closes the nodes and compares what OnRoom was told, which is ordered by room.
func (m *model) end(t *rapid.T) {
	for node, n := range m.nodes {
		for _, s := range m.sockets {
			if s.open && s.node == node { // before the node does, to know the order
				m.close(s)
			}
		}
		if err := n.Close(ctx); err != nil {
			t.Fatal(err)
		}
		for _, room := range modelRooms {
			var expected []string
			if l := m.events[node][room]; l != nil {
				expected = *l
			}
			if got := m.seen[node].events[room]; !slices.Equal(got, expected) {
				t.Fatalf("node %d: events of %s:\n got %s\nwant %s", node, room,
					strings.Join(got, ", "), strings.Join(expected, ", "))
			}
		}
	}
}

func (m *model) close(s *modelSocket) {
	before := sorted(s.Rooms())
	s.Close(crosscast.ReasonLeft)
	for _, room := range modelRooms {
		m.leave(s, room)
	}
	s.open = false
	if got := sorted(s.Rooms()); got != before {
		panic(fmt.Sprintf("rooms after Close: %q, before: %q", got, before))
	}
}

func TestMembershipModel(t *testing.T) {
	for _, c := range []struct {
		nodes  int
		crowds bool
	}{{1, false}, {1, true}, {3, false}, {3, true}} {
		nodes := c.nodes
		t.Run(fmt.Sprint(nodes, " crowds=", c.crowds), func(t *testing.T) {
			if c.crowds {
				crosscast.SmallCrowds(t)
			}
			rapid.Check(t, func(t *rapid.T) {
				m := newModel(t, nodes)
				defer func() {
					for _, n := range m.nodes { // also after a failure
						n.Close(ctx)
					}
				}()
				t.Repeat(map[string]func(*rapid.T){
					"connect": m.connect,
					"join": func(t *rapid.T) {
						s, rooms := m.anyOpen(t), subset(t, "rooms", modelRooms)
						if err := s.Join(ctx, rooms...); err != nil {
							t.Fatal(err)
						}
						for _, room := range rooms {
							m.join(s, room)
						}
					},
					"leave": func(t *rapid.T) {
						s, rooms := m.anyOpen(t), subset(t, "rooms", modelRooms)
						if err := s.Leave(rooms...); err != nil {
							t.Fatal(err)
						}
						for _, room := range rooms {
							m.leave(s, room)
						}
					},
					"close": func(t *rapid.T) { m.close(m.anyOpen(t)) },
					"subscribe": func(t *rapid.T) {
						m.addSub(t, rapid.IntRange(0, nodes-1).Draw(t, "node"), subset(t, "rooms", modelRooms))
					},
					"add":    func(t *rapid.T) { m.change(t, 1) },
					"remove": func(t *rapid.T) { m.change(t, -1) },
					"unsubscribe": func(t *rapid.T) {
						if len(m.subs) == nodes {
							t.Skip("none but those for the fence")
						}
						i := rapid.IntRange(nodes, len(m.subs)-1).Draw(t, "subscription")
						m.subs[i].Close()
						m.subs = slices.Delete(m.subs, i, i+1)
					},
					"emit": m.emit,
					"":     m.check,
				})
				m.end(t)
			})
		})
	}
}

// A socket in very many rooms, which has a map of them.
func TestManyRooms(t *testing.T) {
	n := start(t, crosscast.Options{})
	s := connect(t, n.Namespace, &recorder{})
	var rooms []string
	for i := range 1000 {
		rooms = append(rooms, fmt.Sprint(i))
	}
	connect(t, n.Namespace, &recorder{}, rooms...) // so that the rooms outlive s's leaving
	ok(t, s.Join(ctx, rooms...))
	ok(t, s.Join(ctx, rooms...))
	equal(t, "rooms", sorted(s.Rooms()), sorted(rooms))
	rand.Shuffle(len(rooms), func(i, j int) { rooms[i], rooms[j] = rooms[j], rooms[i] })
	for len(rooms) > 0 {
		ok(t, s.Leave(rooms[:50]...))
		ok(t, s.Leave(rooms[:50]...))
		ok(t, s.Join(ctx, rooms[0]))
		equal(t, "rooms", sorted(s.Rooms()), sorted(append([]string{rooms[0]}, rooms[50:]...)))
		ok(t, s.Leave(rooms[0]))
		rooms = rooms[50:]
		equal(t, "rooms", sorted(s.Rooms()), sorted(rooms))
		equal(t, "memberships", n.Stats().Memberships, 1000+len(rooms))
	}
}

// 64 goroutines join, leave, emit, connect and close at once, hooks call back into the node; at rest, membership is
// what each of them left behind.
func TestMembershipUnderConcurrency(t *testing.T) { withCrowds(t, testMembershipUnderConcurrency) }

func testMembershipUnderConcurrency(t *testing.T) {
	cluster := crosscast.NewCluster()
	var n *crosscast.Node
	var hooks atomic.Int64
	o := crosscast.Options{Adapter: cluster.Adapter(), OnRoom: func(_ *crosscast.Node, e crosscast.RoomEvent) {
		hooks.Add(1)
		n.Members(e.Room)
		if e.Socket != nil {
			e.Socket.Rooms()
		}
		if hooks.Load()%16 == 0 {
			n.To(e.Room).Local().Emit(ctx, "hook", nil)
		}
	}}
	n = start(t, o)
	peer := start(t, crosscast.Options{Adapter: cluster.Adapter()})
	var wg sync.WaitGroup
	final := make([]map[crosscast.SocketID][]string, 64)
	for g := range final {
		final[g] = make(map[crosscast.SocketID][]string)
		wg.Go(func() {
			for range 4 {
				var r recorder
				s := connectUser(t, n.Namespace, &r, fmt.Sprint(g%5))
				rooms := make(map[string]bool)
				for range 100 {
					room := fmt.Sprint("r", rand.IntN(8))
					switch rand.IntN(4) {
					case 0, 1:
						if err := s.Join(ctx, room); err != nil {
							t.Error(err)
						}
						rooms[room] = true
						// Joined means that what is emitted from now on arrives: at once, on the same node.
						event := fmt.Sprintf("mine%d", rand.Uint32())
						if err := n.To(room, "r0").Except("nobody").Local().Emit(ctx, event, nil); err != nil {
							t.Error(err)
						}
						if got := strings.Fields(r.take()); len(got) == 0 || count(got, event) != 1 {
							t.Errorf("%q came %d times after Join returned", event, count(got, event))
						}
					case 2:
						s.Leave(room)
						delete(rooms, room)
					case 3:
						peer.To(room).Emit(ctx, "peer", nil)
						s.Broadcast().Emit(ctx, "broadcast", nil)
					}
				}
				if rand.IntN(2) == 0 {
					wg.Go(func() { s.Close(crosscast.ReasonLeft) }) // twice, at once
					s.Close(crosscast.ReasonServer)
					continue
				}
				for room := range rooms {
					final[g][s.ID()] = append(final[g][s.ID()], room)
				}
				if len(rooms) == 0 {
					final[g][s.ID()] = nil
				}
			}
		})
	}
	wg.Wait()
	sockets, memberships := 0, 0
	for _, m := range final {
		for id, rooms := range m {
			sockets++
			memberships += len(rooms)
			s := n.Socket(id)
			if s == nil {
				t.Fatalf("socket %s is gone", id)
			}
			equal(t, "rooms", sorted(s.Rooms()), sorted(rooms))
			for _, room := range rooms {
				if !slices.Contains(n.Members(room), s) {
					t.Errorf("socket %s is no member of %s", id, room)
				}
			}
		}
	}
	checkGroups(t, n.Namespace)
	st := n.Stats()
	equal(t, "sockets", st.Sockets, sockets)
	equal(t, "memberships", st.Memberships, memberships)
	ok(t, n.Close(ctx))
	equal(t, "memberships after Close", n.Stats().Memberships, 0)
	if hooks.Load() == 0 {
		t.Error("no hook was called")
	}
}

func count(list []string, s string) (n int) {
	for _, v := range list {
		if v == s {
			n++
		}
	}
	return n
}

// TestMaxRooms: a socket is in so many rooms at most, and a join of more does nothing.
func TestMaxRooms(t *testing.T) {
	n := start(t, crosscast.Options{MaxRooms: 3})
	many := []string{"a", "b", "c", "d"}
	if _, err := n.Connect(ctx, new(recorder), crosscast.ConnectOptions{Rooms: many}); !errors.Is(err, crosscast.ErrTooLarge) {
		t.Error(err)
	}
	s, err := n.Connect(ctx, new(recorder), crosscast.ConnectOptions{User: "u", Rooms: []string{"a", "b"}})
	ok(t, err)
	ok(t, s.Join(ctx, "a", "c", "c", "b"))
	if err := s.Join(ctx, "a", "d"); !errors.Is(err, crosscast.ErrTooLarge) || !strings.Contains(err.Error(), "at most 3") {
		t.Error(err)
	}
	if rooms := s.Rooms(); len(rooms) != 3 || slices.Contains(rooms, "d") {
		t.Errorf("in %q", rooms)
	}
	ok(t, s.Join(ctx, "a"))
	if changed, err := n.To("a").Do(ctx, crosscast.Command{Join: []string{"d"}}); err != nil || changed.Sockets != 0 {
		t.Error(changed, err)
	}
	ok(t, s.Leave("b"))
	ok(t, s.Join(ctx, "d"))
}
