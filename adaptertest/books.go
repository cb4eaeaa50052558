package adaptertest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/crosscast/crosscast"
)

// books are one node's emissions m0, m1, … to one room, with the results of Emit.
type books struct {
	from *node
	errs []error
	read map[*client]int // how many each has accounted for
}

// emit emits n more. Any goroutine may call it, one at a time.
func (k *books) emit(b *bed, from *node, room string, n int) {
	k.from = from
	for range n {
		err := from.To(room).Emit(b.ctx, fmt.Sprint("m", len(k.errs)), nil)
		if err != nil && !errors.Is(err, crosscast.ErrNotConnected) {
			b.breaks("Emit returned %v", err)
		}
		k.errs = append(k.errs, err)
	}
}

// around emits to the room "r" before, during and after an outage, and settles.
func (k *books) around(b *bed, from *node, begin, end func()) {
	b.Helper()
	for _, then := range []func(){begin, end, b.settle} {
		k.emit(b, from, "r", 10)
		then()
	}
}

// check checks a client's messages since the last check. Each came once and in order. If Emit returned nil for a
// missing message, there is a gap in its place.
func (k *books) check(c *client, name string) {
	c.b.Helper()
	for _, missing := range k.missing(c, name) {
		c.b.Errorf("SILENT LOSS: a client on %s did not get m%d to m%d, and has no gap in their place; Emit had "+
			"returned nil", c.node.Name(), missing[0], missing[1])
	}
}

// checkSent is check without gaps for the reported losses of the emitting node: peers need not notice these.
func (k *books) checkSent(c *client, name string) {
	c.b.Helper()
	missing := k.missing(c, name)
	n := 0
	for _, run := range missing {
		n += run[1] - run[0] + 1
	}
	c.b.eventually(fmt.Sprintf("SILENT LOSS: a client on %s did not get %d messages, %v, and has no gap in their place; "+
		"Emit had returned nil. The loss of as many", c.node.Name(), n, missing),
		func() bool { return k.from.unsent.Load() >= int64(n) })
}

// missing reads a client's messages since the last call. They must be in order, each once. It returns the first and the
// last of each run of missing messages that were accepted and have no gap in their place.
func (k *books) missing(c *client, name string) (runs [][2]int) {
	c.b.Helper()
	next, gap := k.read[c], false
	for _, e := range append(c.log.take(), entry{}) {
		n := len(k.errs) // the end
		switch {
		case e.gap != nil:
			gap = gap || e.gap.Covers(room(name)) && (e.gap.Origin == "" || e.gap.Origin == k.from.ID())
			continue
		case e.msg != nil:
			if _, err := fmt.Sscanf(e.msg.Event, "m%d", &n); err != nil || e.msg.From != k.from.ID() {
				continue
			}
		}
		if n < next {
			c.b.Errorf("a client on %s got m%d after m%d, of one node's emissions to one "+
				"room", c.node.Name(), n, next-1)
			continue
		}
		for ; next < n; next++ {
			if gap || k.errs[next] != nil {
				continue
			}
			if last := len(runs) - 1; last >= 0 && runs[last][1] == next-1 {
				runs[last][1] = next
			} else {
				runs = append(runs, [2]int{next, next})
			}
		}
		next, gap = n+1, false
	}
	if k.read == nil {
		k.read = make(map[*client]int)
	}
	k.read[c] = len(k.errs)
	return runs
}

// wantAfterGap checks that since the last look there was a gap that covers a, and these events after it.
func (c *client) wantAfterGap(a crosscast.Address, events ...string) {
	c.b.Helper()
	covered := false
	var got []string
	for _, e := range c.log.take() {
		switch {
		case e.gap != nil:
			covered = covered || e.gap.Covers(a)
		case !covered && !c.b.unordered: // else it might be of another name, with a gap of its own
			c.b.Errorf("a client on %s, whose link was down, got %s before a gap that covers "+
				"%q", c.node.Name(), e, a.Name)
		default:
			got = append(got, e.msg.Event)
		}
	}
	if c.b.unordered {
		slices.Sort(got)
		slices.Sort(events)
		if !covered {
			c.b.Errorf("a client on %s, whose link was down, has no gap that covers %q", c.node.Name(), a.Name)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(events) {
		c.b.Errorf("a client on %s got, after the gap, %s instead of %s", c.node.Name(), list(got), list(events))
	}
}
