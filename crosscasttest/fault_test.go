package crosscasttest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
)

// hooked is what the hooks of nodes have reported, by the node's name.
type hooked struct {
	mu    sync.Mutex
	lines map[string][]string // guarded by mu
}

func (h *hooked) add(n *crosscast.Node, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines[n.Name()] = append(h.lines[n.Name()], fmt.Sprintf(format, args...))
}

// take returns the lines of the i-th node, and forgets them.
func (h *hooked) take(i int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := fmt.Sprintf("node-%d", i)
	lines := h.lines[name]
	delete(h.lines, name)
	return strings.Join(lines, "; ")
}

func (h *hooked) options() crosscast.Options {
	return crosscast.Options{
		OnGap: func(n *crosscast.Node, g crosscast.Gap) {
			names := []string{"all"}
			if g.Names != nil {
				names = names[:0]
			}
			for _, a := range g.Names {
				names = append(names, a.Name)
			}
			h.add(n, "gap: %s of %s", g.Reason, strings.Join(names, "+"))
		},
		OnLoss: func(n *crosscast.Node, l crosscast.Loss) { h.add(n, "loss: %s of %d", l.Reason, l.Instructions) },
		OnLink: func(n *crosscast.Node, s crosscast.LinkStatus) {
			h.add(n, "link: %s, %s", s.Publishing.State, s.Subscribing.State)
		},
		OnNode: func(n *crosscast.Node, e crosscast.NodeEvent) {
			if e.Kind == crosscast.NodeSuspect || e.Kind == crosscast.NodeExpired {
				h.add(n, "%s: %d", e.Peer.Name, e.Kind)
			}
		},
	}
}

// faulty starts three nodes whose hooks are recorded, with a client of each in room "r".
func faulty(t testing.TB) (*crosscasttest.Cluster, *hooked, []*crosscasttest.Conn) {
	h := &hooked{lines: make(map[string][]string)}
	c := crosscasttest.NewCluster(t, 3, h.options())
	var conns []*crosscasttest.Conn
	for i := range c.Nodes {
		conns = append(conns, c.Connect(ctx, i, crosscast.ConnectOptions{Rooms: []string{"r"}}))
		h.take(i) // the beginning of the link
	}
	return c, h, conns
}

// sees checks the reports of a node since the last look. Calls of one hook are in order. Calls of different hooks may
// come in any order, so want lists the hooks by name.
func sees(t testing.TB, h *hooked, i int, want string) {
	t.Helper()
	hook := func(line string) string { name, _, _ := strings.Cut(line, ":"); return name }
	lines := strings.Split(h.take(i), "; ")
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(hook(a), hook(b)) })
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("node-%d saw %q, want %q", i, got, want)
	}
}

// TestCutAndHeal: the hooks report what they report of an outage of Redis, the short one's emissions arrive late, and
// those of the long one are losses.
func TestCutAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h, conns := faulty(t)
		emit := func(i int, event string) { t.Helper(); ok(t, c.Nodes[i].To("r").Emit(ctx, event, nil)) }

		c.Cut(0)
		if s := c.Nodes[0].Link(); s.Live() || c.Nodes[1].Link() != (crosscast.LinkStatus{}) && !c.Nodes[1].Link().Live() {
			t.Errorf("after Cut: %+v", s)
		}
		emit(0, "waits")
		emit(1, "missed")
		c.Settle(ctx)
		conns[0].Want("waits")
		conns[1].Want("missed")
		conns[2].Want("missed")
		time.Sleep(time.Second)
		c.Heal(0)
		c.Settle(ctx)
		conns[0].Want()
		conns[1].Want("waits")
		conns[2].Want("waits")
		if got := h.take(0); !strings.HasPrefix(got, "link: ") || !strings.HasSuffix(got, "link: live, live") ||
			strings.Count(got, "gap: link lost of all") != 1 || strings.Contains(got, "loss") {
			t.Errorf("node-0 saw %q", got)
		}
		sees(t, h, 1, "")

		c.Cut(0)
		c.Cut(0) // once more changes nothing
		emit(0, "a")
		emit(0, "b")
		time.Sleep(10 * time.Second)
		c.Heal(0)
		c.Heal(0)
		c.Settle(ctx)
		conns[0].Want("a", "b")
		conns[1].Want()
		if got := h.take(0); !strings.Contains(got, "loss: expired of 2") || !strings.Contains(got, "gap: link lost of all") {
			t.Errorf("node-0 saw %q", got)
		}
		if got := h.take(2); !strings.Contains(got, "gap: peer lost of all; ") {
			t.Errorf("node-2 saw %q", got)
		}
		emit(0, "c")
		c.Settle(ctx)
		conns[2].Want("c")
	})
}

