package wire_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// partNames are the parts of the tests.
var partNames = []string{"a", "b", "c"}

// partNode is a node over three scripted buses, with one client in a room of each.
type partNode struct {
	*crosscast.Node
	a     crosscast.Adapter
	ports map[string]*membus.Port

	told // events
}

// Send implements crosscast.Conn.
func (n *partNode) Send(m *crosscast.Message) error {
	n.add(m.Event)
	return nil
}

func (n *partNode) Close(crosscast.Reason) {}

// took sorts the events.
func (n *partNode) took() []string {
	got := n.told.took()
	slices.Sort(got)
	return got
}

// partCluster is nodes over three buses.
type partCluster struct {
	t     *testing.T
	hubs  map[string]*membus.Hub
	nodes []*partNode
	home  string            // the part of everyone
	rooms map[string]string // a room of each part
	other string            // a part that is not home
	third string
	model *wire.Parts // knows the parts of names
}

func inPartBubble(t *testing.T, n int, o wire.Options, f func(t *testing.T, c *partCluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &partCluster{t: t, hubs: map[string]*membus.Hub{}, rooms: map[string]string{}}
		for _, name := range partNames {
			c.hubs[name] = membus.New()
		}
		c.model = wire.NewParts(c.parts(nil, partNames), wire.Options{})
		p := c.model
		for i := 0; len(c.rooms) < 3; i++ {
			name := fmt.Sprint("room", i)
			part := wire.PartOf(p, room(name))
			if c.rooms[part] == "" {
				c.rooms[part] = name
			}
		}
		c.home = wire.PartOf(p, crosscast.Address{})
		others := slices.DeleteFunc(slices.Clone(partNames), func(s string) bool { return s == c.home })
		c.other, c.third = others[0], others[1]
		for range n {
			c.add(o, partNames)
		}
		defer func() {
			for _, n := range c.nodes {
				for _, p := range n.ports {
					p.Up()
					p.SetFate(nil)
				}
			}
			time.Sleep(10 * time.Second)
			for _, n := range c.nodes {
				if err := n.Node.Close(t.Context()); err != nil {
					t.Error("Close:", err)
				}
			}
		}()
		time.Sleep(2 * time.Second)
		f(t, c)
	})
}

func (c *partCluster) parts(n *partNode, names []string) (parts []wire.Part) {
	for _, name := range names {
		port := c.hubs[name].Port(fmt.Sprint(name, len(c.nodes)))
		if n != nil {
			n.ports[name] = port
		}
		parts = append(parts, wire.Part{Name: name, Bus: port})
	}
	return parts
}

func (c *partCluster) add(o wire.Options, names []string) *partNode {
	c.t.Helper()
	n := &partNode{ports: map[string]*membus.Port{}}
	with := crosscast.ConnectOptions{User: fmt.Sprint("user", len(c.nodes))}
	for _, name := range partNames {
		with.Rooms = append(with.Rooms, c.rooms[name])
	}
	return c.start(n, wire.NewParts(c.parts(n, names), o), with)
}

