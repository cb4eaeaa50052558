package wire_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// onPatchy runs f with n started peers on a bus that may miss single messages.
func onPatchy(t *testing.T, n int, f func(t *testing.T, c *cluster)) {
	t.Helper()
	inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
		for range n {
			c.addPatchy(false)
		}
		c.beat(2 * time.Second)
		f(t, c)
	})
}

func (c *cluster) addPatchy(emitter bool) *peer {
	id := crosscast.NodeID(fmt.Sprintf("node%04d", len(c.peers)))
	p := &peer{
		id: id, port: c.hub.Port(string(id)), emitOnly: emitter,
		emitted: map[string]emission{}, joined: map[crosscast.Address]time.Time{},
	}
	p.port.SetPatchy()
	p.a = wire.New(p.port, wire.Options{QueueBytes: 64 << 20})
	self := crosscast.NodeInfo{ID: id, Heartbeat: time.Second}
	if err := p.a.Start(c.t.Context(), starting(self, p, emitter)); err != nil {
		c.t.Fatal(err)
	}
	c.peers = append(c.peers, p)
	return p
}

func numberedRooms(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("room", i)
	}
	return names
}

func emitEach(t *testing.T, p *peer, rooms []string) {
	t.Helper()
	for _, r := range rooms {
		if err := p.a.Publish(t.Context(), emitTo(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// missing has the frames that p publishes to rooms missed by another peer, where miss says so.
func (p *peer) missing(by *peer, miss func(topic string) bool) {
	p.port.SetFate(func(f wire.Frame) membus.Fate {
		if miss(f.Topic) {
			return membus.Fate{Skip: string(by.id)}
		}
		return membus.Fate{}
	})
}

func (p *peer) beatOnce(t *testing.T) {
	t.Helper()
	everyone := crosscast.Target{Everyone: true}
	err := p.a.Publish(t.Context(), &crosscast.Instruction{Kind: kind.Heartbeat, Target: everyone})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func aRoom(topic string) bool    { return strings.HasPrefix(topic, "cc:r:") }
func anything(topic string) bool { return true }

// wantGaps: p has a gap of its own for each of the rooms, and none for others.
func wantGaps(t *testing.T, p *peer, origin crosscast.NodeID, rooms []string) {
	t.Helper()
	want := make(map[string]bool)
	for _, r := range rooms {
		want[r] = true
	}
	for _, g := range p.seen() {
		if g.Origin != origin || g.Reason != reasons.GapHole || len(g.Names) != 1 || !want[g.Names[0].Name] || g.From == 0 ||
			g.From > g.To || g.Since.After(g.Until) {
			t.Errorf("gap %+v", g)
			return
		}
		delete(want, g.Names[0].Name)
	}
	if len(want) > 0 {
		t.Errorf("%d of %d rooms missed something silently", len(want), len(rooms))
	}
}

// TestQuietRooms: single messages to 960 rooms, of which a third is missed, are told within two heartbeats; as a gap of
// each room once, and of no other.
func TestQuietRooms(t *testing.T) {
	onPatchy(t, 3, func(t *testing.T, c *cluster) {
		a, b, other := c.peers[0], c.peers[1], c.peers[2]
		names := numberedRooms(960)
		subscribe(t, b, names...)
		subscribe(t, other, names...)
		c.beat(time.Second)
		missed := emitMissing(t, a, b, names)
		c.beat(2 * time.Second)
		wantGaps(t, b, a.id, missed)
		wantGaps(t, other, a.id, nil)
		if len(b.got())+len(missed) != len(names) || len(other.got()) != len(names) {
			t.Errorf("%d and %d are missed, and %d delivered", len(b.got()), len(missed), len(other.got()))
		}

		// A successor in each room tells nothing again.
		emitEach(t, a, names)
		c.beat(5 * time.Second)
		wantGaps(t, b, a.id, missed)
		wantGaps(t, other, a.id, nil)
	})
}

// TestQuietSuccessor: messages that were missed before the first arrival in a room are reported at once.
func TestQuietSuccessor(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "a", "b")
		c.beat(time.Second)
		a.missing(b, aRoom)
		emitEach(t, a, []string{"a", "a", "b"})
		a.port.SetFate(nil)
		emitEach(t, a, []string{"a"})
		synctest.Wait()
		wantGaps(t, b, a.id, []string{"a"})
		if got := b.got(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("delivered %v", got)
		}
		if g := b.seen(); len(g) == 1 && g[0].To-g[0].From < 1 {
			t.Errorf("two frames are missed, and the gap is of %d..%d", g[0].From, g[0].To)
		}
	})
}

// TestQuietAtOnce: 1,000 topics that become quiet at once are told of within two heartbeats, and 5,000 within as many as
// their bytes need; no heartbeat takes more than 16 KiB for it.
func TestQuietAtOnce(t *testing.T) {
	for n, heartbeats := range map[int]time.Duration{1000: 2, 5000: 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			onPatchy(t, 2, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				names := numberedRooms(n)
				subscribe(t, b, names...)
				c.beat(time.Second)
				largest := 0
				c.hub.OnExecute(func(f wire.Frame) {
					if f.Topic == "cc:all" {
						largest = max(largest, len(f.Data))
					}
				})
				a.missing(b, aRoom)
				emitEach(t, a, names)
				c.beat(heartbeats * time.Second)
				synctest.Wait()
				wantGaps(t, b, a.id, names)
				if largest > 16<<10+100 {
					t.Errorf("a heartbeat of %d bytes", largest)
				}
			})
		})
	}
}

