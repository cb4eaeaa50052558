package wire

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
)

// sender publishes the frames of the outbox, as soon as the gate is open.
//
// One goroutine, run, takes all frames that may go and sends them as one batch. While the bus works, the next frames
// fill. So an idle node sends at once and a busy one packs. It pauses only after a scattered batch (see isScattered).
// Only one batch is in flight at a time, so numbers rise in the bus's own order.
type sender struct {
	*session
	bus   Bus
	echo  *echo
	subs  *subscriptions
	state *linkState
	pace  pace          // used by run alone, like pause
	pause time.Duration // after the latest batch
	seal  *sealer       // nil: frames are not sealed; used by run alone

	mu       sync.Mutex
	box      outbox // guarded by mu, like everything below
	gate     gate
	room     chan struct{} // closed when there is room again; nil: nobody waits
	telling  bool          // losses are being reported to the Handler, or callers are being released
	flushers []flusher
	closing  bool                // new instructions are refused
	stopping bool                // also, frames that cannot be sent now are lost
	noted    crosscast.LinkState // the state that was entered last

	asleep bool          // run waits for a signal
	wake   chan struct{} // capacity 1
}

type flusher struct {
	target uint64
	done   chan struct{}
}

func newSender(s *session, bus Bus, e *echo, subs *subscriptions, state *linkState) *sender {
	out := &sender{
		session: s, bus: bus, echo: e, subs: subs, state: state,
		box: outbox{session: s, clock: time.Now}, gate: newGate(s),
		pace: newPace(max(min(s.self.Heartbeat, s.o.PublishTimeout)/4, time.Millisecond)),
		wake: make(chan struct{}, 1),
	}
	if s.o.seal.seals() {
		out.seal = newSealer(s.o.seal, s.o.part, s.self.ID, s.runID)
	}
	return out
}

// signalLocked wakes run if it sleeps. A channel that is used for each instruction would cost more than the queue.
func (s *sender) signalLocked() {
	if !s.asleep {
		return
	}
	s.asleep = false
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run publishes until the adapter stops.
func (s *sender) run() {
	var out []Frame
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n := s.next(time.Now())
		switch {
		case n.over:
			return
		case n.ended:
			s.tell(n.lost, n.done)
		case len(n.batch) > 0:
			out = s.send(n.batch, out[:0])
			if s.pause > 0 {
				time.Sleep(s.pause)
			}
		default:
			s.sleep(timer, n.deadline)
		}
	}
}

// next is the next step of run: report outcomes, send a batch, or sleep until a deadline, if there is one.
type next struct {
	ended    bool
	lost     []crosscast.Loss
	done     []*delivery
	batch    []*frame
	deadline time.Time
	over     bool // nothing is left, and the adapter stops
}

func (s *sender) next(now time.Time) (n next) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.noteStateLocked(now)
	s.asleep = false
	if s.box.history.left() {
		n.ended, n.lost = true, s.box.loseLeft()
	} else if s.stopping || !s.gate.up() {
		n.lost, n.done = s.box.expire(now, s.stopping)
		n.ended = len(n.lost) > 0
	}
	if n.ended {
		s.telling = true
		s.makeRoomLocked()
		return n
	}
	n.batch = s.takeLocked(now)
	if len(n.batch) > 0 {
		s.gate.begins(now)
		return n
	}
	n.deadline, n.over = s.deadlineLocked(), s.stopping
	s.asleep = true
	return n
}

// takeLocked removes the frames that may be sent now from the outbox, and numbers them.
func (s *sender) takeLocked(now time.Time) []*frame {
	b, g := &s.box, &s.gate
	g.expire(now)
	batch, untold := b.takeControl(), b.untold()
	if len(batch) == 0 && g.probes(untold, now) {
		batch = append(batch, b.notice())
	}
	if due := b.noticeDue(g.up()); !due.IsZero() && !now.Before(due) {
		f := b.notice()
		f.heartbeat = true
		batch = append(batch, f)
	}
	if g.open(now) && len(b.queue) > 0 {
		if b.introduces(now) {
			batch = append(batch, b.introduction())
		} else if (untold || s.pace.again) && !slices.ContainsFunc(batch, (*frame).toEveryone) {
			batch = append(batch, b.notice())
		}
		if !s.pace.again {
			batch = b.takeQueued(batch, s.pace.limit())
			s.makeRoomLocked()
		}
	}
	for _, f := range batch {
		b.seal(f)
	}
	return batch
}

