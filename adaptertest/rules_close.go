package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/crosscast/crosscast"
)

var closeRules = []rule{
	{
		name: "close-twice",
		text: "Close may be called several times, also concurrently. Afterwards every other method returns ErrClosed.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			p1.hear(room("r"))
			b.within("Close, from four goroutines", func() {
				var closing sync.WaitGroup
				for range 4 {
					closing.Go(func() {
						if err := p1.Close(b.ctx); err != nil {
							b.breaks("Close: %v", err)
						}
					})
				}
				closing.Wait()
			})
			p1.end()
			b.must(p1.Close(b.ctx))
			closed := func(method string, err error) {
				if !errors.Is(err, crosscast.ErrClosed) {
					b.Errorf("%s after Close returned %v instead of ErrClosed", method, err)
				}
			}
			b.within("a method after Close", func() {
				inst := p1.emission("m", everyone)
				closed("Start", p1.Start(b.ctx, p1.begin()))
				closed("Publish", p1.Publish(b.ctx, inst))
				if s, ok := p1.Adapter.(crosscast.AdapterSubscriber); ok {
					closed("Subscribe", s.Subscribe(b.ctx, room("r")))
					closed("Subscribe", s.Subscribe(b.ctx, room("r2")))
					closed("Unsubscribe", s.Unsubscribe(b.ctx, room("r")))
				}
				if d, ok := p1.Adapter.(crosscast.AdapterDeliverer); ok {
					_, err := d.Deliver(b.ctx, inst)
					closed("Deliver", err)
				}
				if f, ok := p1.Adapter.(crosscast.AdapterDeliverer); ok {
					closed("Flush", f.Flush(b.ctx))
				}
			})
			p0.publish(p0.emission("after", toRoom("r")))
			b.settlePeers()
			p1.want()
		},
	},
	{
		name: "close-unused",
		text: "An adapter that was never started can be closed. It cannot be started after that.",
		run: func(b *bed) {
			p := b.newPeer()
			b.must(p.Close(b.ctx))
			if err := p.Start(b.ctx, p.begin()); !errors.Is(err, crosscast.ErrClosed) {
				b.Errorf("Start after Close returned %v instead of ErrClosed", err)
				p.Close(b.ctx)
			}
		},
	},
	{
		name: "close-hands-over",
		text: "Close publishes the queue: everything emitted before arrives, including the last emissions of closing " +
			"sockets.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c1, c2 := b.connect(n1, connect{Rooms: []string{"r"}}), b.connect(n2, connect{Rooms: []string{"r"}})
			b.connect(n0, connect{Rooms: []string{"r"}, OnClose: func(s *crosscast.Socket, _ crosscast.Reason) {
				if err := s.To("r").Emit(context.WithoutCancel(b.ctx), "left", nil); err != nil {
					b.breaks("emitting in OnClose: %v", err)
				}
			}})
			for i := range 500 {
				b.emit(n0.To("r"), fmt.Sprint("m", i))
			}
			n0.closed = true
			b.must(n0.Close(b.ctx))
			for _, c := range []*client{c1, c2} {
				c.wait("left", 1)
				c.want(append(numbered("m", 500), "left")...)
			}
		},
	},
	{
		name: "close-others",
		text: "When a node closes, the others go on. A node that starts later hears the others, and they hear it.",
		run: func(b *bed) {
			n0, n1, n2 := b.three()
			c0, c1 := b.connect(n0, connect{Rooms: []string{"r"}}), b.connect(n1, connect{Rooms: []string{"r"}})
			n2.closed = true
			b.must(n2.Close(b.ctx))
			n3 := b.start()
			c3 := b.connect(n3, connect{Rooms: []string{"r"}})
			b.emit(n0.To("r"), "from n0")
			b.emit(n3.To("r"), "from n3")
			b.settle()
			for _, c := range []*client{c0, c1, c3} {
				c.wantAnyOrder("from n0", "from n3")
			}
		},
	},
	{
		name: "close-while-busy",
		text: "Close ends within its context while other goroutines publish and subscribe. Their calls return nil or " +
			"ErrClosed, and none hangs.",
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			var busy sync.WaitGroup
			for g := range 4 {
				busy.Go(func() {
					for i := 0; ; i++ {
						err := p1.Publish(b.ctx, p1.emission("m", everyone))
						if s, ok := p1.Adapter.(crosscast.AdapterSubscriber); ok && err == nil {
							err = s.Subscribe(b.ctx, room(fmt.Sprint(g, "-", i%50)))
						}
						switch {
						case errors.Is(err, crosscast.ErrClosed):
							return
						case err != nil:
							b.breaks("an error beside ErrClosed while the adapter is being closed: %v", err)
							return
						}
					}
				})
			}
			p0.wait("m", 50)
			b.within("Close", func() {
				if err := p1.Close(b.ctx); err != nil {
					b.breaks("Close: %v", err)
				}
			})
			p1.end()
			b.within("a Publish or Subscribe that ran during Close", busy.Wait)
		},
	},
}
