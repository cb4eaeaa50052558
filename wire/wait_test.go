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
	"github.com/crosscast/crosscast/wire"
)

// TestOutcomesByName: a name may stand for several topics, and a topic for several names.
func TestOutcomesByName(t *testing.T) {
	speaking(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		asRoom, asUser := room("u:eve"), crosscast.Address{Namespace: "/", Space: crosscast.UserSpace, Name: "eve"}
		b.port.Deny("u:eve", true)
		b.port.Deny("B", true)
		err := b.a.Subscribe(t.Context(), room("A"), asUser, room("B"), asRoom, room("C"), asUser)
		var e *crosscast.NamesError
		if !errors.As(err, &e) || !slices.Equal(e.Names, []crosscast.Address{asUser, room("B"), asRoom, asUser}) {
			t.Fatalf("got %+v", err)
		}
		for i, text := range []string{"u:eve", "B", "u:eve", "u:eve"} {
			if !errors.Is(e.Errs[i], crosscast.ErrDenied) || !strings.Contains(e.Errs[i].Error(), text) {
				t.Errorf("%v: %v", e.Names[i], e.Errs[i])
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
				if g := b.news(); len(g) != 1 || g[0].Reason != crosscast.GapLinkLost {
					t.Errorf("gaps %+v, want that of a lost link", g)
				}
				mustPublish(t, a, emitTo("A"))
				wantEvents(t, b, "A")
			})
		})
	}
}
