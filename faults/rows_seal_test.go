package faults_test

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/crosscast/crosscast/faults/books"
	kindof "github.com/crosscast/crosscast/kind"
)

// The rows on strangers, where frames are sealed.
var _ = register(
	sealedRow(22, "a stranger publishes every prefix of valid frames", prefixes),
	sealedRow(24, "a stranger publishes hostile msgpack", hostileBytes),
	sealedRow(26, "another program publishes text, JSON and frames of Socket.IO on our channels", foreigners),
	sealedRow(28, "a valid frame is published again 100 times", replayed),
	&row{
		number: 27, fault: "a frame without a seal, with a wrong one, with a flipped bit",
		expect: "dropped before it is parsed, and counted; no gap", kinds: plain, run: wrongSeal,
	},
	&row{
		number: 29, fault: "a frame is replayed after its receiver has restarted, after its sender's end, and in another room",
		expect: "dropped; its part about kept rooms does not apply", kinds: plain, run: replayedElsewhere,
	},
	&row{number: 30, fault: "keys are changed under load", expect: "nothing is dropped or missed", kinds: plain, run: changeKeys},
)

func sealedRow(number int, fault string, run func(b *bed)) *row {
	return &row{
		number: number, part: "s", fault: fault + ", and frames are sealed", expect: "dropped and counted; no gap; no copies",
		kinds: plain,
		run:   func(b *bed) { b.keys = [][]byte{oldKey}; run(b) },
	}
}

var oldKey, newKey = bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)

// wrongSeal publishes what the seal must refuse.
func wrongSeal(b *bed) {
	b.keys = [][]byte{oldKey}
	b.start()
	number := uint64(0)
	for _, channel := range []string{ofRoom, everyone} {
		frame := b.capture(channel, 1)[0]
		all := [][]byte{strangeFrame(&number, b.strangeEmission(kindof.Emit)), append(slices.Clone(frame), 0)}
		for bit := 24; bit < 8*len(frame); bit++ { // without the first bytes it is no sealed frame
			bad := slices.Clone(frame)
			bad[bit/8] ^= 1 << (bit % 8)
			all = append(all, bad)
		}
		b.strangersDrop(b.nodes, channel, all, "unsealed", "unknown key", "broken seal", "version")
	}
	b.settle()
}

// replayedElsewhere publishes captured frames where, and when, they must not be good any more.
func replayedElsewhere(b *bed) {
	b.keys = [][]byte{oldKey}
	b.start()
	captured := b.capture(ofRoom, 30)
	b.strangersDrop(b.nodes, everyone, captured, "broken seal")
	before := b.nodes[2]
	if _, err := before.try(command{Do: "close", Time: 5 * time.Second}); err != nil {
		b.Error(err)
	}
	before.end()
	b.node("n4") // in its place
	b.traffic()
	b.meet(b.ledger.Len())
	// What n4 has not got is late there, and a gap; that of its predecessor, which has ended, is its only news of that run.
	b.allow(books.Allow{Nodes: []string{"n4"}, Reasons: []string{"late"}, Loose: true})
	captured = slices.DeleteFunc(captured, func(f []byte) bool { return bytes.Contains(f, []byte(before.id)) })
	b.strangersDrop(b.nodes[3:], ofRoom, captured, "copy", "late") // a frame's own node takes it for an echo
	b.settle()
}

// changeKeys replaces the nodes three times, one by one, while all emit.
func changeKeys(b *bed) {
	b.keys = [][]byte{oldKey}
	b.start()
	for round, keys := range [][][]byte{{oldKey, newKey}, {newKey, oldKey}, {newKey}} {
		b.keys = keys
		for i, old := range b.live() {
			b.node(fmt.Sprintf("n%d-%d", i+1, round+1))
			b.traffic()
			b.meet(b.ledger.Len())
			if _, err := old.try(command{Do: "close", Time: 5 * time.Second}); err != nil {
				b.Error(err)
			}
			old.end()
		}
	}
	b.settle()
	for _, n := range b.live() {
		if got := n.dropped("unsealed", "unknown key", "broken seal", "stale", "runs", "sealed"); got > 0 {
			b.Errorf("%s has dropped %v", n, n.stats().Dropped)
		}
	}
	b.keepBase = false
}
