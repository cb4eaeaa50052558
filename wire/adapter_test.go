package wire_test

import (
	"bytes"
	"context"
	"errors"
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

// cluster is peers on one scripted bus, in a bubble.
type cluster struct {
	t         *testing.T
	hub       *membus.Hub
	peers     []*peer
	heartbeat time.Duration // of those that are added, and of beat; default 1 s
}

// inBubble runs f with n started peers, and closes the open ones after it.
func inBubble(t *testing.T, n int, o wire.Options, f func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, hub: membus.New(), heartbeat: time.Second}
		for range n {
			c.add(o)
		}
		defer func() {
			for _, p := range c.peers {
				p.port.Up()
				p.port.SetFate(nil)
				if err := p.a.Close(t.Context()); err != nil {
					t.Error("Close:", err)
				}
			}
		}()
		f(t, c)
	})
}

func (c *cluster) add(o wire.Options) *peer { return c.addAs(o, false) }

// addAs adds a node, or an emitter.
func (c *cluster) addAs(o wire.Options, emitOnly bool) *peer {
	id := crosscast.NodeID(fmt.Sprintf("node%04d", len(c.peers)))
	p := &peer{id: id, port: c.hub.Port(string(id)), emitted: map[string]emission{}, joined: map[crosscast.Address]time.Time{}}
	p.a = wire.New(p.port, o)
	if err := p.a.Start(c.t.Context(), starting(crosscast.NodeInfo{ID: id, Heartbeat: c.heartbeat}, p, emitOnly)); err != nil {
		c.t.Fatal(err)
	}
	c.peers = append(c.peers, p)
	return p
}

// beat lets d pass, with everyone's heartbeats.
func (c *cluster) beat(d time.Duration) {
	for end := time.Now().Add(d); ; {
		for _, p := range c.peers {
			p.a.Publish(c.t.Context(), &crosscast.Instruction{Kind: kind.Heartbeat, Target: crosscast.Target{Everyone: true}})
		}
		synctest.Wait()
		left := time.Until(end)
		if left <= 0 {
			return
		}
		time.Sleep(min(left, c.heartbeat))
		synctest.Wait()
	}
}

func (p *peer) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.delivered)
}

func (p *peer) seen() []crosscast.Gap {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.gaps)
}

func (p *peer) lost() []crosscast.Loss {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.losses)
}

