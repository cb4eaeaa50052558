package adaptertest

import (
	"errors"
	"fmt"

	"github.com/crosscast/crosscast"
)

var hookRules = []rule{
	{
		name: "gap-in-place",
		text: "Emissions of Options.OnGap to sockets of its node arrive before anything that was emitted after the " +
			"missed messages.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			c := b.connect(n1, connect{Rooms: []string{"r"}})
			n1.setOnGap(func(n *crosscast.Node, g crosscast.Gap) {
				if err := n.EmitAffected(g, "fetch again", nil); err != nil && !errors.Is(err, crosscast.ErrClosed) {
					b.breaks("emitting in OnGap: %v", err)
				}
			})
			var books books
			for range 3 {
				books.around(b, n0, func() { b.cut(n1) }, func() { b.restore(n1) })
			}
			next, told := 0, 0
			for _, e := range c.log.take() {
				var i int
				switch {
				case e.msg == nil:
				case e.msg.Event == "fetch again":
					told++
				default:
					if _, err := fmt.Sscanf(e.msg.Event, "m%d", &i); err != nil || e.msg.From != n0.ID() {
						continue
					}
					if i > next && told == 0 {
						b.Errorf("a client on %s got m%d after m%d, and between them nothing of what OnGap emits",
							n1.Name(), i, next-1)
					}
					next, told = i+1, 0
				}
			}
		},
	},
}

// setOnGap makes the node's OnGap call f.
func (n *node) setOnGap(f func(*crosscast.Node, crosscast.Gap)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onGap = f
}
