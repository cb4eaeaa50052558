package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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
		name: "start-offline",
		text: "With Options.StartOffline, Start returns nil without a link. The node serves its own sockets, and is " +
			"not Ready. Once there is a link, a gap that covers all names since Start comes before anything from " +
			"another node. Then the node is Ready, and every node hears every other.",
		needs: needsLink,
		run: func(b *bed) {
			n0 := b.start()
			c0 := b.connect(n0, connect{Rooms: []string{"r"}})
			began := time.Now()
			n := b.startOffline(false)
			var gap atomic.Pointer[crosscast.Gap]
			n.mu.Lock()
			n.onGap = func(_ *crosscast.Node, g crosscast.Gap) {
				if g.Names == nil || !b.unordered { // else it might be of a part of the bus
					gap.CompareAndSwap(nil, &g)
				}
			}
			n.mu.Unlock()
			b.nodes = append(b.nodes, n)
			var c *client
			b.within("Connect without a link", func() {
				var err error
				if c, err = b.tryConnect(n, "/", connect{User: "u", Rooms: []string{"r"}}); err != nil {
					b.breaks("Connect returned %v before there was a link", err)
				}
			})
			if len(b.broken) > 0 {
				return
			}
			if err := n.To("r").Emit(b.ctx, "local", nil); err != nil && !errors.Is(err, crosscast.ErrNotConnected) {
				b.breaks("Emit before there was a link returned: %v", err)
			}
			c.want("local")
			if err := n.Ready(); !errors.Is(err, crosscast.ErrNotConnected) {
				b.breaks("Ready before there was a link returned: %v", err)
			}
			b.emit(n0.To("r"), "missed")
			b.must(n0.Flush(b.ctx)) // or the bus might get it when there is a link
			c0.wait("missed", 1)
			b.restore(n)
			if g := gap.Load(); g != nil && (g.Names != nil || g.Origin != "" || g.Since.Before(began)) {
				b.Errorf("the first gap is %+v, and Start was called at %v", *g, began)
			}
			b.must(c.Synced(b.ctx))
			b.eventually("Ready, once the link is live", func() bool { return n.Ready() == nil })
			b.emit(n0.To("r"), "room")
			b.emit(n0.ToUser("u"), "user")
			b.emit(n.To("r"), "back")
			b.settle()
			c0.wait("back", 1)
			got := c.got()
			slices.Sort(got)
			if !slices.Equal(got, []string{"back", "room", "user"}) {
				b.Errorf("after the link was made, the client of %s got %s", n.Name(), list(got))
			}
		},
	},
	{
		name: "start-offline-emitter",
		text: "With Options.StartOffline, Start of an emitter returns nil without a link. Once there is a link, its " +
			"emissions arrive.",
		needs: needsLink,
		run: func(b *bed) {
			n0 := b.start()
			c0 := b.connect(n0, connect{Rooms: []string{"r"}})
			n := b.startOffline(true)
			b.cluster.Restore(n.index)
			b.restored(n)
			b.emit(n.To("r"), "event")
			c0.wait("event", 1)
			c0.want("event")
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

// startOffline starts a node whose link is cut, and checks that it says so.
func (b *bed) startOffline(emitOnly bool) *node {
	b.Helper()
	n := b.newNode()
	n.offline = true
	b.cluster.Cut(n.index)
	var err error
	b.within("Start with StartOffline and without a link", func() { err = n.start(b.ctx, emitOnly) })
	if err != nil {
		b.Fatalf("Start with StartOffline and without a link returned: %v", err)
	}
	if n.connected() {
		b.Errorf("the link is live, and the bus cannot be reached")
	}
	return n
}
