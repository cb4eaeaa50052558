package wsconn

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// All bytes to the client pass through an outlet: frames of the queue and control frames. Whoever has the turn writes
// whole frames, so that none splits another. Nothing is written after a closing frame, or after a write that has failed.
type outlet struct {
	conn    net.Conn
	timeout time.Duration // of one frame
	// resumes is true if a write can go on after its deadline. Over TLS it cannot, and other kinds of connections might
	// not.
	resumes bool
	raw     syscall.RawConn // for trySome; nil: there is no other way than a write that might block

	wanted atomic.Int32 // how many writes wait that come before the frames of the queue

	// Whoever has the turn uses these.
	slow bool  // the client takes its time: frames are written one by one
	over error // why nothing is written any more
	part int   // bytes of the next frame that trySome has written; if there are any, the queue's writer has the turn

	mu      sync.Mutex    // guards the fields below, and the deadline of conn
	taken   bool          // somebody has the turn
	batch   bool          // a batch that can be interrupted is being written
	hurried bool          // it was interrupted
	waiting int32         // for the turn
	next    chan struct{} // gets the turn for one of those that wait; nil: nobody waits
}

const (
	// maxBatch is the most bytes of several frames that are written at once.
	maxBatch = 64 << 10
	// maxRecord is maxBatch for connections that do not resume: the size of a record of TLS.
	maxRecord = 16 << 10
	// patience is how long the write of a batch may take. Then the client is slow, and each frame that it gets is a sign
	// of life. A slow client holds no buffer.
	patience = 250 * time.Millisecond
)

// errStalled is the error of a write when the client has taken no frame within the timeout.
var errStalled = errors.New("the client reads too slowly")

// A joint has several frames that are written at once.
type joint struct {
	rest   []byte // what try has yet to write
	err    error
	try    func(fd uintptr) // tryWrite, bound once
	buffer [maxBatch]byte
}

var joints sync.Pool

func takeJoint() *joint {
	if j, ok := joints.Get().(*joint); ok {
		return j
	}
	j := &joint{}
	j.try = j.tryWrite
	return j
}

func (j *joint) join(frames [][]byte) []byte {
	b := j.buffer[:0]
	for _, f := range frames {
		b = append(b, f...)
	}
	return b
}

// take waits for the turn. A write that takes it for the queue's frames gives it back between frames if others wait.
func (o *outlet) take() {
	o.mu.Lock()
	if !o.taken {
		o.taken = true
		o.mu.Unlock()
		return
	}
	if o.waiting++; o.next == nil {
		o.next = make(chan struct{})
	}
	next := o.next
	o.mu.Unlock()
	<-next
}

func (o *outlet) tryTake() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken {
		return false
	}
	o.taken = true
	return true
}

// takeSoon is take for a write that comes before the frames of the queue.
func (o *outlet) takeSoon() {
	if o.tryTake() {
		return
	}
	o.wanted.Add(1)
	o.hurry()
	o.take()
	o.wanted.Add(-1)
}

// give gives the turn back, or to one of those that wait. It need not be called where take was.
func (o *outlet) give() {
	o.mu.Lock()
	next := o.next
	if next == nil {
		o.taken = false
	} else if o.waiting--; o.waiting == 0 {
		o.next = nil
	}
	o.mu.Unlock()
	if next != nil {
		next <- struct{}{}
	}
}

// hurry makes a batch that is being written end with the present frame.
func (o *outlet) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.batch && !o.hurried {
		o.hurried = true
		_ = o.conn.SetWriteDeadline(time.Unix(1, 0))
	}
}

// arm sets the deadline of a write that begins.
func (o *outlet) arm(deadline time.Time, batch bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.batch, o.hurried = batch, false
	_ = o.conn.SetWriteDeadline(deadline) // if it fails, so does the write
}

// disarm ends arm for a batch, and reports whether it was interrupted.
func (o *outlet) disarm() (hurried bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.batch = false
	return o.hurried
}

// clear ends arm for a connection that does not resume. TLS also writes by itself, when the client wants new keys, and a
// deadline left behind would end that.
func (o *outlet) clear() {
	if !o.resumes {
		_ = o.conn.SetWriteDeadline(time.Time{})
	}
}

// send writes one or more frames that belong together.
func (o *outlet) send(frame []byte) error { return o.sendBy(frame, time.Now().Add(o.timeout)) }

