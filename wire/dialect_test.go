package wire_test

import (
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

// plain is a dialect: the text "from event" on the topic "all", or on the room's. A user is the room "u:" and the name;
// a namespace other than "/" is not heard.
type plain struct {
	self crosscast.NodeInfo
	h    crosscast.AdapterHandler

	emitOnly bool
}

func (p *plain) Begin(s crosscast.AdapterStart) {
	p.self, p.h, p.emitOnly = s.Self, s.Handler, s.EmitOnly
}

func (p *plain) home() string { return "home:" + string(p.self.ID) }

func (p *plain) Home() []string {
	if p.emitOnly {
		return []string{p.home()}
	}
	return []string{"all", p.home()}
}

func (p *plain) Topics(a crosscast.Address) []string {
	switch {
	case a.Namespace != "/":
		return nil
	case a.Space == crosscast.SpaceUser:
		return []string{"u:" + a.Name}
	}
	return []string{a.Name}
}

func (p *plain) Write(inst *crosscast.Instruction, send func(string, crosscast.Address, []byte)) error {
	if inst.Event == "reserved" {
		return errReserved
	}
	if inst.Kind != kind.Emit {
		return nil
	}
	text := fmt.Appendf(nil, "%s %s", p.self.ID, inst.Event)
	if inst.Event == "large" {
		text = append(text, make([]byte, 2000)...)
	}
	if inst.Target.Everyone {
		send("all", crosscast.Address{}, text)
	}
	for _, r := range inst.Target.Rooms {
		send(r, room(r), text)
	}
	for i := range text {
		text[i] = '?' // it was copied
	}
	return nil
}

func (p *plain) Read(_ string, data []byte) (uint64, error) {
	var n uint64
	if k, _ := fmt.Sscanf(string(data), "echo %d", &n); k == 1 {
		return n, nil
	}
	from, event, ok := strings.Cut(string(data), " ")
	switch {
	case !ok:
		return 0, wire.ErrForeign
	case event == "":
		return 0, wire.ErrMalformed
	case from != string(p.self.ID):
		p.h.Handle(&crosscast.Instruction{Kind: kind.Emit, From: crosscast.NodeID(from), Event: event})
	}
	return 0, nil
}

func (p *plain) Echo(n uint64) (string, []byte) { return p.home(), fmt.Appendf(nil, "echo %d", n) }

var errReserved = errors.New("reserved")

// speaking runs f with n peers that speak plain.
func speaking(t *testing.T, n int, o wire.Options, f func(t *testing.T, c *cluster)) {
	inBubble(t, 0, o, func(t *testing.T, c *cluster) {
		for range n {
			c.speaker(o, crosscast.NodeInfo{})
		}
		f(t, c)
	})
}

func (c *cluster) speaker(o wire.Options, self crosscast.NodeInfo, emitOnly ...bool) *peer {
	return c.speak(&plain{}, o, self, emitOnly...)
}

func (c *cluster) speak(d wire.Dialect, o wire.Options, self crosscast.NodeInfo, emitOnly ...bool) *peer {
	self.ID, self.Heartbeat = crosscast.NodeID(fmt.Sprintf("node%04d", len(c.peers))), c.heartbeat
	p := &peer{id: self.ID, port: c.hub.Port(string(self.ID))}
	p.a = wire.Speak(p.port, d, o)
	if err := p.a.Start(c.t.Context(), starting(self, p, emitOnly...)); err != nil {
		c.t.Fatal(err)
	}
	c.peers = append(c.peers, p)
	return p
}

func everyone(event string) *crosscast.Instruction {
	return &crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", Event: event, Target: crosscast.Target{Everyone: true},
	}
}

func mustPublish(t *testing.T, p *peer, instructions ...*crosscast.Instruction) {
	t.Helper()
	for _, inst := range instructions {
		if err := p.a.Publish(t.Context(), inst); err != nil {
			t.Fatal("Publish:", err)
		}
	}
}

