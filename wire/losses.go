package wire

import (
	"errors"
	"time"

	"github.com/crosscast/crosscast"
)

// lossState is what this node lost: a count of the run and the latest ranges. It is state, not events: every frame that
// carries it carries all of it, so a peer that was away when something was lost learns of it too.
type lossState struct {
	count  uint64
	last   time.Time             // when something was lost
	ranges []crosscast.LossRange // the latest, at most crosscast.MaxLosses
}

func (s *lossState) add(r crosscast.LossRange) {
	s.count++
	s.last = time.Now()
	if len(s.ranges) == crosscast.MaxLosses {
		copy(s.ranges, s.ranges[1:])
		s.ranges = s.ranges[:crosscast.MaxLosses-1]
	}
	s.ranges = append(s.ranges, r)
}

// lostFrames collects frames with rising numbers that share one fate.
type lostFrames struct {
	from, to     uint64
	instructions int
	names        []crosscast.Address
	all          bool
	err          error
}

func (l *lostFrames) add(f *frame, err error) {
	if l.from == 0 {
		l.from = f.number
	}
	l.to = f.number
	l.instructions += f.instructions
	l.err = err
	if l.all {
		return
	}
	if f.to.name == (crosscast.Address{}) {
		l.all, l.names = true, nil
		return
	}
	for _, n := range l.names {
		if n == f.to.name {
			return
		}
	}
	if len(l.names) == crosscast.MaxLossNames {
		l.all, l.names = true, nil
		return
	}
	l.names = append(l.names, f.to.name)
}

func (l *lostFrames) forPeers() crosscast.LossRange {
	return crosscast.LossRange{From: l.from, To: l.to, Names: l.names}
}

func (l *lostFrames) forSelf() crosscast.Loss {
	return crosscast.Loss{
		Reason: lossReason(l.err), Names: l.names, From: l.from, To: l.to, Instructions: l.instructions, Err: l.err,
	}
}

// lossReason is the reason of what was lost for err.
func lossReason(err error) crosscast.LossReason {
	switch {
	case errors.Is(err, errExpired):
		return crosscast.LossExpired
	case errors.Is(err, errStopped):
		return crosscast.LossClosed
	case !errors.Is(err, crosscast.ErrRefused):
		return crosscast.LossUncertain
	case errors.Is(err, crosscast.ErrDenied):
		return crosscast.LossDenied
	}
	return crosscast.LossRefused
}
