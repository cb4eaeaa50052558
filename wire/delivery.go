package wire

import (
	"context"
	"errors"

	"github.com/crosscast/crosscast"
)

// delivery waits for the outcome of one instruction in all its frames. It is guarded by sender.mu until done is closed.
type delivery struct {
	left    int // frames without an outcome
	receipt crosscast.Receipt
	err     error
	done    chan struct{}
}

func newDelivery() *delivery { return &delivery{done: make(chan struct{})} }

// expect makes d, if it is not nil, wait for that many frames. With 0 it is complete.
func (d *delivery) expect(frames int) {
	if d == nil {
		return
	}
	d.left, d.receipt.Known = frames, true
	if frames == 0 {
		close(d.done)
	}
}

// fail enters the error of one frame. It keeps the first error of each of the two kinds.
func (d *delivery) fail(err error) {
	kind := crosscast.ErrRefused
	if errors.Is(err, crosscast.ErrUncertain) {
		kind = crosscast.ErrUncertain
	}
	switch {
	case d.err == nil:
		d.err = err
	case !errors.Is(d.err, kind):
		d.err = errors.Join(d.err, err)
	}
}

// wait returns the outcome.
func (d *delivery) wait(ctx context.Context) error {
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func resolveAll(done []*delivery) {
	for _, d := range done {
		close(d.done)
	}
}
