package books

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Report is the outcome of a run.
type Report struct {
	Problems  []string // nil: the books balance
	Sent      int64
	Missed    int64         // emissions that a receiver did not get; each is part of a gap, or a problem
	Gaps      int           // reported
	Reasons   []string      // of the gaps
	Losses    int           // reported
	Excess    time.Duration // by which the widest gap is longer than the fault
	Recovery  time.Duration // from the end of the faults until every node hears every other one
	Heard     int           // pairs of nodes that Recovery is about
	Nodes     map[string]string
	problemOf map[string]int
}

const (
	leastHeartbeat = 250 * time.Millisecond // the library counts shorter ones as this
	slack          = 150 * time.Millisecond // of two processes that look at the clock
	maxProblems    = 40
)

// pair is a room's emissions of one node.
type pair struct{ origin, room string }

// sent are the emissions of a pair.
type sent struct {
	times  map[int64]int64
	failed map[int64]bool
	last   int64
}

// receiver is what a node has of a pair.
type receiver struct {
	last   int64 // the highest number that came
	gap    bool  // one has come since
	goesOn bool  // it has no end yet
}

// node is what a node has told.
type node struct {
	id, name string
	joined   map[string]int64 // when, by room
	left     map[string]int64
	gone     bool
	ended    bool
	pairs    map[pair]*receiver
	gaps     map[int]int // by the permission that they used
	down     []stretch   // when its link was not live
	last     int64       // when it wrote last
}

type stretch struct{ from, to int64 }

// missing are emissions that a node did not get.
type missing struct {
	pair
	number int64
	at     int64
}

// balance is a balance that is under way.
type balance struct {
	Report
	heartbeat time.Duration
	margin    time.Duration // Run.Margin
	sent      map[pair]*sent
	nodes     map[string]*node
	faults    []stretch
	permits   []*Allow
	missing   map[string][]missing // by node
}

// Add adds the figures of another part of the same run.
func (r *Report) Add(o Report) {
	r.Sent, r.Missed, r.Gaps, r.Losses = r.Sent+o.Sent, r.Missed+o.Missed, r.Gaps+o.Gaps, r.Losses+o.Losses
	r.Excess, r.Recovery = max(r.Excess, o.Excess), max(r.Recovery, o.Recovery)
	r.Reasons = append(r.Reasons, o.Reasons...)
	slices.Sort(r.Reasons)
	r.Reasons = slices.Compact(r.Reasons)
	r.Problems = append(r.Problems, o.Problems...)
}

// Balance checks the entries of a run: each emission came once and in order, or is part of a gap in its place, or was
// refused; each gap is permitted, and no longer than the fault and two heartbeats.
func Balance(entries []Entry) Report {
	b := &balance{
		Report:    Report{Nodes: map[string]string{}, problemOf: map[string]int{}},
		heartbeat: leastHeartbeat, sent: map[pair]*sent{}, nodes: map[string]*node{}, missing: map[string][]missing{},
	}
	for i := range entries {
		b.readFirst(&entries[i])
	}
	for i := range entries {
		b.readNode(&entries[i])
	}
	for _, n := range b.nodes {
		b.end(n)
	}
	for i := range entries {
		b.readGap(&entries[i])
	}
	b.recover(entries)
	for text, n := range b.problemOf {
		if n > 1 {
			text = fmt.Sprintf("%s (%d times)", text, n)
		}
		b.Problems = append(b.Problems, text)
	}
	slices.Sort(b.Problems)
	slices.Sort(b.Reasons)
	b.Reasons = slices.Compact(b.Reasons)
	return b.Report
}

func (b *balance) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if _, known := b.problemOf[text]; known || len(b.problemOf) < maxProblems {
		b.problemOf[text]++
	}
}

