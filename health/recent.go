package health

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/latest"
	"github.com/crosscast/crosscast/internal/peername"
)

// Recent keeps the latest gaps and losses of a node for [Details], 50 of each. Its methods are for Options.OnGap and
// Options.OnLoss of the node, or are called from there:
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

// gap is one of the latest gaps.
type gap struct {
	Reason     crosscast.GapReason `json:"reason"`
	Since      time.Time           `json:"since"`
	Until      *time.Time          `json:"until,omitempty"` // none: it goes on
	Origin     crosscast.NodeID    `json:"origin,omitempty"`
	OriginName string              `json:"originName,omitempty"`
	Names      *int                `json:"names,omitempty"` // how many rooms and users; none: all
}

// loss is one of the latest losses.
type loss struct {
	At        time.Time            `json:"at"` // when it was reported
	Reason    crosscast.LossReason `json:"reason"`
	Emissions int                  `json:"emissions"`
	Names     *int                 `json:"names,omitempty"` // how many rooms and users; none: any
	Error     string               `json:"error,omitempty"`
}

// OnGap keeps a gap.
func (r *Recent) OnGap(n *crosscast.Node, g crosscast.Gap) {
	kept := gap{Reason: g.Reason, Since: g.Since, Origin: g.Origin, Names: countOf(g.Names)}
	if !g.Until.IsZero() {
		kept.Until = &g.Until
	}
	if g.Origin != "" {
		kept.OriginName = peername.Of(n, g.Origin)
	}
	r.gaps.Add(kept)
}

// OnLoss keeps a loss.
func (r *Recent) OnLoss(_ *crosscast.Node, l crosscast.Loss) {
	kept := loss{At: time.Now(), Reason: l.Reason, Emissions: l.Instructions, Names: countOf(l.Names)}
	if l.Err != nil {
		kept.Error = l.Err.Error()
	}
	r.losses.Add(kept)
}

func countOf(names []crosscast.Address) *int {
	if names == nil {
		return nil
	}
	n := len(names)
	return &n
}
