package faults_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/faults/books"
	kindof "github.com/crosscast/crosscast/kind"
)

const coreKeepsNothing = "core NATS keeps nothing"

var _ = register(
	&row{
		number: 6, fault: "Redis cuts a subscriber whose output buffer of 1 MB is full, because its application stands still",
		expect: "a gap at that node only; it goes on; the others notice nothing",
		kinds:  single, run: outputBuffer,
	},
	&row{
		number: 7, fault: "a stranger publishes 31 MiB to everyone; a node emits more than its limit",
		expect: "dropped, or one gap; delivery within 1 s (in a Cluster, and two heartbeats); the node's own is refused before " +
			"any byte is sent",
		kinds: single, alone: true, run: giant,
	},
	&row{
		number: 22, fault: "a stranger publishes every prefix of valid frames",
		expect: "dropped and counted; no gap; no copies", kinds: single, run: prefixes,
	},
	&row{
		number: 23, fault: "a stranger publishes 1,000,000 frames of random bytes",
		expect: "no panic; at most 4 times the input and 4 KiB are allocated for each; the cost is bounded",
		kinds:  plain, run: randomBytes,
	},
	&row{
		number: 24, fault: "a stranger publishes hostile msgpack: giant lengths, deep nesting, unknown types",
		expect: "less than 1 ms each, no allocation beyond the input; nothing is delivered",
		kinds:  plain, run: hostileBytes,
	},
	&row{
		number: 25, fault: "frames of another version, of an unknown kind, and with more fields",
		expect: "the first two are ignored and counted, the third is delivered", kinds: plain, run: versions,
	},
	&row{
		number: 26, fault: "another program publishes text, JSON and frames of Socket.IO on our channels",
		expect: "ignored, and counted as foreign", kinds: plain, run: foreigners,
	},
	&row{
		number: 28, fault: "a valid frame is published again 100 times", expect: "one delivery",
		kinds: plain, run: replayed,
	},
	&row{
		number: 40, fault: "Redis is above its maxmemory, with noeviction", expect: "delivery is not affected; its part " +
			"about kept rooms does not apply",
		kinds: []kind{resp2, resp3, withTLS, cluster, sharded, shards}, run: outOfMemory,
		not: map[kind]string{natsOne: coreKeepsNothing, natsMany: coreKeepsNothing},
	},
	&row{
		number: 41, fault: "a stream is trimmed or deleted under its reader", expect: "a gap",
		applies: "does not apply: there are no kept rooms",
	},
)

const (
	everyone = "cc:all" // a topic
	ofRoom   = "cc:r:/:" + room
)

// publish publishes all as a stranger, and returns when the servers have passed them on.
func (b *bed) publish(topic string, all [][]byte) {
	b.Helper()
	b.site.publish(topic, all)
}

// capture returns frames that the nodes publish on a topic.
func (b *bed) capture(topic string, n int) [][]byte {
	b.Helper()
	return b.site.capture(topic, n)
}

// dropped is what a node's adapter has dropped for some reasons; for none of them: for any.
func (n *node) dropped(reasons ...string) (sum uint64) {
	n.tb.Helper()
	for reason, count := range n.stats().Dropped {
		if len(reasons) == 0 || strings.Contains(strings.Join(reasons, ","), reason) {
			sum += count
		}
	}
	return sum
}

// strangersDrop publishes all on a channel, and checks that the nodes drop and count them for one of the reasons, and
// deliver none.
func (b *bed) strangersDrop(nodes []*node, channel string, all [][]byte, reasons ...string) {
	b.Helper()
	if b.keys != nil && reasons != nil { // by then it has another reason
		reasons = append(reasons, "foreign", "unsealed", "unknown key", "broken seal")
	}
	before := make([]uint64, len(nodes))
	for i, n := range nodes {
		before[i] = n.dropped(reasons...)
	}
	b.publish(channel, all)
	b.meet(b.ledger.Len())
	for i, n := range nodes {
		// The channel might come over another connection than what was met with.
		var got uint64
		if !b.soon(func() bool {
			got = n.dropped(reasons...) - before[i]
			return got >= uint64(len(all))
		}) {
			b.Errorf("%s has dropped %d of %d on %s, %v", n, got, len(all), channel, n.stats().Dropped)
		}
		if s := n.stats().Strange; s > 0 {
			b.Errorf("%s has delivered %d messages of a stranger", n, s)
		}
	}
}

