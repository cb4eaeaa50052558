package crosscast

import (
	"cmp"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"
	interned "unique"

	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/guard"
)

// QueuePolicy says what a [Queue] does with a frame for which there is no room: when the client is too slow.
type QueuePolicy uint8

const (
	// QueueDisconnect ends the queue: Send returns [ErrSlow], what waits is dropped, and OnClose gets [ReasonSlow]. The
	// client has received everything up to a point, and nothing after it.
	QueueDisconnect QueuePolicy = iota
	// QueueDropNewest drops the frame that does not fit, and Send returns [ErrDropped].
	QueueDropNewest
	// QueueDropOldest drops what has waited longest until the frame fits, and Send returns nil.
	QueueDropOldest
)

// QueueOptions configure a [Queue]. The zero value works.
type QueueOptions struct {
	// Framer makes the bytes of a message. Default: [JSONEnvelope].
	Framer Framer

	// Limit is how many bytes may wait behind the frame that is being written, for as long as it takes. Default: 1 MiB;
	// 1 byte to 1 GiB. Each frame counts 48 bytes more than it has, which is the queue's own memory for it. What is emitted
	// to many sockets counts for each, though they share the frame. A frame is always taken when none waits, so that one
	// which is larger than the limit still gets through to a client that keeps up.
	Limit int

	// Burst is how many bytes may wait for a while, BurstTime, so that a burst costs no client that reads. Default: 8 ×
	// Limit, at most 1 GiB; at least Limit.
	Burst int

	// BurstTime is how long more than Limit may wait, while the client reads: while frames are written, each within
	// WriteTimeout. Default: 5 seconds, at most 1 hour; negative: no bursts.
	BurstTime time.Duration

	// WriteTimeout is how long the client may take for a frame during a burst; after that the limit holds at once. The
	// queue does not end the write. Default: 10 seconds, at most 1 hour.
	WriteTimeout time.Duration

	// Budget bounds what waits above the limits of several queues together. Default: one of 64 MiB, which all queues of
	// the process share that have none of their own.
	Budget *QueueBudget

	// Policy is what happens to a frame for which there is no room: more than Burst would wait, or more than Limit when
	// there may be no burst any more. Default: [QueueDisconnect].
	Policy QueuePolicy

	// DropNotice, if set, makes a frame that is written in the place of a run of dropped ones, so that the client
	// knows that it missed something and how many. It is called by the writer, just before the write, when the
	// length of the run is known; it may return nil to write nothing. Volatile messages that are dropped on
	// arrival, and what is dropped when the queue ends, are not part of it.
	DropNotice func(dropped int) []byte

	// CloseGrace is how long what waits may still be written after Close. Default: 1 second, at most 1 hour;
	// negative: not at all.
	CloseGrace time.Duration

	// OnClose, if set, closes the connection below, once: see [Queue]. It may wait, but not for Done.
	OnClose func(reason Reason)
}

const (
	defaultQueueLimit   = 1 << 20
	defaultBursts       = 8 // limits
	defaultBurstTime    = 5 * time.Second
	defaultWriteTimeout = 10 * time.Second
	defaultCloseGrace   = time.Second
)

// A Queue is a [Conn] over a write that blocks: of a websocket library, a server-sent-event response, a gRPC stream. It
// is bounded in bytes, and has a policy for clients that are too slow.
//
// The write function is called by one goroutine at a time, with the frames in the order of the calls that queued them.
// That goroutine exists only while something is to be written: it is started by the Send that finds none, serves
// everything that arrives meanwhile, and ends when nothing waits, so a burst starts it once and an idle queue has none.
// The frame is valid for ever and must not be changed.
//
// Write, DropNotice and OnClose may panic, which slog.Default is told of: write's panic is an error of it, a
// [*PanicError], and a notice that panics is none.
//
// A volatile message is for a client that keeps up. It is dropped, whatever the policy, while more than a sixteenth of
// the limit waits: it passes through a short burst, but does not pile up behind a client that stalls, and never is
// what disconnects it.
//
// A queue ends in one of three ways. Each leads to exactly one call of OnClose, on a goroutine that is none of its
// callers', with what is given here:
//
//   - Close was called: its reason, when what waits was written, or after CloseGrace.
//   - write returned an error: [ReasonLeft], at once; after a panic, [ReasonInternal]. What waits is dropped. Until Close
//     is called, Send returns that error, wrapped.
//   - There was no room for a frame under [QueueDisconnect], or the Budget was spent and this client was furthest
//     behind: [ReasonSlow], at once. What waits is dropped. Until Close is called, Send returns [ErrSlow].
//
// OnClose runs after the last write has returned, except that it does not wait for one that still blocks when the grace
// or the client's time is over: OnClose must make that one return, which closing the connection does.
//
// All methods may be called concurrently, and none of them blocks. A Queue must not be copied.
type Queue struct {
	mu sync.Mutex // guards everything that is not said to be constant

	// What push touches comes first and fits a cache line, the ring's own place apart.
	framer Framer // constant
	room   int    // limit, less the bytes of the frames in ring; below zero during a burst
	ring   ring   // frames that wait; the one being written is not among them

	limit  int // after shut: the bytes that wait
	state  queueState
	policy QueuePolicy // constant
	starts uint32

	bursts        interned.Handle[burstOptions] // constant
	high          int                           // the most that waited, up to the last pop
	writer        func()                        // constant: q.run, bound once so that starting it allocates nothing
	write         func([]byte) error            // constant
	notice        func(dropped int) []byte      // constant
	onClose       func(Reason)                  // constant
	grace         time.Duration                 // constant
	writtenFrames uint64
	writtenBytes  uint64
	dropped       uint64
	rare          *queueRare // what most queues never need; see rarely
}

