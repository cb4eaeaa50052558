package crosscast_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// listen subscribes and notes what arrives in a log.
func listen(t *testing.T, n *crosscast.Node, rooms ...string) (*crosscast.Subscription, *log) {
	t.Helper()
	l := new(log)
	sub, err := n.Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s", m.Event) },
	}, rooms...)
	ok(t, err)
	return sub, l
}

func TestSubscriptionGetsWhatGoesToItsRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		s := connectUser(t, a.Namespace, &recorder{}, "u", "1", "2")
		sub, l := listen(t, a, "1", "2", "1")
		for _, n := range []*crosscast.Node{a, b} {
			for event, target := range map[string]crosscast.BoundTarget{
				"yes":      n.To("1"),
				"both":     n.To("2", "1"),
				"except":   n.To("1").Except("1").ExceptUser("u"),
				"other":    n.To("3"),
				"everyone": n.Everyone(),
				"user":     n.ToUser("u"),
				"socket":   n.ToSocket(s.ID()),
			} {
				ok(t, target.Emit(ctx, event, nil))
			}
		}
		synctest.Wait()
		got := strings.Split(l.take(), "; ")
		equal(t, "got", sorted(got), "both both except except yes yes")
		ok(t, sub.Close())
		ok(t, sub.Close())
		ok(t, a.To("1").Emit(ctx, "after", nil))
		ok(t, b.To("1").Emit(ctx, "after", nil))
		synctest.Wait()
		equal(t, "after Close", l.take(), "")
	})
}

// A slow receiver loses messages, and is told so in their place, once for each run of them.
func TestSubscriptionOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var l log
		step := make(chan struct{})
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s", m.Event); <-step },
			OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) {
				l.add("%s of %d rooms", g.Reason, len(g.Names))
				if g.Origin != n.ID() || g.Since.IsZero() || g.Until.Before(g.Since) {
					t.Errorf("gap %+v", g)
				}
			},
			QueueBytes: 3900, // two of 1,000 bytes, and a few gaps
		}, "r", "s")
		ok(t, err)
		send := func(event string, rooms ...string) {
			ok(t, n.To(rooms...).Emit(ctx, event, make(crosscast.Bytes, 1000)))
			synctest.Wait()
		}
		for _, event := range []string{"1", "2", "3", "lost"} { // 1 is being handled
			send(event, "r")
		}
		send("lost", "r", "s", "t")
		step <- struct{}{}
		synctest.Wait()
		send("4", "r") // there is room again
		send("lost", "r")
		for range 2 {
			step <- struct{}{}
			synctest.Wait()
		}
		equal(t, "got", l.take(), "1; 2; 3; overflow of 2 rooms; 4")
		close(step)
		synctest.Wait()
		equal(t, "then", l.take(), "overflow of 1 rooms")
		equal(t, "dropped", n.Stats().Dropped["subscription"], 3)
	})
}

// A gap that goes on stays apart from those that have ended, also in a full queue, unless that is very full: then what
// covers both goes on.
func TestSubscriptionOverflowsWhileAGapGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		var l log
		step := make(chan struct{})
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage:  func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s", m.Event); <-step },
			OnGap:      func(_ *crosscast.Subscription, g crosscast.Gap) { l.add("%s %v", g.Reason, g.Until.IsZero()) },
			QueueBytes: 1500, // three messages; twice as much after five gaps
		}, "r")
		ok(t, err)
		send := func(event string) {
			ok(t, n.To("r").Emit(ctx, event, nil))
			synctest.Wait()
		}
		begun := time.Now()
		denied := func(until time.Time) {
			d.h.Gap(crosscast.Gap{
				Names: []crosscast.Address{{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}},
				Since: begun, Until: until, Reason: reasons.GapDenied,
			})
		}
		for _, event := range []string{"1", "2", "3", "4", "lost"} { // 1 is being handled
			send(event)
		}
		denied(time.Time{})
		send("lost")
		denied(time.Now())
		close(step)
		synctest.Wait()
		equal(t, "got", l.take(), "1; 2; 3; 4; overflow false; denied true; overflow false")

		step = make(chan struct{})
		for _, event := range []string{"1", "2", "3", "4", "lost"} {
			send(event)
		}
		for range 1000 {
			denied(time.Time{})
			denied(time.Now())
		}
		close(step)
		synctest.Wait()
		equal(t, "got", l.take(), "1; 2; 3; 4; overflow false; denied true; denied false; denied true; denied true")
	})
}

