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
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/guard"
)

// QueuePolicy selects how a [Queue] treats a frame that finds no room because the client is too slow.
type QueuePolicy uint8

const (
	// QueueDisconnect ends the queue: Send returns [ErrSlow], the waiting frames are dropped, and OnClose gets
	// [ReasonSlow]. The client has received everything up to some point, and nothing after it.
	QueueDisconnect QueuePolicy = iota
	// QueueDropNewest drops the frame that does not fit. Send returns [ErrDropped].
	QueueDropNewest
	// QueueDropOldest drops the oldest waiting frames until the new one fits. Send returns nil.
	QueueDropOldest
)

// QueueOptions configure a [Queue]. The zero value works.
type QueueOptions struct {
	// Framer makes a message's bytes. Default: [JSONEnvelope].
	Framer Framer

	// Limit is the number of bytes that may wait behind the frame being written, for any time. Default: 1 MiB; 1 byte
	// to 1 GiB. Each frame counts 48 bytes more than its length, for the queue's own memory. A frame shared by many
	// sockets counts at each of them. If no frame waits, the next one is always taken, so a client that keeps up also
	// gets a frame larger than the limit.
	Limit int

	// Burst is the number of bytes that may wait during a burst, for BurstTime: a client that reads survives a burst.
	// Default: 8 × Limit, at most 1 GiB; at least Limit.
	Burst int

	// BurstTime is the longest time for which more than Limit may wait. It applies only while the client reads: each
	// frame must be written within WriteTimeout. Default: 5 seconds, at most 1 hour; negative: no bursts.
	BurstTime time.Duration

	// WriteTimeout is the time that the client has for one frame during a burst. After it, Limit applies at once. The
	// queue does not end the write. Default: 10 seconds, at most 1 hour.
	WriteTimeout time.Duration

	// Budget bounds the bytes above the limits of several queues together. Default: one budget of 64 MiB, shared by all
	// queues of the process that have no other.
	Budget *QueueBudget

	// TryWrite, if set, writes the frames that can be written at once. It must not block. written is the number of frames
	// that were written wholly. If some are left, the queue calls write with these. TryWrite might have written a part of
	// the first one; then write must write its rest. An error of TryWrite counts as an error of write.
	//
	// Queues with TryWrite and the same Budget share goroutines: at most GOMAXPROCS, as it was when the first of them began. Once
	// more than 32 frames wait in a queue on average, they are one less, but at least one. So a broadcast to many clients
	// starts no goroutine for a client, unless the client does not take what is written.
	TryWrite func(frames [][]byte) (written int, err error)

	// Policy applies to a frame that does not fit. A frame fits if, together with it, no more than Burst would wait
	// during a burst, or no more than Limit at other times. Default: [QueueDisconnect].
	Policy QueuePolicy

	// DropNotice, if set, makes a frame that is written in the place of a run of dropped frames, and so tells the
	// client how many it missed. The writer calls it just before the write, when the length of the run is known. If it
	// returns nil, nothing is written. Two kinds of frames are not counted: volatile messages dropped on arrival, and
	// frames dropped when the queue ends. See also [Queue.SendNotice].
	DropNotice func(d QueueDrop) []byte

	// CloseGrace is the time in which waiting frames may still be written after Close. Default: 1 second, at most 1
	// hour; negative: none.
	CloseGrace time.Duration

	// OnClose, if set, closes the connection below. It is called once: see [Queue]. It may block, but must not wait for
	// Done.
	OnClose func(reason Reason)
}

const (
	defaultQueueLimit   = 1 << 20
	defaultBursts       = 8 // limits
	defaultBurstTime    = 5 * time.Second
	defaultWriteTimeout = 10 * time.Second
	defaultCloseGrace   = time.Second
)

