package crosscast

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Used returns the number of bytes that wait above the limits.
func (b *QueueBudget) Used() int { return int(b.used.Load()) }

// WakeConnect wakes the Connect of s, which waits.
func (s *Socket) WakeConnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rare.early.wake()
}

// Text returns the JSON that framers share; nil: none has needed it.
func (m *Message) Text() *[]byte { return m.text.Load() }

// SmallCrowds lets groups of two sockets be crowds until the end of the test.
func SmallCrowds(tb testing.TB) {
	begins, ends := crowdBegins, crowdEnds
	crowdBegins, crowdEnds = 2, 1
	tb.Cleanup(func() { crowdBegins, crowdEnds = begins, ends })
}

// CheckGroups returns an error if the lists of a group of ns contradict each other. It also returns the number of
// crowds.
func (ns *Namespace) CheckGroups() (crowds int, err error) {
	ns.here().everyGroup(func(g *group) {
		for i, m := range g.members {
			if m.group != g || int(m.inGroup) != i {
				err = fmt.Errorf("group %q: member %d has %q, %d", g.name, i, m.group.name, m.inGroup)
			}
		}
		lens := []int{len(g.members), len(g.sockets)}
		if c := g.crowd; c != nil {
			crowds++
			lens = append(lens, len(c.conns), len(c.slots))
			for i, s := range g.sockets {
				if c.conns[i] != s.sender() || c.slots[i] != s.slot {
					err = fmt.Errorf("group %q: socket %d has %v, slot %d", g.name, i, c.conns[i], c.slots[i])
				}
			}
		}
		if len(slices.Compact(lens)) != 1 {
			err = fmt.Errorf("group %q: lists of %v", g.name, lens)
		}
		for _, s := range g.appendSubscriptions(nil) {
			s.lane.mu.Lock()
			if !s.hearsLocked(g.space, g.name) {
				err = fmt.Errorf("group %q has a subscription that does not have it", g.name)
			}
			s.lane.mu.Unlock()
		}
	})
	return crowds, err
}

// Groups returns the number of groups of ns, without the one of everyone.
func (ns *Namespace) Groups() (n int) {
	ns.here().everyGroup(func(*group) { n++ })
	return n - 1
}

// LargeDelivery sets the size from which on a delivery is served in parts, that of a part, and the time a socket from
// which on helpers serve, too. It returns the previous values.
func LargeDelivery(large, part int, cheap time.Duration) (int, int, time.Duration) {
	wasLarge, wasPart, wasCheap := largeDelivery, partSize, cheapSocket
	largeDelivery, partSize, cheapSocket = large, part, cheap
	return wasLarge, wasPart, wasCheap
}