// deadlineLocked is when run must act even without a signal; zero: never.
func (s *sender) deadlineLocked() time.Time {
	next := s.gate.deadline(s.box.untold())
	if len(s.box.queue) > 0 && !s.gate.up() {
		next = earlier(next, s.box.queue[0].opened.Add(s.o.MaxAge))
	}
	return earlier(next, s.box.noticeDue(s.gate.up()))
}

// sleep waits for a signal, or until a deadline when it is set.
func (s *sender) sleep(timer *time.Timer, deadline time.Time) {
	if deadline.IsZero() {
		<-s.wake
		return
	}
	timer.Reset(time.Until(deadline))
	select {
	case <-s.wake:
		timer.Stop()
	case <-timer.C:
	}
}

// send gives a batch to the bus, and enters the outcomes. out is scratch space, and is returned.
func (s *sender) send(batch []*frame, out []Frame) []Frame {
	bytes := 0
	for _, f := range batch {
		out = append(out, Frame{Topic: f.topic.name, Data: f.buf})
		bytes += len(f.buf)
	}
	if s.seal != nil {
		bytes = s.seal.sealBatch(batch, out, time.Now())
	}
	scattered := isScattered(batch, bytes)
	ctx, cancel := context.WithTimeout(s.ctx, s.pace.timeout(bytes, s.o.PublishTimeout))
	sent := time.Now()
	s.bus.Publish(ctx, out)
	cancel()
	now := time.Now()
	o := s.enterOutcomes(batch, out, sent, now)
	s.stats.publish.Observe(now.Sub(sent))
	s.pace.measure(bytes, now.Sub(sent), o.down != nil, now)
	s.pause = 0
	if scattered && o.down == nil {
		s.pause = min(now.Sub(sent), longPause)
	}
	if o.echo != 0 {
		s.echo.expect(o.echo, sent)
	} else if o.refusedEcho {
		s.echo.refuse(now)
	}
	s.tell(o.lost, o.done)
	clear(out)
	return out
}

// enterOutcomes enters the outcomes of a batch.
func (s *sender) enterOutcomes(batch []*frame, out []Frame, sent, now time.Time) outcomes {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.box.settleBatch(batch, out, sent, now, s.subs.hears)
	if s.gate.settle(&o, s.box.untold(), now) {
		s.makeRoomLocked() // callers that wait for room must not wait for the connection
	}
	s.stats.framesOut.Add(uint64(o.frames))
	s.stats.bytesOut.Add(uint64(o.bytes))
	s.telling = len(o.lost) > 0
	s.noteStateLocked(now)
	return o
}

// tell reports losses, and only then releases the callers that wait for an outcome. The caller of tell has set telling
// under the same lock under which it entered the outcomes. Only run calls tell, so losses are reported in order.
func (s *sender) tell(lost []crosscast.Loss, done []*delivery) {
	for _, l := range lost {
		s.handler.Loss(l)
	}
	resolveAll(done)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.telling = false
	s.flushers = slices.DeleteFunc(s.flushers, func(f flusher) bool {
		over := s.flushedLocked(f.target)
		if over {
			close(f.done)
		}
		return over
	})
}

// flushedLocked reports whether the first target frames have an outcome, and all losses among them were reported.
func (s *sender) flushedLocked(target uint64) bool {
	return target <= s.box.settled && !s.telling && !s.box.history.left()
}

