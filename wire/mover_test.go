package wire_test

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
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// fleet is nodes on a bus whose server can be replaced, with heartbeats of 1 s and a client each in room "r".
type fleet struct {
	t         *testing.T
	old, next *membus.Hub
	all       []*ship
}

type ship struct {
	*crosscast.Node
	port *membus.Port

	mu     sync.Mutex
	got    map[string]bool // events; guarded by mu, like everything below
	gaps   []crosscast.Gap
	past   []crosscast.Gap // those that wants has looked at
	losses []crosscast.Loss
	sent   map[string]time.Time // events
}

// sail runs f with n nodes. bus is what the adapter makes of a port.
func sail(t *testing.T, n int, bus func(*membus.Port) wire.Bus, f func(t *testing.T, fl *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		fl := &fleet{t: t, old: membus.New(), next: membus.New()}
		for i := range n {
			s := &ship{port: fl.old.Port(fmt.Sprint(i)), got: map[string]bool{}, sent: map[string]time.Time{}}
			var err error
			s.Node, err = crosscast.Start(t.Context(), crosscast.Options{
				Name:    fmt.Sprint(i),
				Adapter: wire.New(bus(s.port), wire.Options{}),
				OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.gaps = append(s.gaps, g)
				},
				OnLoss: func(_ *crosscast.Node, l crosscast.Loss) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.losses = append(s.losses, l)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				s.port.Up()
				s.port.SetFate(nil)
				s.Close(context.Background())
			}()
			conn := client(func(m *crosscast.Message) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.got[m.Event] = true
			})
			if _, err := s.Connect(t.Context(), conn, crosscast.ConnectOptions{Rooms: []string{"r"}}); err != nil {
				t.Fatal(err)
			}
			fl.all = append(fl.all, s)
		}
		fl.emit(5 * time.Second)
		for _, s := range fl.all {
			s.wants(t, nil, nil)
		}
		f(t, fl)
	})
}

func mover(p *membus.Port) wire.Bus { return p }

// emit lets d pass, in which every node emits ten times a second to room "r".
func (fl *fleet) emit(d time.Duration) {
	fl.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for i, s := range fl.all {
			event := fmt.Sprintf("%d at %v", i, time.Now().UnixMilli())
			s.mu.Lock()
			s.sent[event] = time.Now()
			s.mu.Unlock()
			s.To("r").Emit(fl.t.Context(), event, nil)
		}
	}
	synctest.Wait()
}

// split takes the nodes but the first to the next server, which a look-up of all of them names.
func (fl *fleet) split() {
	for i, s := range fl.all {
		s.port.Move(fl.next)
		if i > 0 {
			s.port.Cut()
			s.port.Follow()
		}
	}
}

// wants fails unless the reasons of gaps and losses since the last look are those.
func (s *ship) wants(t *testing.T, gaps []crosscast.GapReason, losses []crosscast.LossReason) ([]crosscast.Gap, []crosscast.Loss) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var g []crosscast.GapReason
	var allGaps []crosscast.Gap
	for _, gap := range s.gaps {
		if gap.Reason != reasons.GapLoss { // what others lost, they tell again and again
			g, allGaps = append(g, gap.Reason), append(allGaps, gap)
		}
	}
	var l []crosscast.LossReason
	for _, loss := range s.losses {
		l = append(l, loss.Reason)
	}
	if !slices.Equal(g, gaps) || !slices.Equal(l, losses) {
		t.Errorf("node %s: gaps %+v, losses %+v; want %q and %q", s.Name(), s.gaps, s.losses, gaps, losses)
	}
	allLosses := s.losses
	s.past = append(s.past, s.gaps...)
	s.gaps, s.losses = nil, nil
	return allGaps, allLosses
}

// mustBalance fails unless all that the nodes emitted reached all the others, or is in the span of a gap there.
func (fl *fleet) mustBalance() {
	fl.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	for _, from := range fl.all {
		for _, to := range fl.all {
			to.mu.Lock()
			missed := 0
			for event, at := range from.sent {
				if to.got[event] {
					continue
				}
				missed++
				if !slices.ContainsFunc(append(slices.Clone(to.past), to.gaps...), func(g crosscast.Gap) bool {
					return (g.Origin == "" || g.Origin == from.ID()) && g.Covers(room("r")) && !at.Before(g.Since) && !at.After(g.Until)
				}) {
					fl.t.Errorf("node %s misses %q of node %s, and has the gaps %+v", to.Name(), event, from.Name(), append(to.past, to.gaps...))
					to.mu.Unlock()
					return
				}
			}
			fl.t.Logf("node %s missed %d of the %d of node %s", to.Name(), missed, len(from.sent), from.Name())
			to.mu.Unlock()
		}
	}
}

