package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

var everyone = crosscast.Target{Everyone: true}

// Rules of the methods of Adapter, without a node.
var driverRules = []rule{
	{
		name: "driver-ready",
		text: "When Start has returned nil, whatever another ready node publishes to everyone, or to this node, " +
			"arrives.",
		run: func(b *bed) {
			first := b.startPeer(b.newPeer())
			for i := range 10 {
				p := b.startPeer(b.newPeer())
				all, one := fmt.Sprint("all", i), fmt.Sprint("one", i)
				first.publish(first.emission(all, everyone))
				in := first.emission(one, everyone)
				in.To = p.info.ID
				first.publish(in)
				p.publish(p.emission("back", everyone))
				p.wait(all, 1)
				p.wait(one, 1)
				first.wait("back", i+1)
			}
		},
	},
	{
		name: "driver-fields",
		text: "Every field of an instruction arrives as it was published, for every kind of instruction.",
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			p1.hear(room("r"))
			id := crosscast.SocketID(string(p1.info.ID) + "socket-id-12")
			full := crosscast.Instruction{
				Kind: crosscast.KindEmit, Flags: crosscast.Volatile, Namespace: "/chat", From: p0.info.ID, Event: "all",
				Target: crosscast.Target{
					Everyone: true, ExceptRooms: []string{"a", "b"}, ExceptUsers: []string{"c"},
					ExceptSockets: []crosscast.SocketID{id},
				},
				Payload: crosscast.Payload{Encoding: crosscast.Binary, Data: []byte{0, 1, 254, 255}},
				Meta:    []crosscast.KeyValue{{Key: "k", Value: "v"}, {Key: "k", Value: ""}},
			}
			many := full
			many.Event = "many"
			many.Target = crosscast.Target{
				Rooms: []string{"r", "s"}, Users: []string{"u"}, Sockets: []crosscast.SocketID{id}, ExceptRooms: []string{"x"},
			}
			many.Namespace, many.Flags, many.Meta = "/", 0, nil
			single := *p0.emission("single", toRoom("r"))
			single.Payload = crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`{}`)}
			inbox := full
			inbox.Event, inbox.To = "inbox", p1.info.ID
			sent := []crosscast.Instruction{full, many, single, inbox}
			node := crosscast.NodeInfo{ID: p0.info.ID, Name: "n\x00é", Heartbeat: 1500 * time.Millisecond}
			for _, kind := range []crosscast.Kind{crosscast.KindHello, crosscast.KindHeartbeat, crosscast.KindGoodbye} {
				sent = append(sent,
					crosscast.Instruction{Kind: kind, Namespace: "/", From: p0.info.ID, Target: everyone, Node: node},
					crosscast.Instruction{Kind: kind, Namespace: "/", From: p0.info.ID, To: p1.info.ID, Node: node})
			}
			for _, in := range sent {
				p0.publish(&in)
				b.settlePeers() // hellos and heartbeats may overtake
				got := p1.handled()
				if len(got) != 1 {
					b.Errorf("of one instruction (kind %d, %q) %d arrived", in.Kind, in.Event, len(got))
					continue
				}
				g := got[0]
				if in.Kind != crosscast.KindEmit {
					g.Target, in.Target = crosscast.Target{}, crosscast.Target{} // the kind and To say all
					g.Node.ID, in.Node.ID = "", ""                               // From says it
				}
				if a, w := normal(*g), normal(in); !reflect.DeepEqual(a, w) {
					b.Errorf("published: %+v\narrived:   %+v", w, a)
				}
			}
			p2.handled()
		},
	},
	{
		name: "driver-to",
		text: "An instruction with To reaches that node and no other; one to a node that does not exist reaches " +
			"nobody.",
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			for i := range 20 {
				in := p0.emission(fmt.Sprint("m", i), everyone)
				in.To = p1.info.ID
				p0.publish(in)
				stray := p0.emission("stray", everyone)
				stray.To = crosscast.NewNodeID()
				p0.publish(stray)
			}
			b.settlePeers()
			p1.want(numbered("m", 20)...)
			p2.want()
		},
	},
	{
		name: "driver-order",
		text: "An instruction of another kind than emit (heartbeats excepted), and one to a single node, keeps its " +
			"place too.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			p1.hear(room("r"))
			for i := range 100 {
				p0.publish(p0.emission(fmt.Sprint("m", 2*i), toRoom("r")))
				in := p0.emission(fmt.Sprint("m", 2*i+1), everyone)
				in.Kind = crosscast.KindGoodbye
				p0.publish(in)
			}
			b.settlePeers()
			var kinds []string
			for i, in := range p1.handled() {
				if want := []crosscast.Kind{crosscast.KindEmit, crosscast.KindGoodbye}[i%2]; in.Kind != want {
					b.Fatalf("emissions and goodbyes were published in turns; instruction %d is of kind %d", i, in.Kind)
				}
				kinds = append(kinds, in.Event)
			}
			if len(kinds) != 200 {
				b.Errorf("%d of 200 instructions arrived", len(kinds))
			}
			for i := range 100 {
				in := p0.emission(fmt.Sprint("inbox", i), everyone)
				in.To = p1.info.ID
				p0.publish(in)
			}
			b.settlePeers()
			p1.want(numbered("inbox", 100)...)
		},
	},
	{
		name: "driver-memory",
		text: "Publish keeps nothing of the instruction: everything in it may be overwritten as soon as it has " +
			"returned.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			p1.hear(room("r"), room("r0"), room("r1"))
			rooms, except := make([]string, 2), make([]string, 1)
			sockets, meta := make([]crosscast.SocketID, 1), make([]crosscast.KeyValue, 1)
			data := make([]byte, 64)
			in := new(crosscast.Instruction)
			for i := range 200 {
				rooms[0], rooms[1], except[0] = "r", fmt.Sprint("r", i%2), fmt.Sprint("x", i)
				sockets[0] = crosscast.SocketID(fmt.Sprintf("%ssocket-%05d", p0.info.ID, i))
				meta[0] = crosscast.KeyValue{Key: "k", Value: fmt.Sprint(i)}
				copy(data, fmt.Sprintf("%064d", i))
				*in = crosscast.Instruction{
					Kind: crosscast.KindEmit, Namespace: "/", From: p0.info.ID, Event: fmt.Sprint("m", i), Meta: meta,
					Target:  crosscast.Target{Rooms: rooms, ExceptRooms: except, ExceptSockets: sockets},
					Payload: crosscast.Payload{Encoding: crosscast.Binary, Data: data},
				}
				p0.publish(in)
				*in = crosscast.Instruction{Kind: crosscast.KindEmit, Namespace: "BAD", Event: "BAD", Target: everyone}
				rooms[0], rooms[1], except[0], sockets[0], meta[0].Value = "BAD", "BAD", "BAD", "BAD", "BAD"
				copy(data, bytes.Repeat([]byte("BAD!"), 16))
			}
			b.settlePeers()
			got := p1.handled()
			if len(got) != 200 {
				b.Errorf("%d of 200 instructions arrived", len(got))
			}
			for i, in := range got {
				want := crosscast.Instruction{
					Kind: crosscast.KindEmit, Namespace: "/", From: p0.info.ID, Event: fmt.Sprint("m", i),
					Meta: []crosscast.KeyValue{{Key: "k", Value: fmt.Sprint(i)}},
					Target: crosscast.Target{
						Rooms: []string{"r", fmt.Sprint("r", i%2)}, ExceptRooms: []string{fmt.Sprint("x", i)},
						ExceptSockets: []crosscast.SocketID{crosscast.SocketID(fmt.Sprintf("%ssocket-%05d", p0.info.ID, i))},
					},
					Payload: crosscast.Payload{Encoding: crosscast.Binary, Data: fmt.Appendf(nil, "%064d", i)},
				}
				if a, w := normal(*in), normal(want); !reflect.DeepEqual(a, w) {
					b.Fatalf("an instruction that was overwritten after Publish arrived so:\n%+v\ninstead "+
						"of:\n%+v", a, w)
				}
			}
		},
	},
	{
		name: "driver-subscribe",
		text: "Subscribe can be repeated; a name that was unsubscribed and subscribed again is heard, however " +
			"quickly that went.",
		needs: needsSub,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			s := p1.Adapter.(crosscast.Subscriber)
			for i := range 100 {
				name := room(fmt.Sprint("r", i%3))
				b.must(s.Subscribe(b.ctx, name, room("stays")))
				b.must(s.Subscribe(b.ctx, name))
				b.must(s.Unsubscribe(b.ctx, name))
				b.must(s.Subscribe(b.ctx, name))
				p0.publish(p0.emission(fmt.Sprint("m", i), toRoom(name.Name)))
				p1.wait(fmt.Sprint("m", i), 1)
				b.must(s.Unsubscribe(b.ctx, name))
				b.must(s.Unsubscribe(b.ctx, name))
			}
			p0.publish(p0.emission("stays", toRoom("stays")))
			b.settlePeers()
			p1.want(append(numbered("m", 100), "stays")...)
		},
	},
	{
		name:  "driver-flush",
		text:  "Flush waits until everything published before has an outcome, and on an idle adapter for nothing.",
		needs: needsFlush,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			f := p0.Adapter.(crosscast.Flusher)
			b.must(f.Flush(b.ctx))
			p1.hear(room("r"))
			m, metered := p0.Adapter.(crosscast.Meter)
			for range 20 {
				for range 50 {
					p0.publish(p0.emission("m", toRoom("r")))
				}
				b.must(f.Flush(b.ctx))
				if metered && m.AdapterStats().QueueBytes > 0 {
					b.Errorf("after Flush %d bytes are queued", m.AdapterStats().QueueBytes)
				}
			}
			p1.wait("m", 1000)
			ctx, cancel := context.WithCancel(b.ctx)
			cancel()
			b.within("Flush with a context that has ended", func() { f.Flush(ctx) })
		},
	},
	{
		name: "driver-too-large",
		text: "An instruction that is too large for the driver is refused with an error that matches ErrTooLarge, or " +
			"it arrives; " +
			"those after it are not harmed.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			var want []string
			for _, size := range []int{1 << 20, 3 << 20, 16 << 20} {
				in := p0.emission(fmt.Sprint("large", size), everyone)
				in.Payload = crosscast.Payload{Encoding: crosscast.Binary, Data: make([]byte, size)}
				err := p0.Publish(b.ctx, in)
				switch {
				case err == nil:
					want = append(want, in.Event)
				case !errors.Is(err, crosscast.ErrTooLarge):
					b.Errorf("Publish of %d bytes: %v, which does not match ErrTooLarge", size, err)
				case size == 1<<20:
					b.Errorf("Publish of 1 MiB, the default limit of a node's payloads, is refused: %v", err)
				}
			}
			p0.publish(p0.emission("small", everyone))
			b.settlePeers()
			p1.want(append(want, "small")...)
		},
	},
	{
		name: "driver-slow-peer",
		text: "What a slow peer misses because of a full queue it hears of as a gap in its place, and the publisher " +
			"waits no longer than its context.",
		run: func(b *bed) {
			p0 := b.startPeer(b.newPeer())
			slow := b.newPeer()
			release := make(chan struct{})
			free := sync.OnceFunc(func() { close(release) })
			defer free()
			slow.hold = func(*crosscast.Instruction) { <-release }
			b.startPeer(slow)
			b.startPeer(b.newPeer())
			payload := crosscast.Payload{Encoding: crosscast.Binary, Data: make([]byte, 64<<10)}
			ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
			defer cancel()
			failed := make(map[string]bool)
			b.within("publishing 12 MiB, with a context of 100 ms, to a peer that handles nothing", func() {
				for i := range 192 {
					in := p0.emission(fmt.Sprint("m", i), everyone)
					in.Payload = payload
					failed[in.Event] = p0.Publish(ctx, in) != nil
				}
			})
			free()
			b.settlePeers()
			next, gap := 0, false
			for _, e := range slow.log.take() {
				if e.gap != nil {
					gap = true
					continue
				}
				var n int
				if _, err := fmt.Sscanf(e.msg.Event, "m%d", &n); err != nil {
					continue
				}
				for ; next < n; next++ {
					if !gap && !failed[fmt.Sprint("m", next)] {
						b.Fatalf("m%d came, and m%d before it did not; there was no gap, and Publish had returned "+
							"nil", n, next)
					}
				}
				next, gap = n+1, false
			}
			for ; next < 192; next++ {
				if !gap && !failed[fmt.Sprint("m", next)] {
					b.Fatalf("m%d did not come; there was no gap, and Publish had returned nil", next)
				}
			}
		},
	},
	{
		name: "driver-no-false-gap",
		text: "There is no gap and no loss without a cause.",
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			for i := range 50 {
				for _, p := range []*peer{p0, p1, p2} {
					p.hear(room(fmt.Sprint("r", i)))
					p.publish(p.emission("m", toRoom(fmt.Sprint("r", i), fmt.Sprint("r", i-1))))
					p.publish(p.emission("m", everyone))
					p.publish(p.emission("m", toRoom(fmt.Sprint("r", i/2))))
				}
			}
			b.settlePeers()
			for _, p := range b.peers {
				p.mu.Lock()
				if len(p.gaps)+len(p.losses) > 0 {
					b.Errorf("nothing went wrong, and %s was told of gaps %+v and losses "+
						"%+v", p.info.Name, p.gaps, p.losses)
				}
				p.mu.Unlock()
			}
		},
	},
	{
		name: "driver-hostile-bytes",
		text: "Bytes of strangers are dropped and counted, never delivered, never a panic, and what follows them is " +
			"not harmed.",
		needs: needsBytes,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c := b.connect(n1, connect{User: "u", Rooms: []string{"r"}})
			b.connect(n2, connect{User: "u", Rooms: []string{"r"}})
			b.emit(n0.To("r"), "m")
			b.emit(n0.ToUser("u"), "m")
			b.settle()
			for _, c := range b.clients {
				c.log.take()
			}
			topics := make(map[string]bool)
			for _, p := range b.cluster.Peek() {
				topics[p.Topic] = true
			}
			before := n1.dropped()
			bad := hostile()
			for topic := range topics {
				for _, data := range bad {
					b.cluster.Inject(Packet{Topic: topic, Data: data})
				}
			}
			b.settle()
			for _, c := range b.clients {
				for _, event := range c.got() { // a gap is allowed: who knows what it was
					b.Errorf("a client got %q, made of a stranger's bytes", event)
				}
			}
			if _, ok := n1.adapter.(crosscast.Meter); ok {
				if counted := n1.dropped() - before; counted < uint64(len(bad)) {
					b.Errorf("%d pieces of bytes were sent, on each of %d topics, and a node counts %d in "+
						"AdapterStats.Dropped",
						len(bad), len(topics), counted)
				}
			}
			b.emit(n0.To("r"), "after")
			b.emit(n0.ToUser("u"), "after")
			b.settle()
			c.want("after", "after")
		},
	},
}