// soon waits until done is true, and reports whether it has become that.
func (b *bed) soon(done func() bool) bool {
	for until := time.Now().Add(patience); ; b.last(5 * time.Millisecond) {
		if done() {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

// outputBuffer has n1's client stand still, which keeps n1 from reading, until Redis cuts its connection.
func outputBuffer(b *bed) {
	b.startSite(siteConfig{nats: natsConfig{MaxPending: 1 << 20}})
	b.startNodes(func(c *childConfig) { c.QueueBytes = 4 << 20 }) // a part of it is kept for reuse
	for _, admin := range b.site.admin() {
		if err := admin.ConfigSet(b.Context(), "client-output-buffer-limit", "pubsub 1mb 0 0").Err(); err != nil {
			b.Fatal(err)
		}
	}
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{""}, Reasons: []string{"link lost"}})
	for _, n := range b.nodes {
		n.do(command{Do: "stop"})
	}
	mended := b.fault("the client of n1 stands still")
	b.nodes[0].do(command{Do: "stall"})
	links := len(b.site.subscribers())
	for until := time.Now().Add(patience); len(b.site.subscribers()) == links; {
		if time.Now().After(until) {
			b.Fatal("the server does not cut the connection")
		}
		for _, n := range b.nodes[1:] {
			n.do(command{Do: "emit", Room: room, N: 20, Size: 32 << 10})
		}
		b.last(20 * time.Millisecond)
	}
	b.nodes[0].do(command{Do: "go on"})
	mended()
	b.traffic()
	b.meet(b.ledger.Len())
	b.settle()
	b.recovered(5 * time.Second)
}

// giant publishes a message that Redis passes on, and no node takes.
func giant(b *bed) {
	b.startSite(siteConfig{nats: natsConfig{MaxPayload: 32 << 20}})
	b.startNodes()
	reasons, within := []string{"link lost"}, time.Second
	if b.kind == cluster { // its masters might lose what they pass on to each other meanwhile, which makes links deaf
		reasons, within = append(reasons, "link deaf"), within+2*b.heartbeat
	}
	b.allow(books.Allow{Origins: []string{""}, Reasons: reasons, Most: 1})
	mended := b.fault("a message of 31 MiB")
	b.publish(everyone, [][]byte{make([]byte, 31<<20)})
	if b.kind == sharded { // which has a connection of its own for rooms
		b.publish(ofRoom, [][]byte{make([]byte, 31<<20)})
	}
	mended()
	b.meet(b.ledger.Len())
	before := b.nodes[0].dropped()
	_, err := b.nodes[0].try(command{Do: "emit", Room: room, N: 1, Size: 1<<20 + 1})
	if err == nil || !strings.Contains(err.Error(), "1048577") {
		b.Errorf("a payload above the limit: %v", err)
	}
	b.settle()
	b.recovered(within)
	if n := b.nodes[0].dropped(); n != before {
		b.Errorf("%d dropped", n-before)
	}
}

// prefixes publishes every prefix of frames that were delivered.
func prefixes(b *bed) {
	b.start()
	for _, channel := range []string{ofRoom, everyone} {
		var all [][]byte
		for _, frame := range b.capture(channel, 30) {
			// A node says nothing of what comes in its own name.
			for i := 1; i < len(frame) && bytes.Contains(frame, []byte(b.nodes[0].id)); i++ {
				all = append(all, frame[:i])
			}
		}
		b.strangersDrop(b.nodes[1:], channel, all)
	}
	b.settle()
}

// randomBytes publishes noise.
func randomBytes(b *bed) {
	b.start()
	for _, n := range b.nodes {
		n.do(command{Do: "stop"})
	}
	total, size := pick(b, 20_000, 1_000_000), 0
	before := b.nodes[0].stats()
	for sent := 0; sent < total; {
		var all [][]byte
		for range min(10_000, total-sent) {
			data := make([]byte, b.rand.IntN(400))
			for i := range data {
				data[i] = byte(b.rand.Uint32())
			}
			all, size = append(all, data), size+len(data)
		}
		sent += len(all)
		b.publish([]string{ofRoom, everyone}[b.rand.IntN(2)], all)
	}
	b.settle()
	after := b.nodes[0].stats()
	allocated := int(after.Allocated - before.Allocated)
	each := (after.CPU - before.CPU) / time.Duration(total)
	b.note = fmt.Sprintf("%d of them; each costs %v and allocates %d bytes", total, each.Round(100*time.Nanosecond), allocated/total)
	if most := 4*size + total*(4<<10); allocated > most {
		b.Errorf("%d frames with %d bytes allocate %d bytes", total, size, allocated)
	}
	if each > time.Millisecond {
		b.Errorf("a frame costs %v", each)
	}
	if after.Strange > 0 {
		b.Errorf("%d were delivered", after.Strange)
	}
}

// strangeFrame is a frame in the name of a node that does not exist, with numbers that rise.
func strangeFrame(number *uint64, items ...[]byte) []byte {
	*number++
	frame := binary.BigEndian.AppendUint64([]byte("\x97\xa2cc\x01\xa8stranger\xcf"), *number)
	frame = append(frame, "\xcf\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0"...)
	return append(frame, bytes.Join(items, nil)...)
}

// strangeEmission is an item of such a frame.
func (b *bed) strangeEmission(k kindof.Kind) []byte {
	b.Helper()
	data, err := crosscast.AppendInstruction(nil, &crosscast.Instruction{
		Kind: k, Namespace: "/", Event: "strange", Target: crosscast.Target{Everyone: true},
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`"payload"`)},
	})
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// hostileBytes publishes frames with good headers, and bodies that no decoder may trust.
func hostileBytes(b *bed) {
	b.start()
	// A damaged frame might hide emissions of whoever sent it.
	b.allow(books.Allow{Origins: []string{"stranger"}, Reasons: []string{"hole", "invalid"}, Loose: true})
	bodies := []string{
		"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\x01",
		"\xdc\xff\xff", "\xde\xff\xff", "\xda\xff\xff", "\xc1", "\xd4\x01\x00", "\x96\x01\xdd\x7f\xff\xff\xff",
		"\x96\x01\x00\xc0\x92\xc3\xdd\x7f\xff\xff\xff", "\x96\x01\x00\xdb\x7f\xff\xff\xff", "\x95\x01\x00\xc0\xc0\xdb\xff\xff\xff\xff",
		"\x96\x01\x00\xc0\x91\xc3\xa1x" + strings.Repeat("\x91", 100_000),
		"\x96\x01\x00\xc0\x91\xc3\xa1x" + strings.Repeat("\x81\xa1k", 50_000),
		strings.Repeat("\x91", 100_000), strings.Repeat("\x81", 100_000), strings.Repeat("\xdc\xff\xff", 30_000),
		strings.Repeat("\x90", 100_000), strings.Repeat("\x01", 100_000),
		"\x96\x01\x00\xc0\x91\xc3\xa1x\xa2{]", "\x91", "\x9f\x01", "\x96\xcb\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x91\xc3\xa1x\xa2{}",
	}
	for _, n := range b.nodes {
		n.do(command{Do: "stop"})
	}
	number, size, count := uint64(0), 0, 0
	before := b.nodes[0].stats()
	var all [][]byte
	for range pick(b, 4, 40) {
		for _, body := range bodies {
			all = append(all, strangeFrame(&number, []byte(body)))
			size, count = size+len(body), count+1
		}
	}
	b.publish(ofRoom, all)
	b.settle()
	after := b.nodes[0].stats()
	each := (after.CPU - before.CPU) / time.Duration(count)
	b.note = fmt.Sprintf("each costs %v", each.Round(time.Microsecond))
	if each > time.Millisecond {
		b.Errorf("a frame costs %v", each)
	}
	if allocated := int(after.Allocated - before.Allocated); allocated > 4*size+count*(4<<10)+(4<<20) {
		b.Errorf("%d frames with %d bytes allocate %d bytes", count, size, allocated)
	}
	if after.Strange > 0 {
		b.Errorf("%d were delivered", after.Strange)
	}
}

