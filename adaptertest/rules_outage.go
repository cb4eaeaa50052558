package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// Rules about links that break. The suite usually waits until a node has noticed a cut before it goes on. The rules
// with books check the time in between.
var outageRules = []rule{
	{
		name:  "outage-local-first",
		text:  "While the link is down, an emission reaches the node's own sockets at once.",
		needs: needsLink,
		run: func(b *bed) {
			_, n1, _ := b.three()
			c := b.connect(n1, connect{User: "u", Rooms: []string{"r"}})
			b.cut(n1)
			b.within("emitting while the link is down", func() {
				for i, t := range []crosscast.BoundTarget{n1.To("r"), n1.ToUser("u"), n1.Everyone(), n1.To("r", "r2")} {
					if err := t.Emit(b.ctx, fmt.Sprint("m", i), nil); err != nil && !errors.Is(err, crosscast.ErrNotConnected) {
						b.breaks("Emit while the link is down: %v", err)
					}
				}
			})
			c.want(numbered("m", 4)...)
			b.restore(n1)
		},
	},
	{
		name: "outage-join",
		text: "While the link is down, Join, Connect, Subscribe and Add return nil at once and take effect: the node's " +
			"own emissions arrive. On recovery the names are subscribed. The gap of the outage covers them, and " +
			"comes before anything later.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			b.needSubscriber(n1)
			c := b.connect(n1, connect{Rooms: []string{"before"}})
			var s, c2 *client
			had, sub, err := b.trySubscribe(b.ctx, n1, "before")
			b.must(err)
			b.cut(n1)
			b.within("joining while the link is down", func() {
				must := func(what string, err error) {
					if err != nil {
						b.breaks("%s returned %v while the link is down", what, err)
					}
				}
				must("Join", c.Join(b.ctx, "r"))
				must("Join, for the second time,", c.Join(b.ctx, "r", "before"))
				var err error
				c2, err = b.tryConnect(n1, "/", connect{User: "u", Rooms: []string{"r2"}})
				must("Connect", err)
				_, s, err = b.trySubscribe(b.ctx, n1, "r3")
				must("Subscribe", err)
				must("AddUser", had.AddUser(b.ctx, "u2"))
			})
			if len(b.broken) > 0 {
				return
			}
			b.emit(n1.To("r", "r2", "r3").ToUser("u2"), "local")
			for _, c := range []*client{c, c2, s, sub} {
				c.wait("local", 1)
				c.log.take()
			}
			b.restore(n1)
			b.must(c.Synced(b.ctx))
			b.must(c2.Synced(b.ctx))
			b.must(had.Synced(b.ctx))
			b.emit(n0.ToUser("u2"), "user2")
			b.emit(n0.To("r"), "room")
			b.emit(n0.ToUser("u"), "user")
			b.emit(n0.To("r2"), "room2")
			b.emit(n0.To("r3"), "room3")
			b.settle()
			s.wait("room3", 1)
			sub.wait("user2", 1)
			c.wantAfterGap(room("r"), "room")
			c2.wantAfterGap(user("u"), "user", "room2")
			s.wantAfterGap(room("r3"), "room3")
			sub.wantAfterGap(user("u2"), "user2")
		},
	},
	{
		name: "outage-synced",
		text: "While the link is down, Synced waits, for a Socket and for a Subscription. After it has returned nil, " +
			"no later emission, on any node, is missed.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			b.needSubscriber(n1)
			c := b.connect(n1, connect{User: "u", Rooms: []string{"before"}})
			sub, s, err := b.trySubscribe(b.ctx, n1, "before")
			b.must(err)
			b.must(c.Synced(b.ctx))
			b.must(sub.Synced(b.ctx))
			b.cut(n1)
			b.must(c.Join(b.ctx, "r"))
			for _, v := range []interface{ Synced(context.Context) error }{c, sub} {
				b.bounded("Synced", 100*time.Millisecond, "while the link is down", func(ctx context.Context) {
					if err := v.Synced(ctx); !errors.Is(err, context.DeadlineExceeded) {
						b.breaks("Synced of a %T returned %v while the link is down", v, err)
					}
				})
			}
			b.cluster.Restore(n1.index)
			b.must(sub.Synced(b.ctx))
			b.emit(n0.To("before"), "to the subscription")
			s.wait("to the subscription", 1)
			b.must(c.Synced(b.ctx))
			for _, n := range []*node{n0, n2} {
				b.emit(n.To("r"), "room "+n.Name())
				b.emit(n.To("before"), "before "+n.Name())
				b.emit(n.ToUser("u"), "user "+n.Name())
				for _, event := range []string{"room ", "before ", "user "} {
					c.wait(event+n.Name(), 1)
				}
			}
			b.restored(n1)
		},
	},
	{
		name: "outage-gap",
		text: "Messages that a node missed because of its own link become a gap before anything later is delivered. " +
			"After that, messages arrive again.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, c1, c2 := b.listening()
			var books books
			books.around(b, n0, func() { b.cut(n1) }, func() { b.restore(n1) })
			books.check(c1, "r")
			books.check(c2, "r")
			b.emit(n0.To("r"), "after")
			b.emit(n1.To("r"), "back")
			b.settle()
			c1.wantAnyOrder("after", "back")
			c2.wantAnyOrder("after", "back")
		},
	},
	{
		name: "outage-begins",
		text: "A node knows of an outage while it lasts: Namespace.OnGap reports its beginning, also if it is called " +
			"later, and then its gap, which begins no later. A node whose link stands knows of none.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			var mu sync.Mutex
			told := make(map[string][]crosscast.Gap)
			hear := func(who string, n *node) {
				b.must(n.Namespace.OnGap(func(g crosscast.Gap) {
					mu.Lock()
					defer mu.Unlock()
					if g.Names == nil && g.Reason != reasons.GapPeerLost { // n1 might seem lost to others while it is cut off
						told[who] = append(told[who], g)
					}
				}))
			}
			has := func(who string) []crosscast.Gap {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(told[who])
			}
			hear("another", n0)
			hear("early", n1)
			b.cut(n1)
			b.eventually("knowing of the outage", func() bool { return len(has("early")) > 0 })
			hear("late", n1)
			b.restore(n1)
			for _, who := range []string{"early", "late"} {
				gaps := has(who)
				if len(gaps) < 2 || !gaps[0].Until.IsZero() || gaps[1].Until.IsZero() || gaps[1].Since.After(gaps[0].Since) {
					b.breaks("Namespace.OnGap got %+v", gaps)
				}
			}
			if gaps := has("another"); len(gaps) > 0 {
				b.breaks("a node whose link stands has gaps: %+v", gaps)
			}
		},
	},
	{
		name: "outage-publisher",
		text: "An emission while the emitting node's link is down is delivered, or is an error, or is a loss at that " +
			"node.",
		needs: needsLink,
		run:   func(b *bed) { b.publisherOutage((*books).checkSent) },
	},
	{
		name: "outage-publisher-gap",
		text: "An emission that is lost because the emitting node's link is down is a gap at the nodes that missed " +
			"it.",
		needs:      needsLink,
		capability: CapHoles,
		run:        func(b *bed) { b.publisherOutage((*books).check) },
	},
	{
		name: "outage-flapping",
		text: "However often links break while messages flow, every message has one of these outcomes: it is " +
			"delivered once and in order, or it is an error, or it is a loss, or there is a gap in its place.",
		needs: needsLink,
		run:   func(b *bed) { b.flappingOutage((*books).checkSent) },
	},
	{
		name: "outage-flapping-gap",
		text: "However often links break while messages flow, there is a gap in the place of each message that was " +
			"not delivered.",
		needs:      needsLink,
		capability: CapHoles,
		run:        func(b *bed) { b.flappingOutage((*books).check) },
	},
	{
		name: "outage-all",
		text: "When the links of all nodes break at once, each node reports a gap. After the links are back, every " +
			"node hears every other.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			nodes := []*node{n0, n1, n2}
			var in []*client
			for _, n := range nodes {
				in = append(in, b.connect(n, connect{Rooms: []string{"r"}}))
			}
			var books books
			books.around(b, n0, func() { b.cut(nodes...) }, func() { b.restore(nodes...) })
			for _, c := range in {
				books.check(c, "r")
			}
			for _, n := range nodes {
				b.emit(n.To("r"), n.Name())
			}
			b.settle()
			for _, c := range in {
				c.wantAnyOrder(n0.Name(), n1.Name(), n2.Name())
			}
		},
	},
	{
		name: "outage-of-another",
		text: "The outage of one node does not affect the others: they hear each other without a gap, even in rooms " +
			"that they share with it.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c := b.connect(n1, connect{Rooms: []string{"r"}})
			b.connect(n2, connect{Rooms: []string{"r"}})
			b.cut(n2)
			for i := range 50 {
				b.emit(n0.To("r"), fmt.Sprint("m", i))
				c.wait(fmt.Sprint("m", i), 1)
			}
			c.want(numbered("m", 50)...)
			b.restore(n2)
			if gaps := n0.gaps.Load() + n1.gaps.Load(); gaps > 0 {
				b.Errorf("two nodes whose links stood all the time report %d gaps", gaps)
			}
		},
	},
	{
		name: "outage-volatile",
		text: "While the link is down, a volatile emission is dropped for other nodes, and Emit returns nil at once. " +
			"A volatile Deliver fails at once with ErrNotConnected. The node's own sockets get both.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			near, far := b.connect(n0, connect{Rooms: []string{"r"}}), b.connect(n1, connect{Rooms: []string{"r"}})
			b.cut(n0)
			b.within("a volatile emission while the link is down", func() {
				to := n0.To("r").Volatile()
				if err := to.Emit(b.ctx, "m", nil); err != nil {
					b.breaks("a volatile emission while the link is down returned %v instead of nil", err)
				}
				if _, err := to.Deliver(b.ctx, "d", nil); !errors.Is(err, crosscast.ErrNotConnected) {
					b.breaks("a volatile Deliver while the link is down returned %v instead of ErrNotConnected", err)
				}
			})
			near.want("m", "d")
			b.restore(n0)
			b.settle()
			far.want()
		},
	},
	{
		name: "outage-nothing-waits",
		text: "While the link is down, no call waits for it. Emissions are queued until the bounded queue is full, " +
			"and then fail with ErrNotConnected. Leaving returns at once. Deliver and Flush return by the end of " +
			"their context.",
		needs: needsLink,
		run: func(b *bed) {
			n0, _, _ := b.three()
			c := b.connect(n0, connect{Rooms: []string{"r"}})
			b.cut(n0)
			b.within("a call of Leave, Emit or Stats while the link is down", func() {
				c.Leave("r")
				c.Emit(b.ctx, "m", nil)
				n0.Stats()
			})
			b.bounded("Deliver", 50*time.Millisecond, "while the link is down", func(ctx context.Context) {
				if _, err := n0.To("r").Deliver(ctx, "m", nil); err == nil {
					b.breaks("Deliver while the link is down returned nil")
				}
			})
			b.within("emitting 64 MiB while the link is down", func() {
				payload := make([]byte, 128<<10)
				for range 512 {
					switch err := n0.To("r2").Emit(b.ctx, "m", crosscast.Bytes(payload)); {
					case errors.Is(err, crosscast.ErrNotConnected):
						return
					case err != nil:
						b.breaks("Emit while the link is down and the queue is full returned %v instead of "+
							"ErrNotConnected", err)
						return
					}
				}
				b.breaks("64 MiB were queued while the link is down: the queue has no limit")
			})
			b.bounded("Flush", 50*time.Millisecond, "while the link is down", func(ctx context.Context) {
				if err := n0.Flush(ctx); err == nil {
					b.breaks("Flush returned nil while the link is down and the queue is full")
				}
			})
			b.restore(n0)
			b.settle()
		},
	},
	{
		name: "outage-flushed",
		text: "After Flush has returned nil, the bus has the earlier emissions: they arrive even if the emitting " +
			"node's link breaks right after.",
		needs: needsLink,
		run: func(b *bed) {
			n0, _, c1, c2 := b.listening()
			if _, ok := n0.adapter.(crosscast.AdapterDeliverer); !ok {
				b.Skip("NOT CHECKED: not offered: crosscast.AdapterDeliverer")
			}
			for i := range 300 {
				b.emit(n0.To("r"), fmt.Sprint("m", i))
			}
			b.must(n0.Flush(b.ctx))
			b.cut(n0)
			for _, c := range []*client{c1, c2} {
				c.wait("m299", 1)
				c.want(numbered("m", 300)...)
			}
			b.restore(n0)
		},
	},
	{
		name: "outage-close",
		text: "Close ends within its context while the link is down. Emissions that it could not publish are an " +
			"error or a loss.",
		needs: needsLink,
		run: func(b *bed) {
			n0, n1, _ := b.three()
			b.connect(n1, connect{Rooms: []string{"r"}})
			b.cut(n0)
			failed := 0
			for range 10 {
				if n0.To("r").Emit(b.ctx, "m", nil) != nil {
					failed++
				}
			}
			n0.closed = true
			b.bounded("Close", 300*time.Millisecond, "while the link is down", func(ctx context.Context) {
				if err := n0.Close(ctx); err == nil && n0.lost.Load() == 0 && failed < 10 {
					b.breaks("%d emissions were accepted while the link was down, and Close returned nil without a "+
						"loss", 10-failed)
				}
			})
			b.settle()
		},
	},
	{
		name:  "outage-start",
		text:  "A node that cannot connect fails to start, within its context, and leaves nothing running.",
		needs: needsLink,
		run: func(b *bed) {
			p := b.newPeer()
			b.cluster.Cut(p.index)
			b.bounded("Start", 200*time.Millisecond, "without a link", func(ctx context.Context) {
				if err := p.Start(ctx, p.begin()); err == nil {
					b.breaks("Start without a link returned nil")
					p.Close(b.ctx)
				}
			})
			p.end()
		},
	},
	{
		name: "outage-deaf",
		text: "A link that is up but delivers nothing is noticed and replaced. It becomes a gap before anything " +
			"later is delivered.",
		needs: needsDeaf,
		run: func(b *bed) {
			n0, n1, c1, c2 := b.listening()
			var books books
			gaps := n1.gaps.Load()
			books.around(b, n0, func() { b.cluster.Deafen(n1.index) }, func() {
				b.eventually("the gap of a deaf link", func() bool { return n1.gaps.Load() > gaps })
			})
			books.check(c1, "r")
			books.check(c2, "r")
		},
	},
}

