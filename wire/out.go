package wire

import (
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

// What the writer keeps: the topics that it publishes to, and the memory of frames that went out.

// outTopic is what is remembered of a topic that this node publishes to.
type outTopic struct {
	key     string // in outTopics: the name and, of a dialect, the address that messages are for
	name    string // a part of key
	address uint16 // where in key the address begins
	kind    kind
	last    uint64 // number of the last frame that was not lost
	open    *frame // takes instructions while its generation is the writer's
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

// of returns what is remembered of a topic, made when missing.
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
		a.Space = crosscast.RoomSpace
	case strings.HasPrefix(s, ":u:"):
		a.Space = crosscast.UserSpace
	default:
		return a
	}
	a.Namespace, a.Name, _ = strings.Cut(s[3:], ":")
	a.Namespace, a.Name = unescape.Replace(a.Namespace), unescape.Replace(a.Name)
	return a
}

var unescape = strings.NewReplacer("%25", "%", "%3A", ":", "%7B", "{", "%7D", "}")

// quietTopic is what a Patchy bus needs of a topic, until it is named in a heartbeat.
type quietTopic struct {
	waits         bool
	sent          time.Time // its last frame
	before, after *outTopic
}

// spare is memory of frames that went out: frames with small buffers, which is all that one with a single instruction
// needs, and buffers for those that outgrow them.
type spare struct {
	frames  []*frame
	buffers [][]byte
	bytes   int // of both
}

const smallBuffer = 2 << 10 // bytes at least of a buffer that is kept apart from its frame

// take returns a frame. While the link is down it has no buffer: what waits then is to take no more memory than it must.
func (s *spare) take(up bool) *frame {
	n := len(s.frames)
	if n == 0 || !up {
		return &frame{}
	}
	f := s.frames[n-1]
	s.frames[n-1] = nil
	s.frames = s.frames[:n-1]
	s.bytes -= frameBytes + cap(f.buf)
	return f
}

// grow makes room for size more bytes of a frame that has outgrown a small buffer, if there is a larger one.
func (s *spare) grow(f *frame, size int) {
	n := len(s.buffers)
	if n == 0 || len(f.buf)+size <= smallBuffer || cap(f.buf)-len(f.buf) >= size || cap(f.buf) >= cap(s.buffers[n-1]) {
		return
	}
	b := s.buffers[n-1]
	s.buffers[n-1] = nil
	s.buffers = s.buffers[:n-1]
	s.bytes -= cap(b)
	f.buf = append(b, f.buf...)
}

// keep keeps f for reuse, unless limit bytes are kept already or f is large.
func (s *spare) keep(f *frame, limit int) {
	buf, deliveries := f.buf[:0], f.deliveries
	if cap(buf) > 2*packBytes || s.bytes+frameBytes+cap(buf) > limit {
		return
	}
	s.bytes += frameBytes + cap(buf)
	clear(deliveries)
	if cap(deliveries) > 16 {
		deliveries = nil
	}
	if cap(buf) >= smallBuffer {
		s.buffers = append(s.buffers, buf)
		buf = nil
	}
	*f = frame{buf: buf, deliveries: deliveries[:0]}
	s.frames = append(s.frames, f)
}
