package wire

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
)

// session is one start of an adapter, until it is closed. It has the values that the start has fixed, and the session's
// end. All parts of the adapter share it.
type session struct {
	o        Options
	routing  routing
	logger   *slog.Logger
	self     crosscast.NodeInfo
	handler  crosscast.AdapterHandler
	stats    *stats
	refusals *refusals
	format   format
	together *together // nil: the adapter is alone
	runID    runID     // of sealed frames
	seen     *seenIDs  // of signed messages to the ingress
	presence presence
	ground   ground
	closed   <-chan struct{} // Close was called
	offline  bool            // Start did not wait for the bus
	// histograms: what costs something to measure is measured, too.
	histograms bool

	ctx     context.Context // ends when the adapter stops
	stop    context.CancelFunc
	wg      sync.WaitGroup // its goroutines
	started atomic.Bool    // Start returned nil
}

// ground has the topics that a node uses independently of its interest.
type ground struct {
	home     []destination // topics that the node needs in any case
	notices  destination   // for frames without instructions
	echoes   destination   // frames of this node to it come back
	interest bool          // the node may subscribe to names
	patchy   bool          // the bus is Patchy and frames have numbers, so quiet topics are named
	// scattered: the bus is Scattered.
	scattered bool

	noticeTopic, echoTopic string // the topics of notices and echoes
}

// presence is the role of a node on the bus. Start chooses it. Code that depends on the role checks one property of it,
// so another role is only another value.
type presence struct {
	// linked: Start makes the link, and emissions wait for it. Otherwise the first Listen makes it, and
	// publishing does not depend on it.
	linked bool
	// beats: the node publishes heartbeats. They carry losses and quiet topics to peers, and come back as echoes.
	// Otherwise notices do this.
	beats bool
	// hears: the node receives its peers' frames on everyone's topic. Otherwise it receives only its inbox.
	hears bool
}

var (
	full    = presence{linked: true, beats: true, hears: true}
	emitter = presence{}
)

// patience returns a heartbeat, at least minEcho.
func (s *session) patience() time.Duration { return max(s.self.Heartbeat, minEcho) }

// gatherTime returns how long the queue waits for peers after the link is back. Nothing expires during that time. It is
// at most half of MaxAge, so that delivered messages are not much older than MaxAge.
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
		return &limit.Error{What: "instruction", Len: size, Max: s.o.MaxFrame - plainHeader, Bytes: true}
	}
	return nil
}