type queueState uint8

const (
	writing queueState = 1 << iota // a writer goroutine exists
	closed                         // Close was called
	ended                          // no further write begins, nothing waits, and somebody calls finish
	hooked                         // finish has called OnClose
)

// queueRare is guarded by the queue's mu.
type queueRare struct {
	burst
	runs   []dropRun
	err    error         // the write's, or ErrSlow
	reason Reason        // of Close
	timer  *time.Timer   // bounds the grace
	done   chan struct{} // nil: nobody has asked yet
}

// A dropRun is a number of frames that were dropped in front of the one at position at of the ring.
type dropRun struct {
	at      uint32
	dropped int
}

// NewQueue returns a queue over write, which writes one frame and may block. It panics when write is nil, the framer is
// not comparable, the policy is none, or another option is out of bounds.
func NewQueue(write func(frame []byte) error, o QueueOptions) *Queue {
	if o.Framer == nil {
		o.Framer = JSONEnvelope{}
	}
	o.Limit = cmp.Or(o.Limit, defaultQueueLimit)
	if o.Burst == 0 {
		o.Burst = min(o.Limit, bounds.MaxSize/defaultBursts) * defaultBursts
	}
	o.BurstTime = cmp.Or(o.BurstTime, defaultBurstTime)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, defaultWriteTimeout)
	o.CloseGrace = cmp.Or(o.CloseGrace, defaultCloseGrace)
	if o.Budget == nil {
		o.Budget = sharedBudget
	}
	if err := cmp.Or(
		bounds.Size("crosscast: QueueOptions.Limit", o.Limit, 1),
		bounds.Size("crosscast: QueueOptions.Burst", o.Burst, o.Limit),
		bounds.Time("crosscast: QueueOptions.BurstTime", max(o.BurstTime, 1)), // negative: none
		bounds.Time("crosscast: QueueOptions.WriteTimeout", o.WriteTimeout),
		bounds.Time("crosscast: QueueOptions.CloseGrace", max(o.CloseGrace, 1)), // negative: none
	); err != nil {
		panic(err.Error())
	}
	switch {
	case write == nil:
		panic("crosscast: NewQueue without a write function")
	case o.Policy > QueueDropOldest:
		panic(fmt.Sprintf("crosscast: unknown QueuePolicy %d", o.Policy))
	case !reflect.TypeOf(o.Framer).Comparable():
		panic(fmt.Sprintf("crosscast: Framer of type %T is not comparable", o.Framer))
	}
	q := &Queue{
		framer: o.Framer, room: o.Limit, limit: o.Limit, policy: o.Policy,
		bursts: interned.Make(burstOptions{o.Burst, o.BurstTime, o.WriteTimeout, o.Budget}),
		write:  write, notice: o.DropNotice, onClose: o.OnClose, grace: o.CloseGrace,
	}
	q.writer = q.run
	return q
}

// Send queues m's frame. It returns nil when the frame was taken; [ErrDropped] when m was dropped and the queue goes
// on, which a message that cannot be framed is too (the error then also wraps the framer's); [ErrClosed] after Close;
// and any other error when the queue has ended by itself, [ErrSlow] among them.
func (q *Queue) Send(m *Message) error {
	frame, err := m.Frame(q.framer)
	if err != nil {
		q.mu.Lock()
		if q.state&(closed|ended) != 0 {
			return q.refuse()
		}
		q.dropped++
		q.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrDropped, err)
	}
	return q.push(frame, m.Volatile)
}

// SendFrame queues bytes that are not those of a message, such as a binding's answer to a ping, by the rules of Send.
// The queue keeps frame, which must not be changed any more.
func (q *Queue) SendFrame(frame []byte) error { return q.push(frame, false) }

