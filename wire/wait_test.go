package wire_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// TestOutcomesByName: a name may stand for several topics, and a topic for several names.
func TestOutcomesByName(t *testing.T) {
	speaking(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		asRoom, asUser := room("u:eve"), crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "eve"}
		b.port.Deny("u:eve", true)
		b.port.Deny("B", true)
		err := b.a.Subscribe(t.Context(), room("A"), asUser, room("B"), asRoom, room("C"), asUser)
		var e *crosscast.NamesError
		if !errors.As(err, &e) || len(e.Failed) != 3 {
			t.Fatalf("got %+v", err)
		}
		for name, text := range map[crosscast.Address]string{asUser: "u:eve", room("B"): "B", asRoom: "u:eve"} {
			if err := e.Failed[name]; !errors.Is(err, crosscast.ErrDenied) || !strings.Contains(err.Error(), text) {
				t.Errorf("%v: %v", name, err)
			}
		}
		for _, r := range []string{"A", "C"} {
			mustPublish(t, a, emitTo(r))
		}
		wantEvents(t, b, "A", "C")
		b.port.Deny("u:eve", false)
		if err := b.a.Subscribe(t.Context(), asRoom); err != nil {
			t.Fatal(err)
		}
		// Promised now, for both names.
		b.port.Deny("u:eve", true)
		lost, more := c.outage(b)
		wantDenied(t, more, lost.Since, "u:eve", "eve")
		b.a.Unsubscribe(t.Context(), asRoom)
		b.port.Deny("u:eve", false)
		c.beat(6 * time.Second)
		wantAllowed(t, b.news(), lost.Since, "eve")
	})
}

// TestABrokenLinkLetsAllGo: with one error, of which nothing is made for each name.
func TestABrokenLinkLetsAllGo(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		b := c.peers[0]
		var all []string
		for i := range 4096 {
			all = append(all, fmt.Sprint("room", i))
		}
		b.port.SetLatency(time.Second)
		errs := make(chan error, 3)
		for i := range cap(errs) {
			go func() { errs <- b.a.Subscribe(t.Context(), rooms(all[i:]...)...) }()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.a.Subscribe(ctx, rooms(all...)...); err != context.DeadlineExceeded {
			t.Errorf("when the context ends: %v", err)
		}
		if n := wire.Waiters(b.a); n != 4096+4095+4094 {
			t.Errorf("%d entries of three calls that wait", n)
		}
		b.port.Cut()
		begin := time.Now()
		for range cap(errs) {
			if err := <-errs; err != crosscast.ErrNotConnected {
				t.Errorf("when the link breaks: %.100v", err)
			}
		}
		if d := time.Since(begin); d > time.Second { // the request that is being written
			t.Errorf("after %v", d)
		}
		b.port.SetLatency(0)
		c.beat(5 * time.Second)
		if n := wire.Waiters(b.a); n != 0 {
			t.Errorf("%d entries of nobody who waits", n)
		}
		subscribe(t, b, all...)
	})
}

// TestUnaskedUnsubscription: it ends the link, whatever is known of the topic: it may have overtaken the confirmation.
func TestUnaskedUnsubscription(t *testing.T) {
	for _, kind := range []string{"confirmed", "pending", "unknown"} {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
				a := c.peers[0]
				b, bus := c.watched(wire.Options{})
				subscribe(t, b, "A", "B")
				c.beat(time.Second)
				b.a.Unsubscribe(t.Context(), room("B")) // asked for: no harm
				synctest.Wait()
				b.a.Unsubscribe(t.Context(), room("A"))
				subscribe(t, b, "A")
				if g := b.news(); len(g) != 0 {
					t.Fatalf("gaps %+v", g)
				}
				on, topic := wire.Message, map[string]string{"confirmed": "A", "pending": "C", "unknown": "D"}[kind]
				if kind == "pending" {
					on = wire.Subscribed
				}
				var once atomic.Bool
				change := func(ev wire.Event) []wire.Event {
					if ev.Kind == on && !once.Swap(true) {
						return []wire.Event{{Kind: wire.Unsubscribed, Topic: "cc:r:/:" + topic}, ev}
					}
					return []wire.Event{ev}
				}
				bus.change.Store(&change)
				if kind == "pending" {
					if err := b.a.Subscribe(t.Context(), room("C")); !errors.Is(err, crosscast.ErrNotConnected) {
						t.Errorf("Subscribe: %v", err)
					}
				}
				c.beat(3 * time.Second)
				if g := b.news(); len(g) != 1 || g[0].Reason != reasons.GapLinkLost {
					t.Errorf("gaps %+v, want that of a lost link", g)
				}
				mustPublish(t, a, emitTo("A"))
				wantEvents(t, b, "A")
			})
		})
	}
}