// readFirst reads what the others are compared with.
func (b *balance) readFirst(e *Entry) {
	switch e.Is {
	case Begin:
		b.heartbeat = max(b.heartbeat, e.Run.Heartbeat)
		b.margin = e.Run.Margin
	case Start:
		b.Nodes[e.Node] = e.Text
		b.nodes[e.Node] = &node{
			id: e.Node, name: e.Text, joined: map[string]int64{}, left: map[string]int64{}, pairs: map[pair]*receiver{},
			gaps: map[int]int{},
		}
	case Join:
		b.nodes[e.Node].joined[e.Room] = e.At
	case Leave:
		b.nodes[e.Node].left[e.Room] = e.At
	case Sent:
		s := b.sentOf(pair{e.Node, e.Room})
		for i, at := range e.Times {
			s.times[e.From+int64(i)] = at
		}
		for _, n := range e.Failed {
			s.failed[n] = true
		}
		s.last = max(s.last, e.To)
		b.Sent += int64(len(e.Times))
	case Fault:
		b.faults = append(b.faults, stretch{e.At, math.MaxInt64})
	case Mended:
		for i := range b.faults {
			if b.faults[i].to == math.MaxInt64 {
				b.faults[i].to = e.At
			}
		}
	case Permit:
		b.permits = append(b.permits, e.Allow)
	case Gone:
		b.nodes[e.Node].gone = true
	case End:
		b.nodes[e.Node].ended = true
	case Link:
		n := b.nodes[e.Node]
		open := len(n.down) > 0 && n.down[len(n.down)-1].to == math.MaxInt64
		switch live := e.Text == "live"; {
		case live && open:
			n.down[len(n.down)-1].to = e.At
		case !live && !open:
			n.down = append(n.down, stretch{e.At, math.MaxInt64})
		}
	}
	if n := b.nodes[e.Node]; n != nil {
		n.last = e.At
	}
}

func (b *balance) sentOf(p pair) *sent {
	s := b.sent[p]
	if s == nil {
		s = &sent{times: map[int64]int64{}, failed: map[int64]bool{}}
		b.sent[p] = s
	}
	return s
}

func (n *node) of(p pair) *receiver {
	r := n.pairs[p]
	if r == nil {
		r = &receiver{}
		n.pairs[p] = r
	}
	return r
}

// readNode reads what a node has received and reported, in its order.
func (b *balance) readNode(e *Entry) {
	n := b.nodes[e.Node]
	switch e.Is {
	case Got:
		p := pair{e.Origin, e.Room}
		r := n.of(p)
		if e.From <= r.last {
			b.problem("%s got %s after %s: a copy, or out of order", n.name, b.text(p, e.From), b.text(p, r.last))
			r.last = max(r.last, e.To)
			return
		}
		if s := b.sent[p]; (s == nil || e.To > s.last) && !(b.nodes[e.Origin] != nil && b.nodes[e.Origin].gone) {
			b.problem("%s got %s, which was never sent", n.name, b.text(p, e.To))
		}
		b.miss(n, p, r, r.last+1, e.From-1)
		r.last, r.gap = e.To, r.goesOn
	case Heard:
		n.of(pair{e.Origin, e.Room}).last = e.To
	case GapOf:
		b.Gaps++
		b.Reasons = append(b.Reasons, e.Gap.Reason)
		for p := range b.sent {
			if e.Gap.covers(p) {
				r := n.of(p)
				r.gap, r.goesOn = true, e.Gap.Until == 0
			}
		}
	case Lost:
		b.Losses++
	}
}

// miss notes that a node did not get a pair's emissions from first to last before a later one, or the end.
func (b *balance) miss(n *node, p pair, r *receiver, first, last int64) {
	s := b.sent[p]
	joined, member := n.joined[p.room]
	if s == nil || !member {
		return
	}
	for k := first; k <= last; k++ {
		at, known := s.times[k]
		if !known || s.failed[k] || at < joined || n.left[p.room] > 0 && at > n.left[p.room] {
			continue
		}
		b.Missed++
		b.missing[n.id] = append(b.missing[n.id], missing{p, k, at})
		if !r.gap {
			b.problem("SILENT: %s did not get emissions of %s to %q, and has no gap in their place", n.name,
				b.Nodes[p.origin], p.room)
		}
	}
}

// end looks at what a node did not get until the end.
func (b *balance) end(n *node) {
	if n.gone || n.ended {
		return
	}
	for p, s := range b.sent {
		r := n.of(p)
		b.miss(n, p, r, r.last+1, s.last)
	}
}

