package adaptertest

import (
	"fmt"
	"sync"

	"github.com/crosscast/crosscast"
)

var orderRules = []rule{
	{
		name: "order-one-name",
		text: "Emissions of one node to one room, user or socket, one after the other, reach each socket in that " +
			"order.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c1, c2 := b.connect(n1, connect{User: "u", Rooms: []string{"r"}}), b.connect(n2, connect{Rooms: []string{"r"}})
			for i := range 1000 {
				b.emit(n0.To("r"), fmt.Sprint("m", i))
			}
			b.settle()
			c1.wantInOrder(numbered("m", 1000)...)
			c2.wantInOrder(numbered("m", 1000)...)
			for i := range 200 {
				b.emit(n0.ToUser("u"), fmt.Sprint("u", i))
			}
			b.settle()
			c1.wantInOrder(numbered("u", 200)...)
			for i := range 200 {
				b.emit(n0.ToSocket(c1.ID()), fmt.Sprint("s", i))
			}
			b.settle()
			c1.wantInOrder(numbered("s", 200)...)
		},
	},
	{
		name: "order-of-each",
		text: "The order of each node's emissions to a room holds while all nodes emit at once.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			nodes := []*node{n0, n1, n2}
			var in []*client
			for _, n := range nodes {
				in = append(in, b.connect(n, connect{Rooms: []string{"r"}}))
			}
			var emitting sync.WaitGroup
			for _, n := range nodes {
				emitting.Go(func() {
					for i := range 300 {
						if err := n.To("r").Emit(b.ctx, fmt.Sprint("m", i), nil); err != nil {
							b.breaks("emitting: %v", err)
						}
					}
				})
			}
			emitting.Wait()
			b.settle()
			for _, c := range in {
				from := make(map[string][]string)
				for _, m := range c.log.messages() {
					from[string(m.From)] = append(from[string(m.From)], m.Event)
				}
				for _, n := range nodes {
					got, want := from[string(n.ID())], numbered("m", 300)
					if fmt.Sprint(got) != fmt.Sprint(want) {
						b.Errorf("a client on %s got of %s, which emitted m0 to m299 to one room: "+
							"%s", c.node.Name(), n.Name(), list(got))
					}
				}
			}
		},
	},
	{
		name: "order-of-kinds",
		text: "Emissions of one goroutine to a socket, to its user and to a room that it is in reach the socket in " +
			"that order. There is no order between two rooms, two users or two sockets. A bus of several masters " +
			"that spreads names over them has no order between names on different masters: its driver lacks " +
			"CapOrder.",
		capability: CapOrder,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			for _, n := range []*node{n0, n1, n2} { // for one of them, n0 holds the socket itself
				user, room := "u"+n.Name(), "r"+n.Name()
				c := b.connect(n, connect{User: user, Rooms: []string{room}})
				for i := range 300 {
					targets := [...]crosscast.BoundTarget{n0.ToSocket(c.ID()), n0.To(room), n0.ToUser(user), n0.To(room)}
					b.emit(targets[i%len(targets)], fmt.Sprint("m", i))
				}
				b.settle()
				c.want(numbered("m", 300)...)
			}
		},
	},
	{
		name: "order-across-names",
		text: "An emission to everyone, or to several names, keeps its place among all emissions of its node. It " +
			"does not on a bus of several masters that spreads names over them.",
		capability: CapOrder,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c1 := b.connect(n1, connect{User: "u", Rooms: []string{"r0", "r1", "r2"}})
			c2 := b.connect(n2, connect{User: "v", Rooms: []string{"r0", "r1", "r2"}})
			n := 0
			next := func() string { n++; return fmt.Sprint("m", n-1) }
			for i := range 50 {
				// Two emissions to different single targets have no order. So another emission is between any two of
				// them.
				single := func() { b.emit(n0.To(fmt.Sprint("r", n%3)), next()) }
				single()
				b.emit(n0.Everyone(), next())
				single()
				b.emit(n0.ToUser("u", "v"), next())
				single()
				b.emit(n0.To("r0", "r1", fmt.Sprint("x", i)), next())
				single()
				b.emit(n0.ToSocket(c1.ID(), c2.ID()), next())
				single()
				b.emit(n0.To(numbered("r", 20)...), next())
			}
			b.settle()
			c1.want(numbered("m", n)...)
			c2.want(numbered("m", n)...)
		},
	},
	{
		name: "order-subscription",
		text: "A subscription gets one node's emissions to a room in order.",
		run: func(b *bed) {
			n0, n1, _ := b.three()
			s := b.subscribe(n1, "r")
			for i := range 300 {
				b.emit(n0.To("r"), fmt.Sprint("m", i))
			}
			s.wait("m299", 1)
			s.want(numbered("m", 300)...)
		},
	},
}