// A Queue is a [Conn] over a blocking write, such as that of a websocket library, a server-sent-event response or a
// gRPC stream. It is bounded in bytes, and has a policy for slow clients.
//
// The write function is called by one goroutine at a time, with the frames in the order of the calls that queued them.
// A Send that finds no such goroutine starts one. The goroutine ends when nothing waits, so a burst starts it once and
// an idle queue has none. With TryWrite, that goroutine might be one that serves other queues, too. A frame stays valid
// forever and must not be changed.
//
// [NewQueue] makes a queue that writes one frame a call. [NewBatchQueue] makes one that passes the frames that wait to
// one call, so that they can share a system call.
//
// Write, TryWrite, DropNotice and OnClose may panic. The panic is logged to slog.Default. A panic of write or
// TryWrite counts as an error of write, a [*PanicError]. A DropNotice that panics writes no notice.
//
// A volatile message is for a client that keeps up. Under every policy it is dropped while more than a sixteenth of the
// limit waits. So it passes through a short burst, does not pile up for a client that stalls, and never disconnects a
// client.
//
// A queue ends in one of three ways. Each causes exactly one call of OnClose, on a goroutine of the queue:
//
//   - Close was called: OnClose gets its reason, after the waiting frames were written or CloseGrace has passed.
//   - write returned an error: OnClose gets [ReasonLeft], or after a panic [ReasonInternal], at once. The waiting
//     frames are dropped. Until Close is called, Send returns the error, wrapped.
//   - The client was too slow: a frame found no room under [QueueDisconnect], or the Budget was spent and this client
//     was furthest behind. OnClose gets [ReasonSlow], at once. The waiting frames are dropped. Until Close is called,
//     Send returns [ErrSlow].
//
// OnClose runs after the last write has returned, with one exception: if a write still blocks when the grace or the
// client's time is over, OnClose is called anyway and must make that write return. Closing the connection does so. A
// TryWrite counts as a write, together with the write of what it has left. That write might begin after OnClose.
//
// All methods may be called concurrently, and none of them blocks. A Queue must not be copied.
type Queue struct {
	mu sync.Mutex // guards all fields that are not marked constant

	// The fields that push touches come first. They fit one cache line, except the ring's own place.
	framer Framer // constant
	room   int    // limit, less the bytes of the frames in ring; below zero during a burst
	ring   ring   // waiting frames, without the one being written

	limit  int // after shut: the waiting bytes
	state  queueState
	policy QueuePolicy // constant
	starts uint32

	shared        interned.Handle[sharedOptions] // constant
	high          int                            // the most bytes that waited, up to the last change
	flight        *flight                        // of the writer; nil if there is none
	write         func([][]byte) (int, error)    // constant
	try           func([][]byte) (int, error)    // constant; nil: writes always have a goroutine of the queue's own
	notice        func(QueueDrop) []byte         // constant
	onClose       func(Reason)                   // constant
	writtenFrames uint64
	writtenBytes  uint64
	dropped       uint64
	rare          *queueRare // fields that most queues never need; see rarelyLocked
}

type queueState uint8

const (
	writing  queueState = 1 << iota // a writer goroutine exists
	closed                          // Close was called
	ended                           // no further write begins, nothing waits, and finish is called by somebody
	hooked                          // finish has called OnClose
	batching                        // constant: write takes several frames
)

// queueRare is guarded by the queue's mu.
type queueRare struct {
	burst
	runs   []dropRun
	marks  []mark
	sample sample
	err    error         // the error of write, or ErrSlow
	reason Reason        // of Close
	timer  *time.Timer   // bounds the grace
	done   chan struct{} // nil until Done is called
}

// NewQueue returns a queue over write, which writes one frame and may block. It panics if write is nil, the framer is
// not comparable, the policy is unknown, or another option is out of bounds.
func NewQueue(write func(frame []byte) error, o QueueOptions) *Queue {
	if write == nil {
		panic("crosscast: NewQueue without a write function")
	}
	return newQueue(func(frames [][]byte) (int, error) {
		if err := write(frames[0]); err != nil {
			return 0, err
		}
		return 1, nil
	}, 0, o)
}

// NewBatchQueue is NewQueue for a write function that takes several frames at once, at least one: those that waited when
// it was called. Nothing is awaited to make a batch larger. A batch has at most 256 frames, and at most 64 KiB and a
// sixteenth of the Limit, as the Limit counts them. A frame that is larger goes alone. A frame of DropNotice goes alone,
// in its place.
//
// written is the number of frames that were written wholly. If write returns an error, the other frames are dropped. If
// it returns nil after some of the frames, but not none, it is called again with the others. write should do so when the
// client takes its time, because a frame counts as written only when write returns. write must not keep or change
// frames.
func NewBatchQueue(write func(frames [][]byte) (written int, err error), o QueueOptions) *Queue {
	if write == nil {
		panic("crosscast: NewBatchQueue without a write function")
	}
	return newQueue(write, batching, o)
}

