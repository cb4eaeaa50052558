package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// interestNode starts a node over a driver whose calls are forgotten so far.
func interestNode(t *testing.T, o crosscast.Options) (*crosscast.Node, *driver) {
	t.Helper()
	d := newDriver(t)
	o.Adapter, o.Heartbeat = d, time.Hour // no heartbeats among the calls
	n := start(t, o)
	d.log.take()
	return n, d
}

func TestJoinWaitsUntilItIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })

		var r recorder
		connected := make(chan *crosscast.Socket, 1)
		go func() {
			s, err := n.Connect(ctx, &r, crosscast.ConnectOptions{User: "u", Rooms: []string{"r", "s", "r"}})
			if err != nil {
				t.Error(err)
			}
			connected <- s
		}()
		synctest.Wait()
		equal(t, "one call for everything", d.log.take(), "+ @u r s")
		equal(t, "connected before it is heard", len(connected), 0)
		ok(t, n.To("s").Emit(ctx, "local", nil))
		equal(t, "a member meanwhile", r.take(), "local")
		d.log.take()
		time.Sleep(time.Second)
		confirm <- nil
		s := <-connected

		// What is heard already costs nothing.
		ok(t, s.Join(ctx, "r", "s"))
		connectUser(t, n.Namespace, &recorder{}, "u", "s")
		equal(t, "calls", d.log.take(), "")
		equal(t, "time to join", n.Stats().Joins, crosscast.JoinStats{Count: 1, Total: time.Second, Max: time.Second})
		d.answer(nil)
	})
}

// While one call waits, everything asked for meanwhile becomes the next call: batching without a timer.
func TestJoinsAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })
		var wg sync.WaitGroup
		for i := range 10_000 {
			s := connect(t, n.Namespace, &recorder{})
			wg.Go(func() {
				if err := s.Join(ctx, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait() // so that the first call is under way
			}
		}
		synctest.Wait()
		for range 4 { // 1, then 9,999 in batches of at most 4,096
			confirm <- nil
		}
		wg.Wait()
		var sizes []string
		for call := range strings.SplitSeq(d.log.take(), "; ") {
			sizes = append(sizes, fmt.Sprint(len(strings.Fields(call))-1))
		}
		equal(t, "names in each call", strings.Join(sizes, " "), "1 4096 4096 1807")
		d.answer(nil)
	})
}

func TestJoinThatIsRefused(t *testing.T) {
	for _, refusal := range []error{crosscast.ErrDenied, crosscast.ErrNotConnected} {
		t.Run(refusal.Error(), func(t *testing.T) {
			n, d := interestNode(t, crosscast.Options{})
			d.answer(func(context.Context, []string) error { return fmt.Errorf("wrapped: %w", refusal) })
			var r recorder
			s, err := n.Connect(ctx, &r, crosscast.ConnectOptions{Rooms: []string{"r"}})
			if !errors.Is(err, refusal) || s == nil {
				t.Fatalf("Connect: %v, %v", s, err)
			}
			if err := s.Join(ctx, "s"); !errors.Is(err, refusal) {
				t.Errorf("Join: %v", err)
			}
			sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(*crosscast.Message) {}}, "t")
			if !errors.Is(err, refusal) || sub == nil {
				t.Errorf("Subscribe: %v, %v", sub, err)
			}
			equal(t, "rooms all the same", sorted(s.Rooms()), "r s")
			ok(t, n.To("s").Local().Emit(ctx, "local", nil))
			equal(t, "local emission", r.take(), "local")
			equal(t, "calls", d.log.take(), "+ r; + s; + t")

			d.answer(nil)
			ok(t, s.Join(ctx, "r", "s")) // asks again
			ok(t, s.Join(ctx, "r", "s")) // and never more
			equal(t, "calls", d.log.take(), "+ r s")
		})
	}
}

func TestJoinThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })
		s := connect(t, n.Namespace, &recorder{})
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Join(short, "r"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join: %v", err)
		}
		equal(t, "rooms", sorted(s.Rooms()), "r")
		joined := make(chan error, 1)
		go func() { joined <- s.Join(ctx, "r") }() // waits for the call that is under way
		synctest.Wait()
		confirm <- nil
		ok(t, <-joined)
		equal(t, "calls", d.log.take(), "+ r")
		d.answer(nil)
	})
}

func TestJoinEndsWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		d.answer(func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() })
		s := connect(t, n.Namespace, &recorder{})
		joined := make(chan error, 2)
		go func() { joined <- s.Join(ctx, "r") }()
		synctest.Wait()
		go func() { joined <- s.Join(ctx, "s") }() // in the next batch
		synctest.Wait()
		ok(t, n.Close(ctx))
		for range 2 {
			if err := <-joined; !errors.Is(err, crosscast.ErrClosed) {
				t.Errorf("Join: %v", err)
			}
		}
	})
}

func TestInterestLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{Linger: 5 * time.Second})
		s := connectUser(t, n.Namespace, &recorder{}, "u", "r", "kept")
		equal(t, "calls", d.log.take(), "+ @u kept r")
		ok(t, s.Leave("r"))
		time.Sleep(4 * time.Second)
		ok(t, s.Join(ctx, "r")) // in time
		time.Sleep(10 * time.Second)
		equal(t, "calls while in use again", d.log.take(), "")

		ok(t, s.Leave("r"))
		time.Sleep(4999 * time.Millisecond)
		synctest.Wait()
		equal(t, "calls before the time", d.log.take(), "")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		equal(t, "calls at the time", d.log.take(), "- r")
		ok(t, s.Join(ctx, "r")) // is a new interest
		equal(t, "calls", d.log.take(), "+ r")

		// In use and out again meanwhile: it goes between one and two times of lingering after the last leave.
		ok(t, s.Leave("r"))
		time.Sleep(3 * time.Second)
		ok(t, s.Join(ctx, "r"))
		ok(t, s.Leave("r"))
		time.Sleep(4999 * time.Millisecond)
		synctest.Wait()
		equal(t, "calls", d.log.take(), "")
		time.Sleep(5001 * time.Millisecond)
		synctest.Wait()
		equal(t, "calls", d.log.take(), "- r")

		s.Close(crosscast.ReasonLeft)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		equal(t, "all go in one call", d.log.take(), "- @u kept")
		equal(t, "heard", d.hears(), "")
	})
}

func TestSubscriptionHoldsInterest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		s := connect(t, n.Namespace, &recorder{}, "r")
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(*crosscast.Message) {}}, "r", "s")
		ok(t, err)
		s.Close(crosscast.ReasonLeft)
		time.Sleep(time.Minute)
		equal(t, "calls", d.log.take(), "+ r; + s")
		ok(t, sub.Close())
		time.Sleep(time.Second)
		sub, err = n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(*crosscast.Message) {}}, "r") // in time
		ok(t, err)
		time.Sleep(time.Minute)
		equal(t, "calls", d.log.take(), "- s")
		ok(t, sub.Close())
		time.Sleep(time.Minute)
		equal(t, "calls", d.log.take(), "- r")
	})
}

// Sockets come and go in many rooms, slower and faster than interest lingers, over a bus that is slow and sometimes
// refuses. In the end the node hears exactly what it has members of; the driver fails the test on overlapping calls.
func TestInterestEndsUpRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{Linger: 10 * time.Millisecond})
		d.answer(func(_ context.Context, names []string) error {
			time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
			if rand.IntN(10) == 0 {
				return crosscast.ErrNotConnected
			}
			return nil
		})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				s := connect(t, n.Namespace, &recorder{})
				for range 300 {
					room := fmt.Sprint(rand.IntN(10))
					if rand.IntN(2) == 0 {
						s.Join(ctx, room)
					} else {
						s.Leave(room)
					}
					time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
				}
				if rand.IntN(2) == 0 {
					s.Close(crosscast.ReasonLeft)
				}
			})
		}
		wg.Wait()
		d.answer(nil)
		for i := range 8 { // leave some of the rooms without anybody
			for _, s := range n.Members(fmt.Sprint(i)) {
				ok(t, s.Leave(fmt.Sprint(i)))
			}
		}
		time.Sleep(time.Second)
		if rooms := sorted(n.Rooms()); d.hears() != rooms {
			t.Errorf("hears %q with members in %q", d.hears(), rooms)
		}
	})
}
