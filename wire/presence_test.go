package wire_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// nobody is a conn that takes everything.
type nobody struct{}

func (nobody) Send(*crosscast.Message) error { return nil }
func (nobody) Close(crosscast.Reason)        {}

// watcher adds up the events of a watch, and notes events that do not balance.
type watcher struct {
	mu    sync.Mutex
	first bool
	now   map[string]string // what the users show
	bad   []string
}

func (w *watcher) on(_ *crosscast.Watch, e crosscast.PresenceEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Current == w.first {
		w.bad = append(w.bad, "not one first event")
	}
	w.first = true
	for _, m := range e.Joined {
		if _, here := w.now[m.User]; here {
			w.bad = append(w.bad, fmt.Sprint("joined twice: ", m))
		}
		w.now[m.User] = string(m.Presence)
	}
	for _, m := range e.Changed {
		if shows, here := w.now[m.User]; !here || shows == string(m.Presence) {
			w.bad = append(w.bad, fmt.Sprint("no change: ", m))
		}
		w.now[m.User] = string(m.Presence)
	}
	for _, m := range e.Left {
		if _, here := w.now[m.User]; !here {
			w.bad = append(w.bad, fmt.Sprint("left twice: ", m))
		}
		delete(w.now, m.User)
	}
}

func (w *watcher) users(t *testing.T) string {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bad) > 0 {
		t.Error(w.bad)
		w.bad = nil
	}
	var all []string
	for user, shows := range w.now {
		all = append(all, user+strings.Trim(shows, `"`))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

type presenceNode struct {
	*crosscast.Node
	port *membus.Port
}

// presenceNodes runs f with n nodes on one scripted bus.
func presenceNodes(t *testing.T, n int, f func(t *testing.T, nodes []presenceNode)) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		var nodes []presenceNode
		for i := range n {
			port := hub.Port(fmt.Sprint("n", i))
			node, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(port, wire.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, presenceNode{node, port})
			defer func() {
				port.Up()
				port.SetFate(nil)
				node.Close(t.Context())
			}()
		}
		synctest.Wait()
		f(t, nodes)
	})
}

func (n presenceNode) connect(t *testing.T, user string) *crosscast.Socket {
	t.Helper()
	s, err := n.Connect(t.Context(), nobody{}, crosscast.ConnectOptions{User: user, Rooms: []string{"r"}})
	if s == nil {
		t.Fatal(err)
	}
	return s
}

