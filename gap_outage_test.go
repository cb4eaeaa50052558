package crosscast_test

import (
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// TestOutage: bindings hear of the beginning of an outage, and the application only of its gap. OnGap reports one that goes
// on at once; only its gap ends it.
func TestOutage(t *testing.T) {
	d := newDriver(t)
	var l log
	n := start(t, crosscast.Options{Adapter: d, OnGap: func(_ *crosscast.Node, g crosscast.Gap) { l.add("application %s", g.Reason) }})
	other, err := n.Of("other")
	ok(t, err)
	hear := func(who string, ns *crosscast.Namespace) {
		ok(t, ns.OnGap(func(g crosscast.Gap) {
			if g.Names != nil {
				t.Errorf("%s: %+v", who, g)
			}
			l.add("%s %s, goes on %v", who, g.Reason, g.Until.IsZero())
		}))
	}
	hear("default", n.Namespace)
	hear("other", other)
	_, err = n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore, OnGap: func(_ *crosscast.Subscription, g crosscast.Gap) {
		if g.Until.IsZero() {
			t.Error("a subscription was told")
		}
	}}, "r")
	ok(t, err)
	equal(t, "at first", l.take(), "")

	now := time.Now()
	d.log.take()
	d.h.Outage(now, reasons.GapDeaf)
	equal(t, "begins", l.take(), "default link deaf, goes on true; other link deaf, goes on true")
	equal(t, "nobody is asked", d.log.take(), "")
	for _, reason := range crosscast.GapReasons() {
		d.h.Outage(now, reasons.GapLinkLost)
		d.h.Gap(crosscast.Gap{Since: now, Until: now, Reason: reason})
		l.take()
		hear("late", n.Namespace)
		goesOn, want := l.take(), ""
		switch reason {
		case reasons.GapLinkLost, reasons.GapDeaf, reasons.GapMoved, reasons.GapDenied:
		default:
			want = "late link lost, goes on true"
		}
		equal(t, "after "+string(reason), goesOn, want)
	}
	equal(t, "gaps", int(n.Stats().Gaps), len(crosscast.GapReasons()))
}

// TestOutageEndsMeanwhile: a binding that OnGap tells of an outage hears of an end that comes during that call, last.
func TestOutageEndsMeanwhile(t *testing.T) {
	d := newDriver(t)
	n := start(t, crosscast.Options{Adapter: d})
	now := time.Now()
	d.h.Outage(now, reasons.GapLinkLost)
	var got []bool
	ended := false
	ok(t, n.OnGap(func(g crosscast.Gap) {
		if !ended {
			ended = true
			d.h.Gap(crosscast.Gap{Since: now, Until: now, Reason: reasons.GapLinkLost})
		}
		got = append(got, g.Until.IsZero())
	}))
	if len(got) != 3 || got[0] || !got[1] || got[2] {
		t.Errorf("called with gaps that go on: %v", got)
	}
}
