package crosscast_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

func of(t *testing.T, n *crosscast.Node, name string) *crosscast.Namespace {
	t.Helper()
	ns, err := n.Of(name)
	ok(t, err)
	return ns
}

// EmitAffected reaches each socket of its node that a gap names, once, in each namespace, and nobody else.
func TestEmitAffected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		n := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		peer := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		other := of(t, n, "other")
		var all []*recorder
		join := func(ns *crosscast.Namespace, user string, rooms ...string) (*recorder, *crosscast.Socket) {
			r := &recorder{}
			all = append(all, r)
			return r, connectUser(t, ns, r, user, rooms...)
		}
		both, _ := join(n.Namespace, "ann", "r", "s")
		onlyR, _ := join(n.Namespace, "", "r")
		none, lonely := join(n.Namespace, "bob")
		otherR, _ := join(other, "ann", "r")
		otherNone, _ := join(other, "")
		_, _ = join(peer.Namespace, "ann", "r", "s")
		var l log
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { l.add("%s", m.Event) },
		}, "r", "s")
		ok(t, err)

		address := func(ns string, space crosscast.Space, name string) crosscast.Address {
			return crosscast.Address{Namespace: ns, Space: space, Name: name}
		}
		many := []crosscast.Address{address("/", crosscast.SpaceUser, "ann")}
		for i := range limit.Names + 1 {
			many = append(many, address("/", crosscast.SpaceRoom, fmt.Sprint(i)), address("other", crosscast.SpaceRoom, "r"))
		}
		many = append(many, address("/", crosscast.SpaceRoom, "s"), address("/", crosscast.SpaceRoom, "r"))
		for name, v := range map[string]struct {
			names []crosscast.Address
			to    []*recorder
		}{
			"nobody":               {[]crosscast.Address{}, nil},
			"no such namespace":    {[]crosscast.Address{address("none", crosscast.SpaceNamespace, "")}, nil},
			"a room":               {[]crosscast.Address{address("/", crosscast.SpaceRoom, "r")}, []*recorder{both, onlyR}},
			"a user":               {[]crosscast.Address{address("/", crosscast.SpaceUser, "ann")}, []*recorder{both}},
			"a socket":             {[]crosscast.Address{address("/", crosscast.SpaceSocket, string(lonely.ID()))}, []*recorder{none}},
			"a namespace":          {[]crosscast.Address{address("other", crosscast.SpaceNamespace, "")}, []*recorder{otherR, otherNone}},
			"more than a target's": {many, []*recorder{both, onlyR, otherR}},
			"a namespace, and a room of it": {
				[]crosscast.Address{address("/", crosscast.SpaceRoom, "r"), address("/", crosscast.SpaceNamespace, "")},
				[]*recorder{both, onlyR, none},
			},
			"all": {nil, []*recorder{both, onlyR, none, otherR, otherNone}},
		} {
			ok(t, n.EmitAffected(crosscast.Gap{Names: v.names}, "fetch", name))
			synctest.Wait()
			for i, r := range all {
				want := ""
				for _, to := range v.to {
					if to == r {
						want = "fetch"
					}
				}
				equal(t, fmt.Sprintf("%s: client %d", name, i), r.take(), want)
			}
		}
		equal(t, "a subscription", l.take(), "")
	})
}

// What EmitAffected emits in OnGap is where the missing messages would be.
func TestEmitAffectedIsInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, OnGap: func(n *crosscast.Node, g crosscast.Gap) {
			if err := n.EmitAffected(g, "gap", nil); err != nil {
				t.Error(err)
			}
		}})
		r := &recorder{}
		connect(t, n.Namespace, r, "r")
		emit := func(event string) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Event: event,
				Target: crosscast.Target{Rooms: []string{"r"}},
			})
		}
		emit("1")
		d.h.Gap(crosscast.Gap{Reason: reasons.GapHole, Names: []crosscast.Address{
			{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"},
		}})
		emit("2")
		equal(t, "before anything waits", r.take(), "1 gap 2")
	})
}

