package wire_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// TestALostPeerOnAPatchyBus: the last emission of a peer was lost, and the peer died before it could name that topic.
// So the peer's gap begins before its latest message.
func TestALostPeerOnAPatchyBus(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		c.beat(10 * time.Second)
		a.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Skip: string(b.id)} })
		missed := time.Now()
		if err := a.a.Publish(t.Context(), emitTo("A")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.port.SetFate(nil)
		time.Sleep(100 * time.Millisecond)
		if err := a.a.Publish(t.Context(), emitTo("B")); err != nil { // the last that is heard
			t.Fatal(err)
		}
		synctest.Wait()
		a.port.Down()
		time.Sleep(7 * time.Second)
		b.a.Expire(a.id)
		synctest.Wait()
		g := b.seen()
		if len(g) != 1 || g[0].Reason != reasons.GapPeerLost || g[0].Origin != a.id {
			t.Fatalf("gaps %+v", g)
		}
		if since := g[0].Since; since.After(missed) || missed.Sub(since) > 5*time.Second {
			t.Errorf("the gap begins %v before what was missed", missed.Sub(since))
		}
		if got := b.got(); len(got) != 1 || got[0] != "B" {
			t.Errorf("delivered %v", got)
		}
	})
}

// TestPeersHeardLateAfterAnOutage: where the servers of a bus have lost each other, a link is back before its peers are.
// What they send meanwhile is told, once for all of them, before anything later is delivered; and nothing is told when
// nothing was sent.
func TestPeersHeardLateAfterAnOutage(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		c.beat(5 * time.Second)
		b.port.Cut()
		c.beat(3 * time.Second)
		if n := len(b.seen()); n != 1 {
			t.Fatalf("gaps %+v, want that of the outage", b.seen())
		}

		a.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Skip: string(b.id)} })
		b.port.Cut()
		c.beat(2 * time.Second)
		missed := time.Now()
		if err := a.a.Publish(t.Context(), emitTo("A")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		a.port.SetFate(nil)
		c.beat(3 * time.Second)
		g := b.seen()
		if len(g) != 3 || g[2].Origin != "" || g[2].Names != nil || g[2].Since.After(missed) || g[2].Until.Before(missed) {
			t.Errorf("gaps %+v, want another of what was sent before the peer was heard again", g)
		}
	})
}

// TestQuietAfterResume: the first that is published after a link has resumed is missed, as it is where the masters of a
// Redis Cluster have not connected to each other again yet. It is told, at the latest before its successor is delivered.
func TestQuietAfterResume(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "room")
		c.beat(5 * time.Second)
		emitEach(t, a, []string{"room"})
		c.beat(5 * time.Second)
		synctest.Wait()
		a.missing(b, anything) // the masters have lost their connection, and the link is found to be deaf, or breaks, too
		b.port.Cut()
		time.Sleep(500 * time.Millisecond) // it is back, and has heard nothing since
		synctest.Wait()
		for _, g := range b.seen() {
			t.Logf("gap %+v", g)
		}
		before := len(b.got())
		missed := time.Now()
		emitEach(t, a, []string{"room"})
		a.port.SetFate(nil)
		time.Sleep(10 * time.Millisecond)
		emitEach(t, a, []string{"room"})
		synctest.Wait()
		if len(b.got()) != before+1 {
			t.Fatalf("got %v", b.got()[before:])
		}
		for _, g := range b.seen() {
			t.Logf("after: gap %+v", g)
		}
		told := func() bool {
			for _, g := range b.seen() {
				if g.Covers(room("room")) && (g.Origin == "" || g.Origin == a.id) && !g.Since.After(missed) && !g.Until.Before(missed) {
					return true
				}
			}
			return false
		}
		if !told() {
			t.Error("the successor was delivered, and what was missed before it was not told")
		}
		c.beat(30 * time.Second)
		synctest.Wait()
		if !told() {
			t.Error("it is not told later, either")
		}
	})
}

// TestDamagedFrameSpan: the gap of a frame that is damaged covers when its instructions were emitted, which was before it
// arrived.
func TestDamagedFrameSpan(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[0]
		subscribe(t, b, "A")
		stranger := c.hub.Port("stranger")
		for n := range uint64(3) {
			emitted := time.Now()
			time.Sleep(50 * time.Millisecond) // on its way
			data := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "stranger", Number: n + 1, Previous: n})
			data = wire.AppendItem(data, emitTo("A"), crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "A"}, 0)
			if n == 2 {
				data = data[:len(data)-4]
			}
			stranger.Publish(t.Context(), []wire.Frame{{Topic: "cc:r:/:A", Data: data}})
			synctest.Wait()
			if n == 2 {
				for _, g := range b.seen() {
					if g.Since.After(emitted) {
						t.Errorf("gap %+v, emitted at %v", g, emitted)
					}
				}
				if len(b.seen()) != 1 {
					t.Errorf("%d gaps, got %v, %v", len(b.seen()), b.got(), b.a.AdapterStats().Dropped)
				}
			}
		}
	})
}

// TestNotProvenWhileAPublicationIsUnderWay: a server that stands still makes nobody take peers for dead.
func TestNotProvenWhileAPublicationIsUnderWay(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		c.beat(2 * time.Second)
		if !a.a.Proven() {
			t.Error("a link that works is not proven")
		}
		a.port.SetLatency(4 * time.Second)
		c.beat(0)
		time.Sleep(1100 * time.Millisecond)
		if a.a.Proven() {
			t.Error("it is proven, though nothing has come of a publication for more than a heartbeat")
		}
		a.port.SetLatency(0)
		time.Sleep(4 * time.Second)
		c.beat(time.Second)
		if !a.a.Proven() {
			t.Error("a link that works again is not proven")
		}
	})
}
