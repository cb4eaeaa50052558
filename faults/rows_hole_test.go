package faults_test

import (
	"bytes"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	"github.com/crosscast/crosscast/internal/faultproxy"
)

var _ = register(&row{
	number: 49, fault: "single frames of one room are taken out of what a node receives, while all links stand",
	expect: "a gap of that room and their origin only, before anything later; found with the next frame",
	kinds:  []kind{resp2, cluster, sharded, shards, natsOne}, run: holes,
})

// holes takes out frames of n2 to the room. Another room, and n3, have traffic, too.
func holes(b *bed) {
	rooms := []string{room, "other"}
	proxy := b.ofRoom(b.startProxied(func(c *childConfig) { c.Rooms = rooms }))
	n1, n2 := b.nodes[0], b.nodes[1]
	for _, n := range b.nodes {
		n.do(command{Do: "stream", Room: "other", Time: b.every})
	}
	b.allow(books.Allow{Nodes: []string{"n1"}, Origins: []string{"n2"}, Rooms: []string{room}, Reasons: []string{"hole"}})
	head := b.head(ofRoom)
	var taken atomic.Int64
	for range pick(b, 10, 100) {
		var once atomic.Bool
		from := b.ledger.Len()
		mended := b.fault("a frame of n2 is taken out")
		proxy.Set(faultproxy.Down, faultproxy.Faults{Change: func(read []byte) []byte {
			rest, found := without(read, head, n2.id)
			if !found || !once.CompareAndSwap(false, true) {
				return read
			}
			taken.Add(1)
			return rest
		}})
		b.wait(from, "a gap of n2", func(e *books.Entry) bool {
			return e.Is == books.GapOf && e.Node == n1.id && e.Gap.Origin == n2.id
		})
		mended()
		b.last(time.Duration(b.rand.IntN(50)) * time.Millisecond)
	}
	proxy.Set(faultproxy.Down, faultproxy.Faults{})
	b.settleIn(rooms...)
	gaps := b.count(func(e *books.Entry) bool { return e.Is == books.GapOf })
	if int64(gaps) != taken.Load() {
		b.Errorf("%d frames were taken out, and there are %d gaps", taken.Load(), gaps)
	}
	b.note = fmt.Sprintf("%d frames", taken.Load())
}

// head is the beginning of a message on a topic, in what a server sends. The payload's length, the end of the line and
// the payload follow. With NATS it has the subscription, and the subject for replies, before the length.
func (b *bed) head(topic string) []byte {
	if b.kind.isNATS() {
		return []byte("MSG " + subjectOf(topic) + " ")
	}
	_, name := redisBus{b.site}.channel(topic)
	word := "message"
	if name != topic {
		word = "smessage"
	}
	return fmt.Appendf(nil, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$", len(word), word, len(name), name)
}

// without takes the first message of an origin with a head out of what a server sends, if it is whole.
func without(read, head []byte, origin string) (rest []byte, found bool) {
	for from := 0; ; {
		i := bytes.Index(read[from:], head)
		if i < 0 {
			return nil, false
		}
		begin := from + i
		length, payload, ok := bytes.Cut(read[begin+len(head):], []byte("\r\n"))
		n, err := strconv.Atoi(string(length[bytes.LastIndexByte(length, ' ')+1:]))
		if !ok || err != nil || len(payload) < n+2 {
			return nil, false
		}
		if bytes.Contains(payload[:n], []byte(origin)) {
			return append(bytes.Clone(read[:begin]), payload[n+2:]...), true
		}
		from = begin + len(head)
	}
}