// flush returns when every frame that was queued before has an outcome.
func (s *sender) flush(ctx context.Context) error {
	f, over := s.enterFlusher()
	if over {
		return nil
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sender) enterFlusher() (f flusher, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flushedLocked(s.box.opened) {
		return f, true
	}
	f = flusher{target: s.box.opened, done: make(chan struct{})}
	s.flushers = append(s.flushers, f)
	return f, false
}

// makeRoomLocked wakes the callers that wait for room. There might be no room for them.
func (s *sender) makeRoomLocked() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

var errVolatile = errtext.Errorf("%w: volatile, and the queue is full", crosscast.ErrNotConnected)

// admitLocked returns nil, nil if the queue has room for size bytes. If there might be room later, it returns a channel
// that is closed then. Volatile instructions do not wait.
func (s *sender) admitLocked(size int, volatile bool) (room <-chan struct{}, err error) {
	switch {
	case s.closing:
		return nil, crosscast.ErrClosed
	case s.box.hasRoom(size):
		if volatile && !s.gate.up() {
			s.count(dropVolatile)
			return nil, crosscast.ErrNotConnected
		}
		return nil, nil
	case volatile:
		s.count(dropVolatile)
		return nil, errVolatile
	case !s.gate.up():
		return nil, errtext.Errorf("%w, and the queue of %d bytes is full", crosscast.ErrNotConnected, s.o.QueueBytes)
	}
	if s.room == nil {
		s.room = make(chan struct{})
	}
	return s.room, nil
}

// waitForRoom returns when there might be room, or with an error when ctx ends first.
func (s *sender) waitForRoom(ctx context.Context, room <-chan struct{}) error {
	select {
	case <-room:
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return errtext.Errorf("crosscast: no room in the queue of %d bytes: %w", s.o.QueueBytes, err)
	}
	return nil
}

// publish queues inst. If d is not nil, it gets the outcome.
func (s *sender) publish(ctx context.Context, inst *crosscast.Instruction, d *delivery) error {
	if inst.Kind.Control() {
		return s.publishControl(inst, d, 0)
	}
	return s.format.publish(ctx, s, inst, d)
}

// queueInstruction queues an instruction, encoded as data, for some topics. If there is no room, it returns the channel
// to wait on before the next attempt.
func (s *sender) queueInstruction(
	to []destination, inst *crosscast.Instruction, data []byte, d *delivery,
) (room <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for i := range to {
		size += s.box.mayHold(&to[i], len(data)+maxCopyNumber)
	}
	room, err = s.admitLocked(size, inst.Volatile)
	if room != nil || err != nil {
		return room, err
	}
	s.box.enterInstruction(to, inst, data, d, s.gate.up())
	s.stats.instructionsOut.Add(1)
	s.signalLocked()
	return nil, nil
}

// queueMessages queues an instruction that is encoded already, as m. If there is no room, it returns the channel to wait on
// before the next attempt.
func (s *sender) queueMessages(
	m *messages, inst *crosscast.Instruction, d *delivery,
) (room <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := len(m.data)
	for i := range m.all {
		size += s.box.mayHold(&m.all[i].to, 0)
	}
	room, err = s.admitLocked(size, inst.Volatile)
	if room != nil || err != nil {
		return room, err
	}
	d.expect(len(m.all))
	from := 0
	for i := range m.all {
		s.box.enterMessage(&m.all[i].to, inst, m.data[from:m.all[i].end], d, s.gate.up())
		from = m.all[i].end
	}
	s.stats.instructionsOut.Add(1)
	s.signalLocked()
	return nil, nil
}

// publishControl queues a hello or heartbeat, with its copy number if it goes to several parts.
func (s *sender) publishControl(inst *crosscast.Instruction, d *delivery, copyNumber uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return crosscast.ErrClosed
	}
	if !s.gate.linkUp {
		return crosscast.ErrNotConnected
	}
	f, err := s.format.control(&s.box, inst, copyNumber)
	switch {
	case err != nil:
		return err
	case f == nil:
		d.expect(0)
		return nil
	case len(s.box.control) >= maxControl:
		return errtext.Errorf("%w: too many hellos and heartbeats wait", crosscast.ErrNotConnected)
	}
	d.expect(1)
	s.queueControlLocked(f, d)
	return nil
}

