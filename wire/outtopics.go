package wire

import (
	"net/url"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

// outTopic is the state of a topic that this node publishes to.
type outTopic struct {
	key     string // the key in outTopics: the name and, in a dialect, the address that messages are for
	name    string // the first part of key
	address uint16 // where in key the address begins
	kind    topicKind
	last    uint64 // number of the last frame that was not lost
	open    *frame // takes instructions while it has the outbox's generation
	*quietTopic
}

// carriesLosses: see destination.
func (t *outTopic) carriesLosses() bool { return t.kind == toEveryone || t.kind == toInbox }

// isFor returns the room, user or node that the topic is for, or the name of a shared topic; zero: none of them. It is
// slow, and used only for losses.
func (t *outTopic) isFor() crosscast.Address {
	if t.kind == toInbox {
		return inboxName(crosscast.NodeID(t.key[int(t.address)+len(":n:"):]))
	}
	if rest := t.key[t.address:]; isSharedTopic(rest) {
		return sharedName(rest)
	}
	return addressOf(t.key[t.address:])
}

// outTopics are the topics that were used last, at least maxTopics and at most twice as many. They are in two maps:
// topics that were used since the last turn, and older ones. A turn forgets all older ones at once, so the cost of a
// use does not depend on the number of topics. If a topic is forgotten, peers cannot detect a hole, but there is no
// false alarm.
type outTopics struct {
	used, before map[string]*outTopic
	recent       *outTopic   // the last one used
	to           destination // the destination of recent
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

// quietTopic is the part of an outTopic that a Patchy bus needs, until a heartbeat names the topic.
type quietTopic struct {
	waits         bool
	sent          time.Time // when its last frame was sent
	before, after *outTopic
}
