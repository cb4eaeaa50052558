package crosscast_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// TestDisconnectsByReason: every closed socket counts once, by a reason of the package or as the application's.
func TestDisconnectsByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var slow recorder
		s := connect(t, n.Namespace, &slow)
		slow.fail(crosscast.ErrSlow)
		_ = s.Emit(ctx, "e", nil)
		connect(t, n.Namespace, new(recorder)).Close("a text of mine")
		connect(t, n.Namespace, new(recorder)).Close("another one")
		left := connect(t, n.Namespace, new(recorder))
		left.Close(crosscast.ReasonLeft)
		left.Close(crosscast.ReasonServer) // it is closed
		connect(t, n.Namespace, new(recorder), "r")
		ok(t, n.To("r").Disconnect(ctx, crosscast.ReasonServer))
		connect(t, n.Namespace, new(recorder))
		synctest.Wait()
		got := n.Stats()
		equal(t, "connects", got.Connects, 6)
		equal(t, "sockets", got.Sockets, 1)
		want := map[crosscast.Reason]uint64{
			crosscast.ReasonSlow: 1, "application": 2, crosscast.ReasonLeft: 1, crosscast.ReasonServer: 1,
		}
		for reason, n := range got.Disconnects {
			equal(t, string(reason), n, want[reason])
		}
		equal(t, "reasons", len(got.Disconnects), 12)
	})
}

// embeds is a conn of an application that embeds a queue.
type embeds struct{ *crosscast.Queue }

// TestQueuesOfSockets: Stats has the sums over open and closed sockets, and its counters never fall.
func TestQueuesOfSockets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		stuck := make(chan struct{})
		q := func(write func([]byte) error) *crosscast.Queue {
			return crosscast.NewQueue(write, crosscast.QueueOptions{Budget: testBudget, CloseGrace: time.Second})
		}
		fast := connect(t, n.Namespace, embeds{q(func([]byte) error { return nil })})
		first := true
		slow := connect(t, n.Namespace, q(func([]byte) error {
			if !first {
				<-stuck
			}
			first = false
			return nil
		}))
		connect(t, n.Namespace, new(recorder)) // has no queue
		for range 3 {
			ok(t, n.Everyone().Emit(ctx, "e", nil))
			synctest.Wait()
		}
		s := n.Stats().Queues
		equal(t, "written", s.WrittenFrames, 4)
		equal(t, "bytes", s.WrittenBytes, 4*uint64(len(`{"event":"e"}`)))
		equal(t, "queued", s.QueuedFrames, 1) // one is being written
		fast.Close(crosscast.ReasonServer)
		slow.Close(crosscast.ReasonServer)
		synctest.Wait()
		equal(t, "written while a queue is closed", n.Stats().Queues.WrittenFrames, 4)
		close(stuck)
		synctest.Wait()
		s = n.Stats().Queues
		equal(t, "written in the end", s.WrittenFrames, 6)
		equal(t, "queued in the end", s.QueuedFrames, 0)
	})
}

type panicsAtStats struct{ recorder }

func (*panicsAtStats) Stats() crosscast.QueueStats { panic("oops") }

func TestStatsOfAConnThatPanics(t *testing.T) {
	n := start(t, crosscast.Options{})
	connect(t, n.Namespace, new(panicsAtStats))
	equal(t, "panics", n.Stats().Panics, 0)
	equal(t, "panics", n.Stats().Panics, 1)
}

func TestQueriesByOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		n := nodes[0]
		if _, err := n.Everyone().Count(ctx); err != nil {
			t.Fatal(err)
		}
		taps[1].loseAnswers()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := n.Everyone().Count(short); err == nil {
			t.Error("complete without an answer")
		}
		a := n.Everyone().Sockets(ctx, crosscast.Fields{})
		a.Close()
		a.Close()
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, _ = n.Everyone().Count(cancelled)
		equal(t, "outcomes", fmt.Sprint(n.Stats().Queries), "{1 1 1 1}")
	})
}

// TestHistograms: with the option the node measures the time in queues, and its peers' round trip; otherwise nothing.
func TestHistograms(t *testing.T) {
	for _, on := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			cluster := crosscast.NewCluster()
			n := start(t, crosscast.Options{Adapter: cluster.Adapter(), Histograms: on})
			start(t, crosscast.Options{Adapter: cluster.Adapter()})
			connect(t, n.Namespace, crosscast.NewQueue(
				func([]byte) error { time.Sleep(3 * time.Millisecond); return nil },
				crosscast.QueueOptions{Budget: testBudget},
			))
			for range 128 {
				ok(t, n.Everyone().Emit(ctx, "e", nil))
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(30 * time.Second)
			s := n.Stats()
			if !on {
				equal(t, "nothing", len(s.Times.Queue.Counts)+len(s.Times.Peers.Counts), 0)
				return
			}
			equal(t, "of 2 to 4 ms", s.Times.Queue.Counts[12], 2)
			equal(t, "sum", s.Times.Queue.Sum, 6*time.Millisecond)
			trips := uint64(0)
			for _, c := range s.Times.Peers.Counts {
				trips += c
			}
			equal(t, "round trips", trips, 3)
			equal(t, "queries", fmt.Sprint(s.Queries), "{0 0 0 0}")
		})
	}
}

// TestDroppedSample: a frame that is dropped is not measured.
func TestDroppedSample(t *testing.T) {
	for _, policy := range []crosscast.QueuePolicy{crosscast.QueueDropOldest, crosscast.QueueDropNewest, crosscast.QueueDisconnect} {
		bubble(t, func(t *testing.T) {
			n := start(t, crosscast.Options{Histograms: true})
			stuck := make(chan struct{})
			s := connect(t, n.Namespace, crosscast.NewQueue(
				func([]byte) error { <-stuck; return nil },
				crosscast.QueueOptions{Budget: testBudget, Limit: 1000, BurstTime: -1, Policy: policy},
			))
			for range 200 { // among them those that are due
				_ = n.Everyone().Emit(ctx, "e", make(crosscast.Bytes, 100))
				synctest.Wait()
			}
			close(stuck)
			synctest.Wait()
			for i, c := range n.Stats().Times.Queue.Counts {
				if c > 0 {
					t.Errorf("policy %d: bucket %d has %d", policy, i, c)
				}
			}
			s.Close(crosscast.ReasonServer)
		})
	}
}
