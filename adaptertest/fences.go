package adaptertest

import (
	"errors"
	"fmt"

	"github.com/crosscast/crosscast"
)

// A driver without CapOrder spreads names over servers that have no order between them. A fence to everyone is on one of
// them, and proves nothing about the others. So there are also fences to single rooms, so many that each server surely has
// one of them for each part of the adapter. No emission waits when a fence is emitted, so no frame of its room is open, and the
// fence is in one behind all earlier emissions.

const someFences = 100

// fenceRooms returns the rooms for fences; none if the driver has CapOrder.
func (b *bed) fenceRooms() (rooms []string) {
	if !b.unordered {
		return nil
	}
	for i := range someFences {
		rooms = append(rooms, fmt.Sprint(fencePrefix, "a", i))
	}
	return rooms
}

// hearFences makes the node hear fences to rooms.
func (n *node) hearFences(emitOnly bool) {
	if !n.b.unordered || emitOnly {
		return
	}
	heard := newLog()
	_, err := n.Subscribe(n.b.ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { heard.add(entry{msg: m}) },
	}, n.b.fenceRooms()...)
	n.b.must(err)
	n.heard = heard
}

func (n *node) emitFences(fence string) {
	for _, room := range n.b.fenceRooms() {
		if err := n.To(room).Emit(n.b.ctx, fence, nil); err != nil {
			n.b.Fatalf("emitting a fence to a room: %v", err)
		}
	}
}

// fencesAreCut reports whether the node knows that the links of all parts are down.
func (n *node) fencesAreCut() bool {
	for _, room := range n.b.fenceRooms() {
		_, err := n.To(room).Volatile().Deliver(n.b.ctx, fencePrefix, nil)
		if !errors.Is(err, crosscast.ErrNotConnected) {
			return false
		}
	}
	return true
}

// settleFences returns when every earlier emission of an emitter has reached each node, or will never reach it. If the
// driver has CapOrder it does nothing: then a later emission to everyone shows that.
func (b *bed) settleFences(emitter *node) {
	b.fences++
	fence := fmt.Sprint(fencePrefix, b.fences)
	emitter.emitFences(fence)
	for _, n := range b.nodes {
		if !n.closed {
			n.waitForFences(fence, 1)
		}
	}
}

// waitForFences returns when the node has got a fence to all rooms from so many nodes.
func (n *node) waitForFences(fence string, from int) {
	if n.heard == nil {
		return
	}
	came, want := 0, from*someFences
	if !n.heard.await(n.b.patience, func() bool { came = n.heard.count[fence]; return came >= want }) {
		n.b.Fatalf("%s waited %v for fences to rooms, of which %d of %d came\n%s",
			n.Name(), n.b.patience, came, want, n.b.condition())
	}
}
