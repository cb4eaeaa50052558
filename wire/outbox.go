package wire

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/reasons"
)

// outbox holds the frames that wait to be published, and numbers them. It is pure data, without locks, goroutines or a
// bus. The sender calls it with mu held.
//
// An instruction is appended to the open frame of each of its topics. The sender takes frames, which are numbered then,
// and enters their outcomes.
//
// Invariants:
//   - a number is drawn once, for one frame's bytes, in the order in which frames are sent;
//   - frames are sent in the order in which they were opened, and a frame takes instructions of its own generation
//     only. A generation has topics of one kind (see topicKind). An instruction for several topics has a generation of
//     its own. So nothing overtakes an instruction for a topic of another kind, or for several topics;
//   - a frame that was refused or is uncertain is never sent again. It is entered in losses before anything later is
//     sent. It is nobody's predecessor, because losses already report it;
//   - control frames (hello, heartbeat, notices of losses) never wait behind others, count against no limit, are
//     nobody's predecessor, and are no loss.
type outbox struct {
	*session
	clock func() time.Time

	topics  outTopics
	spare   spare
	queue   []*frame // in the order in which they were opened
	control []*frame
	bytes   int // that queue holds; see frame.holds

	generation uint64
	kind       topicKind // of the generation
	number     uint64    // last one drawn
	copies     uint64    // last one drawn, for emissions to several topics
	opened     uint64    // frames opened, control frames not counted
	settled    uint64    // how many of the opened frames have an outcome

	losses     lossState
	lossesTold uint64    // losses.count as it was last sent to peers
	introduced time.Time // when an introduction was sent
	quiet      *quiet    // nil, unless the bus is Patchy
	history    history
}

// frame is one frame on its way out.
type frame struct {
	topic        *outTopic
	buf          []byte // header with room for the numbers, then instructions
	instructions int32
	queries      int32 // of the instructions; see isQuery
	items        int32 // as maxItems counts them
	counted      int32 // of outbox.bytes
	control      bool
	heartbeat    bool
	final        bool // the heartbeat names all topics that wait
	names        bool // the heartbeat names topics, or their count
	introduces   bool // it has the routing of a node without heartbeats
	opened       time.Time
	generation   uint64
	number, prev uint64
	deliveries   []*delivery
}

// canBeMissed reports whether the frame has an instruction whose absence nobody notices by itself. Hellos, heartbeats
// and queries are repeated, or their node gets an error.
func (f *frame) canBeMissed() bool { return !f.control && f.queries < f.instructions }

func (f *frame) toEveryone() bool { return f.topic.kind == toEveryone }

// The memory that waiting takes beside bytes and names: a frame and its place in the queue, a topic and its place in
// the map, and one waiting delivery.
const frameBytes, topicBytes, deliveryBytes = 128 + 16, 64 + 48, 256

// holds is how many bytes of memory the frame takes while it waits.
func (f *frame) holds() int {
	return frameBytes + topicBytes + len(f.topic.key) + cap(f.buf) + deliveryBytes*len(f.deliveries)
}

// mayHold is at least the memory that an instruction of so many bytes takes in a frame for to: see frame.holds. The buffer
// of a frame with one instruction has at most bufferSizes[0] bytes, or those of the instruction.
func (b *outbox) mayHold(to *destination, bytes int) int {
	key := len(b.o.Prefix) + len(to.node) + len(to.foreign) + 3*(len(to.name.Namespace)+len(to.name.Name)) // escaped
	return bytes + bufferSizes[0] + frameBytes + topicBytes + key + deliveryBytes
}

// hasRoom reports whether size more bytes may wait: see mayHold. An empty queue takes any size.
func (b *outbox) hasRoom(size int) bool { return b.bytes == 0 || b.bytes+size <= b.o.QueueBytes }

// enterInstruction appends inst, encoded as data, to the frames of its topics. up means that frames go out now.
func (b *outbox) enterInstruction(to []destination, inst *crosscast.Instruction, data []byte, d *delivery, up bool) {
	var copyNumber uint64
	k := kindOf(&to[0])
	if len(to) > 1 {
		copyNumber = b.nextCopy()
		k = toSeveral
	}
	b.enterCopies(to, inst, data, d, up, k, copyNumber)
}

