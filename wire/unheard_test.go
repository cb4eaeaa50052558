package wire_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/wire"
)

// deafPeer is a port to a demoted server: messages of others arrive, but its own messages reach only the port's own
// link.
type deafPeer struct {
	*membus.Port
	since atomic.Int64 // unix milliseconds; 0: not yet
	moves atomic.Bool  // the next look-up names another server, where its peers hear it
}

func (u *deafPeer) Moved(ctx context.Context, l wire.Link) (bool, error) {
	if u.moves.CompareAndSwap(true, false) {
		u.since.Store(0)
		return true, nil
	}
	return u.Port.Moved(ctx, l)
}

func (u *deafPeer) Publish(ctx context.Context, frames []wire.Frame) {
	u.Port.Publish(ctx, frames)
	for i := range frames {
		if u.since.Load() != 0 && frames[i].Receivers > 1 {
			frames[i].Receivers = 1
		}
	}
}

// sailUnheard runs f with three nodes, of which the first can be made one that is not heard.
func sailUnheard(t *testing.T, f func(t *testing.T, fl *fleet, first *deafPeer)) {
	var first *deafPeer
	bus := func(p *membus.Port) wire.Bus {
		u := &deafPeer{Port: p}
		if first == nil {
			first = u
		}
		return u
	}
	sail(t, 3, bus, func(t *testing.T, fl *fleet) { f(t, fl, first) })
}

// TestANodeThatHearsAndIsNotHeard: no peer is silent, but fewer links get its heartbeats than there are peers.
func TestANodeThatHearsAndIsNotHeard(t *testing.T) {
	sailUnheard(t, func(t *testing.T, fl *fleet, first *deafPeer) {
		first.since.Store(time.Now().UnixMilli())
		time.Sleep(10 * time.Second)
		looks := first.Lookups()
		if len(looks) == 0 || len(looks) > 5 || looks[0].UnixMilli()-first.since.Load() > 5000 {
			t.Errorf("look-ups %v, deafPeer since %v", looks, time.UnixMilli(first.since.Load()))
		}
		if n := len(fl.all[1].port.Lookups()); n != 0 {
			t.Errorf("%d look-ups of a node that is heard", n)
		}
		first.since.Store(0)
		time.Sleep(3 * time.Second)
		n := len(first.Lookups())
		time.Sleep(2 * time.Minute)
		if more := len(first.Lookups()) - n; more != 0 {
			t.Errorf("%d look-ups in peace", more)
		}
	})
}

// TestSinceWhenANodeIsNotHeard: the gap begins before that, however the time lies between two heartbeats, and also if
// the peers are silent for a while meanwhile, because a demoted server is still getting ready.
func TestSinceWhenANodeIsNotHeard(t *testing.T) {
	for _, silent := range []time.Duration{0, 5 * time.Second} {
		for early := range 10 {
			t.Run(fmt.Sprint(silent, early), func(t *testing.T) { notHeardSince(t, time.Duration(early)*100*time.Millisecond, silent) })
		}
	}
}

func notHeardSince(t *testing.T, early, silent time.Duration) {
	sailUnheard(t, func(t *testing.T, fl *fleet, first *deafPeer) {
		time.Sleep(early)
		left := time.Now()
		first.since.Store(left.UnixMilli())
		for _, s := range fl.all[1:] {
			s.port.SetFate(func(wire.Frame) membus.Fate {
				if time.Since(left) < silent {
					return membus.Fate{Skip: "0"}
				}
				return membus.Fate{}
			})
		}
		time.Sleep(silent + time.Second)
		first.moves.Store(true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		stale := fl.all[0]
		stale.mu.Lock()
		defer stale.mu.Unlock()
		i := slices.IndexFunc(stale.gaps, func(g crosscast.Gap) bool { return g.Reason == reasons.GapMoved })
		if i < 0 {
			t.Fatalf("gaps %+v", stale.gaps)
		}
		if since := stale.gaps[i].Since; since.After(left) || left.Sub(since) > 2*time.Second {
			t.Errorf("gap %+v of a node that was not heard since %v", stale.gaps[i], left)
		}
	})
}