func newQueue(write func([][]byte) (int, error), state queueState, o QueueOptions) *Queue {
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
	case o.Policy > QueueDropOldest:
		panic(fmt.Sprintf("crosscast: unknown QueuePolicy %d", o.Policy))
	case !reflect.TypeOf(o.Framer).Comparable():
		panic(fmt.Sprintf("crosscast: Framer of type %T is not comparable", o.Framer))
	}
	return &Queue{
		framer: o.Framer, room: o.Limit, limit: o.Limit, state: state, policy: o.Policy,
		shared: interned.Make(sharedOptions{o.Burst, o.BurstTime, o.WriteTimeout, o.CloseGrace, o.Budget}),
		write:  write, try: o.TryWrite, notice: o.DropNotice, onClose: o.OnClose,
	}
}

// Send queues m's frame, and returns:
//
//   - nil: the frame was taken.
//   - [ErrDropped]: m was dropped, because there was no room or m could not be framed. In the second case the error
//     also wraps the framer's. The queue goes on.
//   - [ErrClosed]: Close was called.
//   - any other error, such as [ErrSlow]: the queue has ended by itself.
func (q *Queue) Send(m *Message) error {
	frame, err := m.Frame(q.framer)
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.state&(closed|ended) != 0 {
			return q.errLocked()
		}
		q.dropped++
		return errtext.Errorf("%w: %w", ErrDropped, err)
	}
	if m.timed != nil {
		return q.pushTimed(frame, m)
	}
	return q.push(frame, m.Volatile)
}

// SendFrame queues bytes that are not a message's, such as a binding's reply to a ping. It returns the errors of Send.
// The queue keeps frame, which must not be changed any more.
func (q *Queue) SendFrame(frame []byte) error { return q.push(frame, false) }

// push has a short path for the common case of a broadcast: a queue with a writer, and room in the limit and in the
// ring. This path needs the first 64 bytes of the queue and one place of the ring, because at 100,000 sockets the cost
// is in reading memory. A queue that takes nothing any more has no room, and a queue without a writer has a ring
// without places, so both leave the short path.
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

// followUp is the work that a push leaves for after the unlock.
type followUp uint8

const (
	startWriter  followUp = 1 << iota // a frame waits, and no writer runs
	relieveAbove                      // the queue is above its limit
	finishSlow                        // the queue has ended with ReasonSlow
)

// follow does the work that a push has left.
func (q *Queue) follow(then followUp) {
	if then&startWriter != 0 {
		q.start()
	}
	if then&relieveAbove != 0 {
		q.shared.Value().budget.relieve()
	}
	if then&finishSlow != 0 {
		go q.finish(ReasonSlow)
	}
}

// frameCost stands for the queue's own memory for a frame: up to two places of a large ring, and a third while it grows.
const frameCost = 48

// frameSize is the amount that frame counts towards the limit.
func frameSize(frame []byte) int { return len(frame) + frameCost }

// waitingLocked is the number of waiting bytes.
func (q *Queue) waitingLocked() int { return q.limit - q.room }

// waitingFramesLocked is the number of waiting frames, with those of the batch under way except the one being written.
func (q *Queue) waitingFramesLocked() int { return q.ring.len() + q.flight.waiting() }

// pushLocked is push for every case. It returns the work to do after the unlock.
func (q *Queue) pushLocked(frame []byte, size int, volatile bool) (then followUp, err error) {
	if q.state&(closed|ended) != 0 {
		return 0, q.errLocked()
	}
	if q.waitingFramesLocked() > 0 && (q.room < size || volatile && q.waitingLocked() > q.limit/16) {
		if then, err := q.makeRoomLocked(size, volatile); err != nil {
			return then, err
		}
	}
	if q.state&writing == 0 {
		q.markLocked()
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

// errLocked is the error of a Send after the end of the queue.
func (q *Queue) errLocked() error {
	if q.state&closed != 0 {
		return ErrClosed
	}
	return q.rare.err
}

// makeRoomLocked makes room for size bytes. If it cannot, it returns the error of Send and the work to do after the
// unlock.
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
		if q.notice != nil {
			q.noteDropLocked(q.ring.tail, time.Now())
		}
		return 0, ErrDropped
	case q.policy == QueueDropOldest:
		q.dropOldestLocked(least, 0)
		return 0, nil
	}
	q.dropped++
	q.endLocked(ErrSlow)
	return finishSlow, ErrSlow
}

