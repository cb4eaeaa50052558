package crosscast

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/warn"
)

// The lines of the log about gaps, losses and silent peers. Each kind is written at most once in linePause, with the
// number of those that were left out before. The changes of the link are logged by the adapter.

// pacers are a pacer for each kind. Those above maxReasons share one. The zero value is ready.
type pacers[K comparable] struct {
	mu sync.Mutex // guards m
	m  map[K]*paced
}

type paced struct {
	next time.Time
	less int // lines that were left out
}

// due reports whether a line is due, and how many were left out before it.
func (p *pacers[K]) due(kind K) (less int, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = make(map[K]*paced)
	}
	one := p.m[kind]
	if one == nil {
		if len(p.m) >= maxReasons {
			var rest K
			kind = rest
		}
		if one = p.m[kind]; one == nil {
			one = new(paced)
			p.m[kind] = one
		}
	}
	now := time.Now()
	if now.Before(one.next) {
		one.less++
		return 0, false
	}
	less, one.less, one.next = one.less, 0, now.Add(linePause)
	return less, true
}

// line writes a line. The logger is the application's.
func (l *logs) line(level slog.Level, less int, text string, args ...any) {
	if less > 0 {
		args = append(args, "left out", less)
	}
	_ = guard.Call(func() error { l.Log(context.Background(), level, "crosscast: "+text, args...); return nil })
}

// gapCures says what to do about a gap.
var gapCures = map[GapReason]string{
	reasons.GapLinkLost: "look at the network to the bus, and at its limits for slow subscribers",
	reasons.GapDeaf:     "look at what is between the node and the bus, such as a proxy",
	reasons.GapHole:     "the bus loses messages: look at its servers and their links",
	reasons.GapLate:     "the bus changes the order of messages: look at its servers and their links",
	reasons.GapLoss:     "look at the log of the origin, which could not publish",
	reasons.GapOverflow: "a handler of messages is too slow, or its queue too small",
	reasons.GapPaused:   "the process stood still: look at its processor and memory limits",
	reasons.GapDenied:   "look at what the user of the bus is allowed",
	reasons.GapPeerLost: "look whether the origin runs, and can reach the bus",
	reasons.GapInvalid:  "look at what the origin emits",
	reasons.GapForged:   "somebody else publishes in the name of the origin: look at who may publish",
	reasons.GapRouting:  "give all nodes and emitters the same Topics, Sharded and shards in the options of the adapter",
	reasons.GapClock:    "set the clock of the origin, or of this node",
	reasons.GapMoved:    "none: the bus has another server, and the node has followed",
}

func (n *Node) noteGap(g *Gap) {
	if n.log.given == nil {
		return
	}
	less, due := n.log.gaps.due(g.Reason)
	if !due {
		return
	}
	args := []any{"reason", string(g.Reason), "since", g.Since}
	if !g.goesOn() {
		args = append(args, "until", g.Until)
	}
	if g.Origin != "" {
		args = append(args, "origin", n.peers.inLog(g.Origin))
	}
	if g.Names != nil {
		args = append(args, "names", len(g.Names))
	}
	if h := n.link.lastBroken(); g.Reason == reasons.GapLinkLost && h.Since.After(g.Since) {
		args = append(args, "cause", h.Err)
	}
	if cure := gapCures[g.Reason]; cure != "" {
		args = append(args, "cure", cure)
	}
	level := slog.LevelWarn
	if n.stats.connects.Load() == 0 && len(n.subscriptions()) == 0 {
		level = slog.LevelDebug // nobody was here to miss them, as at a start before the bus
	}
	n.log.line(level, less, "messages of peers might have been missed", args...)
}

// lossCures says what to do about a loss.
var lossCures = map[LossReason]string{
	reasons.LossRefused:   "look at the log of the bus",
	reasons.LossDenied:    "look at what the user of the bus is allowed",
	reasons.LossUncertain: "none: the link broke before the bus had answered; peers might have got them",
	reasons.LossExpired:   "look whether the bus runs and can be reached; the adapter keeps emissions for a short time only",
	reasons.LossClosed:    "give Node.Close more time, or call it while the bus can be reached",
	reasons.LossMoved:     "none: the bus has another server, and the node has followed",
}

func (n *Node) noteLoss(l *Loss) {
	if n.log.given == nil {
		return
	}
	if less, due := n.log.losses.due(l.Reason); due {
		args := []any{"reason", string(l.Reason), "instructions", l.Instructions, "error", l.Err}
		cure := lossCures[l.Reason]
		if s := n.Link(); l.Reason == reasons.LossExpired && !s.Live() { // the link says why
			what, half := s.worse()
			args = append(args, what, string(half.State), "cause", half.Err)
			cure = cmp.Or(warn.LinkCure(string(half.State), half.Err), cure)
		}
		if cure != "" {
			args = append(args, "cure", cure)
		}
		n.log.line(slog.LevelWarn, less, "emissions of this node did not reach peers, or might not have", args...)
	}
}

// noteSilence logs that a peer is suspected, or taken for dead.
func (n *Node) noteSilence(s *silence) {
	if n.log.given == nil {
		return
	}
	less, due := n.log.silences.due(s.expired)
	switch {
	case !due:
	case s.expired:
		cure := "look whether it runs, and can reach the bus"
		if n.Link().Publishing.State == reasons.LinkDenied {
			cure = "this node may not publish, either: probably that is why; look at what the user of the bus is allowed"
		}
		n.log.line(slog.LevelWarn, less, "a peer is taken for dead, because six of its heartbeats are missing",
			"peer", nodeLabel(s.name, s.id), "heard", s.last, "cure", cure)
	default:
		n.log.line(slog.LevelInfo, less, "a peer is suspected, because three of its heartbeats are missing",
			"peer", nodeLabel(s.name, s.id), "heard", s.last)
	}
}
