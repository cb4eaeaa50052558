package adaptertest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

var startRules = []rule{
	{
		name:  "start-again",
		text:  "A node or an emitter that could not start without a link can start later with the same adapter.",
		needs: needsLink,
		run: func(b *bed) {
			n0 := b.start()
			c0 := b.connect(n0, connect{Rooms: []string{"r"}})
			for _, emitOnly := range []bool{false, true} {
				n := b.newNode()
				b.cluster.Cut(n.index)
				for range 2 {
					b.bounded("Start", 200*time.Millisecond, "without a link", func(ctx context.Context) {
						if err := n.start(ctx, emitOnly); err == nil {
							b.breaks("Start without a link returned nil")
						}
					})
				}
				b.cluster.Restore(n.index)
				b.within("Start with the same adapter, once there is a link,", func() {
					if err := n.start(b.ctx, emitOnly); err != nil {
						b.breaks("Start with the same adapter, once there is a link, returned: %v", err)
					}
				})
				if n.Node == nil {
					return
				}
				event := fmt.Sprint("from node-", n.index)
				if emitOnly {
					b.emit(n.To("r"), event)
					b.must(n.Flush(b.ctx))
					c0.wait(event, 1)
					c0.want(event)
					continue
				}
				c := b.connect(n, connect{Rooms: []string{"r"}})
				b.nodes = append(b.nodes, n)
				b.emit(n.To("r"), event)
				b.emit(n0.To("r"), "from node-0")
				b.settle()
				c0.wantAnyOrder(event, "from node-0")
				c.wantAnyOrder(event, "from node-0")
			}
		},
	},
	{
		name: "start-in-use",
		text: "Start of an adapter that has a node already fails, with the name of that node in the error. That node " +
			"is not affected.",
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			p1.hear(room("r"))
			p2.hear(room("r"))
			second := &peer{b: b, log: newLog(), info: crosscast.NodeInfo{ID: newID(), Name: "second"}}
			b.within("a second Start", func() {
				err := p1.Start(b.ctx, second.begin())
				if err == nil || !strings.Contains(err.Error(), p1.info.Name) {
					b.breaks("Start of an adapter that %q has returned: %v", p1.info.Name, err)
				}
			})
			p0.publish(p0.emission("from p0", toRoom("r")))
			p1.publish(p1.emission("from p1", toRoom("r")))
			b.settlePeers()
			p1.want("from p0")
			if got := second.handled(); len(got) > 0 {
				b.Errorf("the node that was refused handled %d instructions", len(got))
			}
			if got := p2.events(); len(got) != 2 {
				b.Errorf("%s got %s instead of one instruction of each of the others", p2.info.Name, list(got))
			}
		},
	},
}
