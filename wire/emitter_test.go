package wire_test

import (
	"context"
	"errors"
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

func TestEmitterHasNoLinkUntilItAsks(t *testing.T) {
	withEmitter(t, 2, func(t *testing.T, s *site) {
		s.emit("room", "r")
		s.emit("everyone")
		s.emit("nobody", "x")
		r, err := s.e.To("r").Deliver(t.Context(), "delivered", nil)
		if err != nil || r != (crosscast.Receipt{Nodes: 2, Known: true}) {
			t.Errorf("receipt: %+v, %v", r, err)
		}
		if err := s.e.ToUser("u").Join(t.Context(), "new"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		s.emit("commanded", "new")
		s.want("room", "everyone", "delivered", "commanded")
		time.Sleep(time.Minute)
		if n := s.port.Links(); n != 0 {
			t.Errorf("%d links without a question", n)
		}
		if err := s.e.Flush(t.Context()); err != nil {
			t.Error(err)
		}

		began := time.Now()
		s.wantCount(2)
		if took := time.Since(began); took != 0 {
			t.Errorf("a question takes %v", took)
		}
		time.Sleep(time.Minute)
		if n, dials := s.port.Links(), s.bus.dials.Load(); n != 1 || dials != 1 {
			t.Errorf("%d links a minute after a question, and %d dials", n, dials)
		}
		// The link is proven also when the echo is back before the bus has said that it took the frame.
		s.bus.saying.Store(int64(50 * time.Millisecond))
		s.wantCount(2)
		s.bus.saying.Store(0)
		// It is in nobody's way: not subscribed to everyone, nor a peer.
		if r, err := s.nodes[0].Everyone().Deliver(t.Context(), "x", nil); err != nil || r.Nodes != 1 {
			t.Errorf("receipt of a node: %+v, %v", r, err)
		}
		if n := len(s.nodes[0].Nodes()); n != 1 {
			t.Errorf("a node knows %d peers", n)
		}
		before := s.e.Stats().InstructionsIn
		time.Sleep(time.Minute)
		synctest.Wait()
		if more := s.e.Stats().InstructionsIn - before; more != 0 {
			t.Errorf("%d instructions without a question", more)
		}
		// Many at once share what one found out.
		hellos := 0
		s.hub.OnExecute(func(f wire.Frame) {
			if f.Topic == "cc:n:"+string(s.e.ID()) && strings.Contains(string(f.Data), string(s.e.ID())) {
				hellos++ // what proves the link, before each
			}
		})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { s.wantCount(2) })
		}
		all.Wait()
		if hellos != 1 {
			t.Errorf("20 questions at once proved the link %d times", hellos)
		}
		for i := range s.nodes {
			if gaps := s.seen(i); len(gaps) > 0 {
				t.Errorf("gaps: %+v", gaps)
			}
		}
	})
}

func TestEmitterStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := membus.New().Port("emitter")
		start := func(ctx context.Context) error {
			_, err := crosscast.Start(ctx, crosscast.Options{Adapter: wire.New(p, wire.Options{}), EmitOnly: true})
			return err
		}
		p.Down()
		err := start(t.Context())
		if !errors.Is(err, crosscast.ErrRefused) || !strings.Contains(err.Error(), "membus: down") {
			t.Error("while the bus is down:", err)
		}
		p.Up()
		p.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: crosscast.ErrDenied, Lost: true} })
		if err := start(t.Context()); !errors.Is(err, crosscast.ErrDenied) {
			t.Error("denied:", err)
		}
		p.SetFate(nil)
		a := wire.New(p, wire.Options{})
		if err := a.Start(t.Context(), starting(crosscast.NodeInfo{ID: "node0000"}, &peer{}, true)); err != nil {
			t.Fatal(err)
		}
		if err := a.Subscribe(t.Context(), room("A")); !errors.Is(err, crosscast.ErrEmitOnly) {
			t.Error("Subscribe:", err)
		}
		listening := make(chan error)
		p.SetLatency(time.Hour)
		go func() { listening <- a.Listen(t.Context()) }()
		synctest.Wait()
		p.SetLatency(0)
		closing, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		a.Close(closing)
		if err := <-listening; err == nil {
			t.Error("Listen returned nil after Close")
		}
		if err := a.Listen(t.Context()); !errors.Is(err, crosscast.ErrClosed) {
			t.Error("Listen after Close:", err)
		}
		time.Sleep(time.Hour)
	})
}

