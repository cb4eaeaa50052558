package adaptertest

import (
	"errors"
	"fmt"

	"github.com/crosscast/crosscast"
)

// A driver without CapOrder spreads names over parts that have no order between them. A fence to everyone is on one part,
// and proves nothing about the others. So there are also fences to pairs of rooms, so many that each part surely has a
// pair. An emission to two rooms of one part keeps its place among all emissions on that part.

const somePairs = 48

// pairs returns the pairs of rooms for fences; none if the driver has CapOrder.
func (b *bed) pairs() (all [][2]string) {
	if !b.unordered {
		return nil
	}
	for i := range somePairs {
		all = append(all, [2]string{fmt.Sprint(fencePrefix, "a", i), fmt.Sprint(fencePrefix, "b", i)})
	}
	return all
}

// hearPairs makes the node hear fences to pairs.
func (n *node) hearPairs(emitOnly bool) {
	if !n.b.unordered || emitOnly {
		return
	}
	var rooms []string
	for _, pair := range n.b.pairs() {
		rooms = append(rooms, pair[0], pair[1])
	}
	heard := newLog()
	_, err := n.Subscribe(n.b.ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { heard.add(entry{msg: m}) },
	}, rooms...)
	n.b.must(err)
	n.pairs = heard
}

func (n *node) emitPairs(fence string) {
	for _, pair := range n.b.pairs() {
		if err := n.To(pair[0], pair[1]).Emit(n.b.ctx, fence, nil); err != nil {
			n.b.Fatalf("emitting a fence to two rooms: %v", err)
		}
	}
}

// pairsAreCut reports whether the node knows that the links of all parts are down.
func (n *node) pairsAreCut() bool {
	for _, pair := range n.b.pairs() {
		_, err := n.To(pair[0], pair[1]).Volatile().Deliver(n.b.ctx, fencePrefix, nil)
		if !errors.Is(err, crosscast.ErrNotConnected) {
			return false
		}
	}
	return true
}

// settlePairs returns when every earlier emission of an emitter has reached each node, or will never reach it. If the
// driver has CapOrder it does nothing: then a later emission to everyone shows that.
func (b *bed) settlePairs(emitter *node) {
	b.fences++
	fence := fmt.Sprint(fencePrefix, b.fences)
	emitter.emitPairs(fence)
	for _, n := range b.nodes {
		if !n.closed {
			n.waitForPairs(fence, 1)
		}
	}
}

// waitForPairs returns when the node has got a fence to all pairs from so many nodes.
func (n *node) waitForPairs(fence string, from int) {
	if n.pairs == nil {
		return
	}
	came, want := 0, from*somePairs
	if !n.pairs.await(n.b.patience, func() bool { came = n.pairs.count[fence]; return came >= want }) {
		n.b.Fatalf("%s waited %v for fences to pairs of rooms, of which %d of %d came\n%s",
			n.Name(), n.b.patience, came, want, n.b.condition())
	}
}