// versions publishes frames that another version might write.
func versions(b *bed) {
	b.start()
	number := uint64(0)
	later := strangeFrame(&number, b.strangeEmission(kindof.Emit))
	later[4] = 2
	b.strangersDrop(b.nodes, everyone, [][]byte{later, later}, "version")
	b.publish(everyone, [][]byte{strangeFrame(&number, b.strangeEmission(200))})
	b.strangersDrop(b.nodes, everyone, nil)

	wider := strangeFrame(&number)
	wider[0]++ // one more element, behind the losses
	wider = append(append(wider, 0xc3), "\xdc\x00\x10"...)
	wider = append(append(wider, b.strangeEmission(kindof.Emit)[1:]...), strings.Repeat("\xc0", 9)...)
	wider = append(wider, 0xc3) // and one behind those of an instruction
	b.publish(everyone, [][]byte{wider})
	b.meet(b.ledger.Len())
	for _, n := range b.nodes {
		if !b.soon(func() bool { return n.stats().Strange == 1 }) {
			s := n.stats()
			b.Errorf("%s has delivered %d messages with more fields; dropped %v", n, s.Strange, s.Dropped)
		}
	}
	b.settle()
}

// foreigners publish what is not ours.
func foreigners(b *bed) {
	b.start()
	all := [][]byte{
		[]byte("hello"), []byte(`{"event":"x","room":"room"}`), []byte(`42["roomMessage",{"a":1}]`), []byte("PING\r\n"), {0},
		[]byte("\x93\xa6uid123\x83\xa4type\x02\xa4data\x92\xa1x\x01\xa3nsp\xa1/\x83\xa5rooms\x91\xa5room1"),
		bytes.Repeat([]byte("x"), 1<<20),
	}
	for _, channel := range []string{ofRoom, everyone} {
		b.strangersDrop(b.nodes, channel, all, "foreign")
	}
	b.settle()
}