// TestLose: the next emissions reach the own clients only, each is a loss once, and a gap of its room at each peer.
func TestLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h, conns := faulty(t)
		emit := func(i int, event string) { t.Helper(); ok(t, c.Nodes[i].To("r").Emit(ctx, event, nil)) }
		c.Lose(2)
		emit(0, "a")
		ok(t, c.Nodes[1].ToUser("nobody").Join(ctx, "x")) // is no emission
		if _, err := c.Nodes[1].To("r").Deliver(ctx, "b", nil); !errors.Is(err, crosscast.ErrUncertain) {
			t.Error("Deliver:", err)
		}
		emit(0, "c")
		before := time.Now()
		c.Settle(ctx)
		if time.Since(before) != 0 {
			t.Error("Settle took", time.Since(before))
		}
		conns[0].Want("a", "c")
		conns[1].Want("b", "c")
		conns[2].Want("c")
		sees(t, h, 0, "gap: loss of r; loss: uncertain of 1")
		sees(t, h, 1, "gap: loss of r; loss: uncertain of 1")
		sees(t, h, 2, "gap: loss of r; gap: loss of r")

		c.Lose(3)
		if err := c.Nodes[0].To("r").Emit(ctx, "", nil); err == nil { // it never gets to the bus
			t.Error("an event without a name was emitted")
		}
		for _, event := range []string{"d", "e", "f", "g"} {
			emit(2, event)
		}
		c.Settle(ctx)
		sees(t, h, 2, "loss: uncertain of 1; loss: uncertain of 2") // Options.OnLoss: the first at once
		sees(t, h, 1, "gap: loss of r; gap: loss of r; gap: loss of r")
		conns[0].Want("g")
		if err := c.Nodes[2].Flush(ctx); !errors.Is(err, crosscast.ErrUncertain) {
			t.Error("Flush:", err)
		}

		c.Cut(0) // its emissions do not reach the bus, so none is lost
		c.Lose(1)
		emit(0, "waits")
		c.Heal(0)
		c.Settle(ctx)
		conns[2].Clear()
		emit(0, "lost")
		emit(0, "kept")
		c.Settle(ctx)
		conns[2].Want("kept")
	})
}

// TestSlowHook: a hook might wait for the time of a bubble. That goes on, also if a peer dies meanwhile.
func TestSlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		c := crosscasttest.NewCluster(t, 2, crosscast.Options{Heartbeat: 100 * time.Millisecond, OnGap: func(n *crosscast.Node, g crosscast.Gap) {
			if n.Name() == "node-0" {
				time.Sleep(2 * time.Second)
				seen = append(seen, string(g.Reason))
			}
		}})
		c.Cut(0)
		c.Heal(0) // the hook begins
		c.Cut(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Join(seen, ", "); got != "link lost, peer lost" {
			t.Errorf("the hook saw %q", got)
		}
	})
}

// TestFaultsOfAnEmitter: it notices with its next emission.
func TestFaultsOfAnEmitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var losses hooked
		losses.lines = make(map[string][]string)
		o := losses.options()
		o.Name, o.EmitOnly, o.OnGap, o.OnNode, o.OnLink = "node-1", true, nil, nil, nil
		c := crosscasttest.NewCluster(t, 1)
		conn := c.Connect(ctx, 0, crosscast.ConnectOptions{Rooms: []string{"r"}})
		emitter := c.Add(o)
		ok(t, emitter.To("r").Emit(ctx, "a", nil))
		c.Cut(1)
		ok(t, emitter.To("r").Emit(ctx, "b", nil))
		synctest.Wait() // otherwise c might go out with b
		ok(t, emitter.To("r").Emit(ctx, "c", nil))
		time.Sleep(time.Second)
		c.Heal(1)
		c.Settle(ctx)
		conn.Want("a", "c")
		sees(t, &losses, 1, "loss: refused of 1")
		c.Lose(1)
		ok(t, emitter.To("r").Emit(ctx, "d", nil))
		c.Settle(ctx)
		conn.Want()
		time.Sleep(time.Second)
		sees(t, &losses, 1, "loss: uncertain of 1")
	})
}

