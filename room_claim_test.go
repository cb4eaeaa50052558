package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// A join whose context ends is taken back: all of its rooms, also those that were heard already, and no other.
func TestJoinThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, d := interestNode(t, crosscast.Options{})
		s := connect(t, n.Namespace, &recorder{}, "own")
		connect(t, n.Namespace, &recorder{}, "heard")
		d.log.take()
		confirm := make(chan error)
		d.answer(func(context.Context, []string) error { return <-confirm })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Join(short, "own", "heard", "r"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Join: %v", err)
		}
		equal(t, "rooms", sorted(s.Rooms()), "own")
		equal(t, "members", len(n.Members("heard")), 1)

		joined := make(chan error, 1)
		go func() { joined <- s.Join(ctx, "r") }() // waits for the call that is under way
		synctest.Wait()
		confirm <- nil
		ok(t, <-joined)
		equal(t, "rooms", sorted(s.Rooms()), "own r")
		equal(t, "calls", d.log.take(), "+ r")
		d.answer(nil)
	})
}

// Two calls wait for one membership, or for two of which each has the other's, and what becomes of it.
func TestJoinsThatShareAMembership(t *testing.T) {
	type call struct {
		rooms []string
		fails bool
	}
	for _, v := range []struct {
		first, second call
		between       func(t *testing.T, n *crosscast.Node, s *crosscast.Socket)
		want          string
	}{
		{call{[]string{"r"}, true}, call{[]string{"r"}, true}, nil, ""},
		{call{[]string{"r"}, true}, call{[]string{"r"}, false}, nil, "r"},
		{call{[]string{"r"}, false}, call{[]string{"r"}, true}, nil, "r"},
		{call{[]string{"r", "r"}, true}, call{[]string{"r", "r", "s"}, true}, nil, ""},
		{call{[]string{"r", "s"}, true}, call{[]string{"s", "t"}, false}, nil, "s t"},
		{call{[]string{"r", "s"}, false}, call{[]string{"s", "t"}, true}, nil, "r s"},
		// "heard" needs no confirmation, so a call for it alone succeeds at once: it is a promise, whoever fails.
		{call{[]string{"heard", "r"}, true}, call{[]string{"heard"}, false}, nil, "heard"},
		{call{[]string{"heard", "r"}, true}, call{[]string{"heard", "s"}, true}, nil, ""},
		{call{[]string{"own", "r"}, true}, call{[]string{"own", "s"}, true}, nil, ""},
		// Who leaves meanwhile has left, and what is joined after that is another membership.
		{call{[]string{"r"}, false}, call{[]string{"r"}, false}, leave("r"), ""},
		{call{[]string{"r"}, true}, call{[]string{"s"}, false}, leave("r"), "s"},
		{call{[]string{"r", "s"}, true}, call{[]string{"r"}, false}, func(
			t *testing.T, _ *crosscast.Node, s *crosscast.Socket,
		) {
			leave("r")(t, nil, s)
			go s.Join(ctx, "r")
			synctest.Wait()
		}, "r"},
		// A command's membership stands.
		{call{[]string{"r"}, true}, call{[]string{"r"}, true}, func(t *testing.T, n *crosscast.Node, s *crosscast.Socket) {
			ok(t, n.ToSocket(s.ID()).Join(ctx, "r"))
		}, "r"},
		{call{[]string{"r"}, true}, call{[]string{"r"}, true}, func(t *testing.T, _ *crosscast.Node, s *crosscast.Socket) {
			s.Close(crosscast.ReasonLeft)
		}, "own r"},
	} {
		t.Run(fmt.Sprint(v.first, v.second), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, d := interestNode(t, crosscast.Options{})
				s := connect(t, n.Namespace, &recorder{}, "own")
				connect(t, n.Namespace, &recorder{}, "heard")
				begin := make(chan struct{})
				d.answer(func(context.Context, []string) error { <-begin; return nil })
				fail, cancel := context.WithCancel(ctx)
				var wg sync.WaitGroup
				for _, c := range []call{v.first, v.second} {
					wg.Go(func() {
						with := ctx
						if c.fails {
							with = fail
						}
						if err := s.Join(with, c.rooms...); (err != nil) != c.fails {
							t.Errorf("Join: %v", err)
						}
					})
					synctest.Wait()
				}
				if v.between != nil {
					v.between(t, n, s)
				}
				cancel()
				synctest.Wait()
				close(begin)
				wg.Wait()
				synctest.Wait()
				rooms := sorted(slices.DeleteFunc(s.Rooms(), func(r string) bool { return r == "own" && !s.Closed() }))
				equal(t, "rooms", rooms, v.want)
				d.answer(nil)
			})
		})
	}
}

