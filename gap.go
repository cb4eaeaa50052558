package crosscast

import (
	"fmt"
	"slices"
	"time"
)

// A Gap is a stretch in which this node may have missed instructions, so that the application can have its clients
// fetch again. There is one per cause. Where the bus denies names that were heard before ([GapDenied]) there are two, with
// the same Since: one at once, which has no Until because it goes on, and one when the bus allows them again. The second
// leaves out the names that nobody here wants any more, and does not come when that is all of them.
type Gap struct {
	// Origin is the node whose instructions may be missing; empty: any node.
	Origin NodeID
	// Names are the rooms and users concerned, or the namespaces as a whole ([SpaceNamespace]); nil: all, those of
	// everyone and of sockets included.
	Names []Address
	// From and To are the first and last frame number of Origin that may be missing, where they are known, else 0.
	From, To uint64
	// Since and Until bound the stretch by this node's clock.
	Since, Until time.Time
	Reason       GapReason
}

// GapReason says what made a gap.
type GapReason string

const (
	GapLinkLost GapReason = "link lost" // the connection to the bus broke or died, and was rebuilt
	GapDeaf     GapReason = "link deaf" // the bus answered on the connection, but what this node published did not come back
	GapHole     GapReason = "hole"      // a frame's predecessor on its topic never came
	GapLate     GapReason = "late"      // a frame came after its successor and was dropped
	GapLoss     GapReason = "loss"      // the origin reported that it could not publish
	GapOverflow GapReason = "overflow"  // a queue of this node was full
	GapPaused   GapReason = "paused"    // this process stood still, so its peers took it for dead
	GapDenied   GapReason = "denied"    // the bus refuses a subscription (without an Until), or did for a while
	GapPeerLost GapReason = "peer lost" // the origin was taken for dead, or has returned after that
	GapInvalid  GapReason = "invalid"   // a message of the origin, which was dropped, was no JSON in UTF-8
	GapForged   GapReason = "forged"    // frames in the origin's name had numbers that were not its own, and hid what it sent
	GapMoved    GapReason = "moved"     // this node was on a server of the bus that its peers had left, and has followed them
)

// Covers reports whether messages to the given name may have been missed. A gap that names a namespace, by an address
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

// controls reports whether instructions may have been missed that are for everyone, or for one node: all but emissions
// to rooms and users.
func (g *Gap) controls() bool {
	return g.Names == nil || slices.ContainsFunc(g.Names, func(a Address) bool { return a.Space == SpaceNamespace })
}

// goesOn reports whether g has no end yet.
func (g *Gap) goesOn() bool { return g.Until.IsZero() }

// widen makes g cover what o covers; many names become all. What goes on in one of the two goes on.
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
	g.Names = coverNames(g.Names, o.Names, MaxNames)
}

// coverNames returns what covers a and b: all names of both, or nil, which is every name, when one of them is, or there
// are more than limit. Neither is changed.
func coverNames(a, b []Address, limit int) []Address {
	if a == nil || b == nil {
		return nil
	}
	all := Gap{Names: slices.Clip(a)}
	for _, name := range b {
		if len(all.Names) > limit {
			break // there may be very many, and each is looked for in all of them
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

// A Loss is a run of this node's own emissions that peers did not get, or may not have got. Local sockets were
// served all the same.
//
// Options.OnLoss may be told of several at once, as one Loss that covers them: its Instructions are their sum, its Names
// the names of all (nil when there are too many), From and To bound their frames, of which others may have gone out, and
// Reason and Err are those of the latest, but of the latest that is uncertain if one is.
type Loss struct {
	Reason LossReason
	// Names are the rooms and users concerned; nil: any, those of everyone and of sockets included.
	Names []Address
	// From and To are the numbers of the first and last lost frame; 0: not known.
	From, To     uint64
	Instructions int
	// Err matches [ErrRefused] (no peer got it) or [ErrUncertain] (some may have), and wraps the cause.
	Err error
}

// LossReason says what made a loss.
type LossReason string

const (
	LossRefused   LossReason = "refused"   // the bus refused it
	LossDenied    LossReason = "denied"    // the bus refused it for want of a permission
	LossUncertain LossReason = "uncertain" // the bus did not say whether it has it
	LossExpired   LossReason = "expired"   // it waited for too long for the link to come back
	LossClosed    LossReason = "closed"    // the adapter was closed before it could be published
	LossMoved     LossReason = "moved"     // it went to a server that the peers had left
)

// A LossError is what Node.Flush returns when some of what was emitted did not, or may not have, gone out.
type LossError struct {
	Losses []Loss // the latest; bounded
	More   int    // how many earlier ones are not listed
}

func (e *LossError) Error() string {
	n := 0
	for _, l := range e.Losses {
		n += l.Instructions
	}
	s := fmt.Sprintf("crosscast: %d instructions did not, or may not have, gone out", n)
	if e.More > 0 {
		s += fmt.Sprintf(" (and those of %d earlier losses)", e.More)
	}
	if len(e.Losses) > 0 {
		s += ": " + e.Losses[len(e.Losses)-1].Err.Error()
	}
	return s
}

// Unwrap makes errors.Is see the causes.
func (e *LossError) Unwrap() []error {
	errs := make([]error, len(e.Losses))
	for i, l := range e.Losses {
		errs[i] = l.Err
	}
	return errs
}