// dropOldestLocked drops the oldest waiting frames, until there is the given room or at most keep frames wait.
func (q *Queue) dropOldestLocked(room, keep int) {
	for q.ring.len() > keep && q.room < room {
		q.popLocked()
		q.unsampleLocked(q.ring.head - 1)
		q.dropped++
		if q.notice != nil {
			q.noteDropLocked(q.ring.head, q.queuedAfterLocked(q.ring.head-1))
		}
	}
	q.markLocked()
}

// popLocked takes the first waiting frame. There must be one.
func (q *Queue) popLocked() []byte {
	frame := q.ring.pop()
	q.creditLocked(frameSize(frame))
	return frame
}

// creditLocked gives back the room of frames that do not wait any more.
func (q *Queue) creditLocked(size int) {
	q.high = max(q.high, q.waitingLocked()) // here and not in push, which so touches less memory
	if q.state&closed != 0 {
		q.limit -= size
		return
	}
	above := q.room < 0
	q.room += size
	if above {
		q.accountLocked()
	}
}

// shutLocked sets the room to zero, so that push looks at the state. The number of waiting bytes stays limit - room.
func (q *Queue) shutLocked() {
	q.calmLocked()
	q.limit -= q.room
	q.room = 0
}

// Close ends the queue without blocking. No frame is taken any more, the waiting ones are written for at most
// CloseGrace, and then OnClose is called. Only the first call counts, and no call counts after the queue has ended by
// itself.
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
	if grace := q.shared.Value().grace; q.state&writing != 0 && grace > 0 {
		r.timer = time.AfterFunc(grace, q.expire)
		return
	}
	q.endLocked(nil)
	go q.finish(reason)
}

// expire ends the queue after its grace.
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

// endLocked drops the waiting frames and lets no further write begin. The caller has checked that the queue had not
// ended, and calls finish.
func (q *Queue) endLocked(err error) {
	q.state |= ended
	q.calmLocked()
	q.high = max(q.high, q.waitingLocked())
	q.dropped += uint64(q.ring.len())
	q.ring = ring{}
	q.limit, q.room = 0, 0
	if q.flight != nil {
		q.flight.bytes = 0
	}
	r := q.rarelyLocked()
	r.err = err
	r.runs, r.marks, r.sample = nil, nil, sample{}
	if r.timer != nil {
		r.timer.Stop()
	}
}

// stopLocked ends the writer, which then calls finish with the returned reason. A reason given to Close takes
// precedence over the given one.
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

// settleLocked closes done once OnClose and the last write have returned. finish calls it, and so does a writer that
// ends after finish; the later of the two calls finds both done.
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

// Done returns a channel that is closed when the queue has ended, OnClose has returned and no write is running. After
// that the queue does not touch the connection.
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
// Written and Dropped, except the one being written.
type QueueStats struct {
	QueuedFrames, QueuedBytes   int    // waiting now; bytes as the limit counts them
	BatchFrames, BatchBytes     int    // those of Queued that belong to the write under way
	HighWater                   int    // the most bytes that have waited at once
	WrittenFrames, WrittenBytes uint64 // notices not included
	Dropped                     uint64 // frames dropped at Send or later
	Starts                      uint64 // how often a Send has found no writer
}

// Stats returns the queue's counters.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return QueueStats{
		QueuedFrames: q.waitingFramesLocked(), QueuedBytes: q.waitingLocked(), HighWater: max(q.high, q.waitingLocked()),
		BatchFrames: q.flight.waiting(), BatchBytes: q.flight.size(),
		WrittenFrames: q.writtenFrames, WrittenBytes: q.writtenBytes,
		Dropped: q.dropped, Starts: uint64(q.starts),
	}
}