func (n presenceNode) watch(t *testing.T) *watcher {
	t.Helper()
	w := &watcher{now: map[string]string{}}
	watch, err := n.Watch(t.Context(), "r", crosscast.WatchOptions{OnChange: w.on, Users: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watch.Close)
	return w
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestPresenceHealsAfterAnOutage: what came and went while a link was down is seen when it is back; a node that was cut
// off for so long that it was taken for dead leaves with its members, and returns with them.
func TestPresenceHealsAfterAnOutage(t *testing.T) {
	presenceNodes(t, 3, func(t *testing.T, nodes []presenceNode) {
		ann, _ := nodes[1].connect(t, "ann"), nodes[2].connect(t, "bob")
		w, w1 := nodes[0].watch(t), nodes[1].watch(t)
		expect(t, "at first", w.users(t), "ann bob")

		nodes[0].port.Down() // the watcher's
		ann.Close(crosscast.ReasonServer)
		nodes[1].connect(t, "eve")
		time.Sleep(3 * time.Second)
		expect(t, "while it is cut off", w.users(t), "ann bob")
		nodes[0].port.Up()
		time.Sleep(5 * time.Second)
		expect(t, "after the watcher's outage", w.users(t), "bob eve")

		nodes[2].port.Down() // the watched node's
		time.Sleep(20 * time.Second)
		expect(t, "when the node is taken for dead", w.users(t), "eve")
		expect(t, "on another watcher", w1.users(t), "eve")
		nodes[2].connect(t, "zoe")
		nodes[2].port.Up()
		time.Sleep(10 * time.Second)
		expect(t, "when it is back", w.users(t), "bob eve zoe")
		expect(t, "on another watcher", w1.users(t), "bob eve zoe")
	})
}

// TestPresenceHealsWithoutAGap: frames to one node are lost with nobody's knowledge, the last ones, so that no
// successor betrays them. The versions do.
func TestPresenceHealsWithoutAGap(t *testing.T) {
	presenceNodes(t, 2, func(t *testing.T, nodes []presenceNode) {
		w := nodes[0].watch(t)
		lose := func(f wire.Frame) membus.Fate {
			return membus.Fate{Lost: strings.Contains(f.Topic, string(nodes[0].ID()))} // its inbox
		}
		nodes[1].port.SetFate(lose)
		ann := nodes[1].connect(t, "ann")
		expect(t, "lost", w.users(t), "")
		nodes[1].port.SetFate(nil)
		time.Sleep(6 * time.Second)
		expect(t, "after a renewal", w.users(t), "ann")
		nodes[1].port.SetFate(lose)
		if err := ann.SetPresence("+away"); err != nil {
			t.Fatal(err)
		}
		expect(t, "data that is lost", w.users(t), "ann")
		nodes[1].port.SetFate(nil)
		time.Sleep(6 * time.Second)
		expect(t, "data after a renewal", w.users(t), "ann+away")
	})
}

// TestPresenceBalances: joins, leaves and faults at random, and then peace: the watchers agree with the truth.
func TestPresenceBalances(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			presenceNodes(t, 3, func(t *testing.T, nodes []presenceNode) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				var watchers []*watcher
				for _, n := range nodes {
					watchers = append(watchers, n.watch(t))
				}
				for i := range nodes {
					var mu sync.Mutex
					own := rand.New(rand.NewPCG(seed, uint64(i)))
					nodes[i].port.SetFate(func(wire.Frame) membus.Fate {
						mu.Lock()
						defer mu.Unlock()
						switch own.IntN(12) {
						case 0:
							return membus.Fate{Lost: true}
						case 1:
							return membus.Fate{Repeat: 1}
						case 2:
							return membus.Fate{Delay: time.Duration(own.IntN(1500)) * time.Millisecond}
						case 3:
							return membus.Fate{Again: time.Second}
						}
						return membus.Fate{}
					})
				}
				type client struct {
					user  string
					s     *crosscast.Socket
					shows string
					set   int // when
				}
				var clients []client
				for step := range 200 {
					switch i := rnd.IntN(20); {
					case i < 9:
						user := fmt.Sprint("u", rnd.IntN(30))
						clients = append(clients, client{user: user, s: nodes[rnd.IntN(3)].connect(t, user)})
					case i < 13 && len(clients) > 0:
						c := &clients[rnd.IntN(len(clients))]
						c.shows, c.set = fmt.Sprint("+", rnd.IntN(3)), step
						time.Sleep(time.Millisecond) // of two that are set in the same one, neither is the last
						if err := c.s.SetPresence(c.shows); err != nil {
							t.Fatal(err)
						}
					case i < 18 && len(clients) > 0:
						k := rnd.IntN(len(clients))
						clients[k].s.Close(crosscast.ReasonServer)
						clients = slices.Delete(clients, k, k+1)
					default:
						nodes[rnd.IntN(3)].port.Cut()
					}
					time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
				}
				for _, n := range nodes {
					n.port.SetFate(nil)
				}
				time.Sleep(20 * time.Second)
				truth := map[string]client{}
				for _, c := range clients {
					if last, known := truth[c.user]; !known || c.set > last.set {
						truth[c.user] = c
					}
				}
				var users []string
				for u, c := range truth {
					users = append(users, u+c.shows)
				}
				slices.Sort(users)
				for i, w := range watchers {
					expect(t, fmt.Sprint("watcher ", i), w.users(t), strings.Join(users, " "))
				}
				// What each has told is what the others have: nothing differs any more. In 50 s each has 50 heartbeats, asks
				// for 10 digests, and answers 20.
				for i, n := range nodes {
					before := n.Stats().InstructionsOut
					time.Sleep(50 * time.Second)
					if got := n.Stats().InstructionsOut - before; got > 50+10+20+3 {
						t.Errorf("node %d sent %d instructions in peace", i, got)
					}
				}
			})
		})
	}
}