// queueControlLocked queues a control frame. If d is not nil, it gets the outcome.
func (s *sender) queueControlLocked(f *frame, d *delivery) {
	if d != nil {
		f.deliveries = append(f.deliveries, d)
	}
	s.box.control = append(s.box.control, f)
	s.signalLocked()
}

// probe queues a notice, and returns a delivery that waits for its outcome.
func (s *sender) probe(to destination) *delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := newDelivery()
	d.expect(1)
	if s.stopping { // nobody would send it
		d.err = errtext.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrClosed)
		close(d.done)
		return d
	}
	s.queueControlLocked(s.box.controlFrame(&to), d)
	return d
}

// lastWords sends, before run ends, the names of all topics that wait to be named, until ctx ends.
func (s *sender) lastWords(ctx context.Context) {
	for {
		d := s.finalBeat()
		if d == nil || d.wait(ctx) != nil {
			return
		}
	}
}

// finalBeat queues a heartbeat that names all topics, if there are any to name.
func (s *sender) finalBeat() *delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || !s.gate.up() || !s.box.hasUnnamed() {
		return nil
	}
	d := newDelivery()
	d.expect(1)
	f := s.box.notice()
	f.heartbeat, f.final = true, true
	s.queueControlLocked(f, d)
	return d
}

// shut refuses new instructions, and publishes the queue while the link is up.
func (s *sender) shut(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	up := s.gate.up()
	s.makeRoomLocked()
	s.mu.Unlock()
	if !up {
		return nil
	}
	err := s.flush(ctx)
	s.lastWords(ctx)
	return err
}

// halt refuses new instructions, loses the queue, and ends run.
func (s *sender) halt() {
	s.mu.Lock()
	s.closing, s.stopping = true, true
	s.makeRoomLocked()
	done := s.box.dropControl()
	s.signalLocked()
	s.mu.Unlock()
	resolveAll(done)
}

// linkIsUp opens the gate, once the peers are back, or at until.
func (s *sender) linkIsUp(peers []crosscast.NodeID, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.linkIsUp(peers, until)
	s.noteStateLocked(time.Now())
	s.signalLocked()
}

// linkIsDown keeps frames in the queue until the next link is up.
func (s *sender) linkIsDown() {
	s.mu.Lock()
	s.gate.linkIsDown()
	done := s.box.dropControl()
	s.makeRoomLocked() // callers that wait for room must not wait for the link
	s.noteStateLocked(time.Now())
	s.signalLocked()
	s.mu.Unlock()
	resolveAll(done)
}

// heardFrom notes that a peer is there.
func (s *sender) heardFrom(id crosscast.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate.heardFrom(id) {
		s.signalLocked()
	}
}

// peersLeft reports as a loss all instructions that the bus has accepted since a past moment, when the peers left its
// server.
func (s *sender) peersLeft(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.box.history.leave(since)
	}
	s.signalLocked()
}

// drew reports whether a frame of this run has number n.
func (s *sender) drew(n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.together != nil {
		return n <= s.together.numbers.Load()
	}
	return n <= s.box.number
}

// audience returns how many links got the last frame to everyone (-1: the bus does not know), and when that was sent.
func (s *sender) audience() (links int, sent time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate.audience, s.gate.counted
}

// queued is how many bytes wait.
func (s *sender) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.box.bytes
}

// proven reports whether the publishing half works.
func (s *sender) proven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate.proven(time.Now())
}

// noteState enters the state of the publishing half.
func (s *sender) noteState(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteStateLocked(now)
}

func (s *sender) noteStateLocked(now time.Time) {
	to, cause := s.gate.state(now, s.state.deaf.Load())
	if to != s.noted {
		s.noted = to
		s.state.publishing(to, cause)
	}
}