func (s *ship) has(event string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[event]
}

// forget forgets the losses.
func (s *ship) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses = nil
}

// sentBetween is how many of its emissions s made in a time.
func (s *ship) sentBetween(from, to time.Time) (n int) {
	for _, at := range s.sent {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// TestAStaleNodeFollows: a node stays on a server that its peers have left, and hears only itself. Once it suspects its
// peers it queries the bus and follows them. It reports its emissions since then as a loss, and the missed messages as
// a gap.
func TestAStaleNodeFollows(t *testing.T) {
	for _, latency := range []time.Duration{0, 150 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			sail(t, 3, mover, func(t *testing.T, fl *fleet) {
				stale := fl.all[0]
				stale.port.SetLatency(latency)
				left := time.Now()
				fl.split()
				fl.emit(3 * time.Second)
				stale.wants(t, nil, nil)
				fl.emit(3 * time.Second)
				back := time.Now()
				fl.emit(2 * time.Second)
				for event, at := range stale.sent {
					if !at.Before(back) && time.Since(at) > time.Second && !fl.all[1].has(event) {
						t.Fatalf("%v after its peers had left, it is still alone", at.Sub(left))
					}
				}
				fl.mustBalance()
				gaps, losses := stale.wants(t, []crosscast.GapReason{reasons.GapMoved}, []crosscast.LossReason{reasons.LossMoved})
				if t.Failed() {
					return
				}
				if g := gaps[0]; g.Origin != "" || g.Names != nil || g.Since.After(left) || left.Sub(g.Since) > time.Second {
					t.Errorf("gap %+v of a split at %v", g, left)
				}
				l := losses[0]
				alone := stale.sentBetween(left, gaps[0].Until)
				if !errors.Is(l.Err, crosscast.ErrUncertain) || l.Names != nil || l.From == 0 || l.To <= l.From {
					t.Errorf("loss %+v", l)
				}
				if l.Instructions > alone+20 || l.Instructions < alone-20 {
					t.Errorf("%d instructions lost, of %d that were emitted alone", l.Instructions, alone)
				}
			})
		})
	}
}

// TestAStaleNodeFollowsLate: the same, when the look-up names the new server late: the peers have expired, and their
// being away is a gap each. At them so is the stale node's.
func TestAStaleNodeFollowsLate(t *testing.T) {
	sail(t, 3, mover, func(t *testing.T, fl *fleet) {
		stale := fl.all[0]
		left := time.Now()
		fl.split()
		stale.port.Move(fl.old)
		fl.emit(25 * time.Second)
		stale.port.Move(fl.next)
		fl.emit(20 * time.Second)
		fl.mustBalance()
		const lost = reasons.GapPeerLost
		gaps, losses := stale.wants(t, []crosscast.GapReason{lost, lost, reasons.GapMoved}, []crosscast.LossReason{reasons.LossMoved})
		if t.Failed() {
			return
		}
		for _, g := range gaps[:2] {
			if d := g.Until.Sub(g.Since); g.Since.After(left) || d < 6*time.Second || d > 8*time.Second {
				t.Errorf("gap %+v spans %v", g, d)
			}
		}
		if l, want := losses[0], stale.sentBetween(left, gaps[2].Until); l.Instructions < want-20 || l.Instructions > want+20 {
			t.Errorf("%d instructions lost, of %d", l.Instructions, want)
		}
		for _, s := range fl.all[1:] {
			s.forget() // of the moment before its link broke, if it emitted anything in it
			gaps, _ := s.wants(t, []crosscast.GapReason{reasons.GapMoved, lost, lost}, nil)
			if len(gaps) == 3 && !gaps[1].Until.Equal(gaps[2].Since) {
				t.Errorf("node %s: the gaps of a lost peer are apart: %+v", s.Name(), gaps)
			}
		}
	})
}

// TestALinkThatBreaksOnAServerThatWasLeft: the stale node's link breaks, and its next one leads to the new server, before
// it had a suspicion.
func TestALinkThatBreaksOnAServerThatWasLeft(t *testing.T) {
	sail(t, 3, mover, func(t *testing.T, fl *fleet) {
		stale, left := fl.all[0], time.Now()
		fl.split()
		fl.emit(2 * time.Second)
		stale.port.Cut()
		stale.port.Follow()
		fl.emit(4 * time.Second)
		fl.mustBalance()
		gaps, losses := stale.wants(t, []crosscast.GapReason{reasons.GapMoved}, []crosscast.LossReason{reasons.LossMoved})
		if !t.Failed() && (gaps[0].Since.After(left) || losses[0].Instructions < 20) {
			t.Errorf("gap %+v and loss %+v of 2 s alone, since %v", gaps[0], losses[0], left)
		}
	})
}

