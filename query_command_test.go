package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

func TestCommandsOnAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		sockets, conns := crowdOf(t, nodes)
		inRoom := func(room string) int {
			synctest.Wait()
			sum := 0
			for _, n := range nodes {
				sum += len(n.Members(room))
			}
			return sum
		}
		n := nodes[0]
		ok(t, n.To("r0").Join(ctx, "x", "y"))
		equal(t, "x", inRoom("x"), 5)
		equal(t, "y", inRoom("y"), 5)
		ok(t, n.ToUser("u0").Leave(ctx, "x"))
		equal(t, "x", inRoom("x"), 2)
		ok(t, n.ToSocket(sockets[1].ID(), sockets[3].ID()).Join(ctx, "z"))
		equal(t, "z", inRoom("z"), 2)
		ok(t, n.Everyone().Local().Join(ctx, "mine"))
		equal(t, "mine", inRoom("mine"), 3)
		ok(t, nodes[1].To("x").Emit(ctx, "e", nil)) // a node that was told to join hears the room, without a waiting Join
		synctest.Wait()
		for i, s := range sockets {
			equal(t, "heard", conns[i].take() == "e", slices.Contains(s.Rooms(), "x"))
		}
		ok(t, n.Everyone().Except("r1").Leave(ctx, "all"))
		equal(t, "all", inRoom("all"), 4)
		ok(t, n.To().Join(ctx, "nothing"))
		equal(t, "nothing", inRoom("nothing"), 0)
		if err := nodes[1].ToUser("u1").Disconnect(ctx, ""); err == nil {
			t.Error("no reason, no error")
		}
		ok(t, nodes[1].ToUser("u1").Disconnect(ctx, crosscast.ReasonServer))
		synctest.Wait()
		for i, s := range sockets {
			equal(t, "closed", s.Closed(), i%4 == 1)
		}
	})
}

// A message emitted before a disconnect arrives first, and so does one before a leave; one after a join reaches who has
// joined.
func TestCommandsKeepTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		var rs [3]recorder
		for i, n := range nodes {
			connectUser(t, n.Namespace, &rs[i], "u", "r")
		}
		n := nodes[0]
		for range 50 {
			ok(t, n.To("r").Emit(ctx, "1", nil))
			ok(t, n.ToUser("u").Leave(ctx, "r"))
			ok(t, n.To("r").Emit(ctx, "never", nil))
			ok(t, n.ToUser("u").Join(ctx, "r"))
			ok(t, n.To("r").Emit(ctx, "2", nil))
			want(t, "1 2", &rs[0], &rs[1], &rs[2])
		}
		ok(t, n.To("r").Emit(ctx, "bye", nil))
		ok(t, n.To("r").Disconnect(ctx, "moved"))
		ok(t, n.Emit(ctx, "never", nil))
		want(t, "bye", &rs[0], &rs[1], &rs[2])
		for i := range rs {
			equal(t, "reasons", rs[i].reasons(), "moved")
		}
	})
}

func TestDisconnectCallsOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		var l log
		watch := new(recorder)
		connect(t, nodes[2].Namespace, watch, "r", "w")
		for _, n := range nodes {
			_, err := n.Connect(ctx, new(recorder), crosscast.ConnectOptions{
				User: "u", Rooms: []string{"r"},
				OnClose: func(s *crosscast.Socket, reason crosscast.Reason) {
					l.add("%s %v", reason, s.Rooms())
					// What it may call is not limited: also what waits for peers.
					ok(t, s.To("r").Emit(ctx, "left", nil))
					_, err := s.Namespace().To("w").Do(ctx, crosscast.Command{Join: []string{"saw"}})
					ok(t, err)
					ok(t, s.Namespace().ToSocket(s.ID()).Disconnect(ctx, "again"))
				},
			})
			ok(t, err)
		}
		changed, err := nodes[0].ToUser("u").Do(ctx, crosscast.Command{Disconnect: "kicked"})
		ok(t, err)
		equal(t, "changed", changed.Sockets, 3)
		synctest.Wait()
		equal(t, "closed", l.take(), "kicked [r]; kicked [r]; kicked [r]")
		equal(t, "watch", watch.take(), "left left left")
	})
}

// A hook, an OnClose and a subscription may command and ask.
func TestReentrancy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var a *crosscast.Node
		var l log
		a = start(t, crosscast.Options{Adapter: cluster.Adapter(), OnRoom: func(_ *crosscast.Node, e crosscast.RoomEvent) {
			if e.Kind != crosscast.RoomJoined || e.Room != "r" {
				return
			}
			count, err := a.To("r").Count(ctx)
			l.add("%d %v", count, err)
			changed, err := a.To("r").Do(ctx, crosscast.Command{Join: []string{"s"}, Leave: []string{"r"}})
			l.add("%d %v", changed.Sockets, err)
		}})
		b := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		connect(t, b.Namespace, new(recorder), "r")
		connect(t, a.Namespace, new(recorder), "r")
		synctest.Wait()
		equal(t, "hook", l.take(), "2 <nil>; 2 <nil>")
		_, err := b.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			count, err := b.To("s").Count(ctx)
			l.add("%d %v", count, err)
		}}, "news")
		ok(t, err)
		ok(t, a.To("news").Emit(ctx, "e", nil))
		synctest.Wait()
		equal(t, "subscription", l.take(), "2 <nil>")
	})
}