// No heartbeat carries an emitter's losses, and who comes later is not told of them.
func TestEmitterTellsItsLosses(t *testing.T) {
	withEmitter(t, 2, func(t *testing.T, s *site) {
		wantGap := func(names []crosscast.Address) {
			t.Helper()
			for i := range s.nodes {
				gaps := s.seen(i)
				if len(gaps) != 1 {
					t.Errorf("node %d: %+v", i, gaps)
					continue
				}
				g := gaps[0]
				if g.Reason != reasons.GapLoss || g.Origin != s.e.ID() || !slices.Equal(g.Names, names) {
					t.Errorf("node %d: %+v", i, g)
				}
			}
		}
		refuse := func(down bool) {
			s.port.SetFate(func(f wire.Frame) membus.Fate {
				if f.Topic != "cc:r:/:r" {
					return membus.Fate{}
				}
				return membus.Fate{Err: crosscast.ErrRefused, Lost: true, Down: down}
			})
		}
		refuse(false)
		s.emit("lost", "r")
		var lost *crosscast.LossError
		if err := s.e.Flush(t.Context()); !errors.As(err, &lost) {
			t.Error("Flush:", err)
		}
		time.Sleep(100 * time.Millisecond)
		wantGap([]crosscast.Address{room("r")})
		refuse(true)
		s.emit("lost", "r")
		time.Sleep(100 * time.Millisecond)
		wantGap([]crosscast.Address{room("r")})
		s.port.SetFate(nil)

		quiet := 0
		s.hub.OnExecute(func(f wire.Frame) {
			if strings.Contains(string(f.Data), string(s.e.ID())) {
				quiet++
			}
		})
		time.Sleep(2 * time.Minute)
		if quiet != 0 {
			t.Errorf("%d frames after everyone was told", quiet)
		}
		s.add()
		time.Sleep(time.Minute)
		s.emit("later")
		for i := range s.nodes {
			if gaps := s.seen(i); len(gaps) > 0 {
				t.Errorf("node %d is told again of an old loss: %+v", i, gaps)
			}
		}
		refuse(false)
		s.emit("lost", "r")
		time.Sleep(100 * time.Millisecond)
		for i := range s.nodes[:2] {
			if gaps := s.seen(i); len(gaps) != 1 {
				t.Errorf("node %d of a new loss: %+v", i, gaps)
			}
		}
		if gaps := s.seen(2); len(gaps) == 0 {
			t.Error("the node that came later is not told of a loss after it")
		}

		// An outage may be longer than that.
		s.port.SetFate(nil)
		s.port.Down()
		s.emit("lost", "r")
		time.Sleep(3 * time.Minute)
		for i := range s.nodes {
			s.seen(i)
		}
		s.port.Up()
		time.Sleep(2 * time.Second)
		wantGap([]crosscast.Address{room("r")})
	})
}

// An emitter that ends right after a loss tells of it.
func TestEmitterTellsItsLastLoss(t *testing.T) {
	withEmitter(t, 1, func(t *testing.T, s *site) {
		s.port.SetFate(func(f wire.Frame) membus.Fate {
			if f.Topic == "cc:all" {
				return membus.Fate{}
			}
			return membus.Fate{Err: crosscast.ErrRefused, Lost: true}
		})
		s.emit("lost", "r")
		var lost *crosscast.LossError
		if err := s.e.Flush(t.Context()); !errors.As(err, &lost) {
			t.Error("Flush:", err)
		}
		if err := s.e.Close(t.Context()); err != nil {
			t.Error("Close:", err)
		}
		if gaps := s.seen(0); len(gaps) != 1 || gaps[0].Reason != reasons.GapLoss {
			t.Errorf("gaps: %+v", gaps)
		}
	})
}

