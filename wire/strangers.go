package wire

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A node without the right keys would otherwise be silent: its frames are dropped, and so are this node's frames there.
// Each node repeats heartbeats to everyone, so its peers notice it by the next of them. They can only say what the frame
// says: an ID, and what is wrong. A stranger can write that, too. So it is no gap, and nothing else depends on it.
//
// A peer with a wrong clock is another case, because its frames are genuine. That is a gap of all that it emits: once
// when two of its frames have shown that it goes on, because a single one might be a captured frame of a past node; and
// once when it is over. Frames might also be old because this node was held up. Then they are a gap when the first one
// comes that is not.

// strangers has the nodes whose frames this node cannot open.
type strangers struct {
	mu       sync.Mutex
	all      map[crosscast.NodeID]*stranger // at most maxStrangers; guarded by mu, like everything below
	unlogged []string                       // texts of those that are to be logged; at most maxUnlogged
	fresh    int                            // how many are to be logged
	loggedAt time.Time
}

type stranger struct {
	why          dropReason
	text         string
	first, heard time.Time
	number       uint64    // of its latest frame
	sent         time.Time // when that was sent, by its clock
	told         time.Time // the end of the latest gap about its clock; zero: there was none
	missed       time.Time // since when frames of its were stale, if no gap says so yet; zero: none was
}

const (
	maxStrangers  = 64
	strangersStay = time.Minute // without a frame
)

// enter notes a frame of a node that cannot be opened. It returns true if that is certainly because of its clock, and
// since when, once.
func (s *strangers) enter(id crosscast.NodeID, f *opened, why dropReason, now time.Time) (since time.Time, clock bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[id]
	if e == nil || e.why != why || now.Sub(e.heard) > strangersStay {
		if e == nil {
			s.makeRoomLocked(now)
			e = &stranger{}
			s.all[id] = e
		}
		*e = stranger{
			why: why, text: f.describe(why, now), first: now, heard: now, number: f.number, sent: f.sent, told: e.told, missed: e.missed,
		}
		if why == dropStale && e.told.IsZero() && e.missed.IsZero() {
			e.missed = earlier(now, f.sent)
		}
		s.fresh++
		if len(s.unlogged) < maxUnlogged {
			s.unlogged = append(s.unlogged, fmt.Sprintf("%s: %s", id, e.text))
		}
		return since, false
	}
	passed := now.Sub(e.heard)
	if why == dropStale && e.told.IsZero() && f.number > e.number && passed >= minEcho &&
		(f.sent.Sub(e.sent)-passed).Abs() < passed/2 { // its clock runs: it is no frame of the past
		e.told, e.missed, clock = now, time.Time{}, true
	}
	if passed >= minEcho {
		e.heard, e.number, e.sent = now, f.number, f.sent
	}
	return e.first, clock
}

// describe says why a frame is dropped.
func (f *opened) describe(why dropReason, now time.Time) string {
	switch ahead := f.sent.Sub(now).Round(time.Second); {
	case why == dropUnsealed:
		return "not sealed"
	case why == dropVersion:
		return "a seal of another version"
	case why == dropBroken:
		return "sealed with key " + f.key.String() + ", and forged, or changed on the way"
	case why == dropRuns:
		return "there are too many nodes"
	case why == dropStale && ahead > 0:
		return "its clock is " + ahead.String() + " ahead"
	case why == dropStale:
		return "its clock is " + (-ahead).String() + " behind"
	default:
		return "sealed with key " + f.key.String()
	}
}

// makeRoomLocked forgets those that are gone; else the one that was heard for a moment only, longest ago, or any. So
// invented IDs do not push out nodes, which are heard again and again.
func (s *strangers) makeRoomLocked(now time.Time) {
	if s.all == nil {
		s.all = make(map[crosscast.NodeID]*stranger)
	}
	if len(s.all) < maxStrangers {
		return
	}
	var oldest crosscast.NodeID
	for id, e := range s.all {
		brief := e.heard.Sub(e.first) < minEcho
		switch {
		case now.Sub(e.heard) > strangersStay:
			delete(s.all, id)
		case oldest == "" || brief && e.heard.Before(s.all[oldest].heard):
			oldest = id
		}
	}
	if len(s.all) >= maxStrangers {
		delete(s.all, oldest)
	}
}

// remove forgets a node. It returns since when frames of its might be missing because of its clock; zero: none is.
func (s *strangers) remove(id crosscast.NodeID) (since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.all[id]; e != nil {
		delete(s.all, id)
		since = later(e.told, e.missed) // one of them is zero
	}
	return since
}

// snapshot returns why the frames of each are dropped.
func (s *strangers) snapshot() (all map[crosscast.NodeID]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, e := range s.all {
		if now.Sub(e.heard) <= strangersStay {
			if all == nil {
				all = make(map[crosscast.NodeID]string)
			}
			all[id] = e.text
		}
	}
	return all
}

// log writes a line about those that are to be logged. After a recent line it leaves this to a later call.
func (s *strangers) log(to *session) {
	s.mu.Lock()
	if s.fresh == 0 || time.Since(s.loggedAt) < misroutedLines {
		s.mu.Unlock()
		return
	}
	who, n := strings.Join(s.unlogged, ", "), s.fresh
	s.unlogged, s.fresh, s.loggedAt = nil, 0, time.Now()
	s.mu.Unlock()
	to.logger.Warn("crosscast: frames of other nodes are dropped, because of the seal", "how many", n, "who", who,
		"this node", to.o.seal.describe(),
		"cure", "give all nodes and emitters the same keys, and the right time; a stranger might also have written them: docs/security.md")
}

// describe says what a node has, for the log.
func (s *sealing) describe() string {
	if !s.seals() {
		return "has no key"
	}
	return "seals with key " + s.first.String()
}

// reject drops a frame that cannot be opened, and notes whose it is, if its topic is one that all nodes write to.
func (l *ledger) reject(t *topic, f *opened, why dropReason, now time.Time) {
	l.count(why)
	if !t.to().isEveryone() || !isNodeID(f.origin) {
		return
	}
	id := crosscast.NodeID(f.origin)
	if id == l.self.ID || l.sealsFrames(id) { // somebody else has written it
		return
	}
	if since, ok := l.strangers.enter(id, f, why, now); ok { // the handler is called without the lock
		l.handler.Gap(crosscast.Gap{Origin: id, Since: later(l.started, since), Until: now, Reason: reasons.GapClock})
	}
}

// accept notes that a frame of a node was opened.
func (l *ledger) accept(id crosscast.NodeID, now time.Time) {
	if since := l.strangers.remove(id); !since.IsZero() {
		l.handler.Gap(crosscast.Gap{Origin: id, Since: later(l.started, since), Until: now, Reason: reasons.GapClock})
	}
}

// isNodeID reports whether bytes look like the ID that a node mints. Others do not get into logs.
func isNodeID(id []byte) bool {
	return len(id) == originLen && strings.Trim(string(id), partNameBytes) == ""
}