// enterCopies is enterInstruction with a copy number; 0: there is one copy.
func (b *outbox) enterCopies(
	to []destination, inst *crosscast.Instruction, data []byte, d *delivery, up bool, k topicKind, copyNumber uint64,
) {
	items := itemsOf(inst)
	b.beginGeneration(k)
	d.expect(len(to))
	size := len(data)
	if copyNumber != 0 {
		size += maxCopyNumber
	}
	for i := range to {
		f := b.frameFor(&to[i], size, items, up)
		f.items += int32(items)
		f.buf = append(appendCopyNumber(f.buf, copyNumber), data...)
		b.entered(f, inst, d)
	}
}

// beginGeneration begins a generation if an instruction of a kind needs another one.
func (b *outbox) beginGeneration(k topicKind) {
	if k != b.kind || k == toSeveral {
		b.kind = k
		b.generation++
	}
}

// enterMessage queues a frame of one complete message, which inst became. d expects it.
func (b *outbox) enterMessage(to *destination, inst *crosscast.Instruction, data []byte, d *delivery, up bool) {
	f := b.open(b.topic(to), len(data), up)
	f.buf = append(f.buf, data...)
	b.entered(f, inst, d)
}

// entered notes that f has inst as well. If d is not nil, it waits for the outcome.
func (b *outbox) entered(f *frame, inst *crosscast.Instruction, d *delivery) {
	f.instructions++
	if isQuery(inst.Kind) {
		f.queries++
	}
	if d != nil {
		f.deliveries = append(f.deliveries, d)
	}
	n := f.holds()
	b.bytes += n - int(f.counted)
	f.counted = int32(n)
}

// frameFor returns a frame of a topic with room for size more bytes and so many items.
func (b *outbox) frameFor(to *destination, size, items int, up bool) *frame {
	t := b.topic(to)
	if f := t.open; f != nil && f.generation == b.generation &&
		len(f.buf)+size <= min(packBytes, b.o.MaxFrame) && int(f.items)+items <= maxItems {
		if up || b.clock().Sub(f.opened) < packAge {
			b.spare.grow(f, size, b.o.QueueBytes-b.bytes-deliveryBytes, b.spareBytes())
			return f
		}
	}
	f := b.open(t, size, up)
	t.open = f
	return f
}

// open queues a new frame, for size bytes.
func (b *outbox) open(t *outTopic, size int, up bool) *frame {
	f := b.newFrame(t, false, size, up)
	b.queueFrame(f)
	return f
}

func (b *outbox) queueFrame(f *frame) {
	f.generation = b.generation
	f.opened = b.clock()
	b.opened++
	b.queue = append(b.queue, f)
}

func (b *outbox) newFrame(t *outTopic, control bool, size int, up bool) *frame {
	f := b.spare.takeFrame(up)
	f.topic, f.control = t, control
	least := max(64, plainHeader+size)
	if f.buf == nil && up {
		f.buf = b.spare.takeSmall(least)
	}
	if f.buf == nil {
		f.buf = make([]byte, 0, least)
	}
	f.buf = b.format.beginFrame(f.buf, control)
	return f
}

// recycle keeps f for reuse.
func (b *outbox) recycle(f *frame) { b.spare.keepFrame(f, b.spareBytes()) }

// spareBytes is the most memory that is kept for reuse.
func (b *outbox) spareBytes() int { return b.o.QueueBytes / 4 }

// topic returns the state of a topic.
func (b *outbox) topic(to *destination) *outTopic { return b.topics.of(to, b.o.Prefix) }

// controlFrame returns a control frame, which is not queued yet.
func (b *outbox) controlFrame(to *destination) *frame { return b.newFrame(b.topic(to), true, 0, true) }

// notice returns a frame without instructions, not queued yet. It carries losses to peers, if the format has them, and
// comes back as an echo.
func (b *outbox) notice() *frame { return b.controlFrame(&b.ground.notices) }

// heartbeatWaits reports whether an unsent heartbeat to the same destination waits. So a stalled bus collects one, not
// one per interval.
func (b *outbox) heartbeatWaits(to *destination) bool {
	t := b.topic(to)
	return slices.ContainsFunc(b.control, func(f *frame) bool { return f.heartbeat && f.topic == t })
}

// takeControl removes all control frames.
func (b *outbox) takeControl() []*frame {
	batch := b.control
	b.control = nil
	return batch
}

// takeQueued moves frames of at most limit bytes, and at least one frame, from the queue to batch. The remaining frames
// are closed: they take no more instructions.
func (b *outbox) takeQueued(batch []*frame, limit int) []*frame {
	n := 0
	for left := limit; n < len(b.queue); n++ {
		if left -= len(b.queue[n].buf); left < 0 && n > 0 {
			break
		}
	}
	batch = append(batch, b.queue[:n]...)
	b.dequeue(n)
	if len(b.queue) > 0 {
		b.generation++
	}
	return batch
}