// Emissions during an outage wait until the peers are back, but not for ever.
func TestEmitterBridgesAnOutage(t *testing.T) {
	withEmitter(t, 2, func(t *testing.T, s *site) {
		s.port.Down()
		for _, p := range s.ports {
			p.Down()
		}
		s.emit("what notices", "r") // is refused, and a loss
		synctest.Wait()
		s.emit("bridged", "r")
		time.Sleep(300 * time.Millisecond)
		s.port.Up()
		s.ports[0].Up()
		time.Sleep(700 * time.Millisecond) // and a second for the next attempt is less than two heartbeats
		s.want()
		s.ports[1].Up()
		time.Sleep(2200 * time.Millisecond) // a second for that, and one for the emitter's next look
		s.want("bridged")
		if n := s.e.Stats().QueueBytes; n != 0 {
			t.Errorf("%d bytes wait", n)
		}

		s.port.Down()
		s.ports[1].Down()
		s.emit("what notices", "r")
		synctest.Wait()
		s.emit("late", "r")
		time.Sleep(300 * time.Millisecond)
		s.port.Up()
		late := time.Now()
		time.Sleep(3100 * time.Millisecond) // a second until it is noticed, and two heartbeats
		synctest.Wait()
		if n := s.e.Stats().QueueBytes; n != 0 {
			t.Errorf("%d bytes wait for a node that does not come back", n)
		}
		s.ports[1].Up()
		time.Sleep(2 * time.Second)
		gaps := s.seen(1)
		if last := gaps[len(gaps)-1]; last.Reason != reasons.GapLinkLost || last.Until.Before(late) {
			t.Errorf("gaps of the node that was away: %+v", gaps)
		}
		s.mu.Lock()
		s.got[1] = append(s.got[1], "late") // missed, as the gap says
		s.mu.Unlock()
		s.want("late")
	})
}

// The link is only for answers: it may be down, or deaf, while publishing works.
func TestEmitterLinkFails(t *testing.T) {
	withEmitter(t, 2, func(t *testing.T, s *site) {
		s.wantCount(2)
		s.port.Cut()
		s.emit("while cut", "r")
		s.want("while cut")
		time.Sleep(time.Second)
		s.emit("nobody is waited for", "r")
		s.want("nobody is waited for")
		s.wantCount(2)

		for what, spoil := range map[string]func(){"dead": s.port.Deafen, "deaf": s.port.Starve} {
			spoil()
			time.Sleep(time.Second)
			began := time.Now()
			if _, err := s.count(); !errors.Is(err, crosscast.ErrNotConnected) || !strings.Contains(err.Error(), what) {
				t.Errorf("over a %s link: %v", what, err)
			}
			if took := time.Since(began); took != time.Second {
				t.Errorf("noticing that the link is %s takes %v", what, took)
			}
			s.emit("while "+what, "r")
			s.want("while " + what)
			time.Sleep(time.Second)
			s.wantCount(2)
		}

		s.port.Down()
		time.Sleep(time.Second)
		began := time.Now()
		if _, err := s.count(); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Error("while the bus is down:", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("being told that the bus is down takes %v", took)
		}
		s.port.Up()
		time.Sleep(2 * time.Second)
		s.wantCount(2)
	})
	withEmitter(t, 1, func(t *testing.T, s *site) {
		s.port.Deny("cc:n:"+string(s.e.ID()), true)
		if _, err := s.count(); !errors.Is(err, crosscast.ErrDenied) {
			t.Error("without the permission to subscribe:", err)
		}
		s.emit("denied", "r")
		s.want("denied")
	})
}

// After an outage a node waits for its peers' heartbeats, which do not come from an emitter.
func TestNobodyWaitsForAnEmitter(t *testing.T) {
	withEmitter(t, 2, func(t *testing.T, s *site) {
		s.emit("everyone")
		s.wantCount(2)
		s.want("everyone")
		s.ports[0].Cut()
		synctest.Wait()
		if err := s.nodes[0].To("r").Emit(t.Context(), "bridged", nil); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
		s.want("bridged")
	})
}

// The link of an emitter that asks nothing costs nothing.
func TestAnIdleEmitterDoesNotPing(t *testing.T) {
	withEmitter(t, 1, func(t *testing.T, s *site) {
		s.wantCount(1)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := s.port.Pings(); n != 0 {
			t.Errorf("%d pings", n)
		}
		s.wantCount(1)
	})
}
