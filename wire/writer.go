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
	a      *Adapter
	header int // bytes of a frame that count against no limit

	mu         sync.Mutex
	topics     map[destination]*outTopic // guarded by mu, like everything below
	recent     *outTopic                 // the last one used
	queue      []*frame                  // in the order in which they were opened
	bytes      int                       // of queue
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
	announced  uint64        // losses.count as peers were told last
	room       chan struct{} // closed when there is room again, and replaced
	flushers   []flusher
	free       []*frame // for reuse
	closing    bool     // nothing more is taken
	stopping   bool     // and what cannot be sent now is lost

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

	audience   int // links that got the last frame to everyone; -1: not known
	done       mark
	marks      marks
	movedTo    mark      // what was done when a loss was made of what had gone to a server that the peers had left
	movedSince time.Time // such a loss is to be made, as soon as nothing is under way; zero: none

	wake chan struct{} // capacity 1
}

// outTopic is what is remembered of a topic that this node publishes to.
type outTopic struct {
	to   destination
	name string
	last uint64 // number of the last frame that was not lost
	open *frame // takes instructions while its generation is the writer's

	// On a Patchy bus, until it is named in a heartbeat.
	waits         bool
	sent          time.Time // its last frame
	before, after *outTopic
}

// frame is one frame on its way out.
type frame struct {
	to           destination
	topic        *outTopic
	buf          []byte // header with room for the numbers, then instructions
	instructions int
	items        int // as crosscast.MaxFrameItems counts them
	control      bool
	heartbeat    bool
	final        bool // the heartbeat names all topics that wait
	names        bool // the heartbeat names topics, or their count
	opened       time.Time
	generation   uint64
	number, prev uint64
	deliveries   []*delivery
}

func (f *frame) toEveryone() bool { return f.to.isEveryone() }

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
		a: a, topics: map[destination]*outTopic{}, room: make(chan struct{}), wake: make(chan struct{}, 1),
		publishing: true, audience: -1,
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
	if size+plainHeader > w.a.o.MaxFrame {
		return &crosscast.LimitError{What: "instruction", Len: size, Max: w.a.o.MaxFrame - plainHeader}
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if in.Kind.Control() {
		return w.publishControl(in, to[0], d)
	}
	if err := w.admit(ctx, size*len(to), in.Flags&crosscast.Volatile != 0); err != nil {
		return err
	}

	var copyNumber uint64
	if len(to) > 1 {
		w.copies++
		copyNumber = w.copies
	}
	if k := kindOf(to); k != w.kind || k == toSeveral {
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
		f.items += items
		before := len(f.buf)
		f.buf = crosscast.AppendInstruction(f.buf, in, dest.name, copyNumber)
		f.instructions++
		w.bytes += len(f.buf) - before
		if d != nil {
			f.deliveries = append(f.deliveries, d)
		}
	}
	w.a.stats.instructionsOut.Add(1)
	w.signal()
	return nil
}

// admit waits until the queue has room for size bytes, while the link is up. The caller holds mu.
func (w *writer) admit(ctx context.Context, size int, volatile bool) error {
	for !w.closing && w.bytes > 0 && w.bytes+size > w.a.o.QueueBytes {
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
	f := w.newFrame(w.topic(to), true)
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
	for _, f := range w.control {
		if f.heartbeat && f.to == to {
			return true
		}
	}
	return false
}

// frameFor returns the frame of a topic that takes size more bytes, and so many items. The caller holds mu.
func (w *writer) frameFor(to destination, size, items int) *frame {
	t := w.topic(to)
	if f := t.open; f != nil && f.generation == w.generation &&
		len(f.buf)+size <= packBytes && f.items+items <= crosscast.MaxFrameItems {
		if w.up() || time.Since(f.opened) < packAge {
			return f
		}
	}
	f := w.open(t)
	t.open = f
	return f
}

// open queues a new frame. The caller holds mu.
func (w *writer) open(t *outTopic) *frame {
	f := w.newFrame(t, false)
	f.generation = w.generation
	f.opened = time.Now()
	w.opened++
	w.queue = append(w.queue, f)
	return f
}

func (w *writer) newFrame(t *outTopic, control bool) *frame {
	var f *frame
	if n := len(w.free); n > 0 {
		f = w.free[n-1]
		w.free[n-1] = nil
		w.free = w.free[:n-1]
	} else {
		f = &frame{}
	}
	f.topic, f.to, f.control = t, t.to, control
	f.buf = f.buf[:0]
	if w.a.dialect == nil {
		f.buf = crosscast.AppendFrameHeader(f.buf, &crosscast.FrameHeader{Origin: w.a.self.ID, Control: control})
	}
	return f
}

// recycle keeps f for reuse, unless much memory is kept already or f is large. The caller holds mu.
func (w *writer) recycle(f *frame) {
	if cap(f.buf) > 2*packBytes || len(w.free) >= 256 {
		return
	}
	clear(f.deliveries)
	*f = frame{buf: f.buf, deliveries: f.deliveries[:0]}
	w.free = append(w.free, f)
}

// topic returns what is remembered of a topic. Past maxTopics something is forgotten: peers then miss a hole less.
// The caller holds mu.
func (w *writer) topic(to destination) *outTopic {
	if w.recent != nil && w.recent.to == to {
		return w.recent
	}
	t := w.topics[to]
	if t == nil {
		if len(w.topics) >= maxTopics {
			for key, old := range w.topics {
				if old.open == nil {
					delete(w.topics, key)
					break
				}
			}
		}
		t = &outTopic{to: to, name: to.topic(w.a.o.Prefix)}
		w.topics[to] = t
	}
	w.recent = t
	return t
}

// overhead is that of the longest header of a string, array or number of 32 bits.
const overhead = 5

func answerBound(a *crosscast.Answer) int {
	if a == nil {
		return 0
	}
	n := 16*overhead + len(a.Err) + 8*len(a.Users) + len(a.Payload.Data)
	for i := range a.Sockets {
		s := &a.Sockets[i]
		n += 6*overhead + len(s.ID) + len(s.User) + len(s.Data) + len(s.Handshake)
		for _, r := range s.Rooms {
			n += overhead + len(r)
		}
	}
	for i := range a.Rooms {
		n += 4*overhead + len(a.Rooms[i].Room)
	}
	for i := range a.Replies {
		n += 3*overhead + len(a.Replies[i].Socket) + len(a.Replies[i].Payload.Data)
	}
	return n
}

// instructionBound is at least the encoded size of in.
func instructionBound(in *crosscast.Instruction) int {
	n := 24*overhead + len(in.Namespace) + len(in.Event) + len(in.Payload.Data) + len(in.Node.Name)
	t := &in.Target
	for _, list := range [...][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers} {
		for _, s := range list {
			n += len(s) + overhead
		}
	}
	n += (len(t.Sockets) + len(t.ExceptSockets)) * (20 + overhead)
	for _, r := range in.Rooms {
		n += len(r) + overhead
	}
	n += len(in.Reason) + len(in.Ref) + answerBound(in.Answer)
	if in.Presence != nil {
		n += 16*overhead + 9*(len(in.Presence.Sums)+len(in.Presence.Versions))
		for i := range in.Presence.Changes {
			c := &in.Presence.Changes[i]
			n += 3*overhead + len(c.Socket) + len(c.User)
		}
	}
	for _, kv := range in.Meta {
		n += len(kv.Key) + len(kv.Value) + 2*overhead
	}
	return n
}