func leave(room string) func(*testing.T, *crosscast.Node, *crosscast.Socket) {
	return func(t *testing.T, _ *crosscast.Node, s *crosscast.Socket) { ok(t, s.Leave(room)) }
}

// Many goroutines join the same rooms of the same sockets, over a bus that is slow and refuses some, with contexts that
// end early. No membership is lost for which some call got nil; none is left for which all have failed.
func TestJoinsThatFailUnderConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sockets, rooms, goroutines, rounds = 8, 12, 32, 200
		n, d := interestNode(t, crosscast.Options{Linger: 5 * time.Millisecond})
		d.answer(func(ctx context.Context, names []string) error {
			time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
			var bad []string
			for _, name := range names {
				if rand.IntN(3) == 0 {
					bad = append(bad, name)
				}
			}
			switch rand.IntN(10) {
			case 0:
				return crosscast.ErrNotConnected
			case 1:
				return crosscast.ErrDenied
			default:
				return refuse(crosscast.ErrDenied, bad...)(ctx, names)
			}
		})
		all := make([]*crosscast.Socket, sockets)
		for i := range all {
			all[i] = connect(t, n.Namespace, &recorder{})
		}
		promised, failed := 0, 0
		for range rounds {
			var mu sync.Mutex
			stays := make(map[string]bool) // by socket and room
			var wg sync.WaitGroup
			for range goroutines {
				s := rand.IntN(sockets)
				var join []string
				for range 1 + rand.IntN(4) {
					join = append(join, fmt.Sprint("r", rand.IntN(rooms)))
				}
				wait := time.Duration(rand.IntN(6)) * time.Millisecond
				begin := time.Duration(rand.IntN(6)) * time.Millisecond
				wg.Go(func() {
					time.Sleep(begin)
					c, cancel := context.WithTimeout(ctx, wait)
					defer cancel()
					err := all[s].Join(c, join...)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failed++
						return
					}
					for _, r := range join {
						stays[fmt.Sprint(s, r)] = true
						promised++
					}
				})
			}
			wg.Wait()
			for i, s := range all {
				got := s.Rooms()
				for r := range rooms {
					room := fmt.Sprint("r", r)
					in, member := slices.Contains(got, room), slices.Contains(n.Members(room), s)
					if want := stays[fmt.Sprint(i, room)]; in != want || member != want {
						t.Fatalf("socket %d in %s: %v, a member: %v, want %v", i, room, in, member, want)
					}
				}
				ok(t, s.Leave(got...))
			}
			equal(t, "memberships", n.Stats().Memberships, 0)
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // sometimes longer than interest lingers
		}
		if promised == 0 || failed == 0 {
			t.Errorf("%d promised, %d failed: nothing was tried", promised, failed)
		}
		d.answer(nil)
	})
}

// A join of what is heard already allocates the membership, and nothing for what might have failed.
func TestConfirmedJoinAllocatesNothingMore(t *testing.T) {
	n, _ := interestNode(t, crosscast.Options{})
	s := connect(t, n.Namespace, &recorder{}, "r", "keep")
	connect(t, n.Namespace, &recorder{}, "r")
	if got := testing.AllocsPerRun(100, func() {
		s.Leave("r")
		s.Join(ctx, "r")
	}); got > 1 {
		t.Errorf("%v allocations", got)
	}
}
