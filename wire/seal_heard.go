package wire

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// This file is what a receiver does with sealed frames before, and beside, what it does with all frames.
//
// The books are the window for replays: a frame with a number that has come is a copy, and one below the highest number
// is late, on every topic. The highest number of a run is kept beside its cipher, so it still stands after the books were
// forgotten. Nobody can write a wrong number in a seal, so sealed frames never heal the books.

// maxLarge is the size of the largest frame in bytes that is opened although it is above the limit, so that it is a gap.
// Opening takes as much memory again, and nobody knows before whose frame it is.
const maxLarge = 64 << 20

// handleSealed handles a message where frames are sealed.
func (l *ledger) handleSealed(t *topic, ev Event, large bool, now time.Time) {
	if !isSealed(ev.Data) {
		l.handleUnsealed(t, ev.Data, large, now)
		return
	}
	if large && len(ev.Data) > maxLarge {
		return
	}
	f, why, ok := l.opener.open(ev.Topic, ev.Data, now)
	if !ok {
		l.reject(t, f, why, now)
		return
	}
	l.handleFrame(t, f.frame, f, large, now)
}

// handleUnsealed handles a message without a seal.
func (l *ledger) handleUnsealed(t *topic, data []byte, large bool, now time.Time) {
	if !l.opener.require {
		l.handleFrame(t, data, nil, large, now)
		return
	}
	const begins = "\x97\xa2" + frameMagic // of what nodes write; this is no parsing
	if len(data) < numberAt || string(data[:len(begins)]) != begins {
		l.count(dropForeign)
		return
	}
	l.reject(t, &opened{origin: data[numberAt-originLen : numberAt]}, dropUnsealed, now)
}

// dropUnread drops a frame that is not one of this version, because of err.
func (l *ledger) dropUnread(t *topic, data []byte, err error, now time.Time) {
	if isSealed(data) && !l.o.seal.seals() {
		var f opened
		f.readHead(data)
		l.reject(t, &f, dropSealed, now)
		return
	}
	l.count(dropFor(err))
}

// agrees reports whether a frame may come as it did. It counts others.
func (l *ledger) agrees(h *frameHeader, seal *opened) bool {
	switch {
	case seal != nil:
		if string(h.Origin) != string(seal.origin) || h.Number != seal.number {
			l.count(dropMalformed)
			return false
		}
	case !l.o.seal.seals():
	case h.Origin == l.self.ID || l.sealsFrames(h.Origin):
		l.count(dropUnsealed) // it is not required, but this origin seals
		return false
	}
	return true
}

func (l *ledger) sealsFrames(id crosscast.NodeID) bool {
	o := l.origins.m[id]
	return o != nil && o.sealed
}

// noteSeal notes that a frame of o was opened. Earlier frames without a seal were not o's, so its books begin anew.
func (l *ledger) noteSeal(o *origin, f *opened, now time.Time) *origin {
	if f.first {
		l.accept(o.id, now)
	}
	if !o.sealed {
		if o.top() > 0 {
			l.count(dropHealed)
			l.endMisrouting(o, now)
			o.forgotten = true
			l.handler.Gap(crosscast.Gap{
				Origin: o.id, Since: later(l.started, o.since), Until: now, Reason: reasons.GapForged,
			})
			o = &origin{id: o.id, since: now, heard: now}
			l.origins.m[o.id] = o
		}
		o.sealed = true
		o.highest, o.before = f.run.highest, f.run.highest // the books were forgotten, unless the run is new
	}
	f.run.highest = max(f.run.highest, f.number)
	return o
}

// mayBeReplayed reports whether the books cannot tell that a frame is new, and it is too old to be believed: on a
// [Scattered] bus, the first one of its origin on the topic of a name. Elsewhere the origin's highest number tells.
func (l *ledger) mayBeReplayed(b *book, t *topic, f *opened, now time.Time) bool {
	return l.ground.scattered && !l.to.carriesLosses() && !b.knows(t.epoch) && !l.opener.isFresh(f, now)
}

// logSeal says how frames are protected. What accepts forgeries is said as loudly as a fault.
func (s *session) logSeal() {
	switch g := s.o.seal; {
	case !g.seals():
	case g.require:
		s.logger.Info("crosscast: frames are sealed", "key", g.first.String(), "sign only", g.signOnly)
	default:
		s.logger.Warn("crosscast: frames are sealed, and frames without a seal are accepted from strangers, too",
			"key", g.first.String(), "sign only", g.signOnly, "cure", "set Seal.Require as soon as all nodes have keys")
	}
}
