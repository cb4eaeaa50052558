package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// interestNode starts a node over a driver whose calls are forgotten so far.
func interestNode(t *testing.T, o crosscast.Options) (*crosscast.Node, *driver) {
	t.Helper()
	d := newDriver(t)
	o.Adapter, o.Heartbeat = d, time.Minute // no heartbeats among the calls
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
		joins := n.Stats().Joins
		equal(t, "joins", joins.Count, 1)
		equal(t, "time to join", joins.Total, time.Second)
		equal(t, "longest", joins.Max, time.Second)
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
		for i := range 14_000 {
			s := connect(t, n.Namespace, &recorder{})
			wg.Go(func() {
				if err := s.Join(ctx, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
			if i < 3 {
				synctest.Wait() // so that three calls are under way
			}
		}
		synctest.Wait()
		for range 10 {
			confirm <- nil
			synctest.Wait()
		}
		wg.Wait()
		var sizes []string
		for call := range strings.SplitSeq(d.log.take(), "; ") {
			sizes = append(sizes, fmt.Sprint(len(strings.Fields(call))-1))
		}
		equal(t, "names in each call", strings.Join(sizes, " "), "1 1 1 256 512 1024 2048 4096 4096 1965")
		d.answer(nil)
	})
}

// A refused name: nothing happened, each time, for as long as it lasts.
func TestJoinThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		d.answer(refuse(crosscast.ErrDenied, "bad"))
		closed := false
		var r recorder
		s, err := n.Connect(ctx, &r, crosscast.ConnectOptions{
			Rooms: []string{"good", "bad"}, OnClose: func(*crosscast.Socket, crosscast.Reason) { closed = true },
		})
		refused(t, err, crosscast.ErrDenied, "bad")
		if s != nil || closed || r.reasons() != "" {
			t.Errorf("Connect: %v; OnClose: %v; the conn was closed for %q", s, closed, r.reasons())
		}
		sub, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { t.Errorf("got %s", m.Event) },
		}, "good", "bad")
		refused(t, err, crosscast.ErrDenied, "bad")
		if sub != nil {
			t.Error("a subscription beside an error")
		}
		s = connect(t, n.Namespace, &r)
		for range 2 {
			refused(t, s.Join(ctx, "new", "bad", "good", "bad"), crosscast.ErrDenied, "bad")
			equal(t, "rooms", sorted(s.Rooms()), "")
		}
		equal(t, "members", len(n.Members("bad"))+len(n.Members("good"))+len(n.Members("new")), 0)
		equal(t, "memberships", n.Stats().Memberships, 0)
		ok(t, n.To("bad", "good", "new").Emit(ctx, "e", nil))
		want(t, "", &r)
		equal(t, "sockets", n.Stats().Sockets, 1)

		d.answer(nil)
		d.log.take()
		ok(t, s.Join(ctx, "bad", "good")) // asks again
		ok(t, s.Join(ctx, "bad", "good")) // and never more
		equal(t, "calls", d.log.take(), "+ bad")
	})
}

// refuse answers that some rooms have failed.
func refuse(err error, rooms ...string) func(context.Context, []string) error {
	return func(_ context.Context, names []string) error {
		e := &crosscast.NamesError{Failed: make(map[crosscast.Address]error)}
		for _, name := range names {
			if slices.Contains(rooms, name) {
				a := crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name}
				if user, is := strings.CutPrefix(name, "@"); is {
					a.Space, a.Name = crosscast.SpaceUser, user
				}
				e.Failed[a] = err
			}
		}
		if len(e.Failed) == 0 {
			return nil
		}
		return fmt.Errorf("wrapped: %w", e)
	}
}

// refused fails unless err is why, and names the rooms.
func refused(tb testing.TB, err, why error, rooms ...string) {
	tb.Helper()
	var e *crosscast.NamesError
	if !errors.Is(err, why) || !errors.As(err, &e) {
		tb.Fatalf("got %v, want %v", err, why)
	}
	names := slices.Collect(maps.Keys(e.Failed))
	equal(tb, "the rooms of the error", sorted(addressTexts(names)), sorted(rooms))
}

// A name that is refused fails those who asked for it, and nobody else whose names were in the same call.
func TestJoinIsRefusedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		begin := make(chan struct{})
		bad := []string{"bad1", "bad2", "bad3", "bad4", "bad5"}
		d.answer(func(ctx context.Context, names []string) error {
			<-begin
			return refuse(crosscast.ErrDenied, bad...)(ctx, names)
		})
		sockets := make([]*crosscast.Socket, 6)
		for i := range sockets {
			sockets[i] = connect(t, n.Namespace, &recorder{})
		}
		errs := make([]error, len(sockets))
		var wg sync.WaitGroup
		for i, rooms := range [][]string{{"first"}, {"second"}, {"third"}, {"a", "b"}, {"b", "bad1"}, append([]string{"c"}, bad...)} {
			wg.Go(func() { errs[i] = sockets[i].Join(ctx, rooms...) })
			synctest.Wait()
		}
		close(begin)
		wg.Wait()
		ok(t, errs[0])
		ok(t, errs[1])
		ok(t, errs[2])
		ok(t, errs[3])
		refused(t, errs[4], crosscast.ErrDenied, "bad1")
		refused(t, errs[5], crosscast.ErrDenied, bad...)
		for _, text := range []string{`room "bad1"`, `room "bad3"`, "and 2 more names"} {
			if !strings.Contains(errs[5].Error(), text) {
				t.Errorf("%q says nothing of %s", errs[5], text)
			}
		}
		for i, rooms := range []string{"first", "second", "third", "a b", "", ""} {
			equal(t, "rooms", sorted(sockets[i].Rooms()), rooms)
		}
		equal(t, "calls", d.log.take(), "+ first; + second; + third; + a b bad1 bad2 bad3 bad4 bad5 c")
		d.answer(nil)
	})
}

