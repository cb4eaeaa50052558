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
		defer q.mu.Unlock()
		if q.state&(closed|ended) != 0 {
			return q.errLocked()
		}
		q.dropped++
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
	if q.room >= size && !q.ring.full() && !volatile {
		q.room -= size
		q.ring.put(frame)
		q.mu.Unlock()
		return nil
	}
	then, err := q.pushLocked(frame, size, volatile)
	q.mu.Unlock()
	if then != 0 {
		q.follow(then)
	}
	return err
}

// followUp is what is to be done without the lock after a push.
type followUp uint8

const (
	startWriter  followUp = 1 << iota // a frame waits, and no writer runs
	relieveAbove                      // the queue is above its limit
	finishSlow                        // the queue has ended with ReasonSlow
)

// follow does what a push has left to do.
func (q *Queue) follow(then followUp) {
	if then&startWriter != 0 {
		go q.writer()
	}
	if then&relieveAbove != 0 {
		q.bursts.Value().budget.relieve()
	}
	if then&finishSlow != 0 {
		go q.finish(ReasonSlow)
	}
}

// frameCost is the most that the ring needs for a frame.
const frameCost = 48

// frameSize is what frame counts towards the limit.
func frameSize(frame []byte) int { return len(frame) + frameCost }

// waitingLocked is how many bytes wait.
func (q *Queue) waitingLocked() int { return q.limit - q.room }

// pushLocked is push for every case, and returns what is to be done after it.
func (q *Queue) pushLocked(frame []byte, size int, volatile bool) (then followUp, err error) {
	if q.state&(closed|ended) != 0 {
		return 0, q.errLocked()
	}
	if q.ring.len() > 0 && (q.room < size || volatile && q.waitingLocked() > q.limit/16) {
		if then, err := q.makeRoomLocked(size, volatile); err != nil {
			return then, err
		}
	}
	if q.ring.full() {
		q.ring.grow()
	}
	q.room -= size
	q.ring.put(frame)
	if q.room < 0 {
		q.accountLocked()
		then |= relieveAbove
	}
	if q.state&writing == 0 {
		q.state |= writing
		q.starts++
		then |= startWriter
	}
	return then, nil
}

// errLocked is the error of a Send to a queue that takes nothing any more.
func (q *Queue) errLocked() error {
	if q.state&closed != 0 {
		return ErrClosed
	}
	return q.rare.err
}

// makeRoomLocked makes room for size bytes, or returns why it did not, and what is to be done then.
func (q *Queue) makeRoomLocked(size int, volatile bool) (then followUp, err error) {
	least := size // of room
	if !volatile {
		least -= q.aboveLocked()
	}
	switch {
	case !volatile && q.room >= least:
		return 0, nil
	case volatile:
		q.dropped++
		return 0, ErrDropped
	case q.policy == QueueDropNewest:
		q.dropped++
		q.noteDropLocked(q.ring.tail)
		return 0, ErrDropped
	case q.policy == QueueDropOldest:
		q.dropOldestLocked(least, 0)
		return 0, nil
	}
	q.dropped++
	q.endLocked(ErrSlow)
	return finishSlow, ErrSlow
}

// dropOldestLocked drops what has waited longest until there is so much room, or no more than keep frames wait.
func (q *Queue) dropOldestLocked(room, keep int) {
	for q.ring.len() > keep && q.room < room {
		q.popLocked()
		q.dropped++
		q.noteDropLocked(q.ring.head)
	}
}

// popLocked takes the first frame that waits. Never called when none does.
func (q *Queue) popLocked() []byte {
	q.high = max(q.high, q.waitingLocked()) // here and not in push, which touches less memory that way
	frame := q.ring.pop()
	if q.state&closed != 0 {
		q.limit -= frameSize(frame)
		return frame
	}
	above := q.room < 0
	q.room += frameSize(frame)
	if above {
		q.accountLocked()
	}
	return frame
}

// shutLocked takes the room away, so that push looks at the state. What waits stays limit - room.
func (q *Queue) shutLocked() {
	q.calmLocked()
	q.limit -= q.room
	q.room = 0
}

// noteDropLocked remembers, for the notice, that a frame was dropped in front of position at. Runs are in the order of the
// frames: QueueDropNewest adds at the end, which moves back when the budget is spent, and the only run of
// QueueDropOldest moves along with the head.
func (q *Queue) noteDropLocked(at uint32) {
	if q.notice == nil {
		return
	}
	r := q.rarelyLocked()
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
		if dropped := q.dueRunLocked(); dropped > 0 {
			q.mu.Unlock()
			if frame := q.makeNotice(dropped); frame != nil {
				err = q.writeFrame(frame)
			}
			q.mu.Lock()
		} else if q.ring.len() > 0 {
			frame := q.popLocked()
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
			reason := q.failLocked(err)
			q.mu.Unlock()
			q.finish(reason)
			return
		}
	}
	q.ring.release()
	if q.state&(closed|ended) == closed {
		q.endLocked(nil)
		reason := q.stopLocked("")
		q.mu.Unlock()
		q.finish(reason)
		return
	}
	q.state &^= writing
	q.settleLocked()
	q.mu.Unlock()
}

// dueRunLocked takes the run that was dropped in front of the next frame, and returns its length.
func (q *Queue) dueRunLocked() int {
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
	q.shutLocked()
	r := q.rarelyLocked()
	r.reason = reason
	if q.state&writing != 0 && q.grace > 0 {
		r.timer = time.AfterFunc(q.grace, q.expire)
		return
	}
	q.endLocked(nil)
	go q.finish(reason)
}

// expire ends a queue whose grace is over.
func (q *Queue) expire() {
	q.mu.Lock()
	if q.state&ended != 0 {
		q.mu.Unlock()
		return
	}
	q.endLocked(nil)
	reason := q.rare.reason
	q.mu.Unlock()
	q.finish(reason)
}

// endLocked drops what waits and lets no further write begin. The caller has found that the queue had not ended, and calls
// finish.
func (q *Queue) endLocked(err error) {
	q.state |= ended
	q.calmLocked()
	q.high = max(q.high, q.waitingLocked())
	q.dropped += uint64(q.ring.len())
	q.ring = ring{}
	q.limit, q.room = 0, 0
	r := q.rarelyLocked()
	r.err = err
	r.runs = nil
	if r.timer != nil {
		r.timer.Stop()
	}
}

// stopLocked is how the writer ends the queue: it calls finish with the reason that this returns. A reason given to Close
// goes before the given one.
func (q *Queue) stopLocked(reason Reason) Reason {
	q.state &^= writing
	if q.state&closed != 0 {
		reason = q.rare.reason
	}
	return reason
}

// finish calls OnClose. It is called once.
func (q *Queue) finish(reason Reason) {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.state |= hooked
		q.settleLocked()
	}()
	if q.onClose != nil {
		guard.Log(slog.Default(), "QueueOptions.OnClose", guard.Call(func() error { q.onClose(reason); return nil }))
	}
}

// settleLocked closes done once OnClose and the last write have returned. Of the two that call it, finish and a writer that
// ends after it, the later one finds both.
func (q *Queue) settleLocked() {
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
	r := q.rarelyLocked()
	if r.done == nil {
		r.done = make(chan struct{})
	}
	return r.done
}

func (q *Queue) rarelyLocked() *queueRare {
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
		QueuedFrames: q.ring.len(), QueuedBytes: q.waitingLocked(), HighWater: max(q.high, q.waitingLocked()),
		WrittenFrames: q.writtenFrames, WrittenBytes: q.writtenBytes,
		Dropped: q.dropped, Starts: uint64(q.starts),
	}
}
