package health

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/latest"
	"github.com/crosscast/crosscast/internal/peername"
)

// Recent keeps the latest gaps and losses of a node for [Details], 50 of each. Those of one cause and origin that follow
// each other within 10 s are one with a count, so that many of them do not push out the one that explains them. Its methods
// are for Options.OnGap and Options.OnLoss of the node, or are called from there:
//
//	recent := health.NewRecent()
//	node, err := crosscast.Start(ctx, crosscast.Options{OnGap: recent.OnGap, OnLoss: recent.OnLoss, …})
//
// Of the rooms and users it keeps only how many there are. Its methods may be called concurrently.
type Recent struct {
	gaps   latest.List[gap]
	losses latest.List[loss]
}

const mostRecent = 50

// NewRecent returns an empty Recent.
func NewRecent() *Recent {
	r := new(Recent)
	r.gaps.Most, r.losses.Most = mostRecent, mostRecent
	return r
}

// gap is one of the latest gaps, or several that followed each other.
type gap struct {
	Gaps       int                 `json:"gaps"` // how many
	Reason     crosscast.GapReason `json:"reason"`
	Since      time.Time           `json:"since"`
	Until      *time.Time          `json:"until,omitempty"` // none: it goes on
	Origin     crosscast.NodeID    `json:"origin,omitempty"`
	OriginName string              `json:"originName,omitempty"`
	Names      *int                `json:"names,omitempty"` // how many rooms and users, the most of one gap; none: all
}

// loss is one of the latest losses, or several that followed each other.
type loss struct {
	Losses    int                  `json:"losses"` // how many
	Since     time.Time            `json:"since"`  // when the first was reported
	At        time.Time            `json:"at"`     // when the last was reported
	Reason    crosscast.LossReason `json:"reason"`
	Emissions int                  `json:"emissions"`
	Names     *int                 `json:"names,omitempty"` // how many rooms and users, the most of one loss; none: any
	Error     string               `json:"error,omitempty"` // of the last
}

// OnGap keeps a gap.
func (r *Recent) OnGap(n *crosscast.Node, g crosscast.Gap) {
	kept := gap{Gaps: 1, Reason: g.Reason, Since: g.Since, Origin: g.Origin, Names: countOf(g.Names)}
	if !g.Until.IsZero() {
		kept.Until = &g.Until
	}
	if g.Origin != "" {
		kept.OriginName = peername.Of(n, g.Origin)
	}
	r.gaps.Add(kept, kept.follows)
}

// OnLoss keeps a loss.
func (r *Recent) OnLoss(_ *crosscast.Node, l crosscast.Loss) {
	now := time.Now()
	kept := loss{Losses: 1, Since: now, At: now, Reason: l.Reason, Emissions: l.Instructions, Names: countOf(l.Names)}
	if l.Err != nil {
		kept.Error = l.Err.Error()
	}
	r.losses.Add(kept, kept.follows)
}

// follows makes old also the record of g, if g followed it. A gap that goes on stands alone.
func (g *gap) follows(old *gap) bool {
	if old.Reason != g.Reason || old.Origin != g.Origin || old.Until == nil || g.Until == nil || g.Since.Sub(*old.Until) > latest.Near {
		return false
	}
	old.Gaps++
	if g.Until.After(*old.Until) {
		old.Until = g.Until
	}
	if g.Since.Before(old.Since) {
		old.Since = g.Since
	}
	old.Names = most(old.Names, g.Names)
	return true
}

// follows makes old also the record of l, if l followed it.
func (l *loss) follows(old *loss) bool {
	if old.Reason != l.Reason || l.At.Sub(old.At) > latest.Near {
		return false
	}
	old.Losses++
	old.At, old.Error = l.At, l.Error
	old.Emissions += l.Emissions
	old.Names = most(old.Names, l.Names)
	return true
}

// most returns the larger count. None is the largest.
func most(a, b *int) *int {
	switch {
	case a == nil || b == nil:
		return nil
	case *a > *b:
		return a
	}
	return b
}

func countOf(names []crosscast.Address) *int {
	if names == nil {
		return nil
	}
	n := len(names)
	return &n
}
