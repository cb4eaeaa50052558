package wire_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// refuse has the bus refuse what a peer publishes to topics that end so.
func (p *peer) refuse(ends ...string) {
	p.port.SetFate(func(f wire.Frame) membus.Fate {
		if slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(f.Topic, end) }) {
			return membus.Fate{Err: fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrDenied), Lost: true}
		}
		return membus.Fate{}
	})
}

// Heartbeats tell of a loss ten times. Who hears one of them knows the names; who was away for longer takes everything for
// missed, and who is new nothing.
func TestLossesAreToldInTenHeartbeats(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a, away, gone := c.peers[0], c.peers[1], c.peers[2]
		c.beat(3 * time.Second)
		var mu sync.Mutex
		var sizes []int // of heartbeats since the last look
		take := func() []int {
			mu.Lock()
			defer mu.Unlock()
			all := sizes
			sizes = nil
			return all
		}
		c.hub.OnExecute(func(f wire.Frame) {
			if f.Topic == "cc:all" && strings.Contains(string(f.Data), string(a.id)) {
				mu.Lock()
				defer mu.Unlock()
				sizes = append(sizes, len(f.Data))
			}
		})
		c.beat(0)
		synctest.Wait()
		idle := take()[0]
		a.port.SetFate(func(f wire.Frame) membus.Fate {
			if f.Topic != "cc:all" {
				return membus.Fate{Err: crosscast.ErrRefused, Lost: true}
			}
			return membus.Fate{Skip: string(gone.id)}
		})
		for i := range 40 {
			inst := emitTo(fmt.Sprintf("a room with a rather long name, number %d", i))
			mustPublish(t, a, inst)
			synctest.Wait()
		}
		take()
		c.beat(8 * time.Second)
		largest := slices.Max(take())
		c.beat(5 * time.Second)
		take()
		c.beat(5 * time.Second)
		after := slices.Max(take())
		t.Logf("a heartbeat has %d bytes before a loss, %d while it is told, %d afterwards", idle, largest, after)
		if after > idle+12 {
			t.Errorf("%d bytes after the loss was told, %d before it", after, idle)
		}
		if g := away.seen(); len(g) == 0 || slices.ContainsFunc(g, func(g crosscast.Gap) bool { return g.Names == nil }) {
			t.Errorf("who was there is told %+v", g)
		}
		a.port.SetFate(nil)
		c.beat(time.Second)
		if g := gone.seen(); len(g) != 1 || g[0].Names != nil || g[0].Origin != a.id || g[0].Reason != reasons.GapLoss {
			t.Errorf("who was away is told %+v", g)
		}
		late := c.add(wire.Options{})
		c.beat(3 * time.Second)
		if g := late.seen(); len(g) != 0 {
			t.Errorf("who is new is told %+v", g)
		}
		told := len(away.seen())
		a.refuse(":r:/:x")
		mustPublish(t, a, emitTo("x"))
		c.beat(2 * time.Second)
		for _, p := range []*peer{away, late} {
			if g := p.seen(); len(g) == 0 || !slices.Equal(g[len(g)-1].Names, []crosscast.Address{room("x")}) {
				t.Errorf("of another loss %s is told %+v", p.id, g[told:])
			}
		}
	})
}

// A heartbeat that the bus does not accept has told nothing.
func TestRefusedHeartbeatsTellNothing(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(3 * time.Second)
		a.refuse(":r:/:x", "cc:all")
		mustPublish(t, a, emitTo("x"))
		for range 30 {
			mustPublish(t, a, heartbeat())
			time.Sleep(time.Second)
		}
		a.port.SetFate(nil)
		c.beat(time.Second)
		want := []crosscast.Address{room("x")}
		if g := b.seen(); len(g) == 0 || g[len(g)-1].Reason != reasons.GapLoss || !slices.Equal(g[len(g)-1].Names, want) {
			t.Errorf("gaps %+v", g)
		}
	})
}

// Losses for one reason, before peers get a report, are one gap.
func TestDeniedPublishingIsOneGapABatch(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(3 * time.Second)
		a.refuse(":d0", ":d1", ":d2")
		a.port.SetLatency(10 * time.Millisecond)
		mustPublish(t, a, emitTo("first")) // under way while the others become one batch
		synctest.Wait()
		for i := range 30 {
			mustPublish(t, a, emitTo(fmt.Sprint("d", i%3)), emitTo("fine"), emitTo(fmt.Sprint("d", i%3), "fine"))
		}
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.port.SetLatency(0)
		c.beat(2 * time.Second)
		g := b.seen()
		if len(g) != 1 || len(g[0].Names) != 3 || !g[0].Covers(room("d0")) || g[0].Covers(room("fine")) {
			t.Errorf("%d gaps: %+v", len(g), g)
		}
		n := 0
		for _, l := range a.lost() {
			n += l.Instructions
			if l.Reason != reasons.LossDenied {
				t.Errorf("loss %+v", l)
			}
		}
		if n != 60 {
			t.Errorf("losses of %d instructions, want 60", n)
		}
	})
}