// TestADeadPeerIsNoMove: the bus names the same server, so links stay; the peer is a gap when it expires, and another one
// when it returns, hours later.
func TestADeadPeerIsNoMove(t *testing.T) {
	sail(t, 3, mover, func(t *testing.T, fl *fleet) {
		dead, died := fl.all[2], time.Now()
		alive := fl.all[:2]
		dead.port.Down()
		fl.emit(10 * time.Second)
		var expired time.Time
		for _, s := range alive {
			gaps, _ := s.wants(t, []crosscast.GapReason{reasons.GapPeerLost}, nil)
			if t.Failed() {
				return
			}
			g := gaps[0]
			if d := g.Until.Sub(g.Since); g.Origin != dead.ID() || g.Names != nil || g.Since.After(died) ||
				died.Sub(g.Since) > time.Second || d < 6*time.Second || d > 8*time.Second {
				t.Errorf("gap %+v of a peer that died at %v", g, died)
			}
			expired = g.Until
			if n := s.port.Links(); n != 1 {
				t.Errorf("%d links", n)
			}
		}
		time.Sleep(20 * time.Minute)
		looks := alive[0].port.Lookups()
		var pauses []string
		for i := 1; i < len(looks); i++ {
			pauses = append(pauses, looks[i].Sub(looks[i-1]).Round(time.Second).String())
		}
		if got := strings.Join(pauses[:min(7, len(pauses))], " "); got != "1s 2s 4s 8s 16s 30s 30s" {
			t.Errorf("the pauses between look-ups are %v", pauses)
		}
		if d := looks[len(looks)-1].Sub(died); d < 9*time.Minute || d > 11*time.Minute {
			t.Errorf("the last look-up was %v after the peer's death", d)
		}
		time.Sleep(2 * time.Hour)
		dead.port.Up()
		fl.emit(5 * time.Second)
		fl.mustBalance()
		for _, s := range alive {
			gaps, _ := s.wants(t, []crosscast.GapReason{reasons.GapPeerLost}, nil)
			if len(gaps) == 1 && (gaps[0].Until.Sub(expired) < 2*time.Hour || gaps[0].Since.Sub(expired).Abs() > time.Second) {
				t.Errorf("it returned, and the gap is %+v, of an expiry at %v", gaps[0], expired)
			}
		}
		if n := len(alive[0].port.Lookups()); n != len(looks) {
			t.Errorf("%d look-ups in peace", n-len(looks))
		}
	})
}

// TestAGoodbyeIsNoGap and no reason to look for another server.
func TestAGoodbyeIsNoGap(t *testing.T) {
	sail(t, 3, mover, func(t *testing.T, fl *fleet) {
		if err := fl.all[2].Close(t.Context()); err != nil {
			t.Error(err)
		}
		fl.all = fl.all[:2]
		fl.emit(20 * time.Second)
		for _, s := range fl.all {
			s.wants(t, nil, nil)
			if n := len(s.port.Lookups()); n != 0 {
				t.Errorf("%d look-ups", n)
			}
		}
	})
}

// TestABusThatCannotMove: without a Mover nothing is looked up, and a peer's end is a gap all the same.
func TestABusThatCannotMove(t *testing.T) {
	still := func(p *membus.Port) wire.Bus { return struct{ wire.Bus }{p} }
	sail(t, 2, still, func(t *testing.T, fl *fleet) {
		fl.all[1].port.Down()
		fl.all = fl.all[:1]
		fl.emit(20 * time.Second)
		fl.all[0].wants(t, []crosscast.GapReason{reasons.GapPeerLost}, nil)
		if n := len(fl.all[0].port.Lookups()); n != 0 {
			t.Errorf("%d look-ups", n)
		}
	})
}

// TestNoLookupWhileUnproven: a node that does not hear itself has another fault.
func TestNoLookupWhileUnproven(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(2 * time.Second)
		a.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: errors.New("broken"), Down: true, Lost: true} })
		c.beat(time.Second)
		synctest.Wait()
		a.a.Suspect(b.id, time.Now())
		time.Sleep(time.Minute)
		if n := len(a.port.Lookups()); n != 0 {
			t.Errorf("%d look-ups", n)
		}
		a.port.SetFate(nil)
		time.Sleep(5 * time.Second)
		if n := len(a.port.Lookups()); n == 0 {
			t.Error("no look-up when it hears itself")
		}
	})
}