// push has a short way for what a broadcast mostly meets: a queue with a writer, and room in the limit and the ring. It
// needs the first 64 bytes of the queue and one place of the ring, because at 100,000 sockets reading memory is what
// costs. That nothing is taken any more shows as no room, and that no writer runs as a ring without places.
func (q *Queue) push(frame []byte, volatile bool) error {
	size := frameSize(frame)
	q.mu.Lock()
	if q.room < size || q.ring.full() || volatile {
		return q.pushSlowly(frame, size, volatile)
	}
	q.room -= size
	q.ring.put(frame)
	q.mu.Unlock()
	return nil
}

// frameCost is the most that the ring needs for a frame.
const frameCost = 48

// frameSize is what frame counts towards the limit.
func frameSize(frame []byte) int { return len(frame) + frameCost }

// waiting is how many bytes wait.
func (q *Queue) waiting() int { return q.limit - q.room }

// pushSlowly is push for every case. Called with mu held; unlocks it.
func (q *Queue) pushSlowly(frame []byte, size int, volatile bool) error {
	if q.state&(closed|ended) != 0 {
		return q.refuse()
	}
	if q.ring.len() > 0 && (q.room < size || volatile && q.waiting() > q.limit/16) {
		if err := q.makeRoom(size, volatile); err != nil {
			return err
		}
	}
	if q.ring.full() {
		q.ring.grow()
	}
	q.room -= size
	q.ring.put(frame)
	above := q.room < 0
	if above {
		q.account()
	}
	start := q.state&writing == 0
	if start {
		q.state |= writing
		q.starts++
	}
	q.mu.Unlock()
	if start {
		go q.writer()
	}
	if above {
		q.bursts.Value().budget.relieve()
	}
	return nil
}

// refuse unlocks mu and returns the error of a Send to a queue that takes nothing any more.
func (q *Queue) refuse() error {
	defer q.mu.Unlock()
	if q.state&closed != 0 {
		return ErrClosed
	}
	return q.rare.err
}

// makeRoom makes room for size bytes, or unlocks mu and returns why it did not. Called with mu held.
func (q *Queue) makeRoom(size int, volatile bool) error {
	least := size // of room
	if !volatile {
		least -= q.above()
	}
	switch {
	case !volatile && q.room >= least:
		return nil
	case volatile:
		q.dropped++
		q.mu.Unlock()
		return ErrDropped
	case q.policy == QueueDropNewest:
		q.dropped++
		q.noteDrop(q.ring.tail)
		q.mu.Unlock()
		return ErrDropped
	case q.policy == QueueDropOldest:
		q.dropOldest(least, 0)
		return nil
	}
	q.dropped++
	q.end(ErrSlow)
	q.mu.Unlock()
	go q.finish(ReasonSlow)
	return ErrSlow
}

// dropOldest drops what has waited longest until there is so much room, or no more than keep frames wait. Called with mu
// held.
func (q *Queue) dropOldest(room, keep int) {
	for q.ring.len() > keep && q.room < room {
		q.pop()
		q.dropped++
		q.noteDrop(q.ring.head)
	}
}

// pop takes the first frame that waits. Called with mu held, and never when none does.
func (q *Queue) pop() []byte {
	q.high = max(q.high, q.waiting()) // here and not in push, which touches less memory that way
	frame := q.ring.pop()
	if q.state&closed != 0 {
		q.limit -= frameSize(frame)
		return frame
	}
	above := q.room < 0
	q.room += frameSize(frame)
	if above {
		q.account()
	}
	return frame
}

// shut takes the room away, so that push looks at the state. What waits stays limit - room. Called with mu held.
func (q *Queue) shut() {
	q.calm()
	q.limit -= q.room
	q.room = 0
}

// noteDrop remembers, for the notice, that a frame was dropped in front of position at. Runs are in the order of the
// frames: QueueDropNewest adds at the end, which moves back when the budget is spent, and the only run of
// QueueDropOldest moves along with the head. Called with mu held.
func (q *Queue) noteDrop(at uint32) {
	if q.notice == nil {
		return
	}
	r := q.rarely()
	n, dropped := len(r.runs), 1
	for ; n > 0 && (q.policy == QueueDropOldest || int32(r.runs[n-1].at-at) >= 0); n-- {
		dropped += r.runs[n-1].dropped
	}
	r.runs = append(r.runs[:n], dropRun{at, dropped})
}

// run is the writer: it writes until nothing waits.
func (q *Queue) run() {
	returned := false
	defer func() {
		if !returned {
			go q.exited()
		}
	}()
	q.writeAll()
	returned = true
}