func emitTo(rooms ...string) *crosscast.Instruction {
	return &crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", Event: strings.Join(rooms, "+"), Target: crosscast.Target{Rooms: rooms},
		Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"n":1}`)},
	}
}

func room(name string) crosscast.Address {
	return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name}
}

func subscribe(t *testing.T, p *peer, names ...string) {
	t.Helper()
	var as []crosscast.Address
	for _, n := range names {
		as = append(as, room(n))
	}
	if err := p.a.Subscribe(t.Context(), as...); err != nil {
		t.Fatal("Subscribe:", err)
	}
}

func TestPacking(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		frames := 0
		c.hub.OnExecute(func(wire.Frame) { frames++ })
		a.port.SetLatency(time.Millisecond)
		for range 1000 {
			a.a.Publish(t.Context(), emitTo("A"))
			a.a.Publish(t.Context(), emitTo("B"))
		}
		if err := a.a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(b.got()); n != 2000 {
			t.Errorf("%d of 2000 delivered", n)
		}
		if frames > 8 {
			t.Errorf("%d frames for 2,000 instructions while the bus was busy", frames)
		}
	})
}

func TestAnIdleNodeSendsAtOnce(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		begin := time.Now()
		a.a.Publish(t.Context(), emitTo("A"))
		synctest.Wait()
		if len(b.got()) != 1 || time.Since(begin) != 0 {
			t.Errorf("delivered %v after %v", b.got(), time.Since(begin))
		}
	})
}

func TestManyRoomsGoToEveryoneOnce(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		frames := 0
		c.hub.OnExecute(func(wire.Frame) { frames++ })
		a.a.Publish(t.Context(), emitTo("1", "2", "3", "4", "5", "6", "7", "8", "9"))
		synctest.Wait()
		if len(b.got()) != 1 || frames != 1 {
			t.Errorf("delivered %d in %d frames, want 1 in 1", len(b.got()), frames)
		}
	})
}

// After a short outage of the bus, the emissions of that time arrive, and each side gets one gap.
func TestAShortOutageIsBridged(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		for _, p := range c.peers {
			subscribe(t, p, "A")
		}
		c.beat(3 * time.Second)
		for _, p := range c.peers {
			p.port.Down()
		}
		synctest.Wait()
		for range 10 {
			if err := c.peers[0].a.Publish(t.Context(), emitTo("A")); err != nil {
				t.Fatal("Publish during an outage:", err)
			}
		}
		time.Sleep(2 * time.Second)
		for _, p := range c.peers {
			p.port.Up()
		}
		c.beat(3 * time.Second)
		for _, p := range c.peers[1:] {
			if n := len(p.got()); n != 10 {
				t.Errorf("%s got %d of 10", p.id, n)
			}
		}
		for _, p := range c.peers {
			if g := p.seen(); len(g) != 1 || g[0].Reason != reasons.GapLinkLost || g[0].Names != nil || g[0].Origin != "" {
				t.Errorf("%s: gaps %+v, want one of a lost link", p.id, g)
			} else if d := g[0].Until.Sub(g[0].Since); d < 2*time.Second || d > 5*time.Second {
				t.Errorf("%s: the gap spans %v", p.id, d)
			}
			if l := p.lost(); len(l) != 0 {
				t.Errorf("%s: losses %+v", p.id, l)
			}
		}
	})
}

// After a long outage, emissions that waited too long are a loss at the sender, and part of a gap at the receivers.
func TestALongOutageIsALoss(t *testing.T) {
	inBubble(t, 2, wire.Options{MaxAge: 2 * time.Second}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A", "B")
		c.beat(2 * time.Second)
		a.port.Down() // b's link holds: it learns of the loss from a's state alone
		synctest.Wait()
		a.a.Publish(t.Context(), emitTo("A"))
		a.a.Publish(t.Context(), emitTo("A"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		l := a.lost()
		if len(l) != 1 || l[0].Instructions != 2 || !errors.Is(l[0].Err, crosscast.ErrRefused) || !slices.Equal(l[0].Names, []crosscast.Address{room("A")}) {
			t.Fatalf("losses %+v, want one of 2 instructions to room A, refused", l)
		}
		a.port.Up()
		c.beat(3 * time.Second)
		a.a.Publish(t.Context(), emitTo("A"))
		synctest.Wait()
		g := b.seen()
		if len(g) != 1 || g[0].Reason != reasons.GapLoss || g[0].Origin != a.id || !g[0].Covers(room("A")) || g[0].Covers(room("B")) {
			t.Errorf("gaps %+v, want one of a's loss, for room A", g)
		}
		if n := len(b.got()); n != 1 {
			t.Errorf("%d delivered after the outage, want 1", n)
		}
	})
}

// The loss of the last message of a room has no successor that betrays it.
func TestARefusedBatchIsOneLossAndOneGap(t *testing.T) {
	for _, kind := range []struct {
		name string
		err  error
		want error
	}{
		{"refused", fmt.Errorf("%w: scripted", crosscast.ErrRefused), crosscast.ErrRefused},
		{"uncertain", errors.New("scripted timeout"), crosscast.ErrUncertain},
	} {
		t.Run(kind.name, func(t *testing.T) {
			inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.peers[1]
				subscribe(t, b, "A")
				c.beat(2 * time.Second)
				a.a.Publish(t.Context(), emitTo("A"))
				synctest.Wait()
				a.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: kind.err, Down: true, Lost: true} })
				a.a.Publish(t.Context(), emitTo("A"))
				synctest.Wait()
				if l := a.lost(); len(l) != 1 || !errors.Is(l[0].Err, kind.want) {
					t.Fatalf("losses %+v", l)
				}
				a.port.SetFate(nil)
				time.Sleep(2 * time.Second) // the sender's own probe tells the peers
				synctest.Wait()
				if g := b.seen(); len(g) != 1 || g[0].Reason != reasons.GapLoss {
					t.Fatalf("gaps %+v, want one of a loss", g)
				}
				a.a.Publish(t.Context(), emitTo("A"))
				synctest.Wait()
				if len(b.got()) != 2 || len(b.seen()) != 1 {
					t.Errorf("delivered %v, gaps %+v: the hole that a loss leaves must not be reported again", b.got(), b.seen())
				}
			})
		})
	}
}

func TestWhileTheLinkIsDown(t *testing.T) {
	inBubble(t, 2, wire.Options{QueueBytes: 4096}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.Down()
		synctest.Wait()
		begin := time.Now()
		if err := a.a.Subscribe(t.Context(), room("A")); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("Subscribe:", err)
		}
		v := emitTo("A")
		v.Volatile = true
		if err := a.a.Publish(t.Context(), v); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("volatile:", err)
		}
		var err error
		n := 0
		for ; err == nil && n < 10000; n++ {
			err = a.a.Publish(t.Context(), emitTo("A"))
		}
		if !errors.Is(err, crosscast.ErrNotConnected) {
			t.Errorf("after %d: %v", n, err)
		}
		if time.Since(begin) != 0 {
			t.Error("someone waited for the link:", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.a.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("Flush:", err)
		}
	})
}

// Publish waits for room while the link is up, and is let go when it breaks.
func TestPublishWaitsForRoom(t *testing.T) {
	inBubble(t, 1, wire.Options{QueueBytes: 4096}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		a.port.SetLatency(10 * time.Millisecond)
		for range 500 {
			if err := a.a.Publish(t.Context(), emitTo("A")); err != nil {
				t.Fatal(err)
			}
		}
		if s := a.a.AdapterStats(); s.QueueBytes > 4096 {
			t.Error("queue of", s.QueueBytes)
		}
		a.port.SetLatency(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var err error
		for err == nil {
			err = a.a.Publish(ctx, emitTo("A"))
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		errs := make(chan error)
		go func() { errs <- a.a.Publish(t.Context(), emitTo("A")) }()
		synctest.Wait()
		a.port.SetLatency(0)
		a.port.Down()
		if err := <-errs; !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("after the link broke:", err)
		}
	})
}

func TestJoinsAreBatched(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		b.port.SetLatency(10 * time.Millisecond)
		names := make([]string, 10_000)
		for i := range names {
			names[i] = fmt.Sprint("room", i)
		}
		begin := time.Now()
		subscribe(t, b, names...)
		if d := time.Since(begin); d > 250*time.Millisecond {
			t.Errorf("10,000 joins took %v of 10 ms round trips", d)
		}
		a.a.Publish(t.Context(), emitTo(names[9999]))
		synctest.Wait()
		if len(b.got()) != 1 {
			t.Error("a room that was joined is not heard")
		}
		subscribe(t, b, names...) // confirmed already: at once
	})
}

func TestADeniedRoom(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		b.port.Deny("cc:r:/:secret", true)
		err := b.a.Subscribe(t.Context(), room("A"), room("secret"), room("B"))
		if !errors.Is(err, crosscast.ErrDenied) || !strings.Contains(err.Error(), "cc:r:/:secret") {
			t.Fatal("Subscribe:", err)
		}
		for _, r := range []string{"A", "B", "secret"} {
			a.a.Publish(t.Context(), emitTo(r))
		}
		synctest.Wait()
		if got := b.got(); len(got) != 2 {
			t.Error("beside a denied room, delivered", got)
		}
		b.port.Deny("cc:r:/:secret", false)
		c.beat(6 * time.Second)
		if g := b.seen(); len(g) != 0 { // nobody was told that it is joined
			t.Errorf("gaps %+v", g)
		}
		a.a.Publish(t.Context(), emitTo("secret"))
		synctest.Wait()
		if got := b.got(); len(got) != 3 {
			t.Error("after it was allowed, delivered", got)
		}
	})
}

func TestDeliver(t *testing.T) {
	inBubble(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		for _, step := range []struct{ want int }{{0}, {1}, {2}} {
			if r, err := a.a.Deliver(t.Context(), emitTo("A")); err != nil || r != (crosscast.Receipt{Nodes: step.want, Known: true}) {
				t.Errorf("receipt %+v, %v; want %d", r, err, step.want)
			}
			if step.want < 2 {
				subscribe(t, c.peers[step.want+1], "A")
			}
		}
		subscribe(t, a, "A") // we are not our own peer
		if r, err := a.a.Deliver(t.Context(), emitTo("A")); err != nil || r.Nodes != 2 {
			t.Errorf("receipt %+v, %v", r, err)
		}
		a.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: errors.New("scripted"), Lost: true} })
		if _, err := a.a.Deliver(t.Context(), emitTo("A")); !errors.Is(err, crosscast.ErrUncertain) {
			t.Error("an uncertain outcome:", err)
		}
	})
}

func TestStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		p := &peer{port: hub.Port("p")}
		p.port.Down()
		err := wire.New(p.port, wire.Options{}).Start(t.Context(), starting(crosscast.NodeInfo{ID: "node0000"}, p))
		if err == nil || !strings.Contains(err.Error(), "membus: down") {
			t.Error("unreachable:", err)
		}
		p.port.Up()
		p.port.Deny("cc:all", true)
		if err := wire.New(p.port, wire.Options{}).Start(t.Context(), starting(crosscast.NodeInfo{ID: "node0000"}, p)); !errors.Is(err, crosscast.ErrDenied) {
			t.Error("denied:", err)
		}
		if err := wire.New(p.port, wire.Options{Prefix: "a*"}).Start(t.Context(), starting(crosscast.NodeInfo{ID: "node0000"}, p)); err == nil {
			t.Error("a bad prefix was accepted")
		}
	})
}

func TestClose(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		for range 100 {
			a.a.Publish(t.Context(), emitTo("A"))
		}
		if err := a.a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(b.got()) != 100 {
			t.Errorf("%d of 100 handed over by Close", len(b.got()))
		}
		for name, err := range map[string]error{
			"Publish":   a.a.Publish(t.Context(), emitTo("A")),
			"Subscribe": a.a.Subscribe(t.Context(), room("A")),
			"Start":     a.a.Start(t.Context(), starting(crosscast.NodeInfo{}, a)),
		} {
			if !errors.Is(err, crosscast.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		b.port.Down()
		synctest.Wait()
		b.a.Publish(t.Context(), emitTo("A"))
		if err := b.a.Close(t.Context()); err != nil {
			t.Error("Close during an outage:", err)
		}
		if l := b.lost(); len(l) != 1 || !errors.Is(l[0].Err, crosscast.ErrRefused) {
			t.Errorf("what Close could not hand over: %+v", l)
		}
	})
}

func TestHostileBytesAreCounted(t *testing.T) {
	inBubble(t, 2, wire.Options{MaxFrame: 4096}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		stranger := c.hub.Port("stranger")
		good := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "stranger", Number: 1})
		later := bytes.Clone(good)
		later[4] = 9
		for _, bytes := range [][]byte{
			nil, []byte("hello"), []byte(`{"event":"x"}`), {0xdf, 0xff, 0xff, 0xff, 0xff}, later, good[:20], make([]byte, 1<<20),
		} {
			stranger.Publish(t.Context(), []wire.Frame{{Topic: "cc:r:/:A", Data: bytes}})
		}
		a.a.Publish(t.Context(), emitTo("A"))
		synctest.Wait()
		if len(b.got()) != 1 || len(b.seen()) != 0 {
			t.Errorf("delivered %v, gaps %+v", b.got(), b.seen())
		}
		d := b.a.AdapterStats().Dropped
		if d["foreign"] != 4 || d["version"] != 1 || d["malformed"] != 1 || d["too large"] != 1 {
			t.Errorf("dropped %v", d)
		}
		if err := a.a.Publish(t.Context(), &crosscast.Instruction{
			Kind: kind.Emit, Target: crosscast.Target{Everyone: true}, Payload: crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, 8192)},
		}); !errors.Is(err, crosscast.ErrTooLarge) {
			t.Error("an instruction over MaxFrame:", err)
		}
	})
}

// An hour of an idle node costs its heartbeats and nothing else.
func TestIdle(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		frames := 0
		c.hub.OnExecute(func(wire.Frame) { frames++ })
		time.Sleep(time.Hour)
		if frames != 0 || len(c.peers[0].seen()) != 0 {
			t.Errorf("%d frames, gaps %+v", frames, c.peers[0].seen())
		}
	})
}

// starting returns the argument of Start.
func starting(self crosscast.NodeInfo, h crosscast.AdapterHandler, emitOnly ...bool) crosscast.AdapterStart {
	return crosscast.AdapterStart{Self: self, Handler: h, EmitOnly: len(emitOnly) > 0 && emitOnly[0]}
}
