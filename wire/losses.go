package wire

import (
	"errors"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// lossState is this node's losses: their count in this run, and the latest ranges. It is state, not events: every frame
// that carries it carries all of it, so a peer that was away during a loss learns of it too. A range is dropped after
// ten heartbeats have carried it; the count stays. A peer that was away for longer sees that the count has risen by
// more than the listed ranges, and reports a gap of everything.
type lossState struct {
	count  uint64
	last   time.Time // when the latest loss was entered
	ranges []ownLoss // the latest, at most maxLosses
	fixed  bool      // the last range is in the header of a frame, and stays as it is
	listed []lossRange
}

type ownLoss struct {
	lossRange
	reason crosscast.LossReason
	since  time.Time // when its first instruction was queued; zero: not known
	beats  int       // heartbeats that have carried it
}

// lossBeats is how many accepted heartbeats to everyone carry a range.
const lossBeats = 10

// addRange enters a range. Losses for one reason are one range until a frame carries it.
func (s *lossState) addRange(r lossRange, why crosscast.LossReason, since, now time.Time) {
	s.last = now
	if k := len(s.ranges) - 1; k >= 0 && !s.fixed && s.ranges[k].reason == why {
		last := &s.ranges[k]
		last.From, last.To = min(last.From, r.From), max(last.To, r.To)
		last.Names = joinNames(last.Names, r.Names)
		if since.Before(last.since) { // also if it is not known
			last.since = since
		}
		return
	}
	s.count++
	s.fixed = false
	if len(s.ranges) == maxLosses {
		s.ranges = append(s.ranges[:0], s.ranges[1:]...)
	}
	s.ranges = append(s.ranges, ownLoss{r, why, since, 0})
}

// joinNames returns the names of both. The result is nil, which means any name, if either is nil, or there are too
// many.
func joinNames(a, b []crosscast.Address) []crosscast.Address {
	if a == nil || b == nil {
		return nil
	}
	all := slices.Clip(a)
	for _, name := range b {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) > maxLossNames {
		return nil
	}
	return all
}

// beat notes that the bus has accepted a heartbeat to everyone, which carries all ranges.
func (s *lossState) beat() {
	for i := range s.ranges {
		s.ranges[i].beats++
	}
	s.ranges = slices.DeleteFunc(s.ranges, func(r ownLoss) bool { return r.beats >= lossBeats })
}

// describe writes the losses into the header of a frame that is sent now.
func (s *lossState) describe(h *frameHeader, now time.Time) {
	s.listed = s.listed[:0]
	for i := range s.ranges {
		r := s.ranges[i].lossRange
		if since := s.ranges[i].since; !since.IsZero() {
			r.Age = now.Sub(since) + time.Millisecond // whole ones are written
		}
		s.listed = append(s.listed, r)
	}
	h.LossCount, h.Losses, h.LossAge = s.count, s.listed, now.Sub(s.last)
	s.fixed = true
}

// lostFrames collects frames with rising numbers and the same outcome.
type lostFrames struct {
	from, to     uint64
	since        time.Time // when the first of them was opened; zero: not known
	instructions int
	names        []crosscast.Address // crosscast.SpaceSocket: the inbox of a node; spaceShared: a shared topic
	unnamed      bool                // there are others than rooms and users among names
	all          bool
	err          error
}

func (l *lostFrames) addFrame(f *frame, err error) {
	if l.from == 0 {
		l.from, l.since = f.number, f.opened
	}
	l.since = earlier(l.since, f.opened)
	l.to = f.number
	l.instructions += int(f.instructions - f.queries)
	l.err = err
	if l.all {
		return
	}
	name := f.topic.isFor()
	l.unnamed = l.unnamed || name.Space != crosscast.SpaceRoom && name.Space != crosscast.SpaceUser
	switch {
	case slices.Contains(l.names, name):
	case name == crosscast.Address{} || len(l.names) == maxLossNames:
		l.all, l.names = true, nil
	default:
		l.names = append(l.names, name)
	}
}

// inboxName stands, among the names of a loss, for instructions to one node only.
func inboxName(id crosscast.NodeID) crosscast.Address {
	return crosscast.Address{Namespace: "/", Space: crosscast.SpaceSocket, Name: string(id)}
}

func (l *lostFrames) forPeers() lossRange {
	return lossRange{From: l.from, To: l.to, Names: l.names}
}

func (l *lostFrames) forSelf() crosscast.Loss {
	names := l.names
	if l.unnamed {
		names = nil
	}
	return crosscast.Loss{
		Reason: lossReason(l.err), Names: names, From: l.from, To: l.to, Instructions: l.instructions, Err: l.err,
	}
}

// spaceShared stands, among the names of a loss, for a shared topic. The name is the rest of the topic's, after the
// prefix and a colon.
const spaceShared = crosscast.SpaceNamespace + 1

func sharedName(rest string) crosscast.Address {
	return crosscast.Address{Namespace: "/", Space: spaceShared, Name: rest[1:]}
}

// concerned returns the names of a range of lost frames that concern this node; nil means all names. Instructions for
// other nodes only, and on shared topics without a name here, do not concern it.
func (l *ledger) concerned(names []crosscast.Address) (mine []crosscast.Address, any bool) {
	if names == nil {
		return nil, true
	}
	for _, name := range names {
		switch {
		case name.Space == spaceShared:
			here, some := l.subs.namesOn(l.o.Prefix + ":" + name.Name)
			if some && here == nil {
				return nil, true
			}
			mine = append(mine, here...)
		case name.Space != crosscast.SpaceSocket:
			mine = append(mine, name)
		case name == inboxName(l.self.ID):
			return nil, true
		}
	}
	return mine, len(mine) > 0
}

// lossReason is the reason of a loss with the error err.
func lossReason(err error) crosscast.LossReason {
	switch {
	case errors.Is(err, errExpired):
		return reasons.LossExpired
	case errors.Is(err, errStopped):
		return reasons.LossClosed
	case !errors.Is(err, crosscast.ErrRefused):
		return reasons.LossUncertain
	case errors.Is(err, crosscast.ErrDenied):
		return reasons.LossDenied
	}
	return reasons.LossRefused
}
