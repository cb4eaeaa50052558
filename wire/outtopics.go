package wire

import (
	"net/url"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

// outTopic is the state of a topic that this node publishes to.
type outTopic struct {
	key     string // in outTopics: the name and, of a dialect, the address that messages are for
	name    string // a part of key
	address uint16 // where in key the address begins
	kind    topicKind
	last    uint64 // number of the last frame that was not lost
	open    *frame // takes instructions while its generation is the outbox's
	*quietTopic
}

// carriesLosses: see destination.
func (t *outTopic) carriesLosses() bool { return t.kind == toEveryone || t.kind == toInbox }

// isFor returns the room, user or node that the topic is for, zero for others. It costs more than the rest, and is for
// what was lost.
func (t *outTopic) isFor() crosscast.Address {
	if t.kind == toInbox {
		return inboxName(crosscast.NodeID(t.key[int(t.address)+len(":n:"):]))
	}
	return addressOf(t.key[t.address:])
}

// outTopics are those that were used last, maxTopics of them at least and twice as many at most: those that were used
// since the last turn, and before. Forgetting one costs peers the detection of a hole, never a false alarm, and all that
// were not used between two turns are forgotten at once. So the cost of a use does not depend on how many there are.
type outTopics struct {
	used, before map[string]*outTopic
	recent       *outTopic   // the last one used
	to           destination // what that was looked for with
	key          []byte      // scratch
}

// of returns the state of a topic, and makes it if it is missing.
func (ts *outTopics) of(to *destination, prefix string) *outTopic {
	if ts.recent != nil && ts.to == *to {
		return ts.recent
	}
	ts.key = to.appendTopic(ts.key[:0], prefix)
	name, address := len(ts.key), len(prefix)
	if to.foreign != "" {
		address = name + 1
		ts.key = appendAddress(append(ts.key, 0), "", &to.name)
	}
	t := ts.used[string(ts.key)]
	if t == nil {
		if len(ts.used) >= maxTopics || ts.used == nil {
			ts.used, ts.before = make(map[string]*outTopic), ts.used
		}
		if t = ts.before[string(ts.key)]; t == nil {
			key := string(ts.key)
			t = &outTopic{key: key, name: key[:name], address: uint16(address), kind: kindOf(to)}
		}
		ts.used[t.key] = t
	}
	ts.recent, ts.to = t, *to
	return t
}

// addressOf is the inverse of appendAddress.
func addressOf(s string) (a crosscast.Address) {
	switch {
	case strings.HasPrefix(s, ":r:"):
		a.Space = crosscast.SpaceRoom
	case strings.HasPrefix(s, ":u:"):
		a.Space = crosscast.SpaceUser
	default:
		return a
	}
	a.Namespace, a.Name, _ = strings.Cut(s[3:], ":")
	a.Namespace, _ = url.PathUnescape(a.Namespace) // appendEscaped has written them
	a.Name, _ = url.PathUnescape(a.Name)
	return a
}

// quietTopic is what a Patchy bus needs of a topic, until it is named in a heartbeat.
type quietTopic struct {
	waits         bool
	sent          time.Time // its last frame
	before, after *outTopic
}
