package adaptertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

var joinRules = []rule{
	{
		name: "joined-room",
		text: "After Join has returned nil, every emission to the room that begins later, on any node, reaches the " +
			"socket.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c := b.connect(n1, connect{})
			for i := range 100 {
				room := fmt.Sprint("room", i)
				b.must(c.Join(b.ctx, room))
				b.emit(n0.To(room), "a "+room)
				b.emit(n2.To(room), "b "+room)
				c.wait("a "+room, 1)
				c.wait("b "+room, 1)
			}
		},
	},
	{
		name: "joined-connect",
		text: "After Connect has returned nil, every later emission to the socket, its user and its rooms, on any " +
			"node, reaches it.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			for i := range 30 {
				user, room := fmt.Sprint("user", i), fmt.Sprint("room", i)
				c := b.connect([]*node{n1, n2}[i%2], connect{User: user, Rooms: []string{room, "all"}})
				b.emit(n0.ToUser(user), "user")
				b.emit(n0.To(room), "room")
				b.emit(n0.To("all"), "all")
				b.emit(n0.ToSocket(c.ID()), "socket")
				for _, event := range []string{"user", "room", "all", "socket"} {
					c.wait(event, 1)
				}
				c.Close(crosscast.ReasonLeft)
			}
		},
	},
	{
		name: "joined-namespace",
		text: "After Connect has returned nil in a namespace that is new to the node, every later emission there " +
			"reaches the socket.",
		run: func(b *bed) {
			n0, n1, _ := b.three()
			for i := range 10 {
				name := fmt.Sprint("/chat", i)
				c := b.connectIn(n1, name, connect{User: "u", Rooms: []string{"r"}})
				from, err := n0.Of(name)
				b.must(err)
				b.emit(from.ToUser("u"), "user")
				b.emit(from.To("r"), "room")
				b.emit(from.ToSocket(c.ID()), "socket")
				b.emit(from.To("r", "s"), "rooms")
				b.emit(from.Everyone(), "everyone")
				for _, event := range []string{"user", "room", "socket", "rooms", "everyone"} {
					c.wait(event, 1)
				}
			}
		},
	},
	{
		name: "joined-subscribe",
		text: "After Subscribe has returned nil, every later emission to its rooms, on any node, reaches the " +
			"subscription.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			for i := range 30 {
				room := fmt.Sprint("room", i)
				s := b.subscribe(n1, room, "x "+room)
				b.emit(n0.To("x "+room), "a")
				b.emit(n2.To(room), "b")
				s.wait("a", 1)
				s.wait("b", 1)
			}
		},
	},
	{
		name: "joined-many-rooms",
		text: "Thousands of rooms can be joined at once, and none is forgotten.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c, other := b.connect(n1, connect{}), b.connect(n2, connect{})
			rooms := numbered("r", 2000)
			b.must(c.Join(b.ctx, rooms...))
			b.must(other.Join(b.ctx, rooms[1000:]...))
			for _, room := range rooms {
				b.emit(n0.To(room), room)
			}
			b.settle()
			c.wantAnyOrder(rooms...)
			other.wantAnyOrder(rooms[1000:]...)
		},
	},
	{
		name: "joined-at-once",
		text: "Many sockets can join at the same moment, the same rooms and different ones. After each Join has " +
			"returned nil, every later emission to its room reaches the socket.",
		run: func(b *bed) {
			n0, n1, _ := b.three()
			var joins sync.WaitGroup
			clients := make([]*client, 32)
			for i := range clients {
				clients[i] = b.connect(n1, connect{})
			}
			for i, c := range clients {
				joins.Go(func() {
					for k := range 8 {
						room := fmt.Sprint("room", i/2, "-", k) // two clients are in each
						if err := c.Join(b.ctx, room); err != nil {
							b.breaks("joining a room: %v", err)
						}
						event := fmt.Sprint("from ", i, " to ", room)
						if err := n0.To(room).Emit(b.ctx, event, nil); err != nil {
							b.breaks("emitting: %v", err)
						}
					}
				})
			}
			joins.Wait()
			b.settle()
			for i, c := range clients {
				got := c.got()
				for k := range 8 {
					event := fmt.Sprint("from ", i, " to room", i/2, "-", k)
					if !slices.Contains(got, event) {
						b.Errorf("a client joined a room, and the emission %q, made after that, did not reach "+
							"it", event)
					}
				}
			}
		},
	},
	{
		name: "joined-error",
		text: "An error of Join, Connect or Subscribe means that nothing happened: the socket or subscription gets " +
			"nothing from these names. The same names can be requested again at once.",
		run: func(b *bed) {
			b.linger = 1 // nanosecond
			n0, n1, _ := b.three()
			ended, cancel := context.WithCancel(b.ctx)
			cancel()
			c := b.connect(n1, connect{})
			var failed []*client // or closed
			for i := range 100 {
				room := fmt.Sprint("room", i)
				joined := c.Join(ended, room, "with "+room) == nil // the subscription was confirmed at once
				if rooms := c.Rooms(); len(rooms) > 0 != joined {
					b.Errorf("Join has succeeded: %v, and the socket is in %q", joined, rooms)
				}
				early := &client{b: b, node: n1, log: newLog()}
				socket, err := n1.Connect(ended, conn{early}, connect{Rooms: []string{room}})
				if (socket == nil) != (err != nil) {
					b.Fatalf("Connect returned the socket %v and the error %v", socket, err)
				}
				sub, s, err := b.trySubscribe(ended, n1, room)
				if (sub == nil) != (err != nil) {
					b.Fatalf("Subscribe returned the subscription %v and the error %v", sub, err)
				}
				if socket != nil {
					socket.Close(crosscast.ReasonLeft)
				}
				if sub != nil {
					b.must(sub.Close())
				}
				failed = append(failed, early, s)
				b.emit(n1.To(room, "with "+room), "local "+room)
				b.emit(n0.To(room, "with "+room), "far "+room)
				if joined {
					c.wait("far "+room, 1)
				}
				if slices.Contains(c.got(), "local "+room) != joined {
					b.Errorf("Join has succeeded: %v, and what the node emitted then reached the socket: %v", joined, !joined)
				}
				if i%2 == 0 {
					b.settle() // time to give the subscription up
				}
				b.must(c.Join(b.ctx, room))
				b.emit(n0.To(room), "joined "+room)
				c.wait("joined "+room, 1)
				b.must(c.Leave(c.Rooms()...))
				c.log.take()
			}
			b.settle()
			for _, v := range failed {
				if got := v.got(); len(got) > 0 {
					b.Errorf("what was not connected, or closed, got %s", list(got))
				}
			}
		},
	},
	{
		name: "leave",
		text: "After Leave, and after a socket has closed, emissions do not arrive any more. They still reach the " +
			"other members.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c, stays := b.connect(n1, connect{Rooms: []string{"r", "r2"}}), b.connect(n1, connect{Rooms: []string{"r"}})
			leaves := b.connect(n2, connect{User: "u", Rooms: []string{"r"}})
			b.settle() // nothing is under way
			b.must(c.Leave("r"))
			leaves.Close(crosscast.ReasonLeft)
			b.emit(n0.To("r"), "room")
			b.emit(n0.To("r", "r2"), "rooms")
			b.emit(n0.ToUser("u").ToSocket(leaves.ID()), "closed")
			b.settle()
			c.want("rooms")
			stays.want("room", "rooms")
			leaves.want()
		},
	},
	{
		name: "leave-and-join-again",
		text: "A room that is left and joined again is received at once, even if its subscription had ended " +
			"meanwhile.",
		run: func(b *bed) {
			b.linger = 1 // nanosecond
			n0, n1, _ := b.three()
			c := b.connect(n1, connect{})
			for i := range 200 {
				b.must(c.Join(b.ctx, "r"))
				event := fmt.Sprint("m", i)
				b.emit(n0.To("r"), event)
				c.wait(event, 1)
				b.must(c.Leave("r"))
				if i%2 == 0 {
					b.settle() // time to give the subscription up
				}
			}
			c.want(numbered("m", 200)...)
		},
	},
	{
		name:       "interest",
		text:       "A node without a member or subscriber of a room, or a socket of a user, receives nothing for it.",
		needs:      needsSub,
		capability: CapInterest,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			before := n2.unwanted() // what comes while a node subscribes is not wanted yet
			c := b.connect(n1, connect{User: "u", Rooms: []string{"r"}})
			s := b.subscribe(n1, "subscribed")
			for range 50 {
				b.emit(n0.To("r"), "m")
				b.emit(n0.ToUser("u"), "m")
				b.emit(n0.To("subscribed"), "m")
			}
			b.settle()
			c.wait("m", 100)
			s.wait("m", 50)
			if got := n2.unwanted() - before; got > 0 {
				b.Errorf("150 emissions to a room, a user and a subscriber of one node: "+
					"another node received %d of them", got)
			}
		},
	},
	{
		name:       "interest-sockets",
		text:       "A node that does not hold a socket receives nothing for it.",
		needs:      needsSub,
		capability: CapSocketInterest,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			before := n2.unwanted()
			c := b.connect(n1, connect{})
			for range 50 {
				b.emit(n0.ToSocket(c.ID()), "m")
			}
			b.settle()
			c.wait("m", 50)
			if got := n2.unwanted() - before; got > 0 {
				b.Errorf("50 emissions to a socket of one node: another node received %d of them", got)
			}
		},
	},
	{
		name: "interest-ends",
		text: "After the last member has left, and the lingering is over, the node receives nothing for the room any " +
			"more.",
		needs:      needsSub,
		capability: CapInterest,
		run: func(b *bed) {
			b.linger = time.Millisecond
			n0, n1, _ := b.three()
			c := b.connect(n1, connect{User: "u", Rooms: []string{"r"}})
			c.Close(crosscast.ReasonLeft)
			b.eventually("receiving nothing for a room and a user without members", func() bool {
				before := n1.unwanted()
				b.emit(n0.To("r"), "m")
				b.emit(n0.ToUser("u"), "m")
				b.settle()
				return n1.unwanted() == before
			})
		},
	},
	{
		name:  "interest-lingers",
		text:  "Leaving and joining within the lingering costs no subscription, and nothing is missed.",
		needs: needsSub,
		run: func(b *bed) {
			b.linger = time.Hour
			n0, n1, _ := b.three()
			c := b.connect(n1, connect{Rooms: []string{"r"}})
			before := n1.Stats().Joins.Count
			for i := range 50 {
				b.must(c.Leave("r"))
				b.must(c.Join(b.ctx, "r"))
				b.emit(n0.To("r"), fmt.Sprint("m", i))
				c.wait(fmt.Sprint("m", i), 1)
			}
			if waited := n1.Stats().Joins.Count - before; waited > 0 {
				b.Errorf("%d of 50 joins waited for the driver", waited)
			}
		},
	},
}

// unwanted returns how many instructions the node has received without a receiver for them.
func (n *node) unwanted() uint64 {
	s := n.Stats()
	return s.Dropped["unwanted"] + s.Adapter.Dropped["unwanted"]
}
