package adaptertest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/crosscast/crosscast"
)

var loadRules = []rule{
	{
		name: "load",
		text: "While 16 goroutines on three nodes emit, join and leave at once, a socket that stays gets every " +
			"emission once. It gets each goroutine's emissions to one room in order. A socket that comes and goes " +
			"gets no emission twice.",
		run: func(b *bed) {
			const goroutines, rounds, rooms = 16, 60, 8
			b.linger = 1 // nanosecond
			n0, n1, n2 := b.three()
			nodes := []*node{n0, n1, n2}
			var stay, churn []*client
			for _, n := range nodes {
				stay = append(stay, b.connect(n, connect{User: "u", Rooms: numbered("r", rooms)}))
			}
			for g := range goroutines {
				churn = append(churn, b.connect(nodes[g%3], connect{}))
			}
			var running sync.WaitGroup
			for g, c := range churn {
				running.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(g), 1))
					for i := range rounds {
						mine, other := fmt.Sprint("r", rnd.IntN(rooms)), fmt.Sprint("r", rnd.IntN(rooms))
						if err := c.Join(b.ctx, mine); err != nil {
							b.breaks("joining a room: %v", err)
						}
						name, target := other, c.node.To(other)
						switch rnd.IntN(4) {
						case 0:
							name, target = "everyone", c.node.Everyone()
						case 1:
							name, target = "both", c.node.To(mine, other).ToUser("u")
						}
						if err := target.Emit(b.ctx, fmt.Sprintf("%d %s %d", g, name, i), nil); err != nil {
							b.breaks("emitting: %v", err)
						}
						if err := c.Leave(mine); err != nil {
							b.breaks("leaving a room: %v", err)
						}
					}
				})
			}
			b.within("16 goroutines that emit, join and leave", running.Wait)
			b.settle()
			for _, c := range stay {
				got := b.onceEach(c)
				if got != goroutines*rounds {
					b.Errorf("a client on %s that was in all rooms got %d of %d "+
						"emissions", c.node.Name(), got, goroutines*rounds)
				}
			}
			for _, c := range churn {
				b.onceEach(c)
			}
		},
	},
}

// onceEach checks that a client got no emission twice, and each goroutine's emissions to one name in order. It returns
// how many it got.
func (b *bed) onceEach(c *client) (n int) {
	b.Helper()
	seen := make(map[string]bool)
	last := make(map[string]int)
	for _, e := range c.log.take() {
		if e.msg == nil {
			b.Errorf("a gap where nothing went wrong: %+v", *e.gap)
			continue
		}
		n++
		event := e.msg.Event
		if seen[event] {
			b.Errorf("a client on %s got %q twice", c.node.Name(), event)
		}
		seen[event] = true
		var g, i int
		var name string
		if _, err := fmt.Sscanf(event, "%d %s %d", &g, &name, &i); err != nil {
			b.Errorf("a client got %q, which nobody emitted", event)
			continue
		}
		stream := strings.Join([]string{fmt.Sprint(g), name}, " ")
		if name == "both" && b.unordered { // several names, and not always the same
			continue
		}
		if before, ok := last[stream]; ok && i < before {
			b.Errorf("a client on %s got %q after its successor %d", c.node.Name(), event, before)
		}
		last[stream] = i
	}
	return n
}

var _ crosscast.AdapterHandler = (*peer)(nil)