// dequeue removes the first n frames of the queue.
func (b *outbox) dequeue(n int) {
	for _, f := range b.queue[:n] {
		b.bytes -= int(f.counted)
		if f.topic.open == f {
			f.topic.open = nil
		}
	}
	b.queue = slices.Delete(b.queue, 0, n)
}

// draw returns the next number of a frame.
func (b *outbox) draw() uint64 {
	if b.together != nil {
		b.number = b.together.numbers.Add(1)
	} else {
		b.number++
	}
	return b.number
}

// nextCopy returns the number of the next instruction that goes to several topics.
func (b *outbox) nextCopy() uint64 {
	if b.together != nil {
		return b.together.copies.Add(1)
	}
	b.copies++
	return b.copies
}

// seal numbers a frame.
func (b *outbox) seal(f *frame) {
	f.number, f.prev = b.draw(), f.topic.last
	if !f.control {
		f.topic.last = f.number
	}
	b.format.sealFrame(b, f)
}

// untold reports whether there is a loss that peers have not been sent yet.
func (b *outbox) untold() bool { return b.lossesTold != b.losses.count }

// oldLosses reports whether a node without heartbeats has sent its losses for long enough. Then it sends only their
// count. (Other nodes count the heartbeats that carry a loss.)
func (b *outbox) oldLosses() bool {
	return !b.presence.beats && !b.untold() && b.clock().Sub(b.losses.last) > emitterMemory
}

// introduces reports whether a node without heartbeats must tell its peers how it spreads names over topics, before it
// sends what waits: something of that is for a name. Peers that started since the last time do not know.
func (b *outbox) introduces(now time.Time) bool {
	return !b.presence.beats && b.format.numbered() && now.Sub(b.introduced) >= introducedFor &&
		slices.ContainsFunc(b.queue, func(f *frame) bool { return f.topic.kind == toRoom || f.topic.kind == toUser })
}

// introduction returns a notice with the routing.
func (b *outbox) introduction() *frame {
	f := b.notice()
	f.buf = mpack.AppendStr(f.buf, cmp.Or(b.routing.text, ownTopicsText))
	f.introduces = true
	return f
}

// noticeDue is when a node without heartbeats must send a notice for quiet topics; zero: never.
func (b *outbox) noticeDue(up bool) time.Time {
	if b.quiet == nil || b.presence.beats || !up || b.quiet.idle() {
		return time.Time{}
	}
	return b.quiet.beat.Add(b.self.Heartbeat)
}

// lose enters a loss, which peers get if the format has numbers, and returns the Loss for this node.
func (b *outbox) lose(l *lostFrames) crosscast.Loss {
	if b.format.numbered() {
		b.losses.addRange(l.forPeers(), lossReason(l.err), l.since, b.clock())
	}
	return l.forSelf()
}

// loseLeft enters the loss of frames that went to a server that the peers had left.
func (b *outbox) loseLeft() []crosscast.Loss {
	if !b.history.left() {
		return nil
	}
	l, some := b.history.lose()
	if !some {
		return nil
	}
	loss := b.lose(&l)
	loss.Reason = reasons.LossMoved
	return []crosscast.Loss{loss}
}

var (
	errExpired = errtext.Errorf("%w: waited too long for the link to come back: %w",
		crosscast.ErrRefused, crosscast.ErrNotConnected)
	errStopped = errtext.Errorf("%w: %w before it could be published", crosscast.ErrRefused, crosscast.ErrClosed)
	errUnsent  = errtext.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrNotConnected)
)

// expire loses the frames that have waited too long, or all of them when the adapter stops. It returns the losses, and
// the deliveries that are complete.
func (b *outbox) expire(now time.Time, stopping bool) (lost []crosscast.Loss, done []*delivery) {
	n, why := 0, errExpired
	if stopping {
		n, why = len(b.queue), errStopped
	}
	for n < len(b.queue) && now.Sub(b.queue[n].opened) >= b.o.MaxAge {
		n++
	}
	if n == 0 {
		return nil, nil
	}
	var l lostFrames
	expired := slices.Clone(b.queue[:n])
	b.dequeue(n)
	for _, f := range expired {
		if f.canBeMissed() {
			f.number = b.draw()
			l.addFrame(f, why)
		}
		b.settled++
		done = f.settleDeliveries(0, why, done)
		b.recycle(f)
	}
	if l.from != 0 {
		lost = append(lost, b.lose(&l))
	}
	return lost, done
}

