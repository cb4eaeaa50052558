package wire

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// The writer packs instructions into frames and publishes them.
//
// Publish appends to the open frame of a topic. One goroutine takes all frames, numbers them and sends them as one
// batch; while the bus works, the next frames fill. So an idle node sends at once and a busy one packs, without a
// timer. One batch is in flight at a time: numbers rise in the bus's own order.
//
// Invariants:
//   - a number is drawn once, for one frame's bytes, under mu, in the order in which frames are sent;
//   - frames are sent in the order in which they were opened, and a frame takes instructions of its own generation only. A
//     generation has topics of one kind (see kind), and one for several topics has one instruction. So nothing overtakes
//     what went to a topic of another kind, or to several;
//   - a frame that was refused or is uncertain is never sent again, and is entered in losses before anything later is sent; it is nobody's
//     predecessor, because losses already tell;
//   - control frames (hello, heartbeat, notices of losses) never wait behind others, count against no limit, are nobody's
//     predecessor, and are no loss.
type writer struct {
	a *Adapter

	mu         sync.Mutex
	topics     outTopics // guarded by mu, like everything below
	queue      []*frame  // in the order in which they were opened
	bytes      int       // that queue holds; see frame.holds
	control    []*frame
	generation uint64
	kind       kind   // of the generation
	number     uint64 // last one drawn
	copies     uint64 // last one drawn, for emissions to several topics
	opened     uint64 // frames opened, control frames not counted
	settled    uint64 // of those, how many have an outcome
	telling    bool   // outcomes are on their way to the Handler
	losses     lossState
	quiet      *quiet        // nil, unless the bus is Patchy
	lossesTold uint64        // losses.count as peers were told last
	room       chan struct{} // closed when there is room again, and replaced
	flushers   []flusher
	spare      spare
	closing    bool // nothing more is taken
	stopping   bool // and what cannot be sent now is lost

	linkUp     bool                          // the subscribing link stands
	publishing bool                          // the last batch did not fail for the connection's sake
	publishes  time.Time                     // since when; zero: since the start
	waitFor    map[crosscast.NodeID]struct{} // peers to be heard before queued frames are sent
	waitUntil  time.Time                     // at the latest
	probeAt    time.Time                     // while !publishing, and while an emitter has reasons for notices
	gathering  gathering                     // of an emitter
	backoff    backoff
	pace       pace

	begun     bool                // it is known that something can be published
	sending   time.Time           // since when the bus publishes a batch; zero: it does not
	failure   error               // why the last batch failed, if it did so for the connection's sake
	forbidden error               // why the bus refuses what goes to everyone, if it refuses that and not the connection
	noted     crosscast.LinkState // that was entered last

	notices    string // the topic of adapter.noticeTo
	echoes     string // and of echoTo
	audience   int    // links that got the last frame to everyone; -1: not known
	done       mark
	marks      marks
	movedTo    mark      // what was done when a loss was made of what had gone to a server that the peers had left
	movedSince time.Time // such a loss is to be made, as soon as nothing is under way; zero: none

	wake chan struct{} // capacity 1
}

// frame is one frame on its way out.
type frame struct {
	topic        *outTopic
	buf          []byte // header with room for the numbers, then instructions
	instructions int32
	items        int32 // as crosscast.MaxFrameItems counts them
	counted      int32 // of writer.bytes
	control      bool
	heartbeat    bool
	final        bool // the heartbeat names all topics that wait
	names        bool // the heartbeat names topics, or their count
	opened       time.Time
	generation   uint64
	number, prev uint64
	deliveries   []*delivery
}

func (f *frame) toEveryone() bool { return f.topic.kind == toEveryone }

// What waiting takes beside bytes and names: a frame and its place in the queue, a topic and its place in the map, and one
// who waits for the outcome.
const frameBytes, topicBytes, deliveryBytes = 128 + 16, 64 + 48, 256

// holds is how many bytes of memory the frame takes while it waits.
func (f *frame) holds() int {
	return frameBytes + topicBytes + len(f.topic.key) + cap(f.buf) + deliveryBytes*len(f.deliveries)
}

// delivery waits for the outcome of one instruction in all its frames.
type delivery struct {
	left  int
	reach crosscast.Reach
	err   error
	done  chan struct{}
}

type flusher struct {
	target uint64
	done   chan struct{}
}

func newWriter(a *Adapter) *writer {
	return &writer{
		a: a, room: make(chan struct{}), wake: make(chan struct{}, 1), publishing: true, audience: -1,
	}
}

// drew reports whether a frame of this run has number n.
func (w *writer) drew(n uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return n <= w.number
}