// start starts a node and its client.
func (c *partCluster) start(n *partNode, a crosscast.Adapter, with crosscast.ConnectOptions) *partNode {
	c.t.Helper()
	n.a = a
	var err error
	n.Node, err = crosscast.Start(c.t.Context(), crosscast.Options{
		Name: fmt.Sprint("n", len(c.nodes)), Adapter: a,
		OnGap:  func(_ *crosscast.Node, g crosscast.Gap) { n.Gap(g) },
		OnLoss: func(_ *crosscast.Node, l crosscast.Loss) { n.Loss(l) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := n.Connect(c.t.Context(), n, with); err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	return n
}

// emit has a node emit to the room of each part, and to everyone. The events are the parts' names, and "all".
func (c *partCluster) emit(n *partNode) {
	c.t.Helper()
	for _, part := range partNames {
		if err := n.To(c.rooms[part]).Emit(c.t.Context(), part, nil); err != nil {
			c.t.Errorf("emitting to a room on %s: %v", part, err)
		}
	}
	if err := n.Emit(c.t.Context(), "all", nil); err != nil {
		c.t.Errorf("emitting to everyone: %v", err)
	}
	synctest.Wait()
}

// knowEachOther fails if a node has lost a peer.
func (c *partCluster) knowEachOther(when string) {
	c.t.Helper()
	for _, n := range c.nodes {
		if s := n.Stats(); s.Peers != len(c.nodes)-1 || len(s.Lost) != 0 || s.Suspects != 0 {
			c.t.Errorf("%s, %s knows %d peers, suspects %d and has lost %v", when, n.Name(), s.Peers, s.Suspects, s.Lost)
		}
	}
}

// TestAPartDies: while one of several buses is down, rooms elsewhere miss nothing, and everyone's emissions arrive. Then
// the gap names the rooms and users of that part, and nothing of the others. What was emitted meanwhile arrives.
func TestAPartDies(t *testing.T) {
	inPartBubble(t, 3, wire.Options{}, func(t *testing.T, c *partCluster) {
		for _, n := range c.nodes {
			n.ports[c.other].Down()
		}
		synctest.Wait()
		c.emit(c.nodes[0])
		rest := []string{"all", c.home, c.third}
		slices.Sort(rest)
		for _, n := range c.nodes[1:] {
			if got := n.took(); !slices.Equal(got, rest) {
				t.Errorf("while %s is down, %s got %v", c.other, n.Name(), got)
			}
			if gaps := n.tookGaps(); len(gaps) != 0 {
				t.Errorf("while %s is down, %s has gaps %+v", c.other, n.Name(), gaps)
			}
		}
		time.Sleep(3 * time.Second)
		for _, n := range c.nodes {
			n.ports[c.other].Up()
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		for _, n := range c.nodes {
			gaps := n.tookGaps()
			if len(gaps) != 1 || gaps[0].Reason != reasons.GapLinkLost || gaps[0].Origin != "" || !gaps[0].Covers(room(c.rooms[c.other])) ||
				gaps[0].Covers(room(c.rooms[c.home])) || gaps[0].Covers(room(c.rooms[c.third])) {
				t.Errorf("%s has gaps %+v", n.Name(), gaps)
			}
		}
		for _, n := range c.nodes[1:] {
			if got := n.took(); !slices.Equal(got, []string{c.other}) {
				t.Errorf("when %s is back, %s got %v", c.other, n.Name(), got)
			}
		}
		c.knowEachOther("at the end")
	})
}

// TestThePartOfEveryoneDies: no peer is lost, however long it takes, and emissions to rooms elsewhere arrive. The gap is of
// everything.
func TestThePartOfEveryoneDies(t *testing.T) {
	inPartBubble(t, 3, wire.Options{}, func(t *testing.T, c *partCluster) {
		for _, n := range c.nodes {
			n.ports[c.home].Down()
		}
		for range 15 {
			time.Sleep(2 * time.Second)
			c.knowEachOther("while it is down")
		}
		c.emit(c.nodes[0])
		rest := []string{c.other, c.third}
		for _, n := range c.nodes[1:] {
			if got := n.took(); !slices.Equal(got, rest) {
				t.Errorf("%s got %v", n.Name(), got)
			}
		}
		time.Sleep(10 * time.Second)
		for _, n := range c.nodes {
			n.ports[c.home].Up()
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		c.knowEachOther("when it is back")
		if l := c.nodes[0].losses; len(l) != 1 || l[0].Instructions != 2 || l[0].Reason != reasons.LossExpired {
			t.Errorf("losses %+v", l)
		}
		for _, n := range c.nodes {
			gaps := n.tookGaps()
			i := slices.IndexFunc(gaps, func(g crosscast.Gap) bool { return g.Reason == reasons.GapLinkLost })
			if i < 0 || gaps[i].Names != nil || gaps[i].Until.Sub(gaps[i].Since) < 40*time.Second {
				t.Errorf("%s has gaps %+v", n.Name(), gaps)
			}
		}
		c.emit(c.nodes[0])
		for _, n := range c.nodes[1:] {
			if got := n.took(); len(got) != 4 {
				t.Errorf("at the end, %s got %v", n.Name(), got)
			}
		}
	})
}

// TestANodeLosesAPart: the others do not take a node for dead that has lost one part only. They report a gap of that part's
// names, and another one when it is back there.
func TestANodeLosesAPart(t *testing.T) {
	inPartBubble(t, 3, wire.Options{}, func(t *testing.T, c *partCluster) {
		odd := c.nodes[0]
		odd.ports[c.other].Down()
		time.Sleep(3 * time.Second)
		c.emit(odd)
		time.Sleep(9 * time.Second)
		c.knowEachOther("after 12 s")
		for _, n := range c.nodes[1:] {
			gaps := n.tookGaps()
			if len(gaps) != 1 || gaps[0].Origin != odd.ID() || gaps[0].Reason != reasons.GapPeerLost ||
				!gaps[0].Covers(room(c.rooms[c.other])) || gaps[0].Covers(room(c.rooms[c.third])) {
				t.Errorf("%s has gaps %+v", n.Name(), gaps)
			}
			if got := n.took(); len(got) != 3 || slices.Contains(got, c.other) {
				t.Errorf("%s got %v", n.Name(), got)
			}
		}
		odd.ports[c.other].Up()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, n := range c.nodes[1:] {
			gaps := n.tookGaps()
			if len(gaps) == 0 || slices.ContainsFunc(gaps, func(g crosscast.Gap) bool {
				return g.Origin != odd.ID() || !g.Covers(room(c.rooms[c.other])) || g.Covers(room(c.rooms[c.third]))
			}) {
				t.Errorf("when it is back, %s has gaps %+v", n.Name(), gaps)
			}
		}
		c.emit(odd)
		for _, n := range c.nodes[1:] {
			if got := n.took(); len(got) != 4 {
				t.Errorf("when it is back, %s got %v", n.Name(), got)
			}
		}
	})
}

// TestANodeOfPartsDies: a node that is silent on all parts is dead.
func TestANodeOfPartsDies(t *testing.T) {
	inPartBubble(t, 3, wire.Options{}, func(t *testing.T, c *partCluster) {
		for _, p := range c.nodes[0].ports {
			p.Down()
		}
		time.Sleep(9 * time.Second)
		for _, n := range c.nodes[1:] {
			if s := n.Stats(); s.Peers != 1 || len(s.Lost) != 1 {
				t.Errorf("%s knows %d peers, and has lost %v", n.Name(), s.Peers, s.Lost)
			}
		}
	})
}

// TestCopiesComeCrosswise: parts have no order between them, so the copies of emissions come crosswise: a later one first,
// and the copies of one with those of others in between. A client gets each once, and none is missing.
func TestCopiesComeCrosswise(t *testing.T) {
	inPartBubble(t, 2, wire.Options{}, func(t *testing.T, c *partCluster) {
		from, to := c.nodes[0], c.nodes[1]
		fast, slow := c.rooms[c.other], c.rooms[c.third]
		strange := map[string]string{} // rooms that nobody is in
		for i := 0; len(strange) < 3; i++ {
			name := fmt.Sprint("strange", i)
			strange[wire.PartOf(c.model, room(name))] = name
		}
		from.ports[c.third].SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Delay: 100 * time.Millisecond} })
		time.Sleep(551 * time.Millisecond) // no heartbeat is published together with an emission
		var want []string
		for i := range 100 {
			for _, rooms := range [][]string{{strange[c.other], slow}, {fast, strange[c.third]}, {fast, slow}} {
				event := fmt.Sprint(i, rooms)
				want = append(want, event)
				if err := from.To(rooms...).Emit(t.Context(), event, nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(4 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		slices.Sort(want)
		if got := to.took(); !slices.Equal(got, want) {
			t.Errorf("%d of %d came: %v", len(got), len(want), got)
		}
		if gaps := to.tookGaps(); len(gaps) != 0 {
			t.Errorf("gaps %+v", gaps)
		}
	})
}

// TestAllPartsOrNone: an emission to names of several parts reaches all or none of them.
func TestAllPartsOrNone(t *testing.T) {
	inPartBubble(t, 2, wire.Options{QueueBytes: 8 << 10}, func(t *testing.T, c *partCluster) {
		from, to := c.nodes[0], c.nodes[1]
		from.ports[c.other].Down()
		synctest.Wait()
		var err error
		for i := 0; err == nil && i < 1000; i++ {
			err = from.To(c.rooms[c.other]).Emit(t.Context(), "filling", nil)
		}
		if !errors.Is(err, crosscast.ErrNotConnected) {
			t.Fatal("filling the queue:", err)
		}
		synctest.Wait()
		to.took()
		err = from.To(c.rooms[c.other], c.rooms[c.third]).Emit(t.Context(), "both", nil)
		if !errors.Is(err, crosscast.ErrNotConnected) || !strings.Contains(err.Error(), "part "+c.other) {
			t.Error("to both:", err)
		}
		if err := from.To(c.rooms[c.third]).Emit(t.Context(), "one", nil); err != nil {
			t.Error("to the other part:", err)
		}
		synctest.Wait()
		if got := to.took(); !slices.Equal(got, []string{"one"}) {
			t.Errorf("got %v", got)
		}
	})
}

// TestGoodbyeOnParts: a node that leaves is forgotten at once, and a heartbeat that comes later on another part is no sign
// of life.
func TestGoodbyeOnParts(t *testing.T) {
	inPartBubble(t, 3, wire.Options{}, func(t *testing.T, c *partCluster) {
		leaving := c.nodes[0]
		time.Sleep(500 * time.Millisecond)
		for _, part := range partNames { // the next heartbeat comes on one part only, and late
			fate := membus.Fate{Lost: true}
			if part == c.other {
				fate = membus.Fate{Delay: 300 * time.Millisecond}
			}
			leaving.ports[part].SetFate(func(wire.Frame) membus.Fate { return fate })
		}
		time.Sleep(600 * time.Millisecond)
		leaving.ports[c.home].SetFate(nil)
		leaving.ports[c.third].SetFate(nil)
		if err := leaving.Node.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 20 {
			for _, n := range c.nodes[1:] {
				if s := n.Stats(); s.Peers != 1 || len(s.Lost) != 0 {
					t.Fatalf("%s knows %d peers, and has lost %v", n.Name(), s.Peers, s.Lost)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestFramesOfPartsHaveOneCounter: no two frames of a node have the same number, whatever their parts.
func TestFramesOfPartsHaveOneCounter(t *testing.T) {
	inPartBubble(t, 2, wire.Options{}, func(t *testing.T, c *partCluster) {
		var mu sync.Mutex
		seen := map[string]int{}
		for _, hub := range c.hubs {
			hub.OnExecute(func(f wire.Frame) {
				var r wire.FrameReader
				if h, err := r.Reset(f.Data, &crosscast.Address{}); err == nil {
					mu.Lock()
					defer mu.Unlock()
					seen[fmt.Sprint(h.Origin, h.Number)]++
				}
			})
		}
		for range 10 {
			c.emit(c.nodes[0])
			c.emit(c.nodes[1])
			time.Sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		for number, n := range seen {
			if n > 1 {
				t.Errorf("%d frames have the number %s", n, number)
			}
		}
		if len(seen) < 100 {
			t.Errorf("only %d frames", len(seen))
		}
	})
}

// TestOtherPartsAreReported: a node with other parts is a gap of everything.
func TestOtherPartsAreReported(t *testing.T) {
	inPartBubble(t, 2, wire.Options{}, func(t *testing.T, c *partCluster) {
		odd := c.add(wire.Options{}, partNames[:2])
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, n := range c.nodes[:2] {
			told := n.Stats().Adapter.Misrouted
			if len(told) != 1 || told[odd.ID()] != "a+b/own" {
				t.Errorf("%s tells of %v", n.Name(), told)
			}
			if gaps := n.tookGaps(); len(gaps) == 0 || gaps[0].Reason != reasons.GapRouting || gaps[0].Names != nil {
				t.Errorf("%s has gaps %+v", n.Name(), gaps)
			}
		}
		if told := odd.Stats().Adapter.Misrouted; len(told) != 2 {
			t.Errorf("the other tells of %v", told)
		}
	})
}

// TestAPartIsDeaf: a link of one part that brings nothing more is replaced, and is a gap of that part's names.
func TestAPartIsDeaf(t *testing.T) {
	inPartBubble(t, 2, wire.Options{}, func(t *testing.T, c *partCluster) {
		from, to := c.nodes[0], c.nodes[1]
		to.ports[c.other].Starve()
		c.emit(from)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := to.took(); len(got) != 3 || slices.Contains(got, c.other) {
			t.Errorf("got %v", got)
		}
		gaps := to.tookGaps()
		if len(gaps) != 1 || gaps[0].Reason != reasons.GapDeaf || !gaps[0].Covers(room(c.rooms[c.other])) || gaps[0].Covers(room(c.rooms[c.third])) {
			t.Errorf("gaps %+v", gaps)
		}
		c.knowEachOther("at the end")
		c.emit(from)
		if got := to.took(); len(got) != 4 {
			t.Errorf("at the end, got %v", got)
		}
	})
}

// TestANodeOfPartsMayNotPublish: nothing that a node publishes comes back, and it hears its peers on all parts. It takes
// none of them for lost.
func TestANodeOfPartsMayNotPublish(t *testing.T) {
	inPartBubble(t, 2, wire.Options{}, func(t *testing.T, c *partCluster) {
		from, mute := c.nodes[0], c.nodes[1]
		for _, p := range mute.ports {
			p.SetFate(func(wire.Frame) membus.Fate {
				return membus.Fate{Err: fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrDenied), Lost: true}
			})
		}
		for range 20 {
			time.Sleep(time.Second)
			c.emit(from)
		}
		if gaps := mute.tookGaps(); len(gaps) > 0 {
			t.Errorf("gaps %+v", gaps)
		}
		if got := mute.took(); len(got) != 20*4 {
			t.Errorf("got %d messages", len(got))
		}
		for _, p := range mute.ports {
			p.SetFate(nil)
		}
		time.Sleep(10 * time.Second)
		c.knowEachOther("at the end")
	})
}

// TestPartsInTurn: whatever happens to whichever part, each emission to a room arrives once and in order, or is part of a
// gap or a loss.
func TestPartsInTurn(t *testing.T) {
	for seed := range uint64(40) {
		inPartBubble(t, 3, wire.Options{MaxAge: 2 * time.Second}, func(t *testing.T, c *partCluster) {
			r := rand.New(rand.NewPCG(seed, 2))
			emitted := map[string]time.Time{} // by event
			n := 0
			for range 60 {
				node := c.nodes[r.IntN(3)]
				port := node.ports[partNames[r.IntN(3)]]
				switch r.IntN(6) {
				case 0:
					port.Cut()
				case 1:
					port.Down()
				case 2:
					port.Up()
				case 3:
					port.Starve()
				}
				for range r.IntN(4) {
					part := partNames[r.IntN(3)]
					n++
					event := fmt.Sprintf("%s %s %05d", node.Name(), part, n)
					if node.To(c.rooms[part]).Emit(t.Context(), event, nil) == nil {
						emitted[event] = time.Now()
					}
				}
				time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
			}
			for _, node := range c.nodes {
				for _, p := range node.ports {
					p.Up()
				}
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			for _, node := range c.nodes {
				node.mu.Lock()
				seen, last := map[string]bool{}, map[string]string{}
				for _, event := range node.got {
					if seen[event] {
						t.Errorf("%d: %s got %q twice", seed, node.Name(), event)
					}
					seen[event] = true
					if stream := event[:5]; event < last[stream] {
						t.Errorf("%d: %s got %q after %q", seed, node.Name(), event, last[stream])
					}
					last[event[:5]] = event
				}
				for event, at := range emitted {
					from := c.nodes[slices.IndexFunc(c.nodes, func(n *partNode) bool { return n.Name() == event[:2] })]
					a := room(c.rooms[event[3:4]])
					covered := slices.ContainsFunc(node.gaps, func(g crosscast.Gap) bool {
						return g.Covers(a) && (g.Origin == "" || g.Origin == from.ID()) && !at.After(g.Until) &&
							(g.Reason == reasons.GapLoss || !at.Before(g.Since.Add(-2*time.Second)))
					})
					if !seen[event] && !covered {
						t.Errorf("%d: %s missed %q of %v in silence: %+v", seed, node.Name(), event, at, node.gaps)
					}
				}
				node.mu.Unlock()
			}
		})
	}
}

// TestAPartIsBackAtOnce: when a node's link of one part is back, what it emits there does not wait for heartbeats of its peers:
// it asks them.
func TestAPartIsBackAtOnce(t *testing.T) {
	inPartBubble(t, 3, wire.Options{}, func(t *testing.T, c *partCluster) {
		from := c.nodes[0]
		for range 10 { // at any time between two heartbeats
			time.Sleep(1100 * time.Millisecond)
			from.ports[c.other].Cut()
			synctest.Wait()
			c.emit(from)
			time.Sleep(300 * time.Millisecond)
			for _, n := range c.nodes[1:] {
				if got := n.took(); len(got) != 4 {
					t.Errorf("%s got %v", n.Name(), got)
				}
			}
		}
	})
}
