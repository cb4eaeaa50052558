package adaptertest

import (
	"context"
	"fmt"
	"sync"

	"github.com/crosscast/crosscast"
)

// Rules about a Subscription whose rooms and users change.
var subscriptionRules = []rule{
	{
		name: "joined-add",
		text: "After Add or AddUser of a Subscription has returned nil, every later emission to the rooms or users, on any " +
			"node, reaches it once. Earlier ones that are still under way might reach it.",
		run: func(b *bed) {
			b.linger = 1 // nanosecond, so that most calls subscribe again
			n0, n1, n2 := b.three()
			sub, s, err := b.trySubscribe(b.ctx, n1)
			b.must(err)
			changes := changesOf(sub)
			for i := range 20 {
				x, event := changes[i%len(changes)], fmt.Sprint("m", i)
				b.meanwhile(x.to(n0), "meanwhile", func() { b.must(x.add(b.ctx, "x")) })
				for _, n := range []*node{n0, n1, n2} {
					b.emit(x.to(n), event)
				}
				s.wait(event, 3)
				b.must(x.remove("x"))
			}
			b.must(sub.Add(b.ctx, "end"))
			for _, n := range []*node{n0, n1, n2} {
				b.emit(n.To("end"), "end")
			}
			s.wait("end", 3)
			for i := range 20 {
				if times := s.times(fmt.Sprint("m", i)); times != 3 {
					b.Errorf("each of three nodes emitted once to what a subscription had added, and it got %d messages", times)
				}
			}
		},
	},
	{
		name: "removed",
		text: "After Remove or RemoveUser of a Subscription has returned, nothing that is only for these rooms or users " +
			"arrives any more, neither later emissions nor those under way. What it still has is received.",
		run: func(b *bed) {
			b.linger = 1 // nanosecond
			n0, n1, n2 := b.three()
			sub, s, err := b.trySubscribe(b.ctx, n1, "stays")
			b.must(err)
			changes := changesOf(sub)
			for i := range 20 {
				x, leaving, fence := changes[i%len(changes)], fmt.Sprint("leaving", i), fmt.Sprint("fence", i)
				b.must(x.add(b.ctx, "x"))
				before := 0
				b.meanwhile(x.to(n0), leaving, func() {
					b.must(x.remove("x"))
					before = s.times(leaving)
					for _, n := range []*node{n0, n1, n2} {
						b.emit(x.to(n), "gone")
					}
				})
				for _, n := range []*node{n0, n1, n2} {
					b.emit(n.To("stays"), fence)
				}
				s.wait(fence, 3)
				if late := s.times(leaving) - before; late > 1 { // one call of OnMessage might have been running
					b.Errorf("%d messages arrived after the name was removed", late)
				}
			}
			if times := s.times("gone"); times > 0 {
				b.Errorf("%d messages arrived that were emitted after the name was removed", times)
			}
		},
	},
}

// A change is one of the two spaces of names of a subscription.
type change struct {
	add    func(ctx context.Context, names ...string) error
	remove func(names ...string) error
	to     func(n *node) crosscast.BoundTarget // the name "x"
}

func changesOf(sub *crosscast.Subscription) []change {
	return []change{
		{sub.Add, sub.Remove, func(n *node) crosscast.BoundTarget { return n.To("x") }},
		{sub.AddUser, sub.RemoveUser, func(n *node) crosscast.BoundTarget { return n.ToUser("x") }},
	}
}

// meanwhile calls f while another goroutine emits an event several times.
func (b *bed) meanwhile(to crosscast.BoundTarget, event string, f func()) {
	var emitting sync.WaitGroup
	emitting.Go(func() {
		for range 20 {
			if err := to.Emit(b.ctx, event, nil); err != nil {
				b.breaks("emitting: %v", err)
			}
		}
	})
	f()
	emitting.Wait()
}

// times returns how many times an event has come.
func (c *client) times(event string) int {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.log.count[event]
}