// TestQuietOverflow: of more topics than may wait, the heartbeat says so, which is a gap of all.
func TestQuietOverflow(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "room1", "quiet")
		c.beat(time.Second)
		emitted := time.Now()
		emitEach(t, a, []string{"quiet"})
		emitEach(t, a, numberedRooms(65_535))
		c.beat(time.Second / 2)
		if g := b.seen(); len(g) > 0 {
			t.Errorf("65,536 topics wait, and the gap is %+v", g[0])
		}
		a.missing(b, aRoom)
		emitEach(t, a, numberedRooms(70_000)) // those of before again, but with more
		c.beat(2 * time.Second)
		g := b.seen()
		if len(g) != 1 || g[0].Names != nil || g[0].Origin != a.id || g[0].Reason != reasons.GapHole || g[0].Since.After(emitted) {
			t.Fatalf("of 70,000 topics that wait, the gaps are %+v", g)
		}
		if s := a.a.AdapterStats().Dropped["quiet unnamed"]; s < 65_536 {
			t.Errorf("%d topics are given up", s)
		}
		if s := b.a.AdapterStats().Dropped["quiet untold"]; s != 1 {
			t.Errorf("%d times topics were missed", s)
		}
		a.port.SetFate(nil)
		c.beat(20 * time.Second)
		for _, g := range b.seen()[1:] {
			if g.Names == nil {
				t.Errorf("and again %+v", g)
			}
		}
	})
}

// TestQuietHeartbeatsMissed: one heartbeat that is missed costs nothing; when all that name a topic are, that is a gap of
// all of that origin, by the fourth heartbeat behind the message if no more are missed.
func TestQuietHeartbeatsMissed(t *testing.T) {
	for _, missed := range []time.Duration{1, 2, 5} {
		t.Run(fmt.Sprint(missed), func(t *testing.T) {
			onPatchy(t, 2, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				subscribe(t, b, "a")
				c.beat(time.Second)
				time.Sleep(time.Second / 2)
				emitted := time.Now()
				a.missing(b, anything)
				emitEach(t, a, []string{"a"})
				time.Sleep(time.Second / 2)
				a.beatOnce(t) // which does not name it yet
				for range missed {
					time.Sleep(time.Second)
					a.beatOnce(t)
				}
				a.port.SetFate(nil)
				time.Sleep(time.Second)
				a.beatOnce(t)
				if missed == 1 {
					wantGaps(t, b, a.id, []string{"a"})
					return
				}
				g := b.seen()
				if len(g) != 1 || g[0].Names != nil || g[0].Origin != a.id || g[0].Since.After(emitted) {
					t.Errorf("gaps %+v", g)
				}
				if s := b.a.AdapterStats().Dropped["quiet untold"]; s != 1 {
					t.Errorf("%d times topics were missed", s)
				}
			})
		})
	}
}

