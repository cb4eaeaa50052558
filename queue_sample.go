package crosscast

import (
	"time"

	"github.com/crosscast/crosscast/internal/histogram"
)

// A sample is a frame whose time in its queue is measured: at most one of each queue at a time.
type sample struct {
	of  *histogram.Histogram // nil: there is none
	pos uint32               // in the ring
	at  time.Time            // since when the message was being delivered
}

// pushTimed is push for a message that is measured.
func (q *Queue) pushTimed(frame []byte, m *Message) error {
	q.mu.Lock()
	then, err := q.pushLocked(frame, frameSize(frame), m.Volatile)
	if err == nil {
		if r := q.rarelyLocked(); r.sample.of == nil {
			r.sample = sample{m.timed, q.ring.tail - 1, m.at}
		}
	}
	q.mu.Unlock()
	if then != 0 {
		q.follow(then)
	}
	return err
}

// written notes that all frames before position next were written.
func (s *sample) written(next uint32) {
	if int32(next-s.pos) > 0 {
		s.of.Observe(time.Since(s.at))
		*s = sample{}
	}
}

// unsampleLocked forgets the sample if the frame at a position is it, because that was dropped.
func (q *Queue) unsampleLocked(pos uint32) {
	if r := q.rare; r != nil && r.sample.of != nil && r.sample.pos == pos {
		r.sample = sample{}
	}
}
