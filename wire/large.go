package wire

import (
	"context"

	"github.com/crosscast/crosscast"
)

// This file has the large instructions for one topic. Each is a frame of its own, because packing would only copy it
// again. It is encoded into the frame's buffer, without the sender's lock.

// largeBytes is the size of a payload from which on its instruction has a frame of its own.
const largeBytes = 16 << 10

// publishLarge queues a large instruction for one topic. If d is not nil, it gets the outcome.
func (o *ownFrames) publishLarge(
	ctx context.Context, s *sender, to *destination, inst *crosscast.Instruction, d *delivery,
) error {
	size := plainHeader + instructionBound(inst)
	buf := s.takeLarge(size)
	if cap(buf) < size {
		buf = make([]byte, 0, size)
	}
	buf, err := appendInstruction(o.beginFrame(buf, false), inst, to.implied())
	if err == nil {
		err = o.bounded(len(buf) - plainHeader)
	}
	for err == nil {
		var room <-chan struct{}
		if room, err = s.queueLarge(to, inst, buf, d); room == nil && err == nil {
			return nil
		}
		if err == nil {
			err = s.waitForRoom(ctx, room)
		}
	}
	s.keepLarge(buf)
	return err
}

func (s *sender) takeLarge(size int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.box.spare.takeLarge(size)
}

func (s *sender) keepLarge(buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box.spare.keepBuffer(buf, s.box.spareBytes())
}

// queueLarge queues a frame of one instruction, which takes the buffer over. If there is no room, it returns the
// channel to wait on before the next attempt.
func (s *sender) queueLarge(
	to *destination, inst *crosscast.Instruction, buf []byte, d *delivery,
) (room <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room, err = s.admitLocked(s.box.mayHold(to, cap(buf)), inst.Volatile)
	if room != nil || err != nil {
		return room, err
	}
	d.expect(1)
	s.box.enterLarge(to, inst, buf, d, s.gate.up())
	s.stats.instructionsOut.Add(1)
	s.signalLocked()
	return nil, nil
}

// enterLarge queues a frame of one instruction, encoded in buf. Nothing is added to it.
func (b *outbox) enterLarge(to *destination, inst *crosscast.Instruction, buf []byte, d *delivery, up bool) {
	t := b.topic(to)
	b.beginGeneration(t.kind)
	f := b.spare.takeFrame(up)
	f.topic, f.buf, f.items = t, buf, int32(itemsOf(inst))
	b.queueFrame(f)
	t.open = nil // what follows goes behind it
	b.entered(f, inst, d)
}