// TestFaultsOutsideOfABubble: what goroutines do in between does not matter.
func TestFaultsOutsideOfABubble(t *testing.T) {
	c, h, conns := faulty(t)
	for range 3 {
		c.Cut(0)
		ok(t, c.Nodes[0].To("r").Emit(ctx, "late", nil))
		ok(t, c.Nodes[1].To("r").Emit(ctx, "missed", nil))
		c.Heal(0)
		c.Settle(ctx)
		conns[0].Want("late")
		conns[2].Want("missed", "late")
		if got := h.take(0); strings.Count(got, "gap: link lost") != 1 {
			t.Errorf("node-0 saw %q", got)
		}
		c.Lose(1)
		ok(t, c.Nodes[0].To("r").Emit(ctx, "lost", nil))
		ok(t, c.Nodes[0].To("r").Emit(ctx, "next", nil))
		c.Settle(ctx)
		conns[1].Clear()
		conns[2].Want("next")
		conns[0].Want("lost", "next")
		sees(t, h, 2, "gap: loss of r")
		if got := h.take(0); !strings.Contains(got, "loss: uncertain of 1") {
			t.Errorf("node-0 saw %q", got)
		}
	}
	ok(t, c.Nodes[0].Close(ctx))
	c.Cut(0) // of a closed node: nothing
	c.Heal(0)
	c.Settle(ctx)
}

// keeper is a conn that makes a mistake: it keeps the message.
type keeper struct{ m *crosscast.Message }

func (k *keeper) Send(m *crosscast.Message) error { k.m = m; return nil }
func (k *keeper) Close(crosscast.Reason)          {}

// TestKeptMessage: a message that was kept says so, in each field that is looked at.
func TestKeptMessage(t *testing.T) {
	c := crosscasttest.NewCluster(t, 2)
	for i, emit := range []func(s *crosscast.Socket) error{
		func(*crosscast.Socket) error { return c.Nodes[0].To("r").Emit(ctx, "e", 1) },
		func(*crosscast.Socket) error { return c.Nodes[1].To("r").Emit(ctx, "e", 1) },
		func(s *crosscast.Socket) error { return s.Emit(ctx, "e", 1) },
		func(*crosscast.Socket) error { c.Nodes[0].To("r").EmitAck(ctx, "e", 1).Close(); return nil },
	} {
		var k keeper
		s, err := c.Nodes[0].Connect(ctx, &k, crosscast.ConnectOptions{Rooms: []string{"r"}})
		ok(t, err)
		ok(t, emit(s))
		c.Settle(ctx)
		frame, err := k.m.Frame(crosscast.JSONEnvelope{})
		ok(t, err)
		for _, text := range []string{k.m.Event, string(k.m.From), k.m.Namespace, k.m.Target.Rooms[0], string(frame)} {
			if !strings.Contains(text, "kept after Conn.Send") {
				t.Errorf("%d: a kept message has %q", i, text)
			}
		}
		s.Close(crosscast.ReasonLeft)
	}
}

// TestSettleWaitsForWhatComesOfIt: here of an event that two nodes send to and fro, while goroutines race.
func TestSettleWaitsForWhatComesOfIt(t *testing.T) {
	c := crosscasttest.NewCluster(t, 3)
	conn := c.Connect(ctx, 2, crosscast.ConnectOptions{Rooms: []string{"x"}})
	left := 0 // of one game
	relay := func(n *crosscast.Node, from, to string) {
		_, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(*crosscast.Subscription, *crosscast.Message) {
			if left--; left > 0 {
				n.To(to).Emit(ctx, "ping", nil)
			} else {
				n.To("x").Emit(ctx, "end", nil)
			}
		}}, from)
		ok(t, err)
	}
	relay(c.Nodes[0], "ping", "pong")
	relay(c.Nodes[1], "pong", "ping")
	for range 200 {
		left = 20
		ok(t, c.Nodes[2].To("ping").Emit(ctx, "ping", nil))
		c.Settle(ctx)
		conn.Want("end")
	}
}

// TestAddBy: a node that the application starts takes part in everything that the cluster offers.
func TestAddBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crosscasttest.NewCluster(t, 1)
		var gaps []crosscast.GapReason
		n := c.AddBy(func(ctx context.Context, a crosscast.Adapter) (*crosscast.Node, error) {
			return crosscast.Start(ctx, crosscast.Options{
				Adapter: a,
				OnGap:   func(_ *crosscast.Node, g crosscast.Gap) { gaps = append(gaps, g.Reason) },
			})
		})
		if len(c.Nodes) != 2 || c.Nodes[1] != n {
			t.Fatalf("the cluster has %d nodes", len(c.Nodes))
		}
		client := c.Connect(ctx, 1, crosscast.ConnectOptions{Rooms: []string{"r"}})
		emit := func(event string) {
			if err := c.Nodes[0].To("r").Emit(ctx, event, nil); err != nil {
				t.Error(err)
			}
		}
		emit("heard")
		c.Settle(ctx)
		client.Want("heard")
		c.Cut(1)
		emit("missed")
		c.Heal(1)
		c.Settle(ctx)
		client.Want()
		if len(gaps) != 1 {
			t.Errorf("gaps: %v, not one", gaps)
		}
		if err := n.Close(ctx); err != nil { // by the application; the cluster's own comes after it
			t.Error(err)
		}
	})
}