// TestQuietInbox: the last instruction to a node is told, too.
func TestQuietInbox(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		a.missing(b, func(topic string) bool { return strings.HasPrefix(topic, "cc:n:") })
		inst := emitTo("x")
		inst.To = b.id
		if err := a.a.Publish(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		c.beat(3 * time.Second)
		if g := b.seen(); len(g) != 1 || g[0].Origin != a.id || g[0].From == 0 || g[0].Names != nil {
			t.Errorf("gaps %+v", g)
		}
	})
}

// TestQuietBeforeSubscription: what was published before a subscription was confirmed is not missed, however late it is
// named; what came after it is, also after another.
func TestQuietBeforeSubscription(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		emitEach(t, a, []string{"a", "b"})
		subscribe(t, b, "a", "b", "c")
		emitEach(t, a, []string{"c"})
		c.beat(4 * time.Second)
		wantGaps(t, b, a.id, nil)
		b.a.Unsubscribe(t.Context(), room("a"))
		emitEach(t, a, []string{"a"})
		subscribe(t, b, "a")
		c.beat(4 * time.Second)
		wantGaps(t, b, a.id, nil)
		a.missing(b, aRoom)
		emitEach(t, a, []string{"a"})
		c.beat(3 * time.Second)
		wantGaps(t, b, a.id, []string{"a"})
	})
}

// TestQuietLosses: refused frames are reported as a loss, and not again.
func TestQuietLosses(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "a")
		emitEach(t, a, []string{"a"})
		a.port.SetFate(func(f wire.Frame) membus.Fate {
			if aRoom(f.Topic) {
				return membus.Fate{Err: crosscast.ErrRefused, Lost: true}
			}
			return membus.Fate{}
		})
		emitEach(t, a, []string{"a"})
		c.beat(4 * time.Second)
		if g := b.seen(); len(g) != 1 || g[0].Reason != reasons.GapLoss {
			t.Errorf("gaps %+v", g)
		}
	})
}

// TestQuietOutage: what was missed before an outage, and not told before it, is a part of its gap; what is named after it
// is not missed again.
func TestQuietOutage(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "a", "b")
		c.beat(time.Second)
		time.Sleep(time.Second / 2)
		emitted := time.Now()
		a.missing(b, aRoom)
		emitEach(t, a, []string{"a"})
		a.port.SetFate(nil)
		time.Sleep(time.Second / 2)
		a.beatOnce(t)
		b.beatOnce(t)
		emitEach(t, a, []string{"b"})
		b.port.Down()
		emitEach(t, a, []string{"b"})
		time.Sleep(500 * time.Millisecond)
		b.port.Up()
		c.beat(12 * time.Second)
		g := b.seen()
		if len(g) != 1 || g[0].Reason != reasons.GapLinkLost || g[0].Since.After(emitted) {
			t.Errorf("gaps %+v; the first was missed at %v", g, emitted)
		}
	})
}

