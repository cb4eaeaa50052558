package crosscast

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/crosscast/crosscast/internal/guard"
)

// fail is how the writer ends the queue when it could not write. Called with mu held; unlocks it.
func (q *Queue) fail(err error) {
	q.end(fmt.Errorf("crosscast: writing to the client: %w", err))
	reason := ReasonLeft
	if errors.As(err, new(*PanicError)) || errors.Is(err, errExit) {
		reason = ReasonInternal
	}
	q.stop(reason)
}

// exited does the rest for a writer whose goroutine a function of the application's has ended.
func (q *Queue) exited() {
	q.mu.Lock()
	q.dropped++
	if q.state&ended == 0 {
		q.fail(errExit)
		return
	}
	q.state &^= writing
	q.settle()
	q.mu.Unlock()
}

func (q *Queue) writeFrame(frame []byte) error {
	err := guard.Call(func() error { return q.write(frame) })
	if err != nil {
		reportPanic("the write of a Queue", err)
	}
	return err
}

func (q *Queue) makeNotice(dropped int) (frame []byte) {
	reportPanic("QueueOptions.DropNotice", guard.Call(func() error {
		frame = q.notice(dropped)
		return nil
	}))
	return frame
}

// reportPanic logs err if it is a panic, of what. A queue knows of no node.
func reportPanic(what string, err error) {
	var p *PanicError
	if errors.As(err, &p) {
		guard.Log(slog.Default(), what, p)
	}
}