// A link that is down is no error, also when that is because the bus refuses the login.
func TestJoinWithoutALink(t *testing.T) {
	for _, down := range []error{crosscast.ErrNotConnected, errors.Join(crosscast.ErrNotConnected, crosscast.ErrDenied)} {
		n, d := interestNode(t, crosscast.Options{})
		d.answer(func(context.Context, []string) error { return fmt.Errorf("wrapped: %w", down) })
		var r recorder
		s := connect(t, n.Namespace, &r, "r")
		ok(t, s.Join(ctx, "s"))
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "t")
		ok(t, err)
		equal(t, "rooms", sorted(s.Rooms()), "r s")
		ok(t, n.To("r").Emit(ctx, "local", nil))
		equal(t, "local emission", r.take(), "local")
		equal(t, "joins that were waited for", n.Stats().Joins.Count, 0)
		d.log.take()
		ok(t, s.Join(ctx, "r", "s"))
		equal(t, "asks again", d.log.take(), "+ r s")
		ok(t, sub.Close())

		d.answer(refuse(crosscast.ErrNotConnected, "r")) // by name
		ok(t, s.Join(ctx, "r", "s"))
		ok(t, s.Join(ctx, "r", "s"))
		equal(t, "asks again for what is not confirmed", d.log.take(), "+ r s; + r")
	}
}

// What was confirmed, and is refused now, is asked for again by each that needs it. Who is in the room stays.
func TestDeniedWhileConfirmed(t *testing.T) {
	for _, names := range [][]crosscast.Address{
		{{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}, {Namespace: "/no", Space: 9, Name: "r"}, {}}, nil,
	} {
		n, d := interestNode(t, crosscast.Options{})
		s := connect(t, n.Namespace, &recorder{}, "r", "s")
		d.log.take()
		d.answer(refuse(crosscast.ErrDenied, "r"))
		d.h.Gap(crosscast.Gap{Names: names, Since: time.Now(), Reason: reasons.GapDenied})
		for range 2 {
			refused(t, s.Join(ctx, "r", "new"), crosscast.ErrDenied, "r")
		}
		equal(t, "stays", sorted(s.Rooms()), "r s")
		other := connect(t, n.Namespace, &recorder{})
		refused(t, other.Join(ctx, "r"), crosscast.ErrDenied, "r")
		ok(t, other.Join(ctx, "s"))
		d.answer(nil)
		d.h.Gap(crosscast.Gap{Names: names, Since: time.Now(), Until: time.Now(), Reason: reasons.GapDenied})
		ok(t, other.Join(ctx, "r"))
		equal(t, "rooms", sorted(other.Rooms()), "r s")
	}
}

// What a call proves that began before the bus refused the name is nothing.
func TestDeniedWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })
		s := connect(t, n.Namespace, &recorder{})
		joined := make(chan error, 1)
		go func() { joined <- s.Join(ctx, "r") }()
		synctest.Wait()
		d.h.Gap(crosscast.Gap{
			Names: []crosscast.Address{{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"}}, Reason: reasons.GapDenied,
		})
		confirm <- nil
		ok(t, <-joined)
		d.answer(refuse(crosscast.ErrDenied, "r"))
		refused(t, s.Join(ctx, "r"), crosscast.ErrDenied, "r")
		equal(t, "stays", sorted(s.Rooms()), "r")
		d.answer(nil)
	})
}

func TestJoinEndsWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		d.answer(func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() })
		s := connect(t, n.Namespace, &recorder{})
		joined := make(chan error, 4)
		for _, room := range []string{"r", "s", "t", "u"} { // the last one in a batch that waits
			go func() { joined <- s.Join(ctx, room) }()
			synctest.Wait()
		}
		ok(t, n.Close(ctx))
		for range 4 {
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

// A name is given up after the call that subscribes to it, and not before or beside it.
func TestInterestStaysWhileACallIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{Linger: 10 * time.Millisecond})
		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })
		s := connect(t, n.Namespace, &recorder{})
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Join(brief, "r"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join: %v", err)
		}
		time.Sleep(10 * time.Second)
		equal(t, "calls", d.log.take(), "+ r")
		confirm <- nil
		synctest.Wait()
		equal(t, "calls", d.log.take(), "- r")
		equal(t, "heard", d.hears(), "")
	})
}

func TestSubscriptionHoldsInterest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		s := connect(t, n.Namespace, &recorder{}, "r")
		sub, err := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r", "s")
		ok(t, err)
		s.Close(crosscast.ReasonLeft)
		time.Sleep(15 * time.Second)
		equal(t, "calls", d.log.take(), "+ r; + s")
		ok(t, sub.Close())
		time.Sleep(time.Second)
		sub, err = n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r") // in time
		ok(t, err)
		time.Sleep(15 * time.Second)
		equal(t, "calls", d.log.take(), "- s")
		ok(t, sub.Close())
		time.Sleep(15 * time.Second)
		equal(t, "calls", d.log.take(), "- r")
	})
}

// Sockets come and go in many rooms, slower and faster than interest lingers, over a bus that is slow and sometimes
// refuses. In the end the node hears exactly what it has members of; the driver fails the test on overlapping calls.
func TestInterestEndsUpRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{Linger: 10 * time.Millisecond})
		d.answer(func(_ context.Context, names []string) error {
			time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
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
		time.Sleep(5 * time.Second)
		if rooms := sorted(n.Rooms()); d.hears() != rooms {
			t.Errorf("hears %q with members in %q", d.hears(), rooms)
		}
	})
}
