package wire

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

// Options of [New]. The zero value works.
type Options struct {
	// Prefix begins the name of every topic, followed by a colon: nodes with different prefixes do not hear each
	// other. Default "cc". It has at most 100 bytes, and neither white space nor any of *?[]{}. It may have colons of
	// its own, as in "app:prod"; after the first one no part between colons may be r, u or n, with which topics go on.
	Prefix string
	// QueueBytes bounds the memory that what waits to be published takes: a small emission to a room or user to which
	// nothing else waits takes about 350 bytes. As much again may be under way, and a quarter is kept for reuse. Default
	// 32 MiB, in which 80,000 of these wait through an outage; 4 KiB to 1 GiB.
	QueueBytes int
	// MaxFrame is the size in bytes of the largest frame sent or accepted. Default 2 MiB; 1 KiB to 1 GiB.
	MaxFrame int
	// MaxAge is how long what was emitted during an outage is kept to be published after it. Default 5 s; above 0, and
	// at most 1 h.
	MaxAge time.Duration
	// PublishTimeout bounds one batch, beyond the time that its bytes need, as far as the bus's client obeys. Default 5 s;
	// above 0, and at most 1 h.
	PublishTimeout time.Duration
	// Ingress makes this node take part in what programs that are no nodes publish, as JSON, on the topic "in" behind
	// the prefix and its colon: {"rooms":["a"],"event":"said","data":"hi"}. Each node serves its own sockets, so all
	// should have it, or none. Who may publish there reaches every client. Nothing tells of a message that was missed.
	// Emitters hear nothing, so for them it means nothing.
	Ingress bool
	// Logger hears of each change of the state of each half of the link, once and with the cause: a Warn when it gets
	// worse, an Info when it gets better; of a call of the application's that keeps the link from being read; and of the
	// first message for each reason that the ingress refuses. Default: the node's.
	Logger *slog.Logger
}

// silent is the logger where there is none.
var silent = slog.New(slog.DiscardHandler)

const (
	packBytes      = 64 << 10               // a frame of this size takes no more instructions
	packAge        = 250 * time.Millisecond // nor does one that has waited this long for an outage to end
	subscribeBatch = 512                    // topics in one request
	maxHeld        = 64                     // topics that are acted on at a time while whoever delivers may wait
	confirmTimeout = 3 * time.Second        // for the oldest request to subscribe
	deniedRetry    = 5 * time.Second        // until refused subscriptions are tried again
	retryRound     = 256                    // and how many of them
	deniedLog      = 10 * time.Second       // the least time between two lines about them
	minBackoff     = 20 * time.Millisecond  // between attempts to connect
	maxBackoff     = time.Second
	minEcho        = 250 * time.Millisecond // the least time that an echo is given
	maxAwaited     = 64                     // frames whose echo is awaited and that are told apart
	maxPings       = 2                      // without an answer
	slowAfter      = 3                      // times the least time of an echo that a call may take before people are told
	maxChanges     = 64                     // changes of the link's state that wait to be told
	maxCopies      = 8                      // topics that one emission is copied to; past it, everyone's
	maxOrigins     = 4096                   // nodes whose numbers are remembered
	maxTopics      = 1 << 16                // topics whose last number is remembered for publishing
	originMemory   = 10 * time.Minute       // how long a silent node's numbers are remembered
	emitterMemory  = time.Minute            // how long an emitter tells everyone of a loss
	maxControl     = 1024                   // hellos and heartbeats waiting
)

func (o Options) withDefaults() (Options, error) {
	o.Prefix = cmp.Or(o.Prefix, "cc")
	o.QueueBytes = cmp.Or(o.QueueBytes, 32<<20)
	o.MaxFrame = cmp.Or(o.MaxFrame, 2<<20)
	o.MaxAge = cmp.Or(o.MaxAge, 5*time.Second)
	o.PublishTimeout = cmp.Or(o.PublishTimeout, 5*time.Second)
	return o, cmp.Or(
		checkPrefix(o.Prefix),
		bounds.Size("crosscast/wire: Options.QueueBytes", o.QueueBytes, 4<<10),
		bounds.Size("crosscast/wire: Options.MaxFrame", o.MaxFrame, 1<<10),
		bounds.Time("crosscast/wire: Options.MaxAge", o.MaxAge),
		bounds.Time("crosscast/wire: Options.PublishTimeout", o.PublishTimeout),
	)
}

// maxHeader is what the losses in a frame's header may add to its size.
const maxHeader = 128 << 10
