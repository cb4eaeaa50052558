package wire

import (
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/histogram"
)

// dropReason is the reason why a message was not passed on. The message had arrived, or was to be sent.
type dropReason uint8

const (
	dropForeign         dropReason = iota // not one of our frames
	dropVersion                           // a frame of another version
	dropMalformed                         // one of our frames, damaged
	dropTooLarge                          // larger than MaxFrame
	dropCopy                              // came before
	dropLate                              // came after its successor
	dropUnwanted                          // on a topic without a subscription
	dropResuming                          // came while the link was being rebuilt: part of its gap
	dropVolatile                          // volatile, while the link is down
	dropIngressSyntax                     // to the ingress: no JSON object
	dropIngressMember                     // to the ingress: a member that is unknown, doubled, missing or of the wrong type
	dropIngressName                       // to the ingress: a name that is empty or too long
	dropIngressTarget                     // to the ingress: no target, or everyone and names
	dropIngressSize                       // to the ingress: too large, or too many names
	dropUnnamed                           // quiet topics that were not named, because too many waited
	dropUntold                            // quiet topics of a peer were missed: a gap of all that it sent
	dropForgotten                         // a dead peer's numbers, because there was no room: if it returns, it is new
	dropHealed                            // a peer's books, because of frames with numbers that were not its own
	dropUndrawn                           // an echo with a number that this node has not used
	dropUnsealed                          // without a seal, though it is required, or the peer seals
	dropSealed                            // sealed, and this node has no key at all
	dropUnknownKey                        // sealed with a key that this node does not have
	dropBroken                            // sealed, and then forged, changed, cut or moved
	dropStale                             // the first frame of a peer, too old or too new
	dropRuns                              // the first frame of a peer, and there are too many peers
	dropIngressUnsigned                   // to the ingress: not signed, though it is required
	dropIngressForged                     // to the ingress: with a wrong signature
	dropIngressStale                      // to the ingress: signed too long ago, or in the future
	dropIngressSeen                       // to the ingress: came before
	dropIngressFull                       // to the ingress: signed, and too many were before
	dropReasons
)

var dropNames = [dropReasons]string{
	"foreign", "version", "malformed", "too large", "copy", "late", "unwanted", "resuming", "volatile",
	"ingress syntax", "ingress member", "ingress name", "ingress target", "ingress size",
	"quiet unnamed", "quiet untold",
	"forgotten", "forged", "undrawn echo",
	"unsealed", "sealed", "unknown key", "broken seal", "stale", "runs",
	"ingress unsigned", "ingress forged", "ingress stale", "ingress seen", "ingress full",
}

type stats struct {
	instructionsIn, instructionsOut atomic.Uint64
	bytesIn, bytesOut               atomic.Uint64
	framesIn, framesOut             atomic.Uint64
	reconnects                      atomic.Uint64
	dropped                         [dropReasons]atomic.Uint64
	publish, echoes, receive        histogram.Histogram
	events                          histogram.Sampler // of those that receive measures
}

// histogramOf returns a snapshot.
func histogramOf(h *histogram.Histogram) (s crosscast.Histogram) {
	s.Counts, s.Sum = h.Snapshot()
	return s
}

// AdapterStats implements crosscast.AdapterMeter. It may be called concurrently, and before and during a Start.
func (a *Adapter) AdapterStats() crosscast.AdapterStats {
	r := a.run.Load()
	s := crosscast.AdapterStats{
		InstructionsIn: a.stats.instructionsIn.Load(), InstructionsOut: a.stats.instructionsOut.Load(),
		BytesIn: a.stats.bytesIn.Load(), BytesOut: a.stats.bytesOut.Load(),
		FramesIn: a.stats.framesIn.Load(), FramesOut: a.stats.framesOut.Load(),
		Dropped: map[string]uint64{},
	}
	for why, name := range dropNames {
		if n := a.stats.dropped[why].Load(); n > 0 {
			s.Dropped[name] = n
		}
	}
	s.Denied = r.subs.countDenied()
	s.Misrouted = r.receiver.ledger.misrouted.snapshot()
	s.Unopened = r.receiver.ledger.strangers.snapshot()
	s.Opened = a.o.seal.count()
	s.QueueBytes = r.sender.queued()
	s.Link = r.state.now()
	s.Connected = s.Link.Publishing.State != "" && s.Link.Live() // the state is empty before a start
	s.EchoRoundTrip = r.echo.roundTrip()
	s.Reconnects = a.stats.reconnects.Load()
	s.Times.Publish, s.Times.Echo = histogramOf(&a.stats.publish), histogramOf(&a.stats.echoes)
	if r.histograms {
		s.Times.Receive = histogramOf(&a.stats.receive)
	}
	return s
}
