package adaptertest

import (
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// Rules of drivers that are told which peers have fallen silent.
var observerRules = []rule{
	{
		name: "driver-heard",
		text: "Heard returns, shortly after something of a peer has arrived, a time no earlier than that; while a peer is " +
			"silent its time stands, whoever else is heard.",
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
					p1.beat() // its own echo may be what it takes
					return !o.Heard(p.info.ID).Before(begin)
				})
				return o.Heard(p.info.ID)
			}
			b.settlePeers()
			hears(p0)
			b.settlePeers()
			hears(p2) // what p0 has sent has arrived, and was noted
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
		text: "Expire of a peer becomes a gap of that origin, with the reason GapPeerLost; what the peer sends later " +
			"arrives.",
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
					if g.Reason == crosscast.GapPeerLost && g.Origin == p0.info.ID {
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
