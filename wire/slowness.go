package wire

import (
	"log/slog"
	"time"
)

// slowness logs that messages need long to the bus and back, and when that is over. It is for one goroutine.
type slowness struct {
	logger    *slog.Logger
	threshold time.Duration // a round trip above it is slow
	lasting   time.Duration // how long it is slow before that is logged

	since  time.Time // when it became slow; zero: it is not
	logged bool
}

func newSlowness(s *session) *slowness {
	return &slowness{logger: s.logger, threshold: s.patience() / 4, lasting: slowAfter * s.patience()}
}

// note enters the latest round trip. known is whether it is of now.
func (s *slowness) note(trip time.Duration, known bool, now time.Time) {
	switch {
	case known && trip > s.threshold && s.since.IsZero():
		s.since = now
	case known && trip > s.threshold && !s.logged && now.Sub(s.since) >= s.lasting:
		s.logged = true
		s.logger.Warn("crosscast: messages need long to the bus and back", "round trip", trip.Round(time.Millisecond), "since", s.since,
			"cure", "if other nodes say the same, look at the bus; else at the network of this node, and at its processor")
	case known && trip < s.threshold/2:
		if s.logged {
			s.logger.Info("crosscast: messages are fast to the bus and back again", "round trip", trip.Round(time.Microsecond))
		}
		s.since, s.logged = time.Time{}, false
	case !s.logged && (!known || trip <= s.threshold):
		s.since = time.Time{}
	}
}
