package adaptertest

import (
	"fmt"

	"github.com/crosscast/crosscast"
)

// Rules about nodes with Options.EmitOnly.
var emitterRules = []rule{
	{
		name: "emitter-emits",
		text: "Emissions of an emitter (a node with NodeInfo.EmitOnly) arrive like those of other nodes, in order " +
			"and once.",
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			e := b.startEmitter()
			in := b.connect(n1, crosscast.ConnectOptions{User: "u", Rooms: []string{"r", "s"}})
			out := b.connect(n2, crosscast.ConnectOptions{})
			var want []string
			for i := range 20 {
				room, user, both := fmt.Sprint("room", i), fmt.Sprint("user", i), fmt.Sprint("both", i)
				b.emit(e.To("r"), room)
				b.emit(e.ToUser("u"), user)
				b.emit(e.To("r", "s").ToSocket(in.ID()), both)
				want = append(want, room, user, both)
			}
			b.emit(e.ToSocket(in.ID()), "socket")
			b.emit(e.Everyone().ExceptUser("u"), "others")
			if !b.unordered { // a command keeps its place among emissions
				b.must(e.To("r").Leave(b.ctx, "r"))
				b.emit(e.To("r"), "left")
			}
			b.must(e.Flush(b.ctx))
			b.emit(e.Everyone(), "last")
			b.settleFences(e)
			in.wait("last", 1)
			out.wait("last", 1)
			// Emissions to different single targets have no order.
			in.wantAnyOrder(append(want, "socket", "last")...)
			out.want("others", "last")
			for _, n := range []*node{n0, n1, n2} {
				if gaps := n.gaps.Load(); gaps > 0 {
					b.Errorf("%s reported %d gaps", n.Name(), gaps)
				}
			}
		},
	},
	{
		name:       "emitter-unknown",
		text:       "No node takes an emitter for a peer.",
		capability: CapNodes,
		run: func(b *bed) {
			n0, n1, n2 := b.acquainted()
			unknown := func() {
				for _, n := range []*node{n0, n1, n2} {
					if peers := len(n.Nodes()); peers != 2 {
						b.Fatalf("%s knows %d peers instead of 2: it takes an emitter for one", n.Name(), peers)
					}
				}
			}
			e := b.startEmitter()
			for i := range 3 {
				b.emit(e.Everyone(), fmt.Sprint("m", i))
				n1.clients[0].wait(fmt.Sprint("m", i), 1)
				unknown()
			}
			_, err := e.Everyone().Count(b.ctx)
			b.must(err)
			b.settle()
			unknown()
		},
	},
	{
		name: "emitter-asks",
		text: "An emitter gets the answers of all nodes to its queries. If the driver is an AdapterSubscriber, emissions " +
			"of others do not reach an emitter.",
		run: func(b *bed) {
			b.acquainted()
			e := b.startEmitter()
			for _, n := range b.nodes {
				b.connect(n, crosscast.ConnectOptions{User: "u", Rooms: []string{"r"}})
			}
			b.settle()
			for range 3 {
				for _, n := range b.nodes {
					b.emit(n.Everyone(), "everyone")
					b.emit(n.To("r"), "room")
					b.emit(n.ToUser("u"), "user")
				}
				b.settle()
				sockets, err := e.To("r").Count(b.ctx)
				b.must(err)
				if sockets != 3 {
					b.Errorf("a question about 3 sockets on 3 nodes was answered with %d", sockets)
				}
			}
			changed, err := e.To("r").Do(b.ctx, crosscast.Command{Join: []string{"s"}})
			b.must(err)
			if changed.Sockets != 3 {
				b.Errorf("a command to 3 sockets on 3 nodes reached %+v", changed)
			}
			sockets, err := b.nodes[0].To("s").Count(b.ctx)
			b.must(err)
			if sockets != 3 {
				b.Errorf("after a command to 3 sockets to join a room %d are in it", sockets)
			}
			_, selective := e.adapter.(crosscast.AdapterSubscriber)
			if got := e.Stats().Dropped["unwanted"]; selective && got > 0 {
				b.Errorf("%d emissions of others reached the emitter", got)
			}
		},
	},
}

// startEmitter starts a node that only emits.
func (b *bed) startEmitter() *node {
	b.Helper()
	n := b.newNode()
	if err := n.start(b.ctx, true); err != nil {
		b.Fatalf("starting an emitter: %v", err)
	}
	return n
}
