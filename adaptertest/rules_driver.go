package adaptertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

var everyone = crosscast.Target{Everyone: true}

// Rules about the methods of Adapter, without a node.
var driverRules = []rule{
	{
		name: "driver-ready",
		text: "After Start has returned nil, every instruction to everyone from another ready node arrives.",
		run: func(b *bed) {
			first := b.startPeer(b.newPeer())
			for i := range 10 {
				p := b.startPeer(b.newPeer())
				all := fmt.Sprint("all", i)
				first.publish(first.emission(all, everyone))
				p.publish(p.emission("back", everyone))
				p.wait(all, 1)
				first.wait("back", i+1)
			}
		},
	},
	{
		name:       "driver-ready-inbox",
		text:       "After Start has returned nil, every instruction to this node from another ready node arrives.",
		capability: CapOneNode,
		run: func(b *bed) {
			first := b.startPeer(b.newPeer())
			for i := range 10 {
				p := b.startPeer(b.newPeer())
				first.publish(first.toNode(p, fmt.Sprint("one", i)))
				p.wait(fmt.Sprint("one", i), 1)
			}
		},
	},
	{
		name: "driver-count",
		text: "CountPeers returns the number of peers that would answer: those that have started, are not closed, " +
			"and use the namespace of the query. It never counts this node.",
		needs: needsForeign,
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			count := func(p *peer, namespace string, again bool) int {
				inst := &crosscast.Instruction{
					Kind: kind.Ask, Namespace: namespace, From: p.info.ID, Target: everyone, Ref: "1",
					TTL: b.patience, Question: &crosscast.Question{Kind: kind.AskCount},
				}
				peers, err := p.Adapter.(crosscast.ForeignAdapter).CountPeers(b.ctx, inst, again)
				b.must(err)
				return peers
			}
			counted := func(p *peer, namespace string, want int) {
				for _, again := range []bool{false, true} {
					b.eventually(fmt.Sprintf("counting %d peers in %s", want, namespace), func() bool {
						return count(p, namespace, again) == want
					})
				}
			}
			for _, p := range []*peer{p0, p1, p2} {
				counted(p, "/", 2)
				p.hearIn("/chat")
			}
			counted(p0, "/chat", 2)
			p3 := b.startPeer(b.newPeer())
			counted(p3, "/", 3)
			b.must(p1.Close(b.ctx))
			p1.end()
			counted(p0, "/", 2)
			counted(p2, "/chat", 1)
		},
	},
	{
		name: "driver-subscribe",
		text: "Subscribe can be repeated. A name that was unsubscribed and subscribed again is received, however " +
			"quickly that happened.",
		needs: needsSub,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			s := p1.Adapter.(crosscast.AdapterSubscriber)
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
		text:  "Flush waits until everything published before has an outcome. On an idle adapter it returns at once.",
		needs: needsReach,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			f := p0.Adapter.(crosscast.AdapterDeliverer)
			b.must(f.Flush(b.ctx))
			p1.hear(room("r"))
			m, metered := p0.Adapter.(crosscast.AdapterMeter)
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
		text: "An instruction that is too large for the driver either arrives, or is refused with an error that " +
			"matches ErrTooLarge. Later instructions are not affected.",
		run: func(b *bed) {
			b.heartbeat = max(b.heartbeat, 3*time.Second) // megabytes take long on a busy machine, and this rule has no faults
			p0, p1, _ := b.threePeers()
			var want []string
			largest := defaultPayload(p0.Adapter)
			for _, size := range []int{largest, 3 << 20, 16 << 20} {
				inst := p0.emission(fmt.Sprint("large", size), everyone)
				inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, size)}
				err := p0.Publish(b.ctx, inst)
				switch {
				case err == nil:
					want = append(want, inst.Event)
				case !errors.Is(err, crosscast.ErrTooLarge):
					b.Errorf("Publish of %d bytes: %v, which does not match ErrTooLarge", size, err)
				case size == largest:
					b.Errorf("Publish of %d bytes, the default limit of a node's payloads, is refused: %v", size, err)
				}
			}
			p0.publish(p0.emission("small", everyone))
			b.settlePeers()
			p1.want(append(want, "small")...)
		},
	},
	{
		name: "driver-slow-peer",
		text: "If a slow peer misses instructions because of a full queue, it gets a gap in their place. The " +
			"publisher waits no longer than its context.",
		run: func(b *bed) {
			p0 := b.startPeer(b.newPeer())
			slow := b.newPeer()
			release := make(chan struct{})
			free := sync.OnceFunc(func() { close(release) })
			defer free()
			slow.hold = func(*crosscast.Instruction) { <-release }
			b.startPeer(slow)
			b.startPeer(b.newPeer())
			payload := crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, 64<<10)}
			ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
			defer cancel()
			failed := make(map[string]bool)
			b.within("publishing 12 MiB, with a context of 100 ms, to a peer that handles nothing", func() {
				for i := range 192 {
					inst := p0.emission(fmt.Sprint("m", i), everyone)
					inst.Payload = payload
					failed[inst.Event] = p0.Publish(ctx, inst) != nil
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
		text: "Bytes of strangers are dropped and counted. They are never delivered, and never cause a panic. Later " +
			"messages are not affected.",
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
			b.eventually("Peek returns what was carried", func() bool { return len(b.cluster.Peek()) > 0 })
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
				for _, event := range c.got() { // a gap is allowed, because the bytes might be a damaged frame
					b.Errorf("a client got %q, made of a stranger's bytes", event)
				}
			}
			if _, ok := n1.adapter.(crosscast.AdapterMeter); ok {
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

// dropped returns how many messages the driver has dropped so far.
func (n *node) dropped() (sum uint64) {
	for _, v := range n.Stats().Adapter.Dropped {
		sum += v
	}
	return sum
}

// hostile returns messages that no node sends, and that must all be dropped: texts, noise, and damaged frames of
// package wire. The frames have a stranger as their origin, with rising numbers, so that they are not taken for copies.
func hostile() [][]byte {
	bad := [][]byte{
		[]byte("hello"), []byte(`{"event":"m","room":"r"}`), []byte("\x00"), []byte("\r\n+OK\r\n"),
		bytes.Repeat([]byte{0xff}, 1000), bytes.Repeat([]byte{0x00}, 1000),
		bytes.Repeat([]byte{0x91}, 100000),                                                             // arrays in arrays
		{0xdd, 0xff, 0xff, 0xff, 0xff}, {0xdf, 0xff, 0xff, 0xff, 0xff}, {0xc6, 0xff, 0xff, 0xff, 0xff}, // giant lengths
		bytes.Repeat([]byte("x"), 4<<20),
	}
	number := uint64(0)
	header := func() []byte { // of a frame of package wire
		number++
		b := binary.BigEndian.AppendUint64([]byte("\x97\xa2cc\x01\xa8stranger\xcf"), number)
		return append(b, "\xcf\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0"...)
	}
	whole, err := crosscast.AppendInstruction(nil, &crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", Event: "hostile", Target: everyone,
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`"payload"`)},
	})
	if err != nil {
		panic(err)
	}
	empty := len(header()) // a frame without instructions is a good one
	for i := 1; i < empty+len(whole); i++ {
		if i != empty {
			bad = append(bad, append(header(), whole...)[:i])
		}
	}
	frame := append(header(), whole...)
	frame[4] = 99 // the version
	return append(bad, frame, append(header(), 0xdd, 0xff, 0xff, 0xff, 0xff))
}