func (q *Queue) writeAll() {
	q.mu.Lock()
	for { // when the queue ends meanwhile, nothing waits any more
		var err error
		if dropped := q.dueRun(); dropped > 0 {
			q.mu.Unlock()
			if frame := q.makeNotice(dropped); frame != nil {
				err = q.writeFrame(frame)
			}
			q.mu.Lock()
		} else if q.ring.len() > 0 {
			frame := q.pop()
			q.mu.Unlock()
			err = q.writeFrame(frame)
			q.mu.Lock()
			if err == nil {
				q.writtenFrames++
				q.writtenBytes += uint64(len(frame))
				if q.room < 0 {
					q.rare.finished = time.Now()
				}
			} else {
				q.dropped++
			}
		} else {
			break
		}
		if err != nil && q.state&ended == 0 {
			q.fail(err)
			return
		}
	}
	q.ring.release()
	if q.state&(closed|ended) == closed {
		q.end(nil)
		q.stop("")
		return
	}
	q.state &^= writing
	q.settle()
	q.mu.Unlock()
}

// dueRun takes the run that was dropped in front of the next frame, and returns its length. Called with mu held.
func (q *Queue) dueRun() int {
	r := q.rare
	if r == nil || len(r.runs) == 0 || r.runs[0].at != q.ring.head {
		return 0
	}
	dropped := r.runs[0].dropped
	if r.runs = r.runs[1:]; len(r.runs) == 0 {
		r.runs = nil
	}
	return dropped
}

// Close ends the queue without blocking: nothing is taken any more, and what waits is still written, for CloseGrace at
// most. Then OnClose is called. Only the first call counts, and none does once the queue has ended by itself.
func (q *Queue) Close(reason Reason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state&closed != 0 {
		return
	}
	q.state |= closed
	if q.state&ended != 0 {
		return
	}
	q.shut()
	r := q.rarely()
	r.reason = reason
	if q.state&writing != 0 && q.grace > 0 {
		r.timer = time.AfterFunc(q.grace, q.expire)
		return
	}
	q.end(nil)
	go q.finish(reason)
}

// expire ends a queue whose grace is over.
func (q *Queue) expire() {
	q.mu.Lock()
	if q.state&ended != 0 {
		q.mu.Unlock()
		return
	}
	q.end(nil)
	reason := q.rare.reason
	q.mu.Unlock()
	q.finish(reason)
}

// end drops what waits and lets no further write begin. The caller sees to it that finish is called. Called with mu
// held, by whoever found that the queue had not ended.
func (q *Queue) end(err error) {
	q.state |= ended
	q.calm()
	q.high = max(q.high, q.waiting())
	q.dropped += uint64(q.ring.len())
	q.ring = ring{}
	q.limit, q.room = 0, 0
	r := q.rarely()
	r.err = err
	r.runs = nil
	if r.timer != nil {
		r.timer.Stop()
	}
}

// stop is how the writer ends the queue: OnClose runs on its goroutine. A reason given to Close goes before the given
// one. Called with mu held; unlocks it.
func (q *Queue) stop(reason Reason) {
	q.state &^= writing
	if q.state&closed != 0 {
		reason = q.rare.reason
	}
	q.mu.Unlock()
	q.finish(reason)
}

// finish calls OnClose. It is called once.
func (q *Queue) finish(reason Reason) {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.state |= hooked
		q.settle()
	}()
	if q.onClose != nil {
		guard.Log(slog.Default(), "QueueOptions.OnClose", guard.Call(func() error { q.onClose(reason); return nil }))
	}
}

// settle closes done once OnClose and the last write have returned. Of the two that call it, finish and a writer that
// ends after it, the later one finds both. Called with mu held.
func (q *Queue) settle() {
	if q.state&(hooked|writing) != hooked {
		return
	}
	if r := q.rare; r.done == nil {
		r.done = closedChan
	} else {
		close(r.done)
	}
}

// Done returns a channel that is closed when the queue has ended, OnClose has returned, and no write is running: from
// then on nothing of the queue touches the connection.
func (q *Queue) Done() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rarely()
	if r.done == nil {
		r.done = make(chan struct{})
	}
	return r.done
}

func (q *Queue) rarely() *queueRare {
	if q.rare == nil {
		q.rare = &queueRare{}
	}
	return q.rare
}

// QueueStats is a snapshot of one [Queue]. Every frame that a Send has taken or dropped is in exactly one of Queued,
// Written and Dropped, except the one that is being written.
type QueueStats struct {
	QueuedFrames, QueuedBytes   int    // waiting now; bytes as the limit counts them
	HighWater                   int    // the most bytes that have waited
	WrittenFrames, WrittenBytes uint64 // notices not included
	Dropped                     uint64 // frames that were taken or offered, and will not be written
	Starts                      uint64 // how often a writer goroutine was started
}

// Stats returns the queue's counters.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return QueueStats{
		QueuedFrames: q.ring.len(), QueuedBytes: q.waiting(), HighWater: max(q.high, q.waiting()),
		WrittenFrames: q.writtenFrames, WrittenBytes: q.writtenBytes,
		Dropped: q.dropped, Starts: uint64(q.starts),
	}
}
