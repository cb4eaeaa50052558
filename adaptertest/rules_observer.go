package adaptertest

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// Rules about drivers with an AdapterObserver.
var observerRules = []rule{
	{
		name: "driver-heard",
		text: "Shortly after a message of a peer has arrived, Heard returns a time that is no earlier than the " +
			"arrival. While a peer is silent its time does not change, even if other peers are heard.",
		needs:      needsObserver,
		capability: CapNodes,
		run: func(b *bed) {
			p0, p1, p2 := b.threePeers()
			o := p1.Adapter.(crosscast.AdapterObserver)
			hears := func(p *peer) time.Time {
				b.Helper()
				begin := time.Now()
				b.eventually("Heard tells of a peer that has just sent something", func() bool {
					p.beat()
					p1.beat() // the driver might need its own echo
					return !o.Heard(p.info.ID).Before(begin)
				})
				return o.Heard(p.info.ID)
			}
			b.settlePeers()
			hears(p0)
			b.settlePeers()
			hears(p2) // p0's messages have arrived, and were noted
			before := o.Heard(p0.info.ID)
			for range 3 {
				if at := hears(p2); at.After(time.Now()) {
					b.Errorf("Heard returned a time that is %v from now", time.Until(at))
				}
			}
			if after := o.Heard(p0.info.ID); !after.Equal(before) {
				b.Errorf("Heard returned, of a peer that is silent, a time that is %v later than before", after.Sub(before))
			}
		},
	},
	{
		name: "driver-expired",
		text: "Expire of a peer becomes a gap of that origin, with the reason peer lost. Later messages of the " +
			"peer arrive.",
		needs:      needsObserver,
		capability: CapNodes,
		run: func(b *bed) {
			p0, p1, _ := b.threePeers()
			b.settlePeers()
			o := p1.Adapter.(crosscast.AdapterObserver)
			b.within("Suspect and Expire", func() {
				o.Suspect(p0.info.ID, time.Now())
				o.Expire(p0.info.ID)
			})
			b.eventually("the gap of a peer that has expired", func() bool {
				p1.mu.Lock()
				defer p1.mu.Unlock()
				for _, g := range p1.gaps {
					if g.Reason == reasons.GapPeerLost && g.Origin == p0.info.ID {
						return true
					}
				}
				return false
			})
			p0.publish(p0.emission("again", crosscast.Target{Everyone: true}))
			p1.wait("again", 1)
		},
	},
}

// beat publishes a heartbeat.
func (p *peer) beat() {
	p.b.Helper()
	p.publish(&crosscast.Instruction{
		Kind: kind.Heartbeat, Namespace: "/", From: p.info.ID, Node: p.info,
		Target: crosscast.Target{Everyone: true},
	})
}
