package wire_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// slowly starts n peers with a heartbeat of 10 s, so that two of them last longer than what is emitted may wait.
func slowly(t *testing.T, n int, f func(t *testing.T, c *cluster)) {
	inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
		c.heartbeat = 10 * time.Second
		for range n {
			c.add(wire.Options{})
		}
		f(t, c)
	})
}

// TestWaitingForADeadPeerLosesNothing: after an outage that not everybody survives, the queue waits for the dead for at
// most half of MaxAge, and nothing expires meanwhile, however old it was when the link came up.
func TestWaitingForADeadPeerLosesNothing(t *testing.T) {
	slowly(t, 3, func(t *testing.T, c *cluster) {
		a, b, dead := c.peers[0], c.peers[1], c.peers[2]
		subscribe(t, b, "A")
		c.beat(time.Second)
		for _, p := range c.peers {
			p.port.Down()
		}
		synctest.Wait()
		const n = 39 // and at most a second until the next attempt to connect
		emit := func(from, to int) {
			for i := from; i < to; i++ {
				inst := emitTo("A")
				inst.Event = fmt.Sprint(i)
				if err := a.a.Publish(t.Context(), inst); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		emit(0, n)
		a.port.Up()
		b.port.Up()
		up := time.Now()
		emit(n, 2*n)
		synctest.Wait()
		if l := a.lost(); len(l) != 0 {
			t.Errorf("losses on a healthy link: %+v", l)
		}
		if got := len(b.got()); got != 2*n {
			t.Errorf("%d of %d arrived", got, 2*n)
		}
		if q := a.a.AdapterStats().QueueBytes; q != 0 {
			t.Errorf("%d bytes wait %v after the link is back", q, time.Since(up))
		}
		dead.port.Up()
		time.Sleep(2 * time.Second)
	})
}

// TestAWaitThatEndsWithoutALinkLoses: frames that wait for peers are lost if the link breaks again, because they are
// too old then.
func TestAWaitThatEndsWithoutALinkLoses(t *testing.T) {
	slowly(t, 2, func(t *testing.T, c *cluster) {
		a, dead := c.peers[0], c.peers[1]
		c.beat(time.Second)
		a.port.Down()
		dead.port.Down()
		synctest.Wait()
		mustPublish(t, a, emitTo("A"))
		time.Sleep(4 * time.Second)
		a.port.Up()
		time.Sleep(2 * time.Second) // now it is older than MaxAge
		if l := a.lost(); len(l) != 0 {
			t.Fatalf("losses while the link stands: %+v", l)
		}
		a.port.Down()
		synctest.Wait()
		if l := a.lost(); len(l) != 1 || !errors.Is(l[0].Err, crosscast.ErrNotConnected) {
			t.Errorf("losses %+v", l)
		}
	})
}

// TestGatheringLosesNothing: the same for what a dialect says of its peers.
func TestGatheringLosesNothing(t *testing.T) {
	speaking(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[0]
		g := &gathering{asked: make(chan struct{}, 9), back: make(chan struct{})}
		c.heartbeat = 10 * time.Second
		a := c.speak(g, wire.Options{}, crosscast.NodeInfo{})
		a.port.Down()
		synctest.Wait()
		mustPublish(t, a, everyone("x"))
		time.Sleep(3900 * time.Millisecond) // and at most a second until the next attempt
		a.port.Up()
		<-g.asked
		time.Sleep(2400 * time.Millisecond)
		wantEvents(t, b)
		time.Sleep(200 * time.Millisecond)
		wantEvents(t, b, "x")
		if l := a.lost(); len(l) != 0 {
			t.Errorf("losses %+v", l)
		}
	})
}

// TestAnEmitterGathersWithoutALoss: the same for an emitter, which counts how many hear it.
func TestAnEmitterGathersWithoutALoss(t *testing.T) {
	slowly(t, 2, func(t *testing.T, c *cluster) {
		a, dead := c.peers[0], c.peers[1]
		subscribe(t, a, "A")
		e := &peer{id: "emitter0", port: c.hub.Port("emitter0"), emitOnly: true}
		e.a = wire.New(e.port, wire.Options{})
		info := crosscast.NodeInfo{ID: e.id, Heartbeat: 10 * time.Second}
		if err := e.a.Start(t.Context(), starting(info, e, true)); err != nil {
			t.Fatal(err)
		}
		c.peers = append(c.peers, e)
		mustPublish(t, e, everyone("x")) // tells it how many there are
		synctest.Wait()
		// A whole outage, in which the emitter only finds out by publishing.
		e.port.SetFate(func(f wire.Frame) membus.Fate {
			return membus.Fate{Err: fmt.Errorf("%w: down", crosscast.ErrRefused), Down: true, Lost: true}
		})
		mustPublish(t, e, emitTo("B"))
		synctest.Wait()
		dead.port.Down()
		mustPublish(t, e, emitTo("A"))
		time.Sleep(3500 * time.Millisecond) // and at most a second until the next attempt
		e.port.SetFate(nil)
		time.Sleep(4 * time.Second)
		if n := len(e.lost()); n != 1 {
			t.Errorf("%d losses, want the one that found out: %+v", n, e.lost())
		}
		if got := a.got(); len(got) != 2 {
			t.Errorf("delivered %q", got)
		}
	})
}
