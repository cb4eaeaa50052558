// Package reasons has the values of crosscast.GapReason, crosscast.LossReason and crosscast.LinkState as constants, for
// the packages that set them. The types' documentation says what they mean.
package reasons

// The values of crosscast.GapReason.
const (
	GapLinkLost = "link lost"
	GapDeaf     = "link deaf"
	GapHole     = "hole"
	GapLate     = "late"
	GapLoss     = "loss"
	GapOverflow = "overflow"
	GapPaused   = "paused"
	GapDenied   = "denied"
	GapPeerLost = "peer lost"
	GapInvalid  = "invalid"
	GapForged   = "forged"
	GapMoved    = "moved"
	GapRouting  = "routing"
	GapClock    = "clock"
)

// The values of crosscast.LossReason.
const (
	LossRefused   = "refused"
	LossDenied    = "denied"
	LossUncertain = "uncertain"
	LossExpired   = "expired"
	LossClosed    = "closed"
	LossMoved     = "moved"
)

// The values of crosscast.LinkState.
const (
	LinkConnecting = "connecting"
	LinkLive       = "live"
	LinkHeld       = "held"
	LinkDeaf       = "deaf"
	LinkDenied     = "denied"
	LinkDown       = "down"
)

// GapGoesOn reports whether gaps with the reason are first reported while they go on: those of outages of the link, and of
// denials.
func GapGoesOn(reason string) bool {
	switch reason {
	case GapLinkLost, GapDeaf, GapMoved, GapDenied:
		return true
	}
	return false
}
