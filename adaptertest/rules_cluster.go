package adaptertest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// replying is a conn whose client replies to every acknowledged message with its socket's ID.
type replying struct {
	socket atomic.Pointer[crosscast.Socket]
}

func (c *replying) Send(m *crosscast.Message) error {
	if m.Ack != 0 {
		s := c.socket.Load()
		return s.Reply(m.Ack, s.ID())
	}
	return nil
}

func (c *replying) Close(crosscast.Reason) {}

// connectReplying connects a client that replies to acknowledged messages.
func (b *bed) connectReplying(n *node, rooms ...string) *crosscast.Socket {
	b.Helper()
	c := &replying{}
	s, err := n.Connect(b.ctx, c, crosscast.ConnectOptions{})
	b.must(err)
	c.socket.Store(s)
	b.must(s.Join(b.ctx, rooms...))
	return s
}

// acquainted starts three nodes, and returns when they know each other, or how many they are. Start does not wait for
// this if the bus cannot count receivers; and a query goes only to known nodes.
func (b *bed) acquainted() (n0, n1, n2 *node) {
	n0, n1, n2 = b.three()
	b.eventually("nodes know each other", func() bool { return n0.peers() == 2 && n1.peers() == 2 && n2.peers() == 2 })
	return n0, n1, n2
}

// peers returns how many peers a query would be sent to.
func (n *node) peers() int {
	n.b.Helper()
	counter, ok := n.adapter.(crosscast.ForeignAdapter)
	if !ok {
		return len(n.Nodes())
	}
	peers, err := counter.CountPeers(n.b.ctx, &crosscast.Instruction{
		Kind: kind.Ask, Namespace: "/", From: n.ID(), Target: everyone, Ref: "1", TTL: n.b.patience,
		Question: &crosscast.Question{Kind: kind.AskCount},
	}, false)
	n.b.must(err)
	return peers
}

// answerName makes nodes answer the request "name" with their names. It returns counters of the calls.
func (b *bed) answerName(nodes ...*node) []atomic.Int32 {
	called := make([]atomic.Int32, len(nodes))
	for i, n := range nodes {
		b.must(n.OnRequest("name", func(context.Context, *crosscast.Request) (any, error) {
			called[i].Add(1)
			return n.Name(), nil
		}))
	}
	return called
}

// calledOnce fails unless the handlers of all nodes but the first were called once each. It first ends the nodes,
// because that waits for handlers.
func (b *bed) calledOnce(called []atomic.Int32) {
	b.Helper()
	b.settle()
	for _, n := range b.nodes {
		n.end()
	}
	for i := range called {
		if got, want := int(called[i].Load()), min(i, 1); got != want {
			b.Errorf("handlers of %s were called %d times, instead of %d", b.nodes[i].Name(), got, want)
		}
	}
}

// askName returns the answers to the request "name".
func (b *bed) askName(s crosscast.Servers) map[string]crosscast.NodeID {
	b.Helper()
	all := make(map[string]crosscast.NodeID)
	answers := s.Ask(b.ctx, "name", nil)
	for r := range answers.All() {
		all[string(r.Payload.Data)] = r.Node
	}
	b.must(answers.Err())
	return all
}