// dropControl drops unsent hellos and heartbeats, and returns the deliveries that are complete.
func (b *outbox) dropControl() (done []*delivery) {
	for _, f := range b.takeControl() {
		done = f.settleDeliveries(0, errUnsent, done)
	}
	return done
}

// outcomes is the result of a batch.
type outcomes struct {
	lost          []crosscast.Loss
	done          []*delivery // deliveries that wait for no other frame
	frames, bytes int         // that the bus has accepted
	down          error       // why the connection failed; nil: it did not
	echo          uint64      // the last frame that must come back; 0: none
	refusedEcho   bool        // a frame that must come back was refused
	notices       bool        // the bus accepted or denied a notice
	forbidden     error       // why it was denied; nil: accepted
	links         int         // links that got the last frame to everyone; -1: unknown
}

// settleBatch enters the outcomes of a batch. heard reports whether this node is among the receivers of a topic.
func (b *outbox) settleBatch(batch []*frame, out []Frame, sent, now time.Time, heard func(topic string) bool) outcomes {
	o := outcomes{links: -1}
	told := b.losses.count // by the batch
	accepted := 0          // instructions
	var current lostFrames
	endLoss := func() {
		if current.from != 0 {
			o.lost = append(o.lost, b.lose(&current))
		}
		current = lostFrames{}
	}
	for i, f := range batch {
		err, receivers := out[i].Err, out[i].Receivers
		b.describe(&o, f, &out[i])
		if err == nil {
			endLoss()
			if !f.control {
				accepted += int(f.instructions)
			}
			if f.introduces {
				b.introduced = sent
			}
			if f.toEveryone() {
				b.lossesTold = max(b.lossesTold, told)
				if f.heartbeat {
					b.losses.beat()
				}
			}
			b.settleQuiet(f, sent)
			if receivers > 0 && len(f.deliveries) > 0 && heard(f.topic.name) {
				receivers--
			}
		} else {
			err = outcome(err)
			if f.canBeMissed() {
				if current.from != 0 && lossReason(current.err) != lossReason(err) {
					endLoss()
				}
				current.addFrame(f, err)
			}
		}
		if !f.control {
			b.settled++
		}
		o.done = f.settleDeliveries(receivers, err, o.done)
	}
	endLoss()
	b.history.enter(now, batch[len(batch)-1].number, accepted, b.self.Heartbeat)
	o.lost = append(o.lost, b.loseLeft()...)
	for i := len(batch) - 1; i >= 0; i-- {
		// Newest first, so that a topic ends at the last frame before the lost ones.
		if f := batch[i]; out[i].Err != nil && !f.control && f.topic.last == f.number {
			f.topic.last = f.prev
		}
	}
	for _, f := range batch {
		b.recycle(f)
	}
	return o
}

// describe notes in o the bus's state as the outcome of one frame shows it.
func (b *outbox) describe(o *outcomes, f *frame, out *Frame) {
	isNotice, isEcho := f.topic.name == b.ground.noticeTopic, f.topic.name == b.ground.echoTopic
	switch {
	case out.Err == nil:
		o.frames++
		o.bytes += len(out.Data)
		if isEcho {
			o.echo = f.number
		}
		if isNotice {
			o.notices, o.forbidden = true, nil
		}
		if f.toEveryone() {
			o.links = out.Receivers
		}
	case out.Down:
		if o.down == nil {
			o.down = out.Err
		}
	default:
		if isNotice && errors.Is(out.Err, crosscast.ErrDenied) {
			o.notices, o.forbidden = true, out.Err
		}
		o.refusedEcho = o.refusedEcho || isEcho && errors.Is(out.Err, crosscast.ErrRefused)
	}
}

// settleDeliveries enters the outcome of f for the deliveries that wait for it. It appends those to done that wait for
// no other frame.
func (f *frame) settleDeliveries(receivers int, err error, done []*delivery) []*delivery {
	for _, d := range f.deliveries {
		d.left--
		switch {
		case err != nil:
			d.fail(err)
		case receivers < 0:
			d.receipt.Known = false
		default:
			d.receipt.Nodes += receivers
		}
		if !d.receipt.Known {
			d.receipt.Nodes = 0
		}
		if d.left == 0 {
			done = append(done, d)
		}
	}
	return done
}

// outcome makes an error of a bus match ErrRefused or ErrUncertain.
func outcome(err error) error {
	if errors.Is(err, crosscast.ErrRefused) {
		return err
	}
	return errtext.Errorf("%w: %w", crosscast.ErrUncertain, err)
}
