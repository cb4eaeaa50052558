package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// The writer packs instructions into frames and publishes them.
//
// Publish appends to the open frame of a topic. One goroutine takes all frames, numbers them and sends them as one batch;
// while the bus works, the next frames fill. So an idle node sends at once and a busy one packs, without a timer. One batch is
// in flight at a time: numbers rise in the bus's own order.
//
// Invariants:
//   - a number is drawn once, for one frame's bytes, under mu, in the order in which frames are sent;
//   - frames are sent in the order in which they were opened; an instruction for several topics or for everyone starts a new
//     generation, and a frame takes instructions of its own generation only, so nothing overtakes it;
//   - a frame that was refused or is uncertain is never sent again, and is entered in losses before anything later is sent; it is nobody's
//     predecessor, because losses already tell;
//   - control frames (hello, heartbeat, notices of losses) never wait behind others, count against no limit, are nobody's
//     predecessor, and are no loss.
type writer struct {
	a *Adapter

	mu         sync.Mutex
	topics     map[destination]*outTopic // guarded by mu, like everything below
	recent     *outTopic                 // the last one used
	queue      []*frame                  // in the order in which they were opened
	bytes      int                       // of queue
	control    []*frame
	generation uint64
	number     uint64 // last one drawn
	copies     uint64 // last one drawn, for emissions to several topics
	opened     uint64 // frames opened, control frames not counted
	settled    uint64 // of those, how many have an outcome
	losses     lossState
	announced  uint64        // losses.count as peers were told last
	room       chan struct{} // closed when there is room again, and replaced
	flushers   []flusher
	free       []*frame // for reuse
	closing    bool     // nothing more is taken
	stopping   bool     // and what cannot be sent now is lost

	linkUp     bool                          // the subscribing link stands
	publishing bool                          // the last batch did not fail for the connection's sake
	waitFor    map[crosscast.NodeID]struct{} // peers to be heard before queued frames are sent
	waitUntil  time.Time                     // at the latest
	probeAt    time.Time                     // while !publishing
	backoff    backoff

	wake chan struct{} // capacity 1
}

// outTopic is what is remembered of a topic that this node publishes to.
type outTopic struct {
	to   destination
	name string
	last uint64 // number of the last frame that was not lost
	open *frame // takes instructions while its generation is the writer's
}

// frame is one frame on its way out.
type frame struct {
	to           destination
	topic        *outTopic
	buf          []byte // header with room for the numbers, then instructions
	instructions int
	control      bool
	heartbeat    bool
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
		publishing: true,
	}
}