// replayed publishes delivered frames again.
func replayed(b *bed) {
	b.start()
	for _, channel := range []string{ofRoom, everyone} {
		frame := b.capture(channel, 1)[0]
		var all [][]byte
		for range 100 {
			all = append(all, frame)
		}
		copies := func() uint64 { return b.nodes[1].dropped("copy") + b.nodes[2].dropped("copy") }
		before := copies()
		b.publish(channel, all)
		b.meet(b.ledger.Len())
		// The frame's own node takes it for an echo.
		if !b.soon(func() bool { return copies()-before >= 100 }) {
			b.Errorf("%d copies were dropped on %s", copies()-before, channel)
		}
	}
	b.settle()
}

// set sets a key. A master of a cluster has only some of them.
func set(ctx context.Context, admin *redis.Client) (err error) {
	for i := range 100 {
		err = admin.Set(ctx, fmt.Sprint("key", i), "value", 0).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "MOVED ") {
			break
		}
	}
	return err
}

// outOfMemory fills Redis.
func outOfMemory(b *bed) {
	b.start()
	mended := b.fault("maxmemory, noeviction")
	for _, admin := range b.site.admin() {
		for _, kv := range [][2]string{{"maxmemory-policy", "noeviction"}, {"maxmemory", "1mb"}} {
			if err := admin.ConfigSet(b.Context(), kv[0], kv[1]).Err(); err != nil {
				b.Fatal(err)
			}
		}
		if err := set(b.Context(), admin); err == nil || !strings.Contains(err.Error(), "OOM") {
			b.Errorf("Redis is not out of memory: %v", err)
		}
	}
	b.last(pick(b, time.Second, 10*time.Second))
	for _, admin := range b.site.admin() {
		if err := admin.ConfigSet(b.Context(), "maxmemory", "0").Err(); err != nil {
			b.Fatal(err)
		}
	}
	mended()
	b.settle()
}