// EmitAffected refuses what Emit does, and a closed node.
func TestEmitAffectedRefuses(t *testing.T) {
	n := start(t, crosscast.Options{MaxPayload: 8})
	r := &recorder{}
	connect(t, n.Namespace, r)
	for name, v := range map[string]struct {
		event   string
		payload any
		want    error
	}{
		"the event":   {strings.Repeat("x", limit.Name+1), nil, crosscast.ErrInvalidName},
		"the payload": {"e", strings.Repeat("x", 8), crosscast.ErrTooLarge},
		"its JSON":    {"e", json.RawMessage("{"), nil},
	} {
		if err := n.EmitAffected(crosscast.Gap{}, v.event, v.payload); err == nil || v.want != nil && !errors.Is(err, v.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	equal(t, "got", r.take(), "")
	ok(t, n.Close(ctx))
	if err := n.EmitAffected(crosscast.Gap{}, "e", nil); !errors.Is(err, crosscast.ErrClosed) {
		t.Error(err)
	}
}

// A conn that ends the goroutine keeps EmitAffected from nobody, in other namespaces either.
func TestEmitAffectedAfterAConnEndsTheGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var all []*recorder
		for i := range 4 {
			ns, r := of(t, n, fmt.Sprint("ns", i)), &recorder{}
			all = append(all, r)
			connect(t, ns, exitingConn{})
			connect(t, ns, r)
		}
		elsewhere(func() { _ = n.EmitAffected(crosscast.Gap{}, "fetch", nil) })
		want(t, "fetch", all...)
	})
}

// exitingConn ends the goroutine that sends to it.
type exitingConn struct{}

func (exitingConn) Send(*crosscast.Message) error { runtime.Goexit(); return nil }
func (exitingConn) Close(crosscast.Reason)        {}

// Namespace.OnGap is called with the namespace's part of each gap, in the order of registration, before Options.OnGap.
func TestGapsOfANamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var l log
		silent := slog.New(slog.DiscardHandler)
		n := start(t, crosscast.Options{Adapter: d, Logger: silent, OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
			l.add("node %s %s", g.Reason, sorted(addressTexts(g.Names)))
		}})
		hook := func(name string) func(crosscast.Gap) {
			return func(g crosscast.Gap) {
				l.add("%s %s %s %v", name, g.Reason, sorted(addressTexts(g.Names)), g.Names == nil)
			}
		}
		other := of(t, n, "other")
		ok(t, n.OnGap(hook("first")))
		ok(t, other.OnGap(func(g crosscast.Gap) { l.add("panics"); panic("no luck") }))
		ok(t, other.OnGap(func(g crosscast.Gap) { l.add("exits"); runtime.Goexit() }))
		ok(t, other.OnGap(hook("other")))
		ok(t, n.OnGap(hook("second")))
		gap := func(names ...crosscast.Address) string {
			elsewhere(func() { d.h.Gap(crosscast.Gap{Reason: reasons.GapHole, Origin: "aaaaaaaa", Names: names}) })
			return l.take()
		}
		room := crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}
		equal(t, "of /", gap(room), "first hole r false; second hole r false; node hole r")
		all := crosscast.Address{Namespace: "other", Space: crosscast.SpaceNamespace}
		equal(t, "of both", gap(all, room), "first hole r false; panics; exits; other hole other:* false; "+
			"second hole r false; node hole other:* r")
		equal(t, "of all", gap(), "first hole  true; panics; exits; other hole  true; second hole  true; node hole ")
		equal(t, "of none", gap(crosscast.Address{Namespace: "third", Space: crosscast.SpaceNamespace}),
			"node hole third:*")
		ok(t, n.Close(ctx))
		if err := other.OnGap(hook("late")); !errors.Is(err, crosscast.ErrClosed) {
			t.Error(err)
		}
	})
}
