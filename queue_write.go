package crosscast

import (
	"sync"
	"time"
)

// A flight holds the frames that a writer has taken out of the ring, in order. The queue's mu guards it; the frames
// themselves are read without it. The first frame is the one being written. The others still wait, as far as the limit
// is concerned.
type flight struct {
	queue  *Queue
	writer func()   // run, bound once so that starting it allocates nothing
	frames [][]byte // without those that were written
	all    [][]byte // the memory of frames
	bytes  int      // of the frames behind the first
}

const (
	batchBytes  = 64 << 10 // as the limit counts them
	batchFrames = 256
)

var flights sync.Pool

func takeFlight() *flight {
	if f, ok := flights.Get().(*flight); ok {
		return f
	}
	f := &flight{all: make([][]byte, 0, smallRing)}
	f.writer = f.run
	return f
}

// The methods of a nil flight are those of an empty one.

func (f *flight) len() int {
	if f == nil {
		return 0
	}
	return len(f.frames)
}

func (f *flight) waiting() int { return max(f.len()-1, 0) }

func (f *flight) size() int {
	if f == nil {
		return 0
	}
	return f.bytes
}

// add adds a frame.
func (f *flight) add(frame []byte) {
	f.all = append(f.all, frame)
	f.frames = f.all
}

// drop removes the first n frames. It returns the bytes that do not wait any more.
func (f *flight) drop(n int) (credit int) {
	for i := range n {
		f.frames[i] = nil
		if i+1 < len(f.frames) {
			credit += frameSize(f.frames[i+1])
		}
	}
	f.frames = f.frames[n:]
	f.bytes -= credit
	if len(f.frames) == 0 {
		f.all, f.bytes = f.all[:0], 0 // bytes is wrong if the queue has ended meanwhile
	}
	return credit
}

// start starts the writer: a pump if writes can be tried, or a goroutine of the queue's own.
func (q *Queue) start() {
	if q.try != nil {
		q.shared.Value().budget.pumps.add(q)
		return
	}
	f := takeFlight()
	f.queue = q
	go f.writer()
}

// run is a writer of its queue's own. It writes until nothing waits.
func (f *flight) run() {
	q, returned := f.queue, false
	defer func() {
		if !returned {
			go q.exited()
		}
	}()
	q.writeAll(f)
	f.queue = nil
	flights.Put(f) // not if a function of the application ends the goroutine
	returned = true
}

// writeAll begins with the frames that f has already. If the queue has ended, they are written once all the same, because a
// part of the first one might have been.
func (q *Queue) writeAll(f *flight) {
	q.mu.Lock()
	q.flight = f
	for { // if the queue ends meanwhile, nothing waits any more
		var err error
		if len(f.frames) > 0 {
			err = q.writeLocked(f)
		} else if d, due := q.dueRunLocked(); due {
			q.mu.Unlock()
			if frame := q.makeNotice(d); frame != nil {
				_, err = q.writeFrames([][]byte{frame})
			}
			q.mu.Lock()
		} else if q.ring.len() > 0 {
			q.takeLocked(f)
			q.markLocked()
			continue
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
	reason, over := q.restLocked()
	q.mu.Unlock()
	if over {
		q.finish(reason)
	}
}

// restLocked ends the writer, because nothing waits. If the queue was closed, it ends now: then over is true, and the
// caller calls finish.
func (q *Queue) restLocked() (reason Reason, over bool) {
	q.flight = nil
	q.ring.release()
	if q.state&(closed|ended) == closed {
		q.endLocked(nil)
		return q.stopLocked(""), true
	}
	q.state &^= writing
	q.settleLocked()
	return "", false
}

// takeLocked moves the first waiting frames to f: at least one, and none behind a run of dropped frames.
func (q *Queue) takeLocked(f *flight) {
	f.bytes = 0
	if q.state&batching == 0 {
		f.add(q.popLocked())
		return
	}
	room := batchBytes
	if q.state&closed == 0 { // otherwise no policy needs to drop frames
		room = min(room, q.limit/16)
	}
	first := q.ring.take()
	q.creditLocked(frameSize(first))
	f.add(first)
	for room -= frameSize(first); q.ring.len() > 0 && len(f.frames) < batchFrames && !q.isRunDueLocked(); {
		size := frameSize(q.ring.peek())
		if room -= size; room < 0 {
			break
		}
		f.add(q.ring.take())
		f.bytes += size
	}
	q.ring.shrink(largeRing) // the places for the next batch stay until the writer ends
}

// writeLocked writes the frames of f. It unlocks mu meanwhile.
func (q *Queue) writeLocked(f *flight) (err error) {
	for len(f.frames) > 0 && err == nil {
		frames := f.frames
		q.mu.Unlock()
		var n int
		n, err = q.writeFrames(frames)
		q.mu.Lock()
		q.wroteLocked(f, n)
		if q.state&ended != 0 {
			break
		}
	}
	q.dropFlightLocked(f)
	return err
}

// wroteLocked enters that the first n frames of f were written.
func (q *Queue) wroteLocked(f *flight, n int) {
	for _, frame := range f.frames[:n] {
		q.writtenFrames++
		q.writtenBytes += uint64(len(frame))
	}
	credit := f.drop(n)
	if q.state&ended != 0 {
		return
	}
	if n > 0 && q.room < 0 {
		q.rare.finished = time.Now()
	}
	if r := q.rare; r != nil && r.sample.of != nil {
		r.sample.written(q.ring.head - uint32(len(f.frames)))
	}
	if credit > 0 {
		q.creditLocked(credit)
	}
}

// dropFlightLocked drops the frames of f.
func (q *Queue) dropFlightLocked(f *flight) {
	q.dropped += uint64(len(f.frames))
	f.drop(len(f.frames))
}
