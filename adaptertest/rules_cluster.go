package adaptertest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/crosscast/crosscast"
)

// replying is a conn whose client replies to every acknowledged message.
type replying struct {
	socket atomic.Pointer[crosscast.Socket]
}

func (c *replying) Send(m *crosscast.Message) error {
	if m.Ack != 0 {
		return c.socket.Load().Reply(m.Ack, "got it")
	}
	return nil
}

func (c *replying) Close(crosscast.Reason) {}

// acquainted starts three nodes that know each other: where a bus cannot tell how many there are, Start does not wait
// for that, and a node asks and waits for those that it knows.
func (b *bed) acquainted() (n0, n1, n2 *node) {
	n0, n1, n2 = b.three()
	b.eventually("nodes know each other", func() bool {
		return len(n0.Nodes()) == 2 && len(n1.Nodes()) == 2 && len(n2.Nodes()) == 2
	})
	return n0, n1, n2
}

// clusterRules are about what nodes ask and command each other: a driver carries it to every node, and the answers
// back to one.
var clusterRules = []rule{
	{
		name: "questions",
		text: "A question reaches every node, also those without interest in its target, and each answer reaches the node " +
			"that asked, whole and in order.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			for i := range 300 {
				b.connect([]*node{n1, n2}[i%2], crosscast.ConnectOptions{
					User: fmt.Sprint("u", i%7), Rooms: []string{"r"}, Data: make([]byte, 2000),
					Handshake: map[string]int{"issued": i},
				})
			}
			answers := n0.To("r").Sockets(b.ctx, crosscast.AllFields)
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
			none, err := n0.To("nobody").Count(b.ctx)
			b.must(err)
			if none != 0 {
				b.Errorf("an unknown room has %d members", none)
			}
		},
	},
	{
		name: "commands",
		text: "A command takes effect on every node, in its place among the emissions of the node that gives it, and the awaited " +
			"form returns when all have obeyed: what is emitted then to a room that was joined arrives.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			c1 := b.connect(n1, crosscast.ConnectOptions{User: "u"})
			c2 := b.connect(n2, crosscast.ConnectOptions{User: "u"})
			for i := range 10 {
				room := fmt.Sprint("room", i)
				changed, err := n0.ToUser("u").Do(b.ctx, crosscast.Command{Join: []string{room}})
				b.must(err)
				if changed.Sockets != 2 || len(changed.Nodes) != 2 {
					b.Errorf("a command to 2 sockets on 2 nodes reached %+v", changed)
				}
				from := []*node{n0, n1, n2}[i%3]
				b.emit(from.To(room), room)
				c1.wait(room, 1)
				c2.wait(room, 1)
			}
			b.emit(n0.ToUser("u"), "before")
			b.must(n0.ToUser("u").Disconnect(b.ctx, crosscast.ReasonServer))
			c1.wait("before", 1)
			c2.wait("before", 1)
			b.eventually("a disconnected user is gone", func() bool {
				has, err := n1.ToUser("u").Has(b.ctx)
				return err == nil && !has
			})
		},
	},
	{
		name: "acknowledgements",
		text: "The replies of clients on every node reach the node that emitted, each once.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			for i := range 30 {
				n := []*node{n0, n1, n2}[i%3]
				c := &replying{}
				s, err := n.Connect(b.ctx, c, crosscast.ConnectOptions{})
				b.must(err)
				c.socket.Store(s)
				b.must(s.Join(b.ctx, "r"))
			}
			replies := n1.To("r").EmitAck(b.ctx, "question", nil)
			seen := make(map[crosscast.SocketID]int)
			for r := range replies.All() {
				seen[r.Socket]++
			}
			b.must(replies.Err())
			if len(seen) != 30 {
				b.Errorf("30 clients replied, and the replies of %d arrived", len(seen))
			}
		},
	},
	{
		name: "requests",
		text: "A request reaches the nodes that it is for and no other, and answers and errors return to the node that asked.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			var called [3]atomic.Int32
			for i, n := range []*node{n0, n1, n2} {
				b.must(n.OnRequest("name", func(context.Context, *crosscast.Request) (any, error) {
					called[i].Add(1)
					return n.Name(), nil
				}))
			}
			names := func(s crosscast.Servers) map[string]bool {
				all := make(map[string]bool)
				answers := s.Ask(b.ctx, "name", nil)
				for r := range answers.All() {
					all[string(r.Payload.Data)] = true
				}
				b.must(answers.Err())
				return all
			}
			if got := names(n0.Servers()); len(got) != 2 {
				b.Errorf("a request to 2 peers was answered by %v", got)
			}
			if got := names(n0.Servers().Only(n2.ID())); len(got) != 1 {
				b.Errorf("a request to 1 peer was answered by %v", got)
			}
			if own, one, two := called[0].Load(), called[1].Load(), called[2].Load(); own != 0 || one != 1 || two != 2 {
				b.Errorf("handlers were called %d, %d and %d times, instead of 0, 1 and 2", own, one, two)
			}
		},
	},
	{
		name: "presence",
		text: "Who watches a room is told of its members on every node, and of each that joins or leaves.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			first := b.connect(n1, crosscast.ConnectOptions{Rooms: []string{"r"}})
			w, err := n0.Watch(b.ctx, "r", crosscast.WatchOptions{})
			b.must(err)
			defer w.Close()
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
}
