package crosscast

import (
	"math/bits"
	"sync"
	"unsafe"
)

// A ring holds frames in order. Its memory follows the number of waiting frames: one place in the ring itself, enough
// for a client that keeps up; then 16 places; then twice as many each time. Up to 512 places are lent by a pool. Places
// are given up when the ring is empty, or when the writer of a queue ends.
type ring struct {
	slots      []ringSlot // a power of two of them; the frame at position p is in slots[p % len(slots)]
	head, tail uint32     // positions of the first frame and of the next one to put; they only rise, and wrap around
	first      [1]ringSlot
}

// A ringSlot is a place. It holds a frame, without the capacity of its slice: a push to many queues is as fast as their memory.
type ringSlot struct {
	data *byte
	size int
}

func (s ringSlot) frame() []byte { return unsafe.Slice(s.data, s.size) }

// smallRing and largeRing are the smallest and the largest number of places lent by a pool.
const smallRing, largeRing = 16, 2 * batchFrames

// rings has a pool for each power of two from smallRing to largeRing. A pool holds pointers to the first place; all
// places are empty.
var rings [6]sync.Pool

func ringPool(places int) *sync.Pool { return &rings[bits.Len(uint(places/smallRing))-1] }

func lend(places int) []ringSlot {
	if places <= largeRing {
		if first, ok := ringPool(places).Get().(*ringSlot); ok {
			return unsafe.Slice(first, places)
		}
	}
	return make([]ringSlot, places)
}

// giveBack returns empty places.
func giveBack(slots []ringSlot) {
	if n := len(slots); n >= smallRing && n <= largeRing {
		ringPool(n).Put(&slots[0])
	}
}

func (r *ring) len() int { return int(r.tail - r.head) }

func (r *ring) full() bool { return r.len() == len(r.slots) }

// put adds a frame to a ring that is not full.
func (r *ring) put(frame []byte) {
	r.slots[r.tail&uint32(len(r.slots)-1)] = ringSlot{unsafe.SliceData(frame), len(frame)}
	r.tail++
}

// peek returns the first frame of a ring that is not empty, and leaves it there.
func (r *ring) peek() []byte { return r.slots[r.head&uint32(len(r.slots)-1)].frame() }

// pop takes the first frame out of a ring that is not empty.
func (r *ring) pop() []byte {
	frame := r.take()
	r.shrink(smallRing)
	return frame
}

// take is pop for a caller that calls shrink.
func (r *ring) take() []byte {
	s := &r.slots[r.head&uint32(len(r.slots)-1)]
	frame := s.frame()
	*s = ringSlot{}
	r.head++
	return frame
}

// shrink gives up the places of an empty ring if there are more than most.
func (r *ring) shrink(most int) {
	if r.head == r.tail && len(r.slots) > most {
		giveBack(r.slots)
		r.slots = r.first[:]
	}
}

// unput takes the last frame out of a ring that is not empty.
func (r *ring) unput() []byte {
	r.tail--
	s := &r.slots[r.tail&uint32(len(r.slots)-1)]
	frame := s.frame()
	*s = ringSlot{}
	return frame
}

func (r *ring) grow() {
	old := r.slots
	switch len(old) {
	case 0:
		r.slots = r.first[:]
		return
	case 1:
		r.slots = lend(smallRing)
	default:
		r.slots = lend(2 * len(old))
	}
	for p := r.head; p != r.tail; p++ {
		r.slots[p&uint32(len(r.slots)-1)] = old[p&uint32(len(old)-1)]
	}
	clear(old)
	giveBack(old)
}

// release gives up all places of an empty ring.
func (r *ring) release() {
	giveBack(r.slots)
	r.slots = nil
}