// TestQuietEmitter: emitters have no heartbeats, and tell all the same.
func TestQuietEmitter(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		b := c.peers[1]
		subscribe(t, b, "a", "b")
		e := c.addPatchy(true)
		e.missing(b, aRoom)
		emitEach(t, e, []string{"a"})
		c.beat(3 * time.Second)
		wantGaps(t, b, e.id, []string{"a"})
		emitEach(t, e, []string{"b"})
		if err := e.a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantGaps(t, b, e.id, []string{"a", "b"})

		// To everyone, too.
		e = c.addPatchy(true)
		e.missing(b, anything)
		if err := e.a.Publish(t.Context(), &crosscast.Instruction{
			Kind: kind.Emit, Event: "x", Target: crosscast.Target{Everyone: true},
		}); err != nil {
			t.Fatal(err)
		}
		if err := e.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.port.SetFate(nil)
		c.beat(2 * time.Second)
		if g := b.seen(); len(g) != 3 || g[2].Origin != e.id || g[2].Names != nil {
			t.Errorf("gaps %+v", g)
		}
	})
}

// TestQuietEmitterRests: after an emitter has named its topics, and repeated the count, it publishes nothing.
func TestQuietEmitterRests(t *testing.T) {
	onPatchy(t, 1, func(t *testing.T, c *cluster) {
		e := c.addPatchy(true)
		before := e.a.AdapterStats().FramesOut
		time.Sleep(10 * time.Second)
		if after := e.a.AdapterStats().FramesOut; after != before {
			t.Errorf("%d frames before it has emitted", after-before)
		}
		emitEach(t, e, []string{"a"})
		time.Sleep(20 * time.Second)
		before = e.a.AdapterStats().FramesOut
		time.Sleep(time.Hour)
		if after := e.a.AdapterStats().FramesOut; after != before {
			t.Errorf("%d frames in an hour without an emission", after-before)
		}
	})
}

// TestQuietClose: Close names the topics of a node's last frames.
func TestQuietClose(t *testing.T) {
	onPatchy(t, 2, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		names := numberedRooms(3000)
		subscribe(t, b, names...)
		c.beat(time.Second)
		a.missing(b, aRoom)
		emitEach(t, a, names)
		if err := a.a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantGaps(t, b, a.id, names)
	})
}

// TestQuietCosts: heartbeats of a node that has published nothing for a while are as long as on any other bus, and so are
// all on any other bus.
func TestQuietCosts(t *testing.T) {
	const heartbeat = 40
	for _, patchy := range []bool{false, true} {
		inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
			a, b := c.add, c.add
			if patchy {
				a = func(wire.Options) *peer { return c.addPatchy(false) }
				b = a
			}
			p, receiver := a(wire.Options{}), b(wire.Options{})
			subscribe(t, receiver, numberedRooms(30)...)
			var sizes []int
			c.hub.OnExecute(func(f wire.Frame) {
				if f.Topic == "cc:all" && strings.Contains(string(f.Data), string(p.id)) {
					sizes = append(sizes, len(f.Data))
				}
			})
			c.beat(3 * time.Second)
			emitEach(t, p, numberedRooms(30))
			c.beat(20 * time.Second)
			synctest.Wait()
			for i, n := range sizes {
				switch {
				case n == heartbeat:
				case !patchy || i < 3 || i > 16 || n > heartbeat+512:
					t.Errorf("patchy %v: heartbeat %d has %d bytes", patchy, i, n)
				}
			}
		})
	}
}

// TestQuietBytes holds the format that quiet.go documents.
func TestQuietBytes(t *testing.T) {
	onPatchy(t, 1, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		emitEach(t, a, []string{"a", "b"})
		var payloads []string
		var r wire.FrameReader
		c.hub.OnExecute(func(f wire.Frame) {
			if _, err := r.Reset(f.Data, &crosscast.Address{}); err != nil {
				t.Fatal(err)
			}
			for _, _, quiet, err := r.Next(); err == nil; _, _, quiet, err = r.Next() {
				if quiet != nil {
					payloads = append(payloads, fmt.Sprintf("%x", quiet))
				}
			}
		})
		c.beat(3 * time.Second)
		synctest.Wait()
		const topics = "19aa8c86b45effc1" + "05" + "19aa8986b45efaa8" + "01"
		want := []string{"0000" + topics, "0000" + topics, "0200", "0200"}
		if !slices.Equal(payloads, want) {
			t.Errorf("payloads %v, want %v", payloads, want)
		}
	})
}

