package wire

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// A node without the right keys would otherwise be silent: its frames are dropped, and so are this node's frames there.
// Each node repeats heartbeats to everyone, so its peers notice it by the next of them. They can only say what the frame
// says: an ID, and what is wrong. A stranger can write that, too. So it is no gap, and nothing else depends on it.
// A peer with a wrong clock is another case: see clocks.go.

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
}

const (
	maxStrangers  = 64
	strangersStay = time.Minute // without a frame
)

// enter notes a frame of a node that cannot be opened.
func (s *strangers) enter(id crosscast.NodeID, f *opened, why dropReason, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[id]
	if e != nil && e.why == why && now.Sub(e.heard) <= strangersStay {
		e.heard = now
		return
	}
	if e == nil {
		s.makeRoomLocked(now)
	}
	e = &stranger{why: why, text: f.describe(why, now), first: now, heard: now}
	s.all[id] = e
	s.fresh++
	if len(s.unlogged) < maxUnlogged {
		s.unlogged = append(s.unlogged, fmt.Sprintf("%s: %s", id, e.text))
	}
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

// remove forgets a node.
func (s *strangers) remove(id crosscast.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
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

// reject drops a frame that cannot be opened, and notes whose it is: for AdapterStats.Unopened only if its topic is one that
// all nodes write to.
func (l *ledger) reject(t *topic, f *opened, why dropReason, now time.Time) {
	l.count(why)
	if !isNodeID(f.origin) {
		return
	}
	id := crosscast.NodeID(f.origin)
	if id == l.self.ID || l.sealsFrames(id) { // somebody else has written it
		return
	}
	if why == dropStale {
		if since, wrong := l.clocks.refused(id, f, now); wrong {
			l.reportClock(id, since, now)
		}
	}
	if t.to().isEveryone() {
		l.strangers.enter(id, f, why, now)
	}
}

// accept notes that a frame of a node was opened.
func (l *ledger) accept(id crosscast.NodeID, now time.Time) {
	l.strangers.remove(id)
	if since := l.clocks.accepted(id); !since.IsZero() {
		l.reportClock(id, since, now)
	}
}

// isNodeID reports whether bytes look like the ID that a node mints. Others do not get into logs.
func isNodeID(id []byte) bool {
	return len(id) == originLen && strings.Trim(string(id), partNameBytes) == ""
}
