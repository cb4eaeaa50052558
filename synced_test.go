package crosscast_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// synced is Synced of whatever has it.
type synced interface{ Synced(context.Context) error }

// Synced waits until the link stands and all names are confirmed, whether or not the adapter tells of its link.
func TestSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{}) // heartbeats come each hour
		s := connectUser(t, n.Namespace, &recorder{}, "u", "r")
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r", "t")
		ok(t, err)
		for _, v := range []struct {
			synced
			names string
		}{{s, "@u r"}, {sub, "r t"}} {
			d.answer(nil)
			d.log.take()
			ok(t, v.Synced(ctx))
			equal(t, "asks for all", d.log.take(), "+ "+v.names)

			d.answer(func(context.Context, []string) error { return crosscast.ErrNotConnected })
			result := make(chan error, 1)
			go func() { result <- v.Synced(ctx) }()
			synctest.Wait()
			equal(t, "synced without a link", len(result), 0)
			d.answer(nil)
			began := time.Now()
			ok(t, <-result)
			equal(t, "asked again after", time.Since(began), time.Minute)

			for _, state := range []crosscast.LinkState{
				reasons.LinkDown, reasons.LinkDeaf, reasons.LinkDenied, reasons.LinkConnecting,
			} {
				d.h.Link(crosscast.LinkStatus{Subscribing: crosscast.LinkHalf{State: state}})
				go func() { result <- v.Synced(ctx) }()
				synctest.Wait()
				equal(t, "synced while "+string(state), len(result), 0)
				began := time.Now()
				d.h.Link(crosscast.LinkStatus{
					Subscribing: crosscast.LinkHalf{State: reasons.LinkLive}, Publishing: crosscast.LinkHalf{State: state},
				})
				ok(t, <-result)
				equal(t, "waited", time.Since(began), 0)
			}

			d.answer(refuse(crosscast.ErrDenied, "r"))
			refused(t, v.Synced(ctx), crosscast.ErrDenied, "r")
			never := make(chan struct{})
			d.answer(func(context.Context, []string) error { <-never; return nil })
			short, cancel := context.WithTimeout(ctx, time.Second)
			if err := v.Synced(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
			close(never)
			synctest.Wait()
		}
		equal(t, "still in", sorted(s.Rooms()), "r")
		ok(t, sub.Close())
		s.Close(crosscast.ReasonLeft)
		for _, v := range []synced{s, sub} {
			if err := v.Synced(ctx); !errors.Is(err, crosscast.ErrClosed) {
				t.Error(err)
			}
		}
		ok(t, n.Close(ctx))
	})
}

// Without an adapter, and in one process, there is nothing to wait for.
func TestSyncedAtOnce(t *testing.T) {
	a, _, _ := three(t)
	for _, n := range []*crosscast.Node{start(t, crosscast.Options{}), a} {
		s := connect(t, n.Namespace, &recorder{}, "r")
		ok(t, s.Synced(ctx))
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
		ok(t, err)
		ok(t, sub.Synced(ctx))
		w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
		ok(t, err)
		ok(t, w.Synced(ctx))
		s.Close(crosscast.ReasonLeft)
		ok(t, sub.Close())
		w.Close()
		for _, v := range []synced{s, sub, w} {
			if err := v.Synced(ctx); !errors.Is(err, crosscast.ErrClosed) {
				t.Errorf("%T: %v", v, err)
			}
		}
	}
}