// up reports whether the link stands and the last batch did not fail for its sake. The caller holds mu.
func (w *writer) up() bool { return w.linkUp && w.publishing }

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// publish queues in; d, when not nil, hears of the outcome.
func (w *writer) publish(ctx context.Context, in *crosscast.Instruction, d *delivery) error {
	if w.a.dialect != nil && !in.Kind.Control() {
		if err := crosscast.CheckInstruction(in); err != nil {
			return err
		}
		return w.speak(ctx, in, d)
	}
	var space [maxCopies + 1]destination
	to := route(space[:0], in, w.a.self.ID)
	if len(to) == 0 {
		if d != nil {
			d.reach.Known = true
			close(d.done)
		}
		return nil
	}
	if err := crosscast.CheckInstruction(in); err != nil {
		return err
	}
	size := instructionBound(in)
	if err := w.a.bounded(size); err != nil {
		return err
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if in.Kind.Control() {
		return w.publishControl(in, to[0], d)
	}
	if err := w.admit(ctx, (size+frameBytes+topicBytes)*len(to), in.Flags&crosscast.Volatile != 0); err != nil {
		return err
	}

	var copyNumber uint64
	if len(to) > 1 {
		w.copies++
		copyNumber = w.copies
	}
	k := kindOf(&to[0])
	if len(to) > 1 {
		k = toSeveral
	}
	if k != w.kind || k == toSeveral {
		w.kind = k
		w.generation++
	}
	if d != nil {
		d.left = len(to)
		d.reach.Known = true
	}
	items := crosscast.FrameItems(in)
	for _, dest := range to {
		f := w.frameFor(dest, size, items)
		f.items += int32(items)
		f.buf = crosscast.AppendInstruction(f.buf, in, dest.name, copyNumber)
		f.instructions++
		if d != nil {
			f.deliveries = append(f.deliveries, d)
		}
		w.count(f)
	}
	w.a.stats.instructionsOut.Add(1)
	w.signal()
	return nil
}

// count counts what a frame in the queue holds more than before. The caller holds mu.
func (w *writer) count(f *frame) {
	n := f.holds()
	w.bytes += n - int(f.counted)
	f.counted = int32(n)
}

var errVolatile = fmt.Errorf("%w: volatile, and the queue is full", crosscast.ErrNotConnected)

// admit waits until the queue has room for size bytes, while the link is up; what is volatile does not. The caller holds
// mu.
func (w *writer) admit(ctx context.Context, size int, volatile bool) error {
	for !w.closing && w.bytes > 0 && w.bytes+size > w.a.o.QueueBytes {
		if volatile {
			w.a.count(dropVolatile)
			return errVolatile
		}
		if !w.up() {
			return fmt.Errorf("%w, and the queue of %d bytes is full", crosscast.ErrNotConnected, w.a.o.QueueBytes)
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("crosscast: no room in the queue of %d bytes: %w", w.a.o.QueueBytes, err)
		}
	}
	if w.closing {
		return crosscast.ErrClosed
	}
	if volatile && !w.up() {
		w.a.count(dropVolatile)
		return crosscast.ErrNotConnected
	}
	return nil
}

// publishControl queues a hello or heartbeat. The caller holds mu.
func (w *writer) publishControl(in *crosscast.Instruction, to destination, d *delivery) error {
	if w.a.dialect != nil {
		return w.speakControl(in, d)
	}
	if w.closing {
		return crosscast.ErrClosed
	}
	if !w.linkUp {
		return crosscast.ErrNotConnected
	}
	if in.Kind == crosscast.KindHeartbeat && w.heartbeatWaits(to) {
		return nil
	}
	if len(w.control) >= maxControl {
		return fmt.Errorf("%w: too many hellos and heartbeats wait", crosscast.ErrNotConnected)
	}
	f := w.newFrame(w.topic(to), true, 0)
	f.buf = crosscast.AppendInstruction(f.buf, in, to.name, 0)
	f.instructions++
	f.heartbeat = in.Kind == crosscast.KindHeartbeat
	if d != nil {
		d.left, d.reach.Known = 1, true
		f.deliveries = append(f.deliveries, d)
	}
	w.control = append(w.control, f)
	w.signal()
	return nil
}

// heartbeatWaits reports whether one to the same destination has not been sent yet: a stalled bus leaves one, not one
// an interval. The caller holds mu.
func (w *writer) heartbeatWaits(to destination) bool {
	t := w.topic(to)
	for _, f := range w.control {
		if f.heartbeat && f.topic == t {
			return true
		}
	}
	return false
}

// frameFor returns the frame of a topic that takes size more bytes, and so many items. The caller holds mu.
func (w *writer) frameFor(to destination, size, items int) *frame {
	t := w.topic(to)
	if f := t.open; f != nil && f.generation == w.generation &&
		len(f.buf)+size <= min(packBytes, w.a.o.MaxFrame) && int(f.items)+items <= crosscast.MaxFrameItems {
		if w.up() || time.Since(f.opened) < packAge {
			w.spare.grow(f, size, w.a.o.QueueBytes/4)
			return f
		}
	}
	f := w.open(t, size)
	t.open = f
	return f
}

// open queues a new frame, for an instruction of size bytes at most. The caller holds mu.
func (w *writer) open(t *outTopic, size int) *frame {
	f := w.newFrame(t, false, size)
	f.generation = w.generation
	f.opened = time.Now()
	w.opened++
	w.queue = append(w.queue, f)
	return f
}

func (w *writer) newFrame(t *outTopic, control bool, size int) *frame {
	f := w.spare.take(w.up())
	f.topic, f.control = t, control
	if f.buf == nil {
		f.buf = make([]byte, 0, max(64, plainHeader+size-slack))
	}
	if w.a.dialect == nil {
		f.buf = crosscast.AppendFrameHeader(f.buf, &crosscast.FrameHeader{Origin: w.a.self.ID, Control: control})
	}
	return f
}

// recycle keeps f for reuse. The caller holds mu.
func (w *writer) recycle(f *frame) { w.spare.keep(f, w.a.o.QueueBytes/4) }

// topic returns what is remembered of a topic. The caller holds mu.
func (w *writer) topic(to destination) *outTopic { return w.topics.of(&to, w.a.o.Prefix) }