func wantEvents(t *testing.T, p *peer, events ...string) {
	t.Helper()
	synctest.Wait()
	if got := p.got(); !slices.Equal(got, events) {
		t.Errorf("%s got %q, want %q", p.id, got, events)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delivered = nil
}

// TestDialect: each peer receives the messages of its subscriptions once, and not its own. The bus carries only the
// dialect's messages.
func TestDialect(t *testing.T) {
	speaking(t, 3, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b, d := c.peers[0], c.peers[1], c.peers[2]
		var topics []string
		c.hub.OnExecute(func(f wire.Frame) { topics = append(topics, f.Topic) })
		subscribe(t, b, "A", "B")
		mustPublish(t, a, everyone("x"))
		mustPublish(t, a, emitTo("A", "B"))
		mustPublish(t, a, &crosscast.Instruction{Kind: kind.Goodbye, Target: crosscast.Target{Everyone: true}})
		wantEvents(t, a)
		wantEvents(t, b, "x", "A+B", "A+B")
		wantEvents(t, d, "x")
		c.beat(3 * time.Second)
		synctest.Wait()
		for _, topic := range topics {
			if topic != "all" && topic != "A" && topic != "B" && !strings.HasPrefix(topic, "home:node") {
				t.Errorf("published on %q", topic)
			}
		}
		if !slices.Contains(topics, "home:node0002") {
			t.Error("a heartbeat made no echo")
		}
		n := len(topics)
		mustPublish(t, a, &crosscast.Instruction{Kind: kind.Heartbeat, To: b.id})
		synctest.Wait()
		if len(topics) != n {
			t.Errorf("a heartbeat to one node became %q", topics[n:])
		}
		if err := a.a.Publish(t.Context(), &crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/", Event: "reserved",
		}); !errors.Is(err, errReserved) {
			t.Error("what the dialect refuses:", err)
		}
		r, err := a.a.Deliver(t.Context(), emitTo("A"))
		if err != nil || r != (crosscast.Receipt{Nodes: 1, Known: true}) {
			t.Errorf("receipt %+v, %v", r, err)
		}
		hello := &crosscast.Instruction{Kind: kind.Hello, Target: crosscast.Target{Everyone: true}}
		if r, err := a.a.Deliver(t.Context(), hello); err != nil || r.Nodes != 0 {
			t.Errorf("hello: receipt %+v, %v", r, err)
		}
		synctest.Wait()
		if s := b.a.AdapterStats(); s.InstructionsIn != 4 || !s.Connected {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestDialectSharesTopics: a topic is subscribed as long as any of its names is.
func TestDialectSharesTopics(t *testing.T) {
	speaking(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		asRoom := room("u:eve")
		asUser := crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "eve"}
		home := room("all") // of the dialect's own
		for _, first := range []crosscast.Address{asRoom, asUser} {
			second := asUser
			if first == asUser {
				second = asRoom
			}
			if err := b.a.Subscribe(t.Context(), asRoom, asUser, asUser, home); err != nil {
				t.Fatal(err)
			}
			b.a.Unsubscribe(t.Context(), first, home)
			mustPublish(t, a, emitTo("u:eve"))
			mustPublish(t, a, everyone("x"))
			wantEvents(t, b, "u:eve", "x")
			b.a.Unsubscribe(t.Context(), second)
			synctest.Wait()
			mustPublish(t, a, emitTo("u:eve"))
			wantEvents(t, b)
		}
		// A name without topics is heard when the link stands.
		if err := b.a.Subscribe(t.Context(), crosscast.Address{Namespace: "/other", Name: "x"}); err != nil {
			t.Error(err)
		}
		b.port.Down()
		synctest.Wait()
		err := b.a.Subscribe(t.Context(), crosscast.Address{Namespace: "/other", Name: "y"})
		if !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("while the link is down:", err)
		}
	})
}

// TestDialectOutages: broken and deaf links are found and replaced, each with a gap. Then waiting messages are
// published. Refused messages are a loss, which the bus does not carry.
func TestDialectOutages(t *testing.T) {
	speaking(t, 2, wire.Options{QueueBytes: 4096}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, b, "A")
		b.port.Starve()
		c.beat(8 * time.Second)
		if g := b.seen(); len(g) != 1 || g[0].Reason != reasons.GapDeaf {
			t.Fatalf("deaf: gaps %+v", g)
		}
		a.port.Down()
		synctest.Wait()
		mustPublish(t, a, emitTo("A"))
		for range 100 {
			if err := a.a.Publish(t.Context(), emitTo(strings.Repeat("x", 100))); err != nil {
				if !errors.Is(err, crosscast.ErrNotConnected) {
					t.Fatal("the queue is full:", err)
				}
				break
			}
		}
		wantEvents(t, b)
		a.port.Up()
		c.beat(3 * time.Second)
		wantEvents(t, b, "A")
		if g := a.seen(); len(g) != 1 || g[0].Reason != reasons.GapLinkLost {
			t.Errorf("gaps %+v", g)
		}

		var heard int
		c.hub.OnExecute(func(f wire.Frame) {
			if f.Topic != a.home() && f.Topic != b.home() {
				heard++
			}
		})
		a.port.SetFate(func(f wire.Frame) membus.Fate {
			if f.Topic != "A" {
				return membus.Fate{}
			}
			return membus.Fate{Err: crosscast.ErrRefused, Lost: true}
		})
		mustPublish(t, a, emitTo("A"))
		c.beat(3 * time.Second)
		if l := a.lost(); len(l) != 1 || len(l[0].Names) != 1 || l[0].Names[0] != room("A") || l[0].Instructions != 1 {
			t.Errorf("losses %+v", l)
		}
		if heard != 0 || len(b.seen()) != 1 {
			t.Errorf("after a loss %d messages on the bus, gaps %+v", heard, b.seen())
		}
		a.port.SetFate(nil)
		mustPublish(t, a, emitTo("A"))
		wantEvents(t, b, "A")
	})
}

