package crosscast

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/reasons"
)

// A Gap is a stretch of time in which this node might have missed instructions. The application can then have its
// clients fetch again. Each cause makes one gap, with these exceptions:
//
//   - If the bus begins to deny names (reason "denied"), there are two gaps with the same Since. The first comes at
//     once, and has no Until because it goes on. The second comes when the bus allows the names again. It leaves out
//     names in which the node has lost interest, and does not come if no names are left.
//   - A link that is lost or deaf is a gap once it is back. Only bindings hear of its beginning: see [Namespace.OnGap].
//   - A peer that is taken for dead (reason "peer lost") can return. Then there is a second gap, unless the numbers of
//     its frames show that it sent nothing meanwhile.
//   - A peer with another routing is a gap at once, and again when it leaves or is taken for dead. So is one with a wrong
//     clock, at once and when its frames are accepted.
type Gap struct {
	// Origin is the node whose instructions might be missing; empty: any node.
	Origin NodeID
	// Names are the affected rooms and users, or whole namespaces ([SpaceNamespace]); nil: all, including emissions to
	// everyone and to sockets.
	Names []Address
	// From and To are the first and last frame number of Origin that might be missing; 0: not known.
	From, To uint64
	// Since and Until bound the stretch by this node's clock.
	Since, Until time.Time
	Reason       GapReason
}

// A GapReason is the cause of a gap:
//
//	link lost  the connection to the bus broke or died, and was rebuilt; or it could not be made since the start
//	link deaf  the bus answered, but this node's own messages did not come back
//	hole       a frame's predecessor on its topic never came
//	late       a frame came after its successor and was dropped
//	loss       the origin reported that it could not publish
//	overflow   a queue of this node was full
//	paused     this process stood still, so its peers might have taken it for dead
//	denied     the bus refuses a subscription (without an Until), or did for a while
//	peer lost  the origin was taken for dead, or has returned after that
//	invalid    a message of the origin was not JSON in UTF-8, or of an encoding of a later version, and was dropped
//	forged     frames in the origin's name had wrong numbers, and hid its real frames
//	moved      this node was on a server of the bus that its peers had left, and has followed them
//	routing    the origin spreads rooms over the bus in another way than this node: see AdapterStats.Misrouted
//	clock      the origin's clock differs too much for its sealed frames to be accepted: see AdapterStats.Unopened; or this
//	           node was held up for longer than Seal.Fresh when the origin started
//
// [GapReasons] lists them.
type GapReason string

// GapReasons returns every [GapReason], for example to make a metric of each.
func GapReasons() []GapReason {
	return []GapReason{
		reasons.GapLinkLost, reasons.GapDeaf, reasons.GapHole, reasons.GapLate, reasons.GapLoss, reasons.GapOverflow,
		reasons.GapPaused, reasons.GapDenied, reasons.GapPeerLost, reasons.GapInvalid, reasons.GapForged, reasons.GapMoved,
		reasons.GapRouting, reasons.GapClock,
	}
}

// Covers reports whether messages to the given name might have been missed. A gap that names a namespace, by an address
// with [SpaceNamespace], covers all names in it.
func (g *Gap) Covers(a Address) bool {
	if g.Names == nil {
		return true
	}
	for _, name := range g.Names {
		if name == a || name.Space == SpaceNamespace && name.Namespace == a.Namespace {
			return true
		}
	}
	return false
}

// controls reports whether other instructions than emissions to rooms and users might have been missed: those for
// everyone, or for one node.
func (g *Gap) controls() bool {
	return g.Names == nil || slices.ContainsFunc(g.Names, func(a Address) bool { return a.Space == SpaceNamespace })
}

// goesOn reports whether g has no end yet.
func (g *Gap) goesOn() bool { return g.Until.IsZero() }

// ends reports whether g is the end of a gap that went on. Other gaps that come meanwhile do not end it.
func (g *Gap) ends() bool { return !g.goesOn() && reasons.GapGoesOn(string(g.Reason)) }

// widen makes g cover o too. Too many names become all names. If g or o goes on, the result goes on.
func (g *Gap) widen(o *Gap) {
	if g.Origin != o.Origin {
		g.Origin = ""
	}
	g.From, g.To = 0, 0
	if o.Since.Before(g.Since) {
		g.Since = o.Since
	}
	switch {
	case g.goesOn() || o.goesOn():
		g.Until = time.Time{}
	case o.Until.After(g.Until):
		g.Until = o.Until
	}
	g.Names = coverNames(g.Names, o.Names, limit.Names)
}

// coverNames returns all names of a and b, or nil, which is every name, if a or b is nil or there are more than limit.
// It changes neither.
func coverNames(a, b []Address, limit int) []Address {
	if a == nil || b == nil {
		return nil
	}
	all := Gap{Names: slices.Clip(a)}
	for _, name := range b {
		if len(all.Names) > limit {
			break // there might be very many, and each is looked for in all of them
		}
		if !all.Covers(name) {
			all.Names = append(all.Names, name)
		}
	}
	if len(all.Names) > limit {
		return nil
	}
	return all.Names
}
