package wire

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
)

// marks are the sender's progress at past moments; older ones are farther apart.
type marks []mark

type mark struct {
	at           time.Time
	number       uint64 // of the last frame with an outcome
	instructions int    // accepted by the bus so far
}

const maxMarks = 128

// enter adds m, unless the last mark is not older than every.
func (ms *marks) enter(m mark, every time.Duration) {
	n := len(*ms)
	if n > 0 && m.at.Sub((*ms)[n-1].at) < every {
		return
	}
	if n == maxMarks {
		drop, least := 0, 0.0
		for i := 1; i < n-1; i++ {
			apart := float64((*ms)[i+1].at.Sub((*ms)[i-1].at)) / float64(m.at.Sub((*ms)[i].at))
			if drop == 0 || apart < least {
				drop, least = i, apart
			}
		}
		*ms = slices.Delete(*ms, drop, drop+1)
	}
	*ms = append(*ms, m)
}

// before returns the last mark that is not after t; zero: it was before the first.
func (ms marks) before(t time.Time) (m mark) {
	for _, later := range ms {
		if later.at.After(t) {
			break
		}
		m = later
	}
	return m
}

// history is the sender's progress, and the part of it that went to a server that the peers had left.
type history struct {
	done  mark // so far
	marks marks
	since time.Time // frames accepted since then become a loss, once no batch is in flight; zero: none
	lost  mark      // the value of done at the latest such loss
}

// enter notes that frames up to a number have an outcome, and that the bus has accepted so many instructions of them.
func (h *history) enter(now time.Time, number uint64, instructions int, every time.Duration) {
	h.done = mark{now, number, h.done.instructions + instructions}
	h.marks.enter(h.done, every)
}

// leave notes that the peers left the server at a past moment. Frames in flight belong to the loss, and their outcome
// is awaited.
func (h *history) leave(since time.Time) {
	if h.since.IsZero() || since.Before(h.since) {
		h.since = since
	}
}

// left reports whether frames must become a loss.
func (h *history) left() bool { return !h.since.IsZero() }

// lose returns the frames that went to a server that the peers had left. No batch is in flight.
func (h *history) lose() (l lostFrames, some bool) {
	from := h.marks.before(h.since)
	h.since = time.Time{}
	if from.number < h.lost.number { // earlier frames were lost before
		from = h.lost
	}
	h.lost = h.done
	l = lostFrames{
		from: from.number + 1, to: h.done.number, instructions: h.done.instructions - from.instructions, all: true,
		err: errtext.Errorf("%w: %w", crosscast.ErrUncertain, errMoved),
	}
	return l, l.instructions > 0
}