// up reports whether frames may be sent now, and held whether they may be sent soon without a reconnect. The caller holds mu.
func (w *writer) up() bool { return w.linkUp && w.publishing }

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// publish queues in; d, when not nil, hears of the outcome.
func (w *writer) publish(ctx context.Context, in *crosscast.Instruction, d *delivery) error {
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
	need := size * len(to)
	for !w.closing && w.bytes > 0 && w.bytes+need > w.a.o.QueueBytes {
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
	if in.Flags&crosscast.Volatile != 0 && !w.up() {
		w.a.count(dropVolatile)
		return crosscast.ErrNotConnected
	}

	var copyNumber uint64
	if len(to) > 1 {
		w.copies++
		copyNumber = w.copies
	}
	if len(to) > 1 || to[0].isEveryone() || in.Kind != crosscast.KindEmit {
		w.generation++
	}
	if d != nil {
		d.left = len(to)
		d.reach.Known = true
	}
	for _, dest := range to {
		f := w.frameFor(dest, size)
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

// publishControl queues a hello or heartbeat. The caller holds mu.
func (w *writer) publishControl(in *crosscast.Instruction, to destination, d *delivery) error {
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

// heartbeatWaits reports whether one to the same destination has not been sent yet: a stalled bus leaves one, not one an
// interval. The caller holds mu.
func (w *writer) heartbeatWaits(to destination) bool {
	for _, f := range w.control {
		if f.heartbeat && f.to == to {
			return true
		}
	}
	return false
}

// frameFor returns the frame of a topic that takes size more bytes. The caller holds mu.
func (w *writer) frameFor(to destination, size int) *frame {
	t := w.topic(to)
	if f := t.open; f != nil && f.generation == w.generation && len(f.buf)+size <= packBytes {
		if w.up() || time.Since(f.opened) < packAge {
			return f
		}
	}
	f := w.newFrame(t, false)
	f.generation = w.generation
	f.opened = time.Now()
	t.open = f
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
	f.buf = crosscast.AppendFrameHeader(f.buf[:0], &crosscast.FrameHeader{Origin: w.a.self.ID, Control: control})
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

// topic returns what is remembered of a topic. Past maxTopics something is forgotten: peers then miss a hole less. The caller
// holds mu.
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

// instructionBound is at least the encoded size of in.
func instructionBound(in *crosscast.Instruction) int {
	const overhead = 5 // of the longest header of a string, array or number
	n := 16*overhead + len(in.Namespace) + len(in.Event) + len(in.Payload.Data) + len(in.Node.Name)
	t := &in.Target
	for _, list := range [...][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers} {
		for _, s := range list {
			n += len(s) + overhead
		}
	}
	n += (len(t.Sockets) + len(t.ExceptSockets)) * (20 + overhead)
	for _, kv := range in.Meta {
		n += len(kv.Key) + len(kv.Value) + 2*overhead
	}
	return n
}

// run publishes until the adapter stops.
func (w *writer) run(ctx context.Context) {
	var out []Frame
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		now := time.Now()
		w.expire(now)
		batch := w.take(now)
		next := w.nextDeadline()
		done := w.stopping && len(batch) == 0
		w.mu.Unlock()
		if done {
			return
		}
		if len(batch) == 0 {
			w.sleep(timer, next)
			continue
		}
		out = out[:0]
		for _, f := range batch {
			out = append(out, Frame{Topic: f.topic.name, Data: f.buf})
		}
		pubCtx, cancel := context.WithTimeout(ctx, w.a.o.PublishTimeout)
		sent := time.Now()
		w.a.bus.Publish(pubCtx, out)
		cancel()
		w.settle(batch, out, sent)
		clear(out)
	}
}

// sleep waits for a signal, or until next when it is set.
func (w *writer) sleep(timer *time.Timer, next time.Time) {
	if next.IsZero() {
		<-w.wake
		return
	}
	timer.Reset(time.Until(next))
	select {
	case <-w.wake:
		timer.Stop()
	case <-timer.C:
	}
}

// nextDeadline is when the writer has something to do without being signalled; zero: never. The caller holds mu.
func (w *writer) nextDeadline() (next time.Time) {
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if w.linkUp && !w.publishing {
		earlier(w.probeAt)
	}
	if len(w.waitFor) > 0 {
		earlier(w.waitUntil)
	}
	if len(w.queue) > 0 {
		earlier(w.queue[0].opened.Add(w.a.o.MaxAge))
	}
	return next
}

// take removes what may be sent now from the queues, and numbers it. The caller holds mu.
func (w *writer) take(now time.Time) []*frame {
	batch := w.control
	w.control = nil
	if !w.publishing && w.linkUp && len(batch) == 0 && !now.Before(w.probeAt) {
		batch = append(batch, w.notice())
	}
	if len(w.waitFor) > 0 && !now.Before(w.waitUntil) {
		w.waitFor = nil
	}
	if w.up() && len(w.waitFor) == 0 && len(w.queue) > 0 {
		if w.announced != w.losses.count && !slices.ContainsFunc(batch, (*frame).toEveryone) {
			batch = append(batch, w.notice())
		}
		batch = append(batch, w.queue...)
		clear(w.queue)
		w.queue = w.queue[:0]
		w.freeBytes(w.bytes)
	}
	for _, f := range batch {
		w.seal(f)
	}
	return batch
}

// notice is a frame without instructions that tells peers of losses, and comes back as an echo. The caller holds mu.
func (w *writer) notice() *frame { return w.newFrame(w.topic(destination{}), true) }

// seal numbers a frame. The caller holds mu.
func (w *writer) seal(f *frame) {
	w.number++
	f.number, f.prev = w.number, f.topic.last
	if !f.control {
		f.topic.last = f.number
		if f.topic.open == f {
			f.topic.open = nil
		}
	}
	if f.to.carriesLosses() && w.losses.count > 0 {
		h := crosscast.FrameHeader{
			Origin: w.a.self.ID, Number: f.number, Previous: f.prev, Control: f.control,
			LossCount: w.losses.count, Losses: w.losses.ranges,
		}
		body := f.buf[plainHeader:]
		f.buf = append(crosscast.AppendFrameHeader(nil, &h), body...)
		return
	}
	crosscast.PatchFrameNumbers(f.buf, f.number, f.prev)
}

func (w *writer) freeBytes(n int) {
	w.bytes -= n
	close(w.room)
	w.room = make(chan struct{})
}

// settle enters the outcomes of a batch.
func (w *writer) settle(batch []*frame, out []Frame, sent time.Time) {
	var lost []crosscast.Loss
	var done []*delivery
	var current lostFrames
	w.mu.Lock()
	failed := func() {
		if current.from != 0 {
			w.losses.add(current.forPeers())
			lost = append(lost, current.forSelf())
		}
		current = lostFrames{}
	}
	down, accepted := false, false
	var echo uint64
	for i, f := range batch {
		err := out[i].Err
		if err == nil {
			accepted = true
			w.a.stats.framesOut.Add(1)
			w.a.stats.bytesOut.Add(uint64(len(f.buf)))
			if f.toEveryone() {
				echo = f.number
			}
			failed()
		} else {
			down = down || out[i].Down
			err = outcome(err)
			if !f.control {
				current.add(f, err)
			}
		}
		if !f.control {
			w.settled++
		}
		for _, d := range f.deliveries {
			d.frameDone(w.a, f, out[i].Receivers, err)
			if d.left == 0 {
				done = append(done, d)
			}
		}
	}
	failed()
	for i := len(batch) - 1; i >= 0; i-- {
		// Newest first, so that a topic ends at the last frame before the lost ones.
		if f := batch[i]; out[i].Err != nil && !f.control && f.topic.last == f.number {
			f.topic.last = f.prev
		}
	}
	for i, f := range batch {
		if out[i].Err == nil && f.toEveryone() {
			w.announced = max(w.announced, w.losses.count-uint64(len(lost)))
		}
		w.recycle(f)
	}
	switch {
	case down:
		if w.publishing {
			w.backoff.reset()
		}
		w.publishing = false
		w.probeAt = time.Now().Add(w.backoff.next())
	case accepted && !w.publishing:
		w.publishing = true
	}
	w.mu.Unlock()

	if echo != 0 {
		w.a.echo.expect(echo, sent)
	}
	w.finish(lost, done)
}

// finish reports losses, and only then lets those go who waited for an outcome.
func (w *writer) finish(lost []crosscast.Loss, done []*delivery) {
	for _, l := range lost {
		w.a.handler.Loss(l)
	}
	for _, d := range done {
		close(d.done)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.flushers[:0]
	for _, f := range w.flushers {
		if f.target <= w.settled {
			close(f.done)
		} else {
			kept = append(kept, f)
		}
	}
	clear(w.flushers[len(kept):])
	w.flushers = kept
}

func (d *delivery) frameDone(a *Adapter, f *frame, receivers int, err error) {
	d.left--
	switch {
	case err != nil:
		d.err = errors.Join(d.err, err)
	case receivers < 0:
		d.reach.Known = false
	default:
		if a.hears(f.topic.name) && receivers > 0 {
			receivers--
		}
		d.reach.Nodes += receivers
	}
	if !d.reach.Known {
		d.reach.Nodes = 0
	}
}

// outcome makes sure that an error of a bus is one of the two kinds.
func outcome(err error) error {
	if errors.Is(err, crosscast.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", crosscast.ErrUncertain, err)
}

// expire loses what has waited too long for the link, or everything when the adapter stops. The caller holds mu; the
// reports are made without it.
func (w *writer) expire(now time.Time) {
	n := 0
	for _, f := range w.queue {
		if !w.stopping && now.Sub(f.opened) < w.a.o.MaxAge {
			break
		}
		n++
	}
	if n == 0 || (w.up() && len(w.waitFor) == 0 && !w.stopping) {
		return
	}
	why := errExpired
	if w.stopping {
		why = errStopped
	}
	var lost lostFrames
	var done []*delivery
	bytes := 0
	for _, f := range w.queue[:n] {
		w.number++
		f.number = w.number
		if f.topic.open == f {
			f.topic.open = nil
		}
		lost.add(f, why)
		bytes += len(f.buf) - plainHeader
		w.settled++
		for _, d := range f.deliveries {
			d.frameDone(w.a, f, 0, why)
			if d.left == 0 {
				done = append(done, d)
			}
		}
		w.recycle(f)
	}
	w.queue = append(w.queue[:0], w.queue[n:]...)
	w.freeBytes(bytes)
	w.losses.add(lost.forPeers())
	w.mu.Unlock()
	w.finish([]crosscast.Loss{lost.forSelf()}, done)
	w.mu.Lock()
}

var (
	errExpired = fmt.Errorf("%w: waited too long for the link to come back: %w", crosscast.ErrRefused, crosscast.ErrNotConnected)
	errStopped = fmt.Errorf("%w: %w before it could be published", crosscast.ErrRefused, crosscast.ErrClosed)
)