// clusterRules are about queries and commands between nodes: a driver carries them to every node, and the answers back
// to one node.
var clusterRules = []rule{
	{
		name:       "nodes",
		text:       "Nodes know each other by name, and notice when one has left.",
		capability: CapNodes,
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			known := func(n *node) string {
				var names []string
				for _, p := range n.Nodes() {
					names = append(names, p.Name)
				}
				slices.Sort(names)
				return fmt.Sprint(names)
			}
			if got, want := known(n0), fmt.Sprint([]string{n1.Name(), n2.Name()}); got != want {
				b.Errorf("%s knows %s instead of %s", n0.Name(), got, want)
			}
			n2.closed = true
			b.must(n2.Close(b.ctx))
			for _, n := range []*node{n0, n1} {
				b.eventually("a node that has closed is forgotten", func() bool { return len(n.Nodes()) == 1 })
			}
		},
	},
	{
		name: "questions",
		text: "A query reaches every node, even those without interest in its target. Each answer reaches the node " +
			"that queried, whole and in order. This holds in each namespace.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			for i := range 300 {
				b.connect([]*node{n1, n2}[i%2], crosscast.ConnectOptions{
					User: fmt.Sprint("u", i%7), Rooms: []string{"r"}, Data: make([]byte, 2000),
					Handshake: map[string]int{"issued": i},
				})
			}
			answers := n0.To("r").Sockets(b.ctx, crosscast.Fields{})
			seen := make(map[crosscast.SocketID]int)
			for s := range answers.All() {
				seen[s.ID]++
				if s.User == "" || len(s.Rooms) != 1 || len(s.Data) < 2000 {
					b.Errorf("a socket was described as %.100v", s)
				}
				var handshake struct{ Issued *int }
				if err := json.Unmarshal(s.Handshake, &handshake); err != nil || handshake.Issued == nil {
					b.Errorf("the handshake of a socket was described as %.100q", s.Handshake)
				}
			}
			b.must(answers.Err())
			if len(seen) != 300 {
				b.Errorf("a question about 300 sockets was answered with %d", len(seen))
			}
			users, err := n0.Everyone().CountUsers(b.ctx)
			b.must(err)
			if users != 7 {
				b.Errorf("7 users were counted as %d", users)
			}
			rooms := make(map[string]int)
			counts := n0.Everyone().Rooms(b.ctx)
			for r := range counts.All() {
				rooms[r.Room] += r.Sockets
			}
			b.must(counts.Err())
			if len(rooms) != 1 || rooms["r"] != 300 {
				b.Errorf("one room of 300 sockets was described as %v", rooms)
			}
			one, err := n0.ToSocket(b.clients[len(b.clients)-1].ID()).Count(b.ctx)
			b.must(err)
			if one != 1 {
				b.Errorf("one socket was counted as %d", one)
			}
			none, err := n0.To("nobody").Count(b.ctx)
			b.must(err)
			if none != 0 {
				b.Errorf("an unknown room has %d members", none)
			}
			for i := range 6 {
				b.connectIn(b.nodes[i%3], "/chat", crosscast.ConnectOptions{Rooms: []string{"r"}})
			}
			only, err := n0.Of("/nobody else")
			b.must(err)
			chat, err := n0.Of("/chat")
			b.must(err)
			for ns, want := range map[*crosscast.Namespace]int{chat: 6, only: 0} {
				got, err := ns.To("r").Count(b.ctx)
				b.must(err)
				if got != want {
					b.Errorf("%d sockets in the namespace %q were counted as %d", want, ns.Name(), got)
				}
			}
		},
	},
	{
		name: "commands",
		text: "A command takes effect on every node, in its place among the emissions of its node. The awaited form " +
			"returns how many sockets it reached.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			c1 := b.connect(n1, crosscast.ConnectOptions{User: "u", Rooms: []string{"old"}})
			c2 := b.connect(n2, crosscast.ConnectOptions{User: "u", Rooms: []string{"old"}})
			changed, err := n0.To("old").Do(b.ctx, crosscast.Command{Join: []string{"new"}, Leave: []string{"old"}})
			b.must(err)
			if changed.Sockets != 2 {
				b.Errorf("a command to 2 sockets on 2 nodes reached %+v", changed)
			}
			for _, c := range []*client{c1, c2} {
				b.eventually("a room is joined and another left", func() bool { return fmt.Sprint(c.Rooms()) == "[new]" })
			}
			if !b.unordered {
				b.emit(n0.ToUser("u"), "before")
			}
			b.must(n0.ToUser("u").Disconnect(b.ctx, crosscast.ReasonServer))
			if !b.unordered {
				c1.wait("before", 1)
				c2.wait("before", 1)
			}
			b.eventually("a disconnected user is gone", func() bool {
				has, err := n1.ToUser("u").Has(b.ctx)
				return err == nil && !has
			})
		},
	},
	{
		name: "commands-awaited",
		text: "After an awaited command to join has returned, every later emission to the room, on any node, " +
			"arrives.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			c1 := b.connect(n1, crosscast.ConnectOptions{User: "u"})
			c2 := b.connect(n2, crosscast.ConnectOptions{User: "u"})
			for i := range 10 {
				room := fmt.Sprint("room", i)
				changed, err := n0.ToUser("u").Do(b.ctx, crosscast.Command{Join: []string{room}})
				b.must(err)
				if changed.Sockets != 2 {
					b.Errorf("a command to 2 sockets on 2 nodes reached %+v", changed)
				}
				from := []*node{n0, n1, n2}[i%3]
				b.emit(from.To(room), room)
				c1.wait(room, 1)
				c2.wait(room, 1)
			}
		},
	},
	{
		name: "acknowledgements",
		text: "The replies of clients on every node reach the node that emitted, each once.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			for i := range 30 {
				b.connectReplying([]*node{n0, n1, n2}[i%3], "r")
			}
			for range 3 {
				replies := n1.To("r").EmitAck(b.ctx, "question", nil)
				seen := make(map[string]int)
				for r := range replies.All() {
					seen[string(r.Payload.Data)]++
				}
				b.must(replies.Err())
				for reply, n := range seen {
					if n != 1 {
						b.Errorf("the reply %s arrived %d times", reply, n)
					}
				}
				if len(seen) != 30 {
					b.Errorf("30 clients replied, and the replies of %d arrived", len(seen))
				}
			}
			none := n1.To("nobody").EmitAck(b.ctx, "question", nil)
			for r := range none.All() {
				b.Errorf("a reply where nobody was asked: %+v", r)
			}
			b.must(none.Err())
		},
	},
	{
		name: "requests",
		text: "A request reaches every node but its own. Each answer returns to the node that sent the request.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			called := b.answerName(n0, n1, n2)
			if got := b.askName(n0.Servers()); len(got) != 2 {
				b.Errorf("a request to 2 peers was answered by %v", got)
			}
			b.calledOnce(called)
		},
	},
	{
		name:       "requests-some",
		text:       "A request to one node, or to the nodes with a member of a room, reaches these nodes and no other.",
		capability: CapOneNode,
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			called := b.answerName(n0, n1, n2)
			b.connect(n1, crosscast.ConnectOptions{Rooms: []string{"r"}})
			if got := b.askName(n0.Servers().Only(n2.ID())); len(got) != 1 {
				b.Errorf("a request to 1 peer was answered by %v", got)
			}
			if got := b.askName(n0.Servers().With("r")); len(got) != 1 {
				b.Errorf("a request to 1 peer that has a member of a room was answered by %v", got)
			}
			b.calledOnce(called)
		},
	},
	{
		name:       "answers-name",
		text:       "Each answer names its node, or its socket.",
		capability: CapNamedAnswers,
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			b.answerName(n1, n2)
			for _, n := range []*node{n1, n2} {
				b.connectReplying(n, "r")
				if got := b.askName(n0.Servers())[fmt.Sprintf("%q", n.Name())]; got != n.ID() {
					b.Errorf("%s, %q, answered as %q", n.Name(), n.ID(), got)
				}
			}
			replies := n0.To("r").EmitAck(b.ctx, "question", nil)
			for r := range replies.All() {
				if got := fmt.Sprintf("%q", r.Socket); got != string(r.Payload.Data) {
					b.Errorf("the reply of socket %s arrived as that of %s", r.Payload.Data, got)
				}
			}
			b.must(replies.Err())
			changed, err := n0.To("r").Do(b.ctx, crosscast.Command{Leave: []string{"r"}})
			b.must(err)
			if len(changed.Nodes) != 2 || changed.Nodes[n1.ID()] != 1 || changed.Nodes[n2.ID()] != 1 {
				b.Errorf("a command to a socket each of 2 nodes reached %+v", changed)
			}
		},
	},
	{
		name:       "presence",
		text:       "A watch of a room shows its members on every node, and each one that joins or leaves.",
		capability: CapPresence,
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			first := b.connect(n1, crosscast.ConnectOptions{Rooms: []string{"r"}})
			w, err := n0.Watch(b.ctx, "r", crosscast.WatchOptions{})
			b.must(err)
			defer w.Close()
			b.eventually("every peer tells of its members", func() bool { return len(w.Missing()) == 0 })
			b.must(w.Synced(b.ctx))
			if n := len(w.Members()); n != 1 {
				b.Errorf("a room with 1 member shows %d", n)
			}
			second := b.connect(n2, crosscast.ConnectOptions{Rooms: []string{"r"}})
			b.eventually("a member that joins is shown", func() bool { return len(w.Members()) == 2 })
			b.must(second.Leave("r"))
			first.Close(crosscast.ReasonServer)
			b.eventually("members that leave are gone", func() bool { return len(w.Members()) == 0 })
		},
	},
	{
		name:       "presence-data",
		text:       "A watch shows what each member shows of itself, and each change of it; for a user, what was set last.",
		capability: CapPresence,
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			first := b.connect(n1, crosscast.ConnectOptions{User: "ann", Rooms: []string{"r"}, Presence: "here"})
			w, err := n0.Watch(b.ctx, "r", crosscast.WatchOptions{Users: true})
			b.must(err)
			defer w.Close()
			shows := func(want string) func() bool {
				return func() bool { m := w.Members(); return len(m) == 1 && string(m[0].Presence) == want }
			}
			b.eventually("what a member has shown from the beginning is there", shows(`"here"`))
			b.must(first.SetPresence("away"))
			b.eventually("what a member shows now is there", shows(`"away"`))
			b.laterMillisecond()
			second := b.connect(n2, crosscast.ConnectOptions{User: "ann", Rooms: []string{"r"}, Presence: []int{2}})
			b.eventually("what another socket of the user has set last is there", shows("[2]"))
			second.Close(crosscast.ReasonServer)
			b.eventually("what the other socket had set is there again", shows(`"away"`))
			b.must(first.SetPresence(nil))
			b.eventually("nothing is shown any more", shows(""))
		},
	},
}