// dropped is how much the driver has dropped so far.
func (n *node) dropped() (sum uint64) {
	for _, v := range n.Stats().Adapter.Dropped {
		sum += v
	}
	return sum
}

// normal makes empty slices nil.
func normal(in crosscast.Instruction) crosscast.Instruction {
	c := *cloneInstruction(&in)
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
	return c
}

// hostile returns bytes that no node sends, each of which must be dropped: texts, noise, and damaged frames of package
// wire. The latter name a stranger as their origin, with rising numbers, so that they are not taken for copies.
func hostile() [][]byte {
	bad := [][]byte{
		[]byte("hello"), []byte(`{"event":"m","room":"r"}`), []byte("\x00"), []byte("\r\n+OK\r\n"),
		bytes.Repeat([]byte{0xff}, 1000), bytes.Repeat([]byte{0x00}, 1000),
		bytes.Repeat([]byte{0x91}, 100000),                                                             // arrays in arrays
		{0xdd, 0xff, 0xff, 0xff, 0xff}, {0xdf, 0xff, 0xff, 0xff, 0xff}, {0xc6, 0xff, 0xff, 0xff, 0xff}, // giant lengths
		bytes.Repeat([]byte("x"), 4<<20),
	}
	header := crosscast.FrameHeader{Origin: "stranger", Number: 1}
	in := &crosscast.Instruction{
		Kind: crosscast.KindEmit, Namespace: "/", Event: "hostile", Target: everyone,
		Payload: crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`"payload"`)},
	}
	whole := crosscast.AppendInstruction(nil, in, crosscast.Address{}, 0)
	empty := len(crosscast.AppendFrameHeader(nil, &header)) // a frame without instructions is a good one
	for i := 1; i < empty+len(whole); i++ {
		if i == empty {
			continue
		}
		frame := append(crosscast.AppendFrameHeader(nil, &header), whole...)
		bad = append(bad, frame[:i])
		header.Number++
	}
	frame := append(crosscast.AppendFrameHeader(nil, &header), whole...)
	frame[4] = 99 // the version
	bad = append(bad, frame)
	header.Number++
	giant := crosscast.AppendFrameHeader(nil, &header)
	return append(bad, append(giant, 0xdd, 0xff, 0xff, 0xff, 0xff))
}