// No call begins after Close has returned, also when it is called from within one, and what was queued is gone.
func TestSubscriptionClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var sub *crosscast.Subscription
		var l log
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			l.add("%s", m.Event)
			if m.Event == "2" {
				sub.Close()
			}
		}}, "r")
		ok(t, err)
		for i := range 5 {
			ok(t, n.To("r").Emit(ctx, fmt.Sprint(i), nil))
		}
		synctest.Wait()
		equal(t, "got", l.take(), "0; 1; 2")

		step := make(chan struct{})
		sub, err = n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			<-step
			l.add("%s", m.Event)
		}}, "r")
		ok(t, err)
		ok(t, n.To("r").Emit(ctx, "running", nil))
		ok(t, n.To("r").Emit(ctx, "queued", nil))
		synctest.Wait()
		ok(t, sub.Close()) // does not wait for the call
		close(step)
		synctest.Wait()
		equal(t, "got", l.take(), "running")
	})
}

// closerConn closes a subscription when it is sent something, in the middle of a delivery.
type closerConn struct {
	countConn
	sub *crosscast.Subscription
}

func (c *closerConn) Send(*crosscast.Message) error { return c.sub.Close() }

func TestSubscriptionClosedWhileAMessageIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		sub, l := listen(t, n, "r")
		connect(t, n.Namespace, &closerConn{sub: sub}, "r")
		ok(t, n.To("r").Emit(ctx, "e", nil))
		synctest.Wait()
		equal(t, "got", l.take(), "")
	})
}

// A message may be kept: it is not the one that conns see, and the node never changes it.
func TestSubscriptionMayKeepMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var kept []*crosscast.Message
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { kept = append(kept, m) },
		}, "r")
		ok(t, err)
		data := []byte("0")
		for i := range 10 {
			data[0] = byte('0' + i)
			ok(t, n.To("r").Emit(ctx, fmt.Sprint("e", i), crosscast.Bytes(data)))
		}
		synctest.Wait()
		for i, m := range kept {
			equal(t, "kept", m.Event+string(m.Payload.Data), fmt.Sprintf("e%d%d", i, i))
		}
		equal(t, "messages", len(kept), 10)
	})
}

func TestSubscribeArguments(t *testing.T) {
	n := start(t, crosscast.Options{})
	receive := func(*crosscast.Subscription, *crosscast.Message) {}
	for _, v := range []struct {
		r     crosscast.Receiver
		rooms []string
	}{
		{crosscast.Receiver{}, []string{"r"}},
		{crosscast.Receiver{OnMessage: receive, QueueBytes: -1}, []string{"r"}},
		{crosscast.Receiver{OnMessage: receive}, []string{""}},
	} {
		if sub, err := n.Subscribe(ctx, v.r, v.rooms...); err == nil || sub != nil {
			t.Errorf("Subscribe(%+v, %q) is accepted", v.r, v.rooms)
		}
	}
	ok(t, n.Close(ctx))
	if _, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: receive}, "r"); !errors.Is(err, crosscast.ErrClosed) {
		t.Errorf("Subscribe after Close: %v", err)
	}
}

// BenchmarkSubscriptionsOfRooms is an emission to two rooms that many subscriptions are in.
func BenchmarkSubscriptionsOfRooms(b *testing.B) {
	n := start(b, crosscast.Options{})
	for range 10_000 {
		_, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r", "s")
		ok(b, err)
	}
	for b.Loop() {
		ok(b, n.To("r", "s").Emit(ctx, "e", nil))
	}
}