// What was for one node, an emission to a socket, concerns that node alone. Who sent it is told. An answer is no loss,
// because whoever asked gets an error.
func TestALossForOneNodeConcernsThatNode(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a, concerned, other := c.peers[0], c.peers[1], c.peers[2]
		c.beat(3 * time.Second)
		lose := func(inst *crosscast.Instruction) {
			a.refuse(":n:" + string(concerned.id))
			mustPublish(t, a, inst)
			synctest.Wait()
			a.port.SetFate(nil)
			c.beat(2 * time.Second)
		}
		lose(&crosscast.Instruction{Kind: kind.Answer, Namespace: "/", To: concerned.id, Ref: "r", Answer: &crosscast.Answer{}})
		if g, l := concerned.seen(), a.lost(); len(g)+len(l) != 0 {
			t.Errorf("of an answer %+v and %+v are told", g, l)
		}
		toSocket := emitTo()
		toSocket.Target.Sockets = []crosscast.SocketID{crosscast.SocketID(concerned.id) + "abcdefghijkl"}
		lose(toSocket)
		if g := other.seen(); len(g) != 0 {
			t.Errorf("another node is told %+v", g)
		}
		if g := concerned.seen(); len(g) != 1 || g[0].Origin != a.id || g[0].Names != nil || g[0].Reason != reasons.GapLoss {
			t.Errorf("the node concerned is told %+v", g)
		}
		if l := a.lost(); len(l) != 1 || l[0].Names != nil || l[0].Instructions != 1 {
			t.Errorf("the sender is told %+v", l)
		}

		// Beside rooms, each is told of its own.
		a.refuse(":n:"+string(concerned.id), ":r:/:A")
		mustPublish(t, a, &crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/", Event: "e",
			Target: crosscast.Target{Rooms: []string{"A"}, Sockets: toSocket.Target.Sockets},
		})
		synctest.Wait()
		a.port.SetFate(nil)
		c.beat(2 * time.Second)
		if g := other.seen(); len(g) != 1 || !slices.Equal(g[0].Names, []crosscast.Address{room("A")}) {
			t.Errorf("another node is told %+v", g)
		}
		if g := concerned.seen(); len(g) != 2 || g[1].Names != nil {
			t.Errorf("the node concerned is told %+v", g)
		}
		if l := a.lost(); len(l) != 2 || l[1].Names != nil {
			t.Errorf("the sender is told %+v", l)
		}
	})
}

// A loss is told once, however rarely its origin is heard.
func TestRareHeartbeatsTellOfALossOnce(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b, often := c.peers[0], c.peers[1], c.peers[2]
		c.beat(3 * time.Second)
		a.refuse(":r:/:x")
		mustPublish(t, a, emitTo("x"))
		synctest.Wait()
		a.port.SetFate(nil)
		for range fewer(96) {
			mustPublish(t, a, heartbeat())
			for range 15 {
				time.Sleep(time.Minute)
				mustPublish(t, often, heartbeat())
			}
		}
		if g := b.seen(); len(g) != 1 {
			t.Errorf("%d gaps of one loss", len(g))
		}
	})
}

// A new node is told of what a peer has lost since it has started, and of nothing before, however late it hears of the peer.
func TestANewNodeAndOldLosses(t *testing.T) {
	for _, since := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost since=%v", since), func(t *testing.T) {
			inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
				a := c.peers[0]
				lose := func() time.Time {
					a.refuse(":r:/:x")
					mustPublish(t, a, emitTo("x"))
					synctest.Wait()
					a.port.SetFate(nil)
					return time.Now()
				}
				c.beat(3 * time.Second)
				for range 30 {
					lose()
				}
				c.beat(3 * time.Second)
				late := c.add(wire.Options{})
				subscribe(t, late, "x")
				time.Sleep(3 * time.Second) // without a word of a
				var at time.Time
				if since {
					at = lose()
				}
				time.Sleep(3 * time.Second)
				c.beat(3 * time.Second)
				switch g := late.seen(); {
				case since && !late.told(a.id, "x", at):
					t.Errorf("gaps %+v, want one of what was lost at %v", g, at)
				case !since && len(g) > 0:
					t.Errorf("gaps %+v", g)
				}
			})
		})
	}
}

// The gap of a loss begins when the first lost instruction was queued, and at most two heartbeats before.
func TestLossGapsBeginWithTheLoss(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(30 * time.Second)
		a.refuse(":r:/:x")
		lost := time.Now()
		mustPublish(t, a, emitTo("x"))
		c.beat(3 * time.Second)
		gaps := b.seen()
		if len(gaps) != 1 || gaps[0].Reason != reasons.GapLoss {
			t.Fatalf("the gaps of a loss: %+v", gaps)
		}
		if before := lost.Sub(gaps[0].Since); before < 0 || before > 2*time.Second {
			t.Errorf("the gap begins %v before the loss", before)
		}
	})
}
