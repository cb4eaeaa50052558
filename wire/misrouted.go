package wire

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// Nodes with different routings (routing.go) do not hear each other's emissions to rooms and users. Everyone's topic and
// the inboxes are the same in each routing, so each node tells its routing in all its hellos and heartbeats there. A peer
// with another one is a gap of all that it emits: once when that is noticed, and once when it is over. Heartbeats repeat
// the routing, so it is noticed although a hello was missed. An emitter has no heartbeats. What it asks, commands, and
// emits to everyone is heard whatever its routing is. So it tells the routing only before it publishes something for a room
// or user on a topic of theirs, and once a minute while it does.

// misrouted has the peers whose routings do not agree with this node's.
type misrouted struct {
	mu       sync.Mutex
	all      map[crosscast.NodeID]string // their routings; guarded by mu, like everything below
	unlogged []string                    // texts of those that are to be logged; at most maxUnlogged
	fresh    int                         // how many are to be logged
	loggedAt time.Time
}

const (
	maxUnlogged    = 8
	misroutedLines = 10 * time.Second // the least time between two lines
)

func (m *misrouted) add(id crosscast.NodeID, name, routing string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = make(map[crosscast.NodeID]string)
	}
	m.all[id] = routing
	m.fresh++
	if len(m.unlogged) < maxUnlogged {
		m.unlogged = append(m.unlogged, fmt.Sprintf("%s (%s): %s", cmp.Or(name, "an emitter"), id, asOptions(routing)))
	}
}

// asOptions says a routing as an operator has configured it.
func asOptions(routing string) string {
	also := ""
	parts := ""
	var ways []string
	for way := range strings.SplitSeq(cmp.Or(routing, ownTopicsText), ",") {
		name, topics, some := strings.Cut(way, "/")
		if !some {
			name, topics = "", way
		} else if parts == "" {
			parts = "parts " + name + ", "
		}
		if topics == ownTopicsText {
			topics = "0"
		}
		ways = append(ways, topics)
	}
	if len(ways) > 1 {
		also = ", AlsoTopics " + ways[1]
	}
	return parts + "Topics " + ways[0] + also
}

func (m *misrouted) remove(id crosscast.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, id)
}

func (m *misrouted) snapshot() map[crosscast.NodeID]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) == 0 {
		return nil
	}
	return maps.Clone(m.all)
}

// log writes a line about those that are to be logged. After a recent line it leaves this to a later call.
func (m *misrouted) log(s *session) {
	m.mu.Lock()
	if m.fresh == 0 || time.Since(m.loggedAt) < misroutedLines {
		m.mu.Unlock()
		return
	}
	names, n := strings.Join(m.unlogged, ", "), m.fresh
	m.unlogged, m.fresh, m.loggedAt = nil, 0, time.Now()
	m.mu.Unlock()
	s.logger.Warn("crosscast: another node or emitter has other Topics, Sharded or shards in the options of its adapter than this node: "+
		"what one emits to rooms and users does not reach the other",
		"how many", n, "theirs", names, "this node's", asOptions(s.routing.text),
		"cure", "give all nodes and emitters the same options; how to change Topics without a loss: docs/scale.md#a-change")
}

// compareRouting compares the routing that o tells. name is empty if o is an emitter.
func (l *ledger) compareRouting(o *origin, text, name string) {
	switch {
	case text == l.routing.text && o.routing == "", o.routing != "" && o.routing == cmp.Or(text, ownTopicsText):
		return
	case l.routing.agrees(text):
		l.endMisrouting(o, o.heard)
		return
	case o.routing != "":
		o.routing = cmp.Or(text, ownTopicsText)
		return
	}
	since := o.toldUntil
	if since.IsZero() { // its first frame came when it started, or a hello of its was missed
		since = later(l.started, o.since.Add(-2*l.patience()))
	}
	o.routing, o.toldUntil = cmp.Or(text, ownTopicsText), o.heard
	l.misrouted.add(o.id, name, o.routing)
	l.handler.Gap(crosscast.Gap{Origin: o.id, Since: since, Until: o.heard, Reason: reasons.GapRouting})
}

// endMisrouting notes that the routing of o agrees, or that o is gone.
func (l *ledger) endMisrouting(o *origin, now time.Time) {
	if o.routing == "" {
		return
	}
	g := crosscast.Gap{Origin: o.id, Since: o.toldUntil, Until: now, Reason: reasons.GapRouting}
	o.routing, o.toldUntil = "", now
	l.misrouted.remove(o.id)
	l.handler.Gap(g)
}