// The local part is done also when the bus is down, and the error tells that peers were not reached.
func TestCommandsWithoutABus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: "aaaaaaaa"})
		r := new(recorder)
		s := connectUser(t, n.Namespace, r, "u")
		d.answer(func(context.Context, []string) error { return crosscast.ErrNotConnected })
		d.mu.Lock()
		d.publishErr = crosscast.ErrNotConnected
		d.mu.Unlock()
		refused := func(err error) {
			t.Helper()
			if !errors.Is(err, crosscast.ErrNotConnected) {
				t.Error(err)
			}
		}
		refused(n.ToUser("u").Join(ctx, "r"))
		equal(t, "rooms", sorted(s.Rooms()), "r")
		refused(n.ToUser("u").Leave(ctx, "r"))
		equal(t, "rooms", sorted(s.Rooms()), "")
		changed, err := n.ToUser("u").Do(ctx, crosscast.Command{Join: []string{"q"}})
		refused(err)
		equal(t, "changed", changed.Nodes[n.ID()], 1)
		equal(t, "rooms", sorted(s.Rooms()), "q")
		refused(n.ToUser("u").Disconnect(ctx, "down"))
		equal(t, "reasons", r.reasons(), "down")
		// For what this node holds alone, nobody else is needed.
		s = connect(t, n.Namespace, new(recorder))
		ok(t, n.ToSocket(s.ID()).Disconnect(ctx, crosscast.ReasonServer))
	})
}

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		sockets := crowd(t, nodes)
		n := nodes[0]
		changed, err := n.To("r0").Do(ctx, crosscast.Command{Join: []string{"x"}, Leave: []string{"r0", "all"}})
		ok(t, err)
		equal(t, "sockets", changed.Sockets, 5)
		for i, count := range []int{2, 1, 2} {
			equal(t, "sockets of a node", changed.Nodes[nodes[i].ID()], count)
		}
		// The target is what it is when each step is done: here nobody is left for the second.
		changed, err = n.ToUser("nobody").Do(ctx, crosscast.Command{Disconnect: "x"})
		ok(t, err)
		equal(t, "changed", fmt.Sprint(changed), "{0 map[]}")
		changed, err = n.ToSocket(sockets[1].ID()).Do(ctx, crosscast.Command{Join: []string{"one"}})
		ok(t, err)
		equal(t, "changed", changed.Nodes[nodes[1].ID()], 1)
		changed, err = n.To("all").Do(ctx, crosscast.Command{})
		ok(t, err)
		equal(t, "changed", changed.Sockets, 0)

		taps[2].loseAnswers()
		both := crosscast.Command{Join: []string{"a"}, Leave: []string{"all"}}
		changed, err = n.ToUser("u1").Do(timeout(t, time.Second), both)
		incomplete(t, err, context.DeadlineExceeded, nodes[2])
		equal(t, "changed", changed.Sockets, 1)
		equal(t, "rooms", sorted(sockets[1].Rooms()), "a one r1")
		equal(t, "rooms", sorted(sockets[5].Rooms()), "a r1") // who did not answer may have done it all the same
	})
}

// After Do(Join), an emission of any node reaches the sockets that have joined, however many join and leave meanwhile.
func TestDoJoinThenEmit(t *testing.T) {
	nodes, _ := threeTaps(t)
	var rs [3]recorder
	for i, n := range nodes {
		connectUser(t, n.Namespace, &rs[i], fmt.Sprint("u", i))
	}
	for round := range 200 {
		room := fmt.Sprint("room", round)
		_, err := nodes[round%3].ToUser("u0", "u1", "u2").Do(ctx, crosscast.Command{Join: []string{room}})
		ok(t, err)
		ok(t, nodes[rand.IntN(3)].To(room).Emit(ctx, room, nil))
		fence(t, nodes, room)
		for i := range rs {
			if got := rs[i].take(); got != room {
				t.Fatalf("round %d: recorder %d got %q", round, i, got)
			}
		}
	}
}

// fence returns when what each node has published before has reached all others: their answers come after it.
func fence(t *testing.T, nodes []*crosscast.Node, room string) {
	t.Helper()
	for _, n := range nodes {
		_, err := n.To(room).Do(ctx, crosscast.Command{Leave: []string{"no room"}})
		ok(t, err)
	}
}