func (b *balance) text(p pair, number int64) string {
	return fmt.Sprintf("%s/%s/%d", cmp.Or(b.Nodes[p.origin], p.origin), p.room, number)
}

func (g *Gap) covers(p pair) bool {
	return (g.Origin == "" || g.Origin == p.origin) && (g.All || slices.Contains(g.Rooms, p.room))
}

// readGap checks that a gap is permitted, and no longer than it must be.
func (b *balance) readGap(e *Entry) {
	if e.Is != GapOf {
		return
	}
	n := b.nodes[e.Node]
	i := slices.IndexFunc(b.permits, func(a *Allow) bool { return b.permits1(a, n, e.Gap) })
	if i < 0 {
		b.problem("OVER-REPORT: %s reported a gap %q of %s, which no fault explains", n.name, e.Gap.Reason, b.what(e.Gap))
		return
	}
	n.gaps[i]++
	if number := b.permits[i].Most; number > 0 && n.gaps[i] == number+1 {
		b.problem("OVER-REPORT: %s reported more than %d gaps %q", n.name, number, e.Gap.Reason)
	}
	if b.permits[i].Loose || e.Gap.Until == 0 {
		return
	}
	excess := b.excess(n, e.Gap)
	b.Excess = max(b.Excess, excess)
	most := max(2*b.heartbeat, b.margin) + slack
	if b.permits[i].Stood {
		for _, f := range b.faults {
			if f.to != math.MaxInt64 {
				most = max(most, time.Duration(f.to-f.from)+2*b.heartbeat+slack)
			}
		}
	}
	if excess > most {
		b.problem("OVER-REPORT: %s reported a gap %q that is %v longer than what was missed, and may be %v longer",
			n.name, e.Gap.Reason, excess.Round(time.Millisecond), most)
	}
}

func (b *balance) what(g *Gap) string {
	rooms := "all rooms"
	if !g.All {
		rooms = strings.Join(g.Rooms, ", ")
	}
	return cmp.Or(b.Nodes[g.Origin], g.Origin, "all nodes") + " in " + rooms
}

func (b *balance) permits1(a *Allow, n *node, g *Gap) bool {
	in := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	if !in(a.Nodes, n.name) || !in(a.Origins, cmp.Or(b.Nodes[g.Origin], g.Origin)) || !in(a.Reasons, g.Reason) {
		return false
	}
	if len(a.Rooms) == 0 {
		return true
	}
	return !g.All && !slices.ContainsFunc(g.Rooms, func(room string) bool { return !slices.Contains(a.Rooms, room) })
}

// excess is by how much a gap is longer than what was missed: the faults that it overlaps, the time in which the node's
// link was not live, and the missing emissions that it covers.
func (b *balance) excess(n *node, g *Gap) time.Duration {
	from, to := int64(math.MaxInt64), int64(0)
	add := func(s stretch) {
		if s.from <= g.Until && s.to >= g.Since {
			from, to = min(from, s.from), max(to, s.to)
		}
	}
	for _, f := range b.faults {
		add(f)
	}
	for _, d := range n.down {
		add(d)
	}
	for _, m := range b.missing[n.id] {
		if g.covers(m.pair) {
			add(stretch{m.at, m.at})
		}
	}
	if to == 0 {
		return time.Duration(g.Until - g.Since)
	}
	return time.Duration(max(0, from-g.Since) + max(0, g.Until-to))
}

// recover measures the time from the end of the last fault until every node that is there has heard every other one
// again: an emission that began after that end.
func (b *balance) recover(entries []Entry) {
	end := int64(0)
	for _, f := range b.faults {
		if f.to != math.MaxInt64 {
			end = max(end, f.to)
		}
	}
	if end == 0 {
		return
	}
	first := map[[2]string]int64{} // when a node heard another one
	for _, e := range entries {
		if e.Is != Got || e.Origin == e.Node {
			continue
		}
		s := b.sent[pair{e.Origin, e.Room}]
		if s == nil || s.times[e.To] < end {
			continue
		}
		key := [2]string{e.Node, e.Origin}
		if _, known := first[key]; !known {
			first[key] = e.At
		}
	}
	for _, at := range first {
		b.Recovery = max(b.Recovery, time.Duration(at-end))
	}
	b.Heard = len(first)
}
