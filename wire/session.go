package wire

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// session is one start of an adapter, until it is closed: what was fixed when it began, and its end. All parts of the
// adapter share it.
type session struct {
	o        Options
	logger   *slog.Logger
	self     crosscast.NodeInfo
	handler  crosscast.AdapterHandler
	stats    *stats
	refusals *refusals
	format   format
	presence presence
	ground   ground
	closed   <-chan struct{} // Close was called

	ctx     context.Context // ends when the adapter stops
	stop    context.CancelFunc
	wg      sync.WaitGroup // its goroutines
	started atomic.Bool    // Start returned nil
}

// ground is what a node receives and publishes whatever its interest.
type ground struct {
	home     []destination // the topics that it cannot do without
	notices  destination   // of frames without instructions
	echoes   destination   // what this node publishes there, it hears
	interest bool          // it may subscribe to names
	patchy   bool          // the bus is, and frames have numbers: topics that have become quiet are named

	noticeTopic, echoTopic string // of notices and echoes
}

// presence is what a node is on the bus. It is chosen by Start. Each place that treats nodes differently looks at the
// property that it depends on, so another kind of presence is another value.
type presence struct {
	// linked: the link is made by Start, and what is emitted waits for it. Otherwise the first Listen makes it, and
	// publishing does not depend on it.
	linked bool
	// beats: the node publishes heartbeats. They tell peers of losses and of quiet topics, and come back as echoes.
	// Otherwise notices do.
	beats bool
	// hears: the node hears its peers, and everyone's topic. Otherwise it hears its inbox.
	hears bool
}

var (
	full    = presence{linked: true, beats: true, hears: true}
	emitter = presence{}
)

// patience is a heartbeat, at least minEcho.
func (s *session) patience() time.Duration { return max(s.self.Heartbeat, minEcho) }

// gatherTime is how long the queue waits, once the link stands, for peers to be back. While it waits nothing expires; that
// it is no more than half of what the link itself is waited for keeps what is delivered then from being much older.
func (s *session) gatherTime() time.Duration { return min(2*s.patience(), s.o.MaxAge/2) }

func (s *session) count(r dropReason) { s.stats.dropped[r].Add(1) }

func (s *session) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// downError is the error for a caller that needs a link while there is none.
func (s *session) downError() error {
	if s.isClosed() {
		return crosscast.ErrClosed
	}
	return crosscast.ErrNotConnected
}

// bounded returns an error if an instruction of at most size bytes is too large for a frame.
func (s *session) bounded(size int) error {
	if size+plainHeader > s.o.MaxFrame {
		return &crosscast.LimitError{What: "instruction", Len: size, Max: s.o.MaxFrame - plainHeader}
	}
	return nil
}
