package crosscast_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// A gap of all origins makes the node ask who is there. OnGap has returned when Gap does: before anything later.
func TestGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var l log
		n := start(t, crosscast.Options{Adapter: d,
			OnGap: func(_ *crosscast.Node, g crosscast.Gap) { l.add("%s", g.Reason) }})
		sub := func(name string, rooms ...string) {
			_, err := n.Subscribe(ctx, crosscast.Receiver{
				OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s %s", name, m.Event) },
				OnGap:     func(_ *crosscast.Subscription, g crosscast.Gap) { l.add("%s %s", name, g.Reason) },
			}, rooms...)
			ok(t, err)
		}
		sub("rs", "r", "s")
		sub("x", "x")
		d.log.take()
		d.h.Gap(crosscast.Gap{Reason: reasons.GapLinkLost})
		synctest.Wait()
		node, subs, _ := strings.Cut(l.take(), "; ")
		equal(t, "node, at first", node, "link lost")
		got := strings.Split(subs, "; ")
		slices.Sort(got)
		equal(t, "subscriptions", strings.Join(got, "; "), "rs link lost; x link lost")
		equal(t, "asked who is there", d.log.take(), "hello")

		room := func(name string) crosscast.Address {
			return crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name}
		}
		emit := func(event string) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Event: event,
				Target: crosscast.Target{Rooms: []string{"r"}},
			})
		}
		emit("1")
		d.h.Gap(crosscast.Gap{
			Origin: "aaaaaaaa", Reason: reasons.GapHole,
			Names: []crosscast.Address{room("r"), room("s"), room("t"), {Namespace: "/", Space: crosscast.SpaceUser, Name: "x"}},
		})
		emit("2")
		synctest.Wait()
		equal(t, "in order", strings.ReplaceAll(l.take(), "hole; rs 1", "rs 1; hole"), "rs 1; hole; rs hole; rs 2")
		d.h.Gap(crosscast.Gap{Reason: reasons.GapDenied, Names: []crosscast.Address{room("r")}})
		synctest.Wait()
		equal(t, "nothing that nodes tell each other was missed, so nobody is asked", d.log.take(), "")
		equal(t, "gaps", n.Stats().Gaps, 3)
	})
}

// A gap of a namespace is one of its rooms: its subscriptions are told, and no others.
func TestGapOfANamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var l log
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		second, err := n.Of("second")
		ok(t, err)
		for name, ns := range map[string]*crosscast.Namespace{"default": n.Namespace, "second": second} {
			_, err := ns.Subscribe(ctx, crosscast.Receiver{
				OnMessage: ignore, OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) { l.add("%s %s", name, g.Reason) },
			}, "r", "s")
			ok(t, err)
		}
		_, err = second.Watch(ctx, "r", crosscast.WatchOptions{})
		ok(t, err)
		peer := crosscast.NodeInfo{ID: "aaaaaaaa", Heartbeat: time.Minute}
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: peer.ID, Node: peer})
		time.Sleep(time.Minute + time.Second) // in the first heartbeat it was asked for a digest already
		synctest.Wait()
		d.log.take()
		room := crosscast.Address{Namespace: "second", Space: crosscast.SpaceRoom, Name: "r"}
		g := crosscast.Gap{Origin: "aaaaaaaa", Reason: reasons.GapHole, Names: []crosscast.Address{
			{Namespace: "second", Space: crosscast.SpaceNamespace}, {Namespace: "unknown", Space: crosscast.SpaceNamespace},
		}}
		d.h.Gap(g)
		synctest.Wait()
		equal(t, "told", l.take(), "second hole")
		both := g
		both.Names = append(both.Names, room)
		d.h.Gap(both)
		synctest.Wait()
		equal(t, "told once", l.take(), "second hole")
		equal(t, "asked again who is in the room that is watched, once a heartbeat", d.log.take(), " to aaaaaaaa")
		elsewhere := room
		elsewhere.Namespace = "/"
		user := crosscast.Address{Namespace: "second", Space: crosscast.SpaceUser, Name: "u"}
		equal(t, "covers", fmt.Sprint(g.Covers(room), g.Covers(user), g.Covers(elsewhere)), "true true false")
	})
}
