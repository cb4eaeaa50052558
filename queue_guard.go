package crosscast

import (
	"errors"
	"log/slog"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/guard"
)

// failLocked ends the queue, and its writer, after a failed write. It returns the reason for finish.
func (q *Queue) failLocked(err error) Reason {
	q.flight = nil
	q.endLocked(errtext.Errorf("crosscast: writing to the client: %w", err))
	reason := ReasonLeft
	if errors.As(err, new(*PanicError)) || errors.Is(err, guard.ErrExit) {
		reason = ReasonInternal
	}
	return q.stopLocked(reason)
}

// exited does the remaining work of a writer whose goroutine was ended by a function of the application.
func (q *Queue) exited() {
	q.mu.Lock()
	if q.state&writing == 0 { // it was OnClose: finish has done the rest
		q.mu.Unlock()
		return
	}
	q.dropped += uint64(q.flight.len())
	q.flight = nil // not reused
	if q.state&ended == 0 {
		reason := q.failLocked(guard.ErrExit)
		q.mu.Unlock()
		q.finish(reason)
		return
	}
	q.state &^= writing
	q.settleLocked()
	q.mu.Unlock()
}

var errNothingWritten = errors.New("the write function returned neither an error nor a number of frames")

// writeFrames and makeNotice log panics to slog.Default, because a queue knows no node.
func (q *Queue) writeFrames(frames [][]byte) (written int, err error) {
	written, err = guardWrite(q.write, frames)
	if err == nil && written == 0 {
		err = errNothingWritten
	}
	return written, err
}

func guardWrite(write func([][]byte) (int, error), frames [][]byte) (written int, err error) {
	written, err = catchWrite(write, frames)
	if err != nil {
		guard.Log(slog.Default(), "the write of a Queue", err)
	}
	return max(0, min(written, len(frames))), err
}

func catchWrite(write func([][]byte) (int, error), frames [][]byte) (written int, err error) {
	defer guard.Catch(&err)
	return write(frames)
}

func (q *Queue) makeNotice(d QueueDrop) (frame []byte) {
	err := guard.Call(func() error { frame = q.notice(d); return nil })
	guard.Log(slog.Default(), "QueueOptions.DropNotice", err)
	return frame
}
