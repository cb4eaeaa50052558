package wire

import (
	"sync/atomic"

	"github.com/crosscast/crosscast"
)

// dropReason says why something that arrived, or should have left, was not passed on.
type dropReason uint8

const (
	dropForeign       dropReason = iota // not one of our frames
	dropVersion                         // a frame of another version
	dropMalformed                       // one of our frames, damaged
	dropTooLarge                        // larger than MaxFrame
	dropCopy                            // came before
	dropLate                            // was overtaken by its successor
	dropUnwanted                        // on a topic that is not subscribed any more
	dropResuming                        // came while the link was being rebuilt: part of its gap
	dropVolatile                        // volatile, while the link is down
	dropIngressSyntax                   // to the ingress: no JSON object
	dropIngressMember                   // to the ingress: a member that is unknown, doubled, missing or of the wrong type
	dropIngressName                     // to the ingress: a name that is empty or too long
	dropIngressTarget                   // to the ingress: nobody, or everyone and somebody
	dropIngressSize                     // to the ingress: too large, or too many names
	dropUnnamed                         // topics that became quiet and were not named: too many waited
	dropUntold                          // a peer has named quiet topics unheard: a gap of all that it sent
	dropForgotten                       // a dead peer's numbers, for want of room: if it returns, it is a new one
	dropHealed                          // a peer's books, which frames with numbers that were not its own had made useless
	dropUndrawn                         // an echo with a number that this node has not drawn
	dropReasons
)

var dropNames = [dropReasons]string{
	"foreign", "version", "malformed", "too large", "copy", "late", "unwanted", "resuming", "volatile",
	"ingress syntax", "ingress member", "ingress name", "ingress target", "ingress size",
	"quiet unnamed", "quiet untold",
	"forgotten", "forged", "undrawn echo",
}

type stats struct {
	instructionsIn, instructionsOut atomic.Uint64
	bytesIn, bytesOut               atomic.Uint64
	framesIn, framesOut             atomic.Uint64
	reconnects                      atomic.Uint64
	dropped                         [dropReasons]atomic.Uint64
}

// AdapterStats implements crosscast.AdapterMeter. It may be called at any time, also before and during a Start.
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
	s.QueueBytes = r.sender.queued()
	s.Link = r.state.now()
	s.Connected = s.Link.Publishing.State != "" && s.Link.Live() // else there was no start
	s.EchoRoundTrip = r.echo.roundTrip()
	s.Reconnects = a.stats.reconnects.Load()
	return s
}
