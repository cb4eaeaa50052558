package crosscast_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// TestStartWaitsForWhomItCannotCount: where the bus does not tell how many peers there are, Start returns a heartbeat
// after its hello, in which all of them have spoken; alone, too, but by the end of its context.
func TestStartWaitsForWhomItCannotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		d.receipt = crosscast.Receipt{}
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind != kind.Hello {
				return
			}
			for i, id := range []crosscast.NodeID{"aaaaaaaa", "bbbbbbbb"} {
				time.AfterFunc(time.Duration(i)*900*time.Millisecond, func() {
					d.h.Handle(&crosscast.Instruction{
						Kind: kind.Heartbeat, From: id, Node: crosscast.NodeInfo{Heartbeat: time.Second},
					})
				})
			}
		}
		began := time.Now()
		n := start(t, crosscast.Options{Adapter: d})
		equal(t, "took", time.Since(began), time.Second)
		equal(t, "peers", len(n.Nodes()), 2)

		d = newDriver(t)
		d.receipt = crosscast.Receipt{}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		n, err := crosscast.Start(short, crosscast.Options{Adapter: d})
		ok(t, err)
		equal(t, "took, with a context of 100 ms", time.Since(began), 100*time.Millisecond)
		ok(t, n.Close(ctx))
	})
}

// TestForgedGoodbye: a goodbye that somebody else said is over with the peer's next heartbeat.
func TestForgedGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Ask {
				d.h.Handle(&crosscast.Instruction{
					Kind: kind.Answer, From: "aaaaaaaa", Ref: inst.Ref, Answer: &crosscast.Answer{Count: 1, Last: true},
				})
			}
		}
		hear := func(k kind.Kind) {
			d.h.Handle(&crosscast.Instruction{Kind: k, From: "aaaaaaaa", Node: crosscast.NodeInfo{Heartbeat: time.Second}})
		}
		hear(kind.Heartbeat)
		hear(kind.Goodbye)
		equal(t, "peers after the goodbye", len(n.Nodes()), 0)
		hear(kind.Heartbeat)
		equal(t, "peers", len(n.Nodes()), 1)
		count, err := n.Everyone().Count(ctx)
		ok(t, err)
		equal(t, "count", count, 1)
	})
}

// TestNothingAfterAGoodbye: a node that has said goodbye answers no hello, which would bring it back.
func TestNothingAfterAGoodbye(t *testing.T) {
	d := newDriver(t)
	n := start(t, crosscast.Options{Adapter: d})
	d.onPublish = func(inst *crosscast.Instruction) {
		if inst.Kind == kind.Goodbye {
			d.h.Handle(&crosscast.Instruction{Kind: kind.Hello, From: "aaaaaaaa"})
		}
	}
	d.log.take()
	ok(t, n.Close(ctx))
	equal(t, "published", d.log.take(), "goodbye; close")
}