// pausing is a dialect in which a name may take its time.
type pausing struct {
	plain
	pause func(name string)
}

func (p *pausing) Topics(a crosscast.Address) []string {
	p.pause(a.Name)
	return p.plain.Topics(a)
}

// A link that breaks while a call with many names is asking for them is ErrNotConnected, a promise for each of them: one
// that the bus refused before, or refuses after, is missed with a gap. It is none when each name that was asked for before
// has had its outcome, and the link is up again for the others.
func TestTheLinkBreaksWhileManyNamesAreAskedFor(t *testing.T) {
	for name, tt := range map[string]struct{ up, waits bool }{
		"down": {}, "up again": {up: true}, "up again, and one had no outcome": {up: true, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
				d := &pausing{pause: func(string) {}}
				c.speak(d, wire.Options{}, crosscast.NodeInfo{})
				a := c.peers[0]
				var names []crosscast.Address
				for i := range 200 {
					names = append(names, room(fmt.Sprint("r", i)))
				}
				a.port.Deny("r3", true)
				a.port.Deny("r133", true)
				a.port.Forget("r5", tt.waits)
				subscribe(t, a, "before")
				c.beat(time.Second)
				d.pause = func(name string) {
					if name != "r130" {
						return
					}
					synctest.Wait() // those before are confirmed, or refused
					a.port.Down()
					a.port.Forget("r5", false)
					synctest.Wait()
					if tt.up {
						a.port.Up()
						time.Sleep(2 * time.Second)
					}
				}
				err := a.a.Subscribe(t.Context(), names...)
				if tt.up && !tt.waits {
					wantRefused(t, err, "r3", "r133")
					return
				}
				if !errors.Is(err, crosscast.ErrNotConnected) || errors.Is(err, crosscast.ErrDenied) {
					t.Fatal(err)
				}
				a.port.Up()
				c.beat(2 * time.Second)
				gaps := a.seen()
				for _, n := range names {
					if !slices.ContainsFunc(gaps, func(g crosscast.Gap) bool { return g.Covers(n) }) {
						t.Errorf("nothing says that %s was missed", n.Name)
					}
				}
				for _, n := range []string{"r3", "r133"} {
					if !slices.ContainsFunc(gaps, func(g crosscast.Gap) bool {
						return g.Reason == reasons.GapDenied && g.Until.IsZero() && g.Covers(room(n))
					}) {
						t.Errorf("nothing says that %s is missed: %+v", n, gaps)
					}
				}
				d.pause = func(string) {}
				if err := a.a.Subscribe(t.Context(), room("r3"), room("r199")); !errors.Is(err, crosscast.ErrDenied) {
					t.Error("afterwards:", err)
				}
			})
		})
	}
}

// A link that breaks, and is back before a call with many names has asked for the last one, is ErrNotConnected, too. One that
// the bus had refused, and allows after that, was missed until then.
func TestARefusedNameOfACallDuringWhichTheLinkBroke(t *testing.T) {
	inBubble(t, 0, wire.Options{}, func(t *testing.T, c *cluster) {
		d := &pausing{pause: func(string) {}}
		c.speak(d, wire.Options{}, crosscast.NodeInfo{})
		a := c.peers[0]
		var names []crosscast.Address
		for i := range 200 {
			names = append(names, room(fmt.Sprint("r", i)))
		}
		a.port.Deny("r3", true)
		c.beat(time.Second)
		d.pause = func(name string) {
			synctest.Wait() // those before are confirmed, or refused
			switch name {
			case "r70":
				a.port.Down()
				synctest.Wait()
			case "r140":
				a.port.Up()
				time.Sleep(2 * time.Second)
			}
		}
		if err := a.a.Subscribe(t.Context(), names...); !errors.Is(err, crosscast.ErrNotConnected) {
			t.Fatal(err)
		}
		returned := time.Now()
		a.port.Deny("r3", false)
		c.beat(10 * time.Second)
		if n := a.a.AdapterStats().Denied; n != 0 {
			t.Fatal(n, "topics are denied")
		}
		if !slices.ContainsFunc(a.seen(), func(g crosscast.Gap) bool { return g.Covers(names[3]) && g.Until.After(returned) }) {
			t.Errorf("nothing says that %s was missed: %+v", names[3].Name, a.seen())
		}
	})
}