// TestQuietHash: topics with one hash are found neither, until one of them is gone.
func TestQuietHash(t *testing.T) {
	h := wire.NewHashedTopics()
	found := func(names ...string) {
		t.Helper()
		for _, name := range []string{"a", "b", "c"} {
			if got, want := h.Found(7, name), slices.Contains(names, name); got != want {
				t.Errorf("%s is found: %v", name, got)
			}
		}
	}
	h.Add(7, "a")
	found("a")
	h.Add(7, "b")
	h.Add(7, "c")
	found()
	h.Remove(7, "b")
	found()
	h.Remove(7, "c")
	found("a")
	h.Add(7, "b")
	h.Remove(7, "a")
	found("b")
	h.Remove(7, "b")
	found()
	if h.Len() > 0 {
		t.Error("something is left")
	}
}

// hostileQuiet are payloads that no node writes.
func hostileQuiet() map[string]bool {
	hash := "\x01\x02\x03\x04\x05\x06\x07\x08"
	long := strings.Repeat("\xff", 9)
	return map[string]bool{
		"": false, "\x00": false, "\x80": false, "\x00\x80": false, "\x00\x00": true, long + "\x01" + "\x00": true,
		long + "\x02\x00": false, "\x00" + long + "\x01": false,
		"\x00\x00" + hash: false, "\x00\x00" + hash[1:]: false, "\x00\x00" + hash + "\x80": false,
		"\x00\x00" + hash + "\x63": true, "\x00\x00" + hash + "\x64": false, "\x00\x00" + hash + "\x00": true,
		"\x00\x00" + hash + "\x63" + hash + "\x01":        false,
		"\x00\x00" + hash + "\x02" + hash + long + "\x01": true, // back to 1
		long + "\x01\x00" + hash + "\x01" + hash + "\x01": true,
	}
}

// TestQuietHostile: malformed names of topics are refused.
func TestQuietHostile(t *testing.T) {
	for payload, want := range hostileQuiet() {
		if got := wire.ReadQuiet(100, []byte(payload)); got != want {
			t.Errorf("%x: taken: %v", payload, got)
		}
	}
	payload := binary.AppendUvarint(nil, 0)
	payload = append(payload, 0)
	for i := range 100_000 {
		payload = binary.BigEndian.AppendUint64(payload, uint64(i))
		payload = append(payload, 0)
	}
	reading := func(payload []byte) float64 {
		return testing.AllocsPerRun(5, func() { wire.ReadQuiet(100, payload) })
	}
	if n, none := reading(payload), reading(payload[:2]); n > none {
		t.Errorf("%v allocations for topics that are not subscribed", n-none)
	}
}

func FuzzQuiet(f *testing.F) {
	for payload := range hostileQuiet() {
		f.Add(uint64(100), []byte(payload))
	}
	f.Fuzz(func(t *testing.T, number uint64, payload []byte) {
		wire.ReadQuiet(number, payload)
	})
}

// BenchmarkPublish measures a frame of one instruction, from Publish to the bus's outcome.
func BenchmarkPublish(b *testing.B) {
	for _, patchy := range []bool{false, true} {
		b.Run(fmt.Sprintf("patchy=%v", patchy), func(b *testing.B) {
			hub := membus.New()
			p := &peer{id: "node0000", port: hub.Port("a")}
			if patchy {
				p.port.SetPatchy()
			}
			p.a = wire.New(p.port, wire.Options{})
			self := crosscast.NodeInfo{ID: p.id, Heartbeat: time.Minute}
			if err := p.a.Start(context.Background(), starting(self, p)); err != nil {
				b.Fatal(err)
			}
			defer p.a.Close(context.Background())
			ins := make([]*crosscast.Instruction, 1000)
			for i, r := range numberedRooms(len(ins)) {
				ins[i] = emitTo(r)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := p.a.Publish(context.Background(), ins[i%len(ins)]); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.a.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