func (o *outlet) sendBy(frame []byte, deadline time.Time) error {
	if o.over != nil {
		return o.over
	}
	o.arm(deadline, false)
	_, err := o.conn.Write(frame)
	o.clear()
	if isTimeout(err) {
		err = errStalled
	}
	o.over = err
	return err
}

// sendClose writes a closing frame.
func (o *outlet) sendClose(frame []byte) error {
	o.takeSoon()
	defer o.give()
	err := o.send(frame)
	if err == nil {
		o.over = net.ErrClosed
	}
	return err
}

// sendSome writes some of the frames, but not none. It returns how many it has written wholly.
func (o *outlet) sendSome(frames [][]byte) (written int, err error) {
	if o.over != nil {
		return 0, o.over
	}
	if part := o.part; part > 0 {
		o.part = 0
		if err := o.send(frames[0][part:]); err != nil {
			return 0, err
		}
		return 1, nil
	}
	began := time.Now()
	n := o.gather(frames)
	if n > 1 && o.resumes {
		o.arm(began.Add(min(patience, o.timeout/4)), true)
		if o.wanted.Load() > 0 { // from now on, hurry interrupts
			n = 1
		}
	}
	if n == 1 {
		if err := o.send(frames[0]); err != nil {
			return 0, err
		}
		o.slow = o.slow && time.Since(began) > patience/2
		return 1, nil
	}
	frames = frames[:n]
	if !o.resumes {
		if err := o.sendRecord(frames, began); err != nil {
			return 0, err
		}
		return n, nil
	}
	bytes, err := o.writeJoined(frames)
	hurried := o.disarm()
	if err == nil {
		return n, nil
	}
	written, part := whole(frames, bytes)
	if !isTimeout(err) {
		o.over = err
		return written, err
	}
	o.slow = !hurried
	if written > 0 {
		if part == 0 {
			return written, nil
		}
		began = time.Now()
	}
	if err := o.sendBy(frames[written][part:], began.Add(o.timeout)); err != nil {
		return written, err
	}
	return written + 1, nil
}

// trySome writes frames as far as the connection takes them at once, and never waits. It returns how many it has written
// wholly. If the others begin in the middle of a frame, the turn is kept for sendSome, which must be called next.
func (o *outlet) trySome(frames [][]byte) (written int, err error) {
	if o.wanted.Load() > 0 || !o.tryTake() {
		return 0, nil
	}
	if o.over == nil && !o.slow {
		frames = frames[:o.gather(frames)]
		var bytes int
		bytes, o.over = o.tryJoined(frames)
		written, o.part = whole(frames, bytes)
	}
	err = o.over
	if o.part == 0 || err != nil {
		o.give()
	}
	return written, err
}

// tryJoined writes frames at once, as far as that is possible without waiting.
func (o *outlet) tryJoined(frames [][]byte) (bytes int, err error) {
	j := takeJoint()
	defer joints.Put(j)
	b := frames[0]
	if len(frames) > 1 {
		b = j.join(frames)
	}
	j.rest = b
	if err = o.raw.Control(j.try); err == nil {
		err = j.err
	}
	bytes = len(b) - len(j.rest)
	j.rest, j.err = nil, nil
	return bytes, err
}

// sendRecord writes frames to a connection that does not resume. If that fails, none of them can be read.
func (o *outlet) sendRecord(frames [][]byte, began time.Time) error {
	o.arm(began.Add(o.timeout), false)
	_, err := o.writeJoined(frames)
	o.clear()
	if isTimeout(err) {
		err = errStalled
	}
	o.over = err
	o.slow = time.Since(began) > min(patience, o.timeout/4)
	return err
}

// writeJoined writes frames at once.
func (o *outlet) writeJoined(frames [][]byte) (bytes int, err error) {
	j := takeJoint()
	defer joints.Put(j)
	return o.conn.Write(j.join(frames))
}

// gather returns how many of the frames can be written at once.
func (o *outlet) gather(frames [][]byte) int {
	if o.slow || o.wanted.Load() > 0 {
		return 1
	}
	room := maxBatch
	if !o.resumes {
		room = maxRecord
	}
	n := 0
	for ; n < len(frames) && len(frames[n]) <= room; n++ {
		room -= len(frames[n])
	}
	return max(n, 1)
}

// whole returns how many frames lie wholly within the first bytes, and how many bytes of the next one do.
func whole(frames [][]byte, bytes int) (n, part int) {
	for n < len(frames) && len(frames[n]) <= bytes {
		bytes -= len(frames[n])
		n++
	}
	return n, bytes
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}