func TestCommandLimits(t *testing.T) {
	nodes, taps := threeTaps(t)
	s := connect(t, nodes[0].Namespace, new(recorder), "r")
	n := nodes[0]
	many := slices.Repeat([]string{"x"}, limit.Names+1)
	long := strings.Repeat("x", limit.Name+1)
	for _, c := range []struct {
		err  error
		want error
	}{
		{n.To("r").Join(ctx, many...), crosscast.ErrTooLarge},
		{n.To("r").Join(ctx, "good", long), crosscast.ErrInvalidName},
		{n.To("r").Leave(ctx, ""), crosscast.ErrInvalidName},
		{n.To(long).Leave(ctx, "x"), crosscast.ErrInvalidName},
		{n.To("r").Disconnect(ctx, crosscast.Reason(long)), crosscast.ErrTooLarge},
		{func() error {
			_, err := n.To("r").Do(ctx, crosscast.Command{Join: []string{"good"}, Leave: []string{""}})
			return err
		}(), crosscast.ErrInvalidName},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("got %v, want %v", c.err, c.want)
		}
	}
	equal(t, "rooms", sorted(s.Rooms()), "r") // nothing was done
	equal(t, "published", taps[0].count(kind.Join)+taps[0].count(kind.Leave), 0)
}

// Whatever sockets, commands and questions there are, a count is what a naive model says.
func TestCountsMatchTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cluster := crosscast.NewCluster()
		var nodes []*crosscast.Node
		for range 3 {
			n, err := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
			ok(t, err)
			defer n.Close(ctx)
			nodes = append(nodes, n)
		}
		type state struct {
			user  string
			rooms map[string]bool
		}
		model := map[*crosscast.Socket]*state{}
		user := rapid.SampledFrom([]string{"u", "v", "w"})
		room := rapid.SampledFrom([]string{"a", "b", "c"})
		node := rapid.SampledFrom(nodes)
		of := func(u string) (all []*crosscast.Socket) {
			for s, st := range model {
				if st.user == u {
					all = append(all, s)
				}
			}
			return all
		}
		do := func(u string, n *crosscast.Node, c crosscast.Command) {
			changed, err := n.ToUser(u).Do(ctx, c)
			if err != nil || changed.Sockets != len(of(u)) {
				rt.Fatal(changed, err, len(of(u)))
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				u, r := user.Draw(rt, "user"), room.Draw(rt, "room")
				s := connectUser(t, node.Draw(rt, "node").Namespace, new(recorder), u, r)
				model[s] = &state{u, map[string]bool{r: true}}
			},
			"join": func(rt *rapid.T) {
				u, r := user.Draw(rt, "user"), room.Draw(rt, "room")
				do(u, node.Draw(rt, "node"), crosscast.Command{Join: []string{r}})
				for _, s := range of(u) {
					model[s].rooms[r] = true
				}
			},
			"leave": func(rt *rapid.T) {
				u, r := user.Draw(rt, "user"), room.Draw(rt, "room")
				do(u, node.Draw(rt, "node"), crosscast.Command{Leave: []string{r}})
				for _, s := range of(u) {
					delete(model[s].rooms, r)
				}
			},
			"disconnect": func(rt *rapid.T) {
				u := user.Draw(rt, "user")
				do(u, node.Draw(rt, "node"), crosscast.Command{Disconnect: "x"})
				for _, s := range of(u) {
					delete(model, s)
				}
			},
			"": func(rt *rapid.T) {
				in, out := room.Draw(rt, "in"), room.Draw(rt, "out")
				sockets, users := 0, map[string]bool{}
				for _, st := range model {
					if st.rooms[in] && (in == out || !st.rooms[out]) {
						sockets++
						users[st.user] = true
					}
				}
				target := node.Draw(rt, "asking").To(in)
				if in != out {
					target = target.Except(out)
				}
				if n, err := target.Count(ctx); err != nil || n != sockets {
					rt.Fatalf("count of %s without %s: %d, %v, not %d", in, out, n, err, sockets)
				}
				if n, err := target.CountUsers(ctx); err != nil || n != len(users) {
					rt.Fatalf("users of %s without %s: %d, %v, not %d", in, out, n, err, len(users))
				}
			},
		})
	})
}

// Questions, commands, connects and closes at once: nothing fails, and the count is right in the end.
func TestEverythingAtOnce(t *testing.T) {
	nodes, _ := threeTaps(t)
	var wg sync.WaitGroup
	for g := range 6 {
		n := nodes[g%3]
		wg.Go(func() {
			u := fmt.Sprint("u", g)
			for i := range 60 {
				s := connectUser(t, n.Namespace, new(recorder), u, "r")
				_, err := nodes[(g+i)%3].ToUser(u).Do(ctx, crosscast.Command{Join: []string{"s"}, Leave: []string{"r"}})
				ok(t, err)
				if c, err := n.To("r", "s").Count(ctx); err != nil || c < 1 || c > 6*60 {
					t.Error(c, err)
				}
				switch i % 3 {
				case 0:
					s.Close("x")
				case 1:
					ok(t, nodes[(g+i)%3].ToSocket(s.ID()).Disconnect(ctx, crosscast.ReasonServer))
				}
			}
		})
	}
	wg.Wait()
	fence(t, nodes, "s")
	for _, n := range nodes {
		c, err := n.To("s").Count(ctx)
		ok(t, err)
		equal(t, "count", c, 6*20)
	}
}