// TestWhatIsUnderWayMovesToo: a batch that the old server accepts after the look-up is a part of the loss.
func TestWhatIsUnderWayMovesToo(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(2 * time.Second)
		synctest.Wait()
		heard := time.Now()
		time.Sleep(time.Second)
		a.port.SetLatency(400 * time.Millisecond)
		mustPublish(t, a, emitTo("A"))
		synctest.Wait()
		a.port.Move(membus.New())
		a.a.Suspect(b.id, heard)
		synctest.Wait()
		if l := a.lost(); len(l) != 0 {
			t.Errorf("losses before the outcome: %+v", l)
		}
		time.Sleep(time.Second)
		if l := a.lost(); len(l) != 1 || l[0].Instructions != 1 || l[0].Reason != reasons.LossMoved || l[0].From == 0 || l[0].To != l[0].From {
			t.Errorf("losses %+v", l)
		}
	})
}

// TestAPeerThatReturns: the numbers of a peer that returns decide about a second gap. No part of it is reported twice.
func TestAPeerThatReturns(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, a, "A", "B")
		c.beat(2 * time.Second)
		mustPublish(t, b, emitTo("A"))
		mustPublish(t, b, emitTo("B"))
		synctest.Wait()
		heard := time.Now()
		expire := func() {
			time.Sleep(7 * time.Second)
			a.a.Expire(b.id)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		expire()
		want := func(n int) crosscast.Gap {
			t.Helper()
			synctest.Wait()
			all := a.seen()
			if len(all) != n {
				t.Fatalf("gaps %+v, want %d", all, n)
			}
			g := all[n-1]
			if g.Reason != reasons.GapPeerLost || g.Origin != b.id || g.Names != nil {
				t.Errorf("gap %+v", g)
			}
			return g
		}
		if g := want(1); !g.Since.Equal(heard) || g.Until.Sub(g.Since) != 7*time.Second || g.From != 0 {
			t.Errorf("gap %+v, last heard at %v", g, heard)
		}
		mustPublish(t, b, emitTo("A")) // the next number
		want(1)
		expire()
		expired := want(2).Until
		a.a.Expire(b.id) // it has expired
		want(2)
		b.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Lost: true} })
		mustPublish(t, b, emitTo("A"))
		mustPublish(t, b, emitTo("B"))
		synctest.Wait()
		b.port.SetFate(nil)
		mustPublish(t, b, emitTo("A"))
		g := want(3)
		if !g.Since.Equal(expired) || !g.Until.Equal(time.Now()) || g.From == 0 || g.To != g.From+1 {
			t.Errorf("gap %+v, expired at %v", g, expired)
		}
		mustPublish(t, b, emitTo("B"))
		want(3)
		if n := len(a.got()); n != 5 {
			t.Errorf("%d delivered", n)
		}
	})
}

// TestExpiringNobodyWaits: the heart goes on while a call of the application's holds the reader; and what it had to say
// is said before anything later of that peer.
func TestExpiringNobodyWaits(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		subscribe(t, a, "A")
		c.beat(time.Second)
		hold := make(chan struct{})
		a.mu.Lock()
		a.hold = hold
		a.mu.Unlock()
		mustPublish(t, b, emitTo("A"))
		synctest.Wait()
		mustPublish(t, b, emitTo("A"))
		before := time.Now()
		a.a.Suspect(b.id, before)
		a.a.Expire(b.id)
		if d := time.Since(before); d != 0 {
			t.Errorf("took %v", d)
		}
		close(hold)
		synctest.Wait()
		if len(a.gapAt) != 1 || a.gapAt[0] != 1 {
			t.Errorf("gaps came after %v deliveries, want 1", a.gapAt)
		}
	})
}

// TestALostPeerIsRememberedWithinBounds: so many others may come that it is forgotten, which is counted.
func TestALostPeerIsRememberedWithinBounds(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(time.Second)
		synctest.Wait()
		a.a.Expire(b.id)
		time.Sleep(time.Hour)
		stranger := c.hub.Port("stranger")
		say := func(i int, number uint64) {
			h := wire.FrameHeader{Origin: crosscast.NodeID(fmt.Sprintf("%08d", i)), Number: number}
			stranger.Publish(t.Context(), []wire.Frame{{Topic: "cc:all", Data: wire.AppendFrameHeader(nil, &h)}})
		}
		for number := range uint64(2) { // who is heard for a moment pushes nobody out
			for i := range 4095 {
				say(i, number+1)
			}
			time.Sleep(time.Second)
		}
		say(4095, 1)
		synctest.Wait()
		if n := a.a.AdapterStats().Dropped["forgotten"]; n != 1 {
			t.Errorf("%d lost peers were forgotten, want 1", n)
		}
		n := len(a.seen())
		c.beat(time.Second)
		if len(a.seen()) != n {
			t.Errorf("gaps %+v", a.seen()[n:])
		}
	})
}
