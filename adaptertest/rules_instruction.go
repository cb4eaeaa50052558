package adaptertest

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// Rules about the fields, the receivers and the order of instructions, without a node.
var instructionRules = []rule{
	{
		name: "driver-fields",
		text: "Every field of an emission to rooms, or to everyone, arrives as it was published.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			p1.hear(room("r"))
			p1.hearIn("/chat")
			full := *p0.emission("all", crosscast.Target{Everyone: true, ExceptRooms: []string{"a", "b"}})
			full.Volatile, full.Namespace = true, "/chat"
			full.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{0, 1, 254, 255}}
			many := *p0.emission("many", crosscast.Target{Rooms: []string{"r", "s"}, ExceptRooms: []string{"x"}})
			single := *p0.emission("single", toRoom("r"))
			single.Payload = crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{}`)}
			b.arrive(p0, p1, full, many, single)
		},
	},
	{
		name: "driver-fields-commands",
		text: "A command arrives as it was published: its target, and the rooms to join or leave.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			target := crosscast.Target{Rooms: []string{"r", "s"}, ExceptRooms: []string{"x"}}
			var sent []crosscast.Instruction
			for _, k := range []kind.Kind{kind.Join, kind.Leave, kind.Disconnect} {
				for _, t := range []crosscast.Target{target, everyone} {
					inst := crosscast.Instruction{Kind: k, Namespace: "/", From: p0.info.ID, Target: t}
					if k == kind.Disconnect {
						inst.Reason = crosscast.ReasonServer
					} else {
						inst.Rooms = []string{"a", "b"}
					}
					sent = append(sent, inst)
				}
			}
			b.arrive(p0, p1, sent...)
		},
	},
	{
		name:       "driver-fields-reason",
		text:       "The reason to disconnect, which may be any text, arrives as it was published.",
		capability: CapReasons,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			inst := crosscast.Instruction{Kind: kind.Disconnect, Namespace: "/", From: p0.info.ID, Target: everyone}
			inst.Reason = "signed out"
			b.arrive(p0, p1, inst)
		},
	},
	{
		name:       "driver-fields-target",
		text:       "Rooms, users and sockets, of a target and of its exceptions, arrive as they were published.",
		capability: CapSeparateSpaces,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			p1.hear(room("r"))
			id := crosscast.SocketID(string(p1.info.ID) + "socket-id-12")
			b.arrive(p0, p1,
				*p0.emission("all", crosscast.Target{
					Everyone: true, ExceptRooms: []string{"a", "b"}, ExceptUsers: []string{"c"},
					ExceptSockets: []crosscast.SocketID{id},
				}),
				*p0.emission("many", crosscast.Target{
					Rooms: []string{"r", "s"}, Users: []string{"u"}, Sockets: []crosscast.SocketID{id},
					ExceptRooms: []string{"x"},
				}))
		},
	},
	{
		name:       "driver-fields-meta",
		text:       "Meta pairs arrive as they were published.",
		capability: CapMeta,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			inst := *p0.emission("meta", everyone)
			inst.Meta = []crosscast.KeyValue{{Key: "k", Value: "v"}, {Key: "k", Value: ""}}
			b.arrive(p0, p1, inst)
		},
	},
	{
		name:       "driver-fields-inbox",
		text:       "Every field of an instruction to one node arrives as it was published.",
		capability: CapOneNode,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			inst := *p0.toNode(p1, "inbox")
			inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{0, 1, 254, 255}}
			b.arrive(p0, p1, inst)
		},
	},
	{
		name:       "driver-fields-nodes",
		text:       "Hellos, heartbeats and goodbyes of nodes arrive as they were published.",
		capability: CapNodes,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			node := crosscast.NodeInfo{ID: p0.info.ID, Name: "n\x00é", Heartbeat: 1500 * time.Millisecond}
			for _, k := range []kind.Kind{kind.Hello, kind.Heartbeat, kind.Goodbye} {
				b.arrive(p0, p1,
					crosscast.Instruction{Kind: k, Namespace: "/", From: p0.info.ID, Target: everyone, Node: node},
					crosscast.Instruction{Kind: k, Namespace: "/", From: p0.info.ID, To: p1.info.ID, Node: node})
			}
		},
	},
	{
		name: "driver-to",
		text: "An instruction with To reaches that node and no other. One to a node that does not exist reaches " +
			"nobody.",
		capability: CapOneNode,
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			for i := range 20 {
				p0.publish(p0.toNode(p1, fmt.Sprint("m", i)))
				stray := p0.emission("stray", everyone)
				stray.To = newID()
				p0.publish(stray)
			}
			b.settlePeers()
			p1.want(numbered("m", 20)...)
			p2.want()
		},
	},
	{
		name: "driver-order",
		text: "An instruction of another kind than emit keeps its place among the emissions. Heartbeats are " +
			"excepted.",
		capability: CapOrder,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			p1.hear(room("r"))
			for i := range 100 {
				p0.publish(p0.emission(fmt.Sprint("m", i), toRoom("r")))
				p0.publish(&crosscast.Instruction{
					Kind: kind.Leave, Namespace: "/", From: p0.info.ID, Target: everyone,
					Rooms: []string{fmt.Sprint("m", i)},
				})
			}
			b.settlePeers()
			got := p1.handled()
			if len(got) != 200 {
				b.Errorf("%d of 200 instructions arrived", len(got))
			}
			for i, inst := range got {
				var name string
				switch want := []kind.Kind{kind.Emit, kind.Leave}[i%2]; {
				case inst.Kind != want:
					b.Fatalf("emissions and commands were published in turns; instruction %d is of kind %d", i, inst.Kind)
				case inst.Kind == kind.Emit:
					name = inst.Event
				default:
					name = fmt.Sprint(inst.Rooms[0])
				}
				if name != fmt.Sprint("m", i/2) {
					b.Fatalf("emissions and commands were published in turns; instruction %d is %s", i, name)
				}
			}
		},
	},
	{
		name:       "driver-order-inbox",
		text:       "Instructions to a single node keep their order.",
		capability: CapOneNode,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			for i := range 100 {
				p0.publish(p0.toNode(p1, fmt.Sprint("inbox", i)))
			}
			b.settlePeers()
			p1.want(numbered("inbox", 100)...)
		},
	},
	{
		name: "driver-memory",
		text: "Publish keeps nothing of the instruction: the caller may overwrite everything in it as soon as " +
			"Publish has returned.",
		run: func(b *bed) { b.overwrite(false) },
	},
	{
		name:       "driver-memory-sockets",
		text:       "Publish keeps nothing of the instruction's users and sockets.",
		capability: CapSeparateSpaces,
		run:        func(b *bed) { b.overwrite(true) },
	},
}

// toNode returns an emission for one node.
func (p *peer) toNode(to *peer, event string) *crosscast.Instruction {
	inst := p.emission(event, everyone)
	inst.To = to.info.ID
	return inst
}

// arrive publishes instructions and checks that they arrive unchanged.
func (b *bed) arrive(from, at *peer, sent ...crosscast.Instruction) {
	b.Helper()
	for _, inst := range sent {
		from.publish(&inst)
		b.settlePeers() // hellos and heartbeats might overtake the others
		got := at.handled()
		if len(got) != 1 {
			b.Errorf("of one instruction (kind %d, %q) %d arrived", inst.Kind, inst.Event, len(got))
			continue
		}
		g := got[0]
		if inst.Kind == kind.Hello || inst.Kind == kind.Heartbeat || inst.Kind == kind.Goodbye {
			g.Target, inst.Target = crosscast.Target{}, crosscast.Target{} // the kind and To are enough
			g.Node.ID, inst.Node.ID = "", ""                               // From has the ID
		}
		if a, w := normal(*g), normal(inst); !reflect.DeepEqual(a, w) {
			b.Errorf("published: %+v\narrived:   %+v", w, a)
		}
	}
}

// overwrite publishes instructions, and overwrites their memory after each Publish: rooms, exceptions and payload; with
// sockets also users and sockets.
func (b *bed) overwrite(sockets bool) {
	p0, p1, _ := b.threePeers()
	p1.hear(room("r"), room("r0"), room("r1"))
	rooms, except, data := make([]string, 2), make([]string, 1), make([]byte, 64)
	users, ids := make([]string, 1), make([]crosscast.SocketID, 1)
	fill := func(i int) crosscast.Instruction {
		rooms[0], rooms[1], except[0], users[0] = "r", fmt.Sprint("r", i%2), fmt.Sprint("x", i), fmt.Sprint("u", i)
		ids[0] = crosscast.SocketID(fmt.Sprintf("%ssocket-%05d", p0.info.ID, i))
		copy(data, fmt.Sprintf("%064d", i))
		inst := *p0.emission(fmt.Sprint("m", i), crosscast.Target{Rooms: rooms, ExceptRooms: except})
		inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: data}
		if sockets {
			inst.Target.Users, inst.Target.ExceptSockets = users, ids
		}
		return inst
	}
	inst := new(crosscast.Instruction)
	for i := range 200 {
		*inst = fill(i)
		p0.publish(inst)
		*inst = crosscast.Instruction{Kind: kind.Emit, Namespace: "BAD", Event: "BAD", Target: everyone}
		rooms[0], rooms[1], except[0], users[0], ids[0] = "BAD", "BAD", "BAD", "BAD", "BAD"
		copy(data, bytes.Repeat([]byte("BAD!"), 16))
	}
	b.settlePeers()
	got := p1.handled()
	if len(got) != 200 {
		b.Errorf("%d of 200 instructions arrived", len(got))
	}
	if b.unordered { // they are for different rooms
		slices.SortFunc(got, func(x, y *crosscast.Instruction) int {
			return cmp.Or(len(x.Event)-len(y.Event), strings.Compare(x.Event, y.Event))
		})
	}
	for i, inst := range got {
		if a, w := normal(*inst), normal(fill(i)); !reflect.DeepEqual(a, w) {
			b.Fatalf("an instruction that was overwritten after Publish arrived so:\n%+v\ninstead "+
				"of:\n%+v", a, w)
		}
	}
}

// normal returns a copy with nil for empty slices, and without the reason ReasonServer, which is the default.
func normal(inst crosscast.Instruction) crosscast.Instruction {
	c := *cloneInstruction(&inst)
	t := &c.Target
	for _, names := range []*[]string{&t.Rooms, &t.Users, &t.ExceptRooms, &t.ExceptUsers} {
		if len(*names) == 0 {
			*names = nil
		}
	}
	if len(t.Sockets) == 0 {
		t.Sockets = nil
	}
	if len(t.ExceptSockets) == 0 {
		t.ExceptSockets = nil
	}
	if len(c.Meta) == 0 {
		c.Meta = nil
	}
	if len(c.Rooms) == 0 {
		c.Rooms = nil
	}
	if c.Reason == crosscast.ReasonServer {
		c.Reason = ""
	}
	return c
}
