package wire_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

func check(t *testing.T, peers []*peer, w *world, total *tally) {
	for _, origin := range peers {
		lost := 0
		for _, l := range origin.losses {
			lost += l.Instructions
			if !errors.Is(l.Err, crosscast.ErrRefused) && !errors.Is(l.Err, crosscast.ErrUncertain) {
				t.Errorf("%s: loss %+v is of neither kind", origin.id, l)
			}
		}
		total.emitted += len(origin.emitted)
		total.losses += lost
		inLoss := func(n uint64) bool {
			return slices.ContainsFunc(origin.losses, func(l crosscast.Loss) bool { return l.From <= n && n <= l.To })
		}
		unsent := 0
		for event := range origin.emitted {
			if len(w.frames[event]) == 0 {
				unsent++
			}
		}
		if unsent > lost {
			t.Errorf("%s: %d emissions never left, but losses name %d", origin.id, unsent, lost)
		}
		for _, p := range peers {
			if p == origin || p.emitOnly {
				continue
			}
			checkReceiver(t, origin, p, w, inLoss, total)
			for _, l := range origin.losses {
				if !slices.ContainsFunc(p.gaps, func(g crosscast.Gap) bool { return coversLoss(&g, origin.id, &l) }) {
					t.Errorf("%s: no gap for %s's loss of %d..%d (%v)", p.id, origin.id, l.From, l.To, l.Names)
				}
			}
		}
	}
	for _, p := range peers {
		if p.patchy && !w.forged { // a stranger can make false alarms
			checkAlarms(t, peers, p, w)
		}
		total.delivered += len(p.delivered)
		total.gaps += len(p.gaps)
	}
}

func coversLoss(g *crosscast.Gap, origin crosscast.NodeID, l *crosscast.Loss) bool {
	if g.Reason != reasons.GapLoss || g.Origin != origin {
		return false
	}
	return g.From == 0 || g.From <= l.From && l.To <= g.To
}

// checkReceiver: every emission of origin that concerns p was delivered once, in order, or is covered by a gap.
func checkReceiver(t *testing.T, origin, p *peer, w *world, inLoss func(uint64) bool, total *tally) {
	seen := map[string]int{}
	last := map[crosscast.Address]int{}
	for i, event := range p.delivered {
		e, ours := origin.emitted[event]
		if !ours {
			continue
		}
		if _, again := seen[event]; again {
			t.Errorf("%s: %s delivered twice", p.id, event)
		}
		seen[event] = i
		n, _ := strconv.Atoi(event[strings.IndexByte(event, '/')+1:])
		for _, a := range e.targets {
			if n < last[a] {
				t.Errorf("%s: %s after number %d on %v", p.id, event, last[a], a)
			}
			last[a] = n
		}
	}
	for event, e := range origin.emitted {
		if _, ok := seen[event]; ok || !concerned(p, e) {
			continue
		}
		if len(w.frames[event]) == 0 {
			continue // never left: checked as a loss, and as a gap for that loss
		}
		if p.patchy && unheard(p, origin, e, w.frames[event][0].at, w) {
			total.unheard++
			continue
		}
		total.missedByGap++
		if !slices.ContainsFunc(p.gaps, func(g crosscast.Gap) bool {
			return !p.over(&g, e) && covers(&g, e, w.frames[event], w.inOrder)
		}) {
			t.Errorf("%s: %s (%v, emitted %v, frames %+v) missed silently", p.id, event, e.targets, e.at, w.frames[event])
			if testing.Verbose() {
				for _, g := range p.gaps {
					t.Logf("gap %+v", g)
				}
			}
		}
	}
}

// unheard: since p had subscribed, also because of an outage, nothing of origin came before the emission was executed.
// Then it cannot know that it was subscribed in time.
func unheard(p, origin *peer, e emission, executed time.Time, w *world) bool {
	from := time.Time{}
	for _, a := range e.targets {
		if since, ok := p.joined[a]; ok && since.Before(e.at) && since.After(from) {
			from = since
		}
	}
	for _, g := range p.gaps {
		if g.Origin == "" && g.Until.After(from) && !g.Until.After(executed) {
			from = g.Until
		}
	}
	for _, at := range w.heard[[2]crosscast.NodeID{p.id, origin.id}] {
		if at.After(from) && at.Before(executed) {
			return false
		}
	}
	return true
}

// checkAlarms: of what p reports as a hole in a room, something was missed: a frame that it did not get in time, or that
// never left.
func checkAlarms(t *testing.T, peers []*peer, p *peer, w *world) {
	for _, g := range p.gaps {
		if g.Reason != reasons.GapHole || len(g.Names) != 1 {
			continue
		}
		letter := map[crosscast.Space]string{crosscast.SpaceRoom: "r:", crosscast.SpaceUser: "u:"}[g.Names[0].Space]
		own, shared := "cc:"+letter+"/:"+g.Names[0].Name, "cc:h"+letter
		missed := slices.ContainsFunc(w.all, func(x execution) bool {
			got := w.got[receipt{p.id, x.origin, x.number}]
			return x.origin == g.Origin && (x.topic == own || strings.HasPrefix(x.topic, shared)) && g.From <= x.number && x.number <= g.To &&
				(got.IsZero() || got.After(g.Until))
		})
		i := slices.IndexFunc(peers, func(o *peer) bool { return o.id == g.Origin })
		for _, l := range peers[i].losses {
			missed = missed || l.From <= g.To && g.From <= l.To
		}
		if !missed {
			t.Errorf("%s: nothing was missed of %+v", p.id, g)
		}
	}
}

// concerned: p was joined to a target before the emission, and is still.
func concerned(p *peer, e emission) bool {
	if len(e.targets) == 0 {
		return true
	}
	for _, a := range e.targets {
		if since, ok := p.joined[a]; ok && since.Before(e.at) {
			return true
		}
	}
	return false
}

func covers(g *crosscast.Gap, e emission, frames []execution, inOrder bool) bool {
	named := len(e.targets) == 0 && g.Names == nil
	for _, a := range e.targets {
		named = named || g.Covers(a)
	}
	if !named {
		return false
	}
	for _, x := range frames {
		switch {
		case g.Origin != "" && g.Origin != x.origin:
		case g.Origin != "" && g.From != 0:
			// The copies of an emission to several topics have adjacent numbers; the one for p may be one that never left.
			near := uint64(max(len(e.targets), 1) - 1)
			if g.From <= x.number+near && x.number <= g.To+near && (!inOrder || !x.at.Before(g.Since)) {
				return true
			}
		case g.Reason == reasons.GapLoss: // more than the origin lists
			if !e.at.Before(g.Since) && !e.at.After(g.Until) {
				return true
			}
		default:
			if !x.at.Before(g.Since) && (!x.at.After(g.Until) || g.Until.IsZero()) {
				return true
			}
		}
	}
	return false
}

// over: the gap g, which had no end, has one now for a target of e; then only that counts.
func (p *peer) over(g *crosscast.Gap, e emission) bool {
	return g.Until.IsZero() && slices.ContainsFunc(p.gaps, func(end crosscast.Gap) bool {
		return end.Reason == g.Reason && end.Since.Equal(g.Since) && !end.Until.IsZero() &&
			slices.ContainsFunc(e.targets, func(a crosscast.Address) bool { return end.Covers(a) && g.Covers(a) })
	})
}