// TestDialectTriesTheConnectionFirst: a link and the connection that publishes may break together, and the second shows
// only when it is used. So an echo goes first, and not the queue, which would not be sent again.
func TestDialectTriesTheConnectionFirst(t *testing.T) {
	speaking(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		a.port.Down() // which nothing that is published notices
		synctest.Wait()
		mustPublish(t, a, everyone("x"))
		var used time.Time
		a.port.SetFate(func(wire.Frame) membus.Fate {
			if used.IsZero() {
				used = time.Now()
			}
			if time.Now().After(used) { // in another batch
				return membus.Fate{}
			}
			return membus.Fate{Err: errors.New("broken"), Down: true, Lost: true}
		})
		a.port.Up()
		c.beat(3 * time.Second)
		wantEvents(t, b, "x")
		if l := a.lost(); len(l) != 0 {
			t.Errorf("losses %+v", l)
		}
	})
}

func (p *peer) home() string { return "home:" + string(p.id) }

// gathering is plain that knows when its peers are back.
type gathering struct {
	plain
	asked chan struct{} // gets one for each question
	back  chan struct{} // answers one
}

func (g *gathering) Gather(ctx context.Context) {
	g.asked <- struct{}{}
	select {
	case <-g.back:
	case <-ctx.Done():
	}
}

// TestDialectGathers: after an outage, waiting messages go out when the peers are back, or after two heartbeats.
func TestDialectGathers(t *testing.T) {
	speaking(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[0]
		g := &gathering{asked: make(chan struct{}, 9), back: make(chan struct{})}
		a := c.speak(g, wire.Options{}, crosscast.NodeInfo{})
		for _, heartbeats := range []time.Duration{0, 2} {
			a.port.Down()
			synctest.Wait()
			mustPublish(t, a, everyone("x"))
			a.port.Up()
			<-g.asked
			time.Sleep(heartbeats*time.Second - time.Millisecond)
			wantEvents(t, b)
			if heartbeats == 0 {
				g.back <- struct{}{}
			} else {
				time.Sleep(2 * time.Millisecond)
			}
			wantEvents(t, b, "x")
		}
		if len(g.asked) != 0 {
			t.Error("asked without an outage")
		}
	})
}

// TestDialectHostile: foreign, malformed and too large messages are counted and dropped.
func TestDialectHostile(t *testing.T) {
	speaking(t, 1, wire.Options{MaxFrame: 1024}, func(t *testing.T, c *cluster) {
		a, stranger := c.peers[0], c.hub.Port("stranger")
		for _, text := range []string{"foreign", "eve ", "eve " + strings.Repeat("x", 1<<20), "eve fine"} {
			stranger.Publish(t.Context(), []wire.Frame{{Topic: "all", Data: []byte(text)}})
		}
		wantEvents(t, a, "fine")
		got := a.a.AdapterStats().Dropped
		if got["foreign"] != 1 || got["malformed"] != 1 || got["too large"] != 1 {
			t.Errorf("dropped %v", got)
		}
		if g := a.seen(); len(g) != 1 || g[0].Origin != "" || g[0].Names != nil || g[0].Reason != reasons.GapHole {
			t.Errorf("a message that was too large to be looked at: gaps %+v", g)
		}
		if err := a.a.Publish(t.Context(), emitTo(strings.Repeat("x", 1024))); !errors.Is(err, crosscast.ErrInvalidName) {
			t.Error("a name that is too long:", err)
		}
		if err := a.a.Publish(t.Context(), everyone("large")); !errors.Is(err, crosscast.ErrTooLarge) {
			t.Error("a message that is too large:", err)
		}
	})
}

// TestDialectEmitter: an emitter publishes, at its start, nothing that anybody else hears, and hears its home alone.
func TestDialectEmitter(t *testing.T) {
	speaking(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a := c.peers[0]
		var topics []string
		c.hub.OnExecute(func(f wire.Frame) { topics = append(topics, f.Topic) })
		e := c.speaker(wire.Options{}, crosscast.NodeInfo{}, true)
		if err := e.a.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.beat(3 * time.Second)
		synctest.Wait()
		for _, topic := range topics {
			if topic != a.home() && topic != e.home() {
				t.Errorf("published on %q", topic)
			}
		}
		mustPublish(t, a, everyone("x"))
		mustPublish(t, e, everyone("y"))
		wantEvents(t, a, "y")
		wantEvents(t, e)
		e.port.SetFate(func(f wire.Frame) membus.Fate { return membus.Fate{Err: crosscast.ErrRefused, Lost: true} })
		mustPublish(t, e, everyone("z"))
		synctest.Wait()
		e.port.SetFate(nil)
		n := len(topics)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(topics) != n {
			t.Errorf("after a loss it published on %q", topics[n:])
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := e.a.Listen(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestADeniedRoomAfterAnOutage: a room that the bus still denies does not keep the next link from standing.
func TestADeniedRoomAfterAnOutage(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		b.port.Deny("cc:r:/:secret", true)
		if err := b.a.Subscribe(t.Context(), room("A"), room("secret")); !errors.Is(err, crosscast.ErrDenied) {
			t.Fatal("Subscribe:", err)
		}
		b.port.Deny("cc:r:/:A", true) // from now on
		b.port.Cut()
		c.beat(3 * time.Second)
		b.port.Deny("cc:r:/:A", false)
		b.port.Cut()
		c.beat(3 * time.Second)
		mustPublish(t, a, emitTo("A"))
		wantEvents(t, b, "A")
	})
}
