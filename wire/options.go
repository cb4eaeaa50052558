package wire

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

// Options of [New]. The zero value works.
type Options struct {
	// Prefix begins the name of every topic, followed by a colon. Nodes with different prefixes do not hear each other.
	// Default "cc". It has at most 100 bytes, and neither white space nor any of *?[]{}. It may contain colons, as in
	// "app:prod", but no part after the first colon may be r, u or n: those parts are for the topics of rooms, users
	// and nodes.
	Prefix string
	// QueueBytes is the most memory that the waiting instructions take, in bytes. Default 32 MiB, from 4 KiB to 1 GiB.
	// A small emission to a room or user with nothing else waiting takes about 350 bytes, so the default holds 80,000
	// of them during an outage. As much memory again may be in flight, and a quarter more is kept for reuse.
	QueueBytes int
	// MaxFrame is the size in bytes of the largest frame that is sent or accepted. Default 2 MiB, from 1 KiB to 1 GiB.
	// A bus with a limit of its own makes it smaller: see [Limited].
	MaxFrame int
	// MaxAge is how long an emission waits for an outage to end. Older ones are reported as a loss. Default 5 s; above
	// 0, and at most 1 h.
	MaxAge time.Duration
	// PublishTimeout is how long one batch may take, beyond the time for its bytes, as far as the bus's client obeys.
	// Default 5 s; above 0, and at most 1 h.
	PublishTimeout time.Duration
	// Ingress lets programs without crosscast publish JSON to this node's clients, on the topic "in" of the prefix:
	// {"rooms":["a"],"event":"said","data":"hi"}. Anyone with permission to publish there reaches every client. Each
	// node serves only its own sockets, so set it on all nodes or on none. A missed message is not reported, except as
	// part of a node's own outage. Emitters ignore the option.
	Ingress bool
	// Topics is how rooms and users are spread over topics:
	//
	//	0         (default) each has a topic of its own. A node gets only what it has a member for.
	//	1         all are on everyone's topic. There are no subscriptions, and each node gets everything. It is for a few
	//	          nodes that have members in most rooms.
	//	2 to 4096 rooms share so many topics, by the hashes of their names, and users share others. A node subscribes to
	//	          few topics, however many rooms it has. It also gets emissions to other rooms on these topics, which it
	//	          drops (Stats.Dropped has them as "unwanted"). It is for very many rooms that live shortly.
	//
	// A gap that concerns a shared topic names all rooms or users that the node has on it; more than 1,024 become a gap of
	// everything. A Loss there has no names. All nodes and emitters of a prefix must agree: nodes report others as a gap
	// (reason "routing") and in Stats.Adapter.Misrouted.
	Topics int
	// AlsoTopics is for a change of Topics: at most one other number for Topics. The node also publishes everything on the
	// topics of that number, and hears them. So it hears nodes with either number, and is heard by them. First give all
	// nodes the new number here, one by one, or the old one here and the new one in Topics. Then remove it everywhere, so
	// that the new one is left.
	AlsoTopics []int
	// Seal protects frames, and messages to the ingress, from strangers who may use the bus. All nodes and emitters need
	// its keys. The zero Seal protects nothing.
	Seal Seal
	// Logger receives diagnostics: each change of the state of publishing or subscribing, once, with its cause and its
	// cure (Warn when it gets worse, Info when it gets better); calls of the application that block the reading of the
	// link; and the first message that the ingress refuses for each reason. Of a link that flaps, each half has ten lines
	// at once and one more every 10 s, which counts what was left out. Default: the node's logger.
	Logger *slog.Logger

	parts string   // describes them in the routing; empty: there is one
	part  string   // the name of this one
	seal  *sealing // the Seal; nil: it protects nothing
}

// silent is used if there is no logger.
var silent = slog.New(slog.DiscardHandler)

const (
	packBytes      = 64 << 10               // a frame of this size is full
	packAge        = 250 * time.Millisecond // so is a frame that has waited this long for an outage to end
	subscribeBatch = 512                    // topics in one request
	maxHeld        = 64                     // topics that are handled at a time while a delivery might wait
	confirmTimeout = 3 * time.Second        // for the oldest request to subscribe
	deniedRetry    = 5 * time.Second        // until refused subscriptions are tried again
	retryRound     = 256                    // how many of them at a time
	deniedLog      = 10 * time.Second       // the least time between two log lines about them
	minBackoff     = 20 * time.Millisecond  // between attempts to connect
	maxBackoff     = time.Second
	minEcho        = 250 * time.Millisecond // the least time that an echo may take
	maxAwaited     = 64                     // frames that are awaited one by one
	maxPings       = 2                      // pings without an answer
	slowAfter      = 3                      // a call is reported after this many times the least time of an echo
	maxChanges     = 64                     // changes of the link's state that wait to be reported
	maxCopies      = 8                      // topics that one emission is copied to; beyond that it goes to everyone's
	maxOrigins     = 4096                   // nodes whose frame numbers are remembered
	maxTopics      = 1 << 16                // topics whose last number is remembered for publishing
	originMemory   = 10 * time.Minute       // how long a silent node's numbers are remembered
	emitterMemory  = time.Minute            // how long an emitter's frames list a loss
	introducedFor  = time.Minute            // until an emitter that emits tells its routing again
	maxControl     = 1024                   // hellos and heartbeats waiting
)

func (o Options) withDefaults(bus Bus) (Options, error) {
	o.Prefix = cmp.Or(o.Prefix, "cc")
	o.QueueBytes = cmp.Or(o.QueueBytes, 32<<20)
	o.MaxFrame = cmp.Or(o.MaxFrame, 2<<20)
	o.MaxAge = cmp.Or(o.MaxAge, 5*time.Second)
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 5*time.Second)
	err := cmp.Or(
		checkPrefix(o.Prefix),
		bounds.Size("crosscast/wire: Options.QueueBytes", o.QueueBytes, 4<<10),
		bounds.Size("crosscast/wire: Options.MaxFrame", o.MaxFrame, 1<<10),
		bounds.Time("crosscast/wire: Options.MaxAge", o.MaxAge),
		bounds.Time("crosscast/wire: Options.PublishTimeout", o.PublishTimeout),
		o.checkTopics(),
	)
	if err == nil {
		o.seal, err = o.Seal.check(o.Ingress)
	}
	if c, ok := bus.(Checked); ok && err == nil {
		err = c.Check()
	}
	if l, ok := bus.(Limited); ok && err == nil {
		if o.MaxFrame = min(o.MaxFrame, l.MaxMessage()-maxHeader); o.MaxFrame < 1<<10 {
			err = fmt.Errorf("crosscast/wire: the bus carries messages of at most %d bytes, and must carry %d",
				l.MaxMessage(), maxHeader+1<<10)
		}
	}
	return o, err
}

// maxHeader is how many bytes the losses in a header may add to a frame.
const maxHeader = 128 << 10