// listening starts three nodes with a quick recovery. It returns two of them, and clients of the second and the third
// node in the room "r".
func (b *bed) listening() (n0, n1 *node, c1, c2 *client) {
	n0, n1, n2 := b.three()
	return n0, n1, b.connect(n1, connect{Rooms: []string{"r"}}), b.connect(n2, connect{Rooms: []string{"r"}})
}

// publisherOutage cuts the link of a node that emits, and calls check for clients of the other nodes.
func (b *bed) publisherOutage(check func(k *books, c *client, room string)) {
	n0, _, c1, c2 := b.listening()
	var books books
	books.emit(b, n0, "r", 10)
	b.cluster.Cut(n0.index)
	books.emit(b, n0, "r", 100) // some of them before the node has noticed
	b.cut(n0)
	books.emit(b, n0, "r", 100)
	b.restore(n0)
	books.emit(b, n0, "r", 10)
	b.settle()
	check(&books, c1, "r")
	check(&books, c2, "r")
	// Again, with no message under way, so that losses of the first cut excuse nothing.
	n0.unsent.Store(0)
	b.cut(n0)
	books.emit(b, n0, "r", 100)
	b.restore(n0)
	b.settle()
	check(&books, c1, "r")
	check(&books, c2, "r")
}

// flappingOutage cuts links while a node emits, and calls check for clients of the other nodes.
func (b *bed) flappingOutage(check func(k *books, c *client, room string)) {
	n0, n1, c1, c2 := b.listening()
	var books books
	quit, flow := make(chan struct{}), sync.WaitGroup{}
	stop := sync.OnceFunc(func() {
		close(quit)
		flow.Wait()
	})
	defer stop()
	flow.Go(func() {
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				books.emit(b, n0, "r", 3)
			case <-quit:
				return
			}
		}
	})
	c1.wait("m0", 1)
	for _, n := range []*node{n1, n0, n1, n0} {
		b.cut(n)
		b.restore(n)
	}
	stop()
	b.settle()
	check(&books, c1, "r")
	check(&books, c2, "r")
}
