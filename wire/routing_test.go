package wire_test

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// TestMemoryWithSharedTopics runs the rules with all names on everyone's topic, and with two ways to spread them at once.
// Package redisadapter runs them with one way.
func TestMemoryWithSharedTopics(t *testing.T) {
	for _, o := range []wire.Options{{Topics: 1}, {Topics: 8, AlsoTopics: []int{0}}} {
		t.Run(fmt.Sprint(o.Topics, o.AlsoTopics), func(t *testing.T) {
			adaptertest.Run(t, adaptertest.Harness{
				Lacks: map[adaptertest.Capability]string{
					adaptertest.CapInterest: "a node gets what others with the same topic have members for",
				},
				New: func(testing.TB) adaptertest.Cluster {
					bus := &hub{links: map[*subscriber]bool{}}
					var ports []*port
					return adaptertest.Cluster{
						Adapter: func() crosscast.Adapter {
							p := &port{hub: bus}
							ports = append(ports, p)
							return wire.New(p, o)
						},
						Cut:     func(i int) { ports[i].setCut(true) },
						Restore: func(i int) { ports[i].setCut(false) },
					}
				},
			})
		})
	}
}

// TestSharedTopics: rooms share topics, and a node subscribes only to those of its rooms. Rooms and users have others, so
// that their order holds.
func TestSharedTopics(t *testing.T) {
	inBubble(t, 2, wire.Options{Topics: 4}, func(t *testing.T, c *cluster) {
		topics := map[string]bool{}
		c.hub.OnExecute(func(f wire.Frame) {
			if strings.Contains(f.Topic, ":h") {
				topics[f.Topic] = true
			}
		})
		a, b := c.peers[0], c.peers[1]
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprint("room", i))
		}
		subscribe(t, b, names...)
		user := crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "u"}
		if err := b.a.Subscribe(t.Context(), user); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			a.emit(false, room(name))
		}
		a.emit(false, user)
		synctest.Wait()
		if got := len(b.got()); got != 101 || len(topics) != 5 {
			t.Errorf("%d of 101 emissions came, on the topics %v", got, topics)
		}

		b.a.Unsubscribe(t.Context(), room("room0"))
		a.emit(false, room("room0")) // still on a topic of others
		synctest.Wait()
		for _, name := range names {
			b.a.Unsubscribe(t.Context(), room(name))
		}
		synctest.Wait()
		a.emit(false, room("room0"))
		a.emit(false, user)
		synctest.Wait()
		if got := b.got(); len(got) != 103 || !strings.HasSuffix(got[102], "/104") {
			t.Errorf("at the end %d came, the last one %s", len(got), got[len(got)-1])
		}
	})
}

// TestGapOfASharedTopic: a gap names all names that the node has on the topic, whether it is a hole or a loss of the
// origin's. It names nothing for a node without one. More than 1,024 names are all names.
func TestGapOfASharedTopic(t *testing.T) {
	for _, rooms := range []int{2, 5000} {
		for _, fault := range []string{"hole", "loss"} {
			t.Run(fmt.Sprint(fault, rooms), func(t *testing.T) {
				inBubble(t, 3, wire.Options{Topics: 2}, func(t *testing.T, c *cluster) {
					a, b, other := c.peers[0], c.peers[1], c.peers[2]
					var names []string
					for i := range rooms {
						names = append(names, fmt.Sprint("room", i))
					}
					subscribe(t, b, names...)
					if err := other.a.Subscribe(t.Context(), crosscast.Address{Namespace: "/", Space: crosscast.SpaceUser, Name: "u"}); err != nil {
						t.Fatal(err)
					}
					c.beat(2 * time.Second)
					var topic string
					c.hub.OnExecute(func(f wire.Frame) { topic = f.Topic })
					a.emit(false, room("room0"))
					synctest.Wait()
					hit := topic
					c.hub.OnExecute(func(wire.Frame) {})
					a.port.SetFate(func(f wire.Frame) membus.Fate {
						switch {
						case f.Topic != hit:
							return membus.Fate{}
						case fault == "hole":
							return membus.Fate{Lost: true}
						default:
							return membus.Fate{Lost: true, Err: fmt.Errorf("%w: scripted", crosscast.ErrRefused)}
						}
					})
					a.emit(false, room("room0"))
					synctest.Wait()
					a.port.SetFate(nil)
					a.emit(false, room("room0"))
					c.beat(2 * time.Second)
					gaps := b.seen()
					if len(gaps) != 1 || gaps[0].Origin != a.id || !gaps[0].Covers(room("room0")) {
						t.Fatalf("gaps %+v", gaps)
					}
					covered := 0
					for _, n := range names {
						if gaps[0].Covers(room(n)) {
							covered++
						}
					}
					if (gaps[0].Names == nil) != (rooms > 1024) || covered == 0 || covered != max(len(gaps[0].Names), covered) {
						t.Errorf("%d names, %d of %d rooms covered", len(gaps[0].Names), covered, rooms)
					}
					if g := other.seen(); len(g) != 0 {
						t.Errorf("a node without a room has gaps: %+v", g)
					}
					for _, l := range a.lost() {
						if l.Names != nil || l.Instructions != 1 {
							t.Errorf("loss %+v", l)
						}
					}
				})
			})
		}
	}
}

// TestInvalidTopics: invalid numbers of topics are an error of the start.
func TestInvalidTopics(t *testing.T) {
	for _, o := range []wire.Options{
		{Topics: -1}, {Topics: 4097}, {AlsoTopics: []int{0}}, {Topics: 2, AlsoTopics: []int{2}}, {AlsoTopics: []int{1, 2}}, {AlsoTopics: []int{-1}},
	} {
		a := wire.New(membus.New().Port("p"), o)
		self := crosscast.NodeInfo{ID: "node0000", Heartbeat: time.Second}
		if err := a.Start(t.Context(), starting(self, &peer{}, false)); err == nil || !strings.Contains(err.Error(), "Topics") {
			t.Errorf("%+v: %v", o, err)
		}
		a.Close(t.Context())
	}
}

// TestNodesThatDisagree: nodes that spread rooms in different ways tell each other at once, by a gap of everything and in
// Stats. Another gap follows when the peer is gone. Emitters are told of, too, even those that start before the node.
func TestNodesThatDisagree(t *testing.T) {
	inBubble(t, 2, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.peers[1]
		c.beat(2 * time.Second)
		early := c.addAs(wire.Options{Topics: 3}, true)
		early.emit(false, room("A"))
		synctest.Wait()
		odd := c.add(wire.Options{Topics: 64})
		c.beat(time.Second)
		for _, p := range []*peer{a, b} {
			told := p.a.AdapterStats().Misrouted
			if want := map[crosscast.NodeID]string{odd.id: "64", early.id: "3"}; !maps.Equal(told, want) {
				t.Errorf("%s tells of %v", p.id, told)
			}
			gaps := routingGaps(p)
			if len(gaps) != 2 || gaps[0].Origin != early.id || gaps[1].Origin != odd.id || gaps[1].Names != nil ||
				time.Since(gaps[1].Since) > 4*time.Second {
				t.Errorf("%s: gaps %+v", p.id, gaps)
			}
		}
		if told := odd.a.AdapterStats().Misrouted; told[a.id] != "own" || told[b.id] != "own" {
			t.Errorf("%s tells of %v", odd.id, told)
		}
		c.beat(10 * time.Second)
		if gaps := routingGaps(a); len(gaps) != 2 {
			t.Errorf("later, gaps %+v", gaps)
		}

		odd.a.Publish(t.Context(), &crosscast.Instruction{Kind: kind.Goodbye, Target: crosscast.Target{Everyone: true}})
		synctest.Wait()
		if gaps := routingGaps(a); len(gaps) != 3 || !gaps[2].Since.Equal(gaps[1].Until) || gaps[2].Until.Before(gaps[2].Since) {
			t.Errorf("after the goodbye, gaps %+v", gaps)
		}
		b.a.Expire(odd.id)
		if _, still := a.a.AdapterStats().Misrouted[odd.id]; still {
			t.Error("after the goodbye it is still told of")
		}

		late := c.add(wire.Options{})
		time.Sleep(2 * time.Minute)
		early.emit(false, room("A"))
		synctest.Wait()
		if told := late.a.AdapterStats().Misrouted; told[early.id] != "3" {
			t.Errorf("who started after the emitter tells of %v", told)
		}
	})
}

// TestAPeerThatDisagreesDies: the gap ends when the peer is taken for dead.
func TestAPeerThatDisagreesDies(t *testing.T) {
	inBubble(t, 1, wire.Options{Topics: 2}, func(t *testing.T, c *cluster) {
		a, odd := c.peers[0], c.add(wire.Options{Topics: 3})
		c.beat(time.Second)
		a.a.Expire(odd.id)
		synctest.Wait()
		if gaps := routingGaps(a); len(gaps) != 2 || len(a.a.AdapterStats().Misrouted) != 0 {
			t.Errorf("gaps %+v, misrouted %v", gaps, a.a.AdapterStats().Misrouted)
		}
	})
}

// TestEmittersThatDisagree: an emitter is told of when it publishes for a room or user on a topic of theirs, not for what
// each node hears. If its word is lost with what it emits, it tells it again. The log says which options differ.
func TestEmittersThatDisagree(t *testing.T) {
	for _, test := range []struct {
		node, emitter wire.Options
		log           string // empty: they hear each other
	}{
		{wire.Options{}, wire.Options{Topics: 64}, "an emitter (node0001): Topics 64: Topics 0: "},
		{wire.Options{Topics: 64}, wire.Options{}, "an emitter (node0001): Topics 0: Topics 64: "},
		{wire.Options{Topics: 1}, wire.Options{Topics: 8}, "an emitter (node0001): Topics 8: Topics 1: "},
		{wire.Options{Topics: 9}, wire.Options{Topics: 8, AlsoTopics: []int{0}}, "an emitter (node0001): Topics 8, AlsoTopics 0: Topics 9: "},
		{wire.Options{}, wire.Options{Topics: 8, AlsoTopics: []int{0}}, ""},
		{wire.Options{Topics: 8}, wire.Options{Topics: 1}, ""},
	} {
		t.Run(fmt.Sprint(test.node.Topics, test.emitter.Topics), func(t *testing.T) {
			var log lines
			test.node.Logger = slog.New(&log)
			inBubble(t, 1, test.node, func(t *testing.T, c *cluster) {
				a, e := c.peers[0], c.addAs(test.emitter, true)
				subscribe(t, a, "A")
				told := func() map[crosscast.NodeID]string {
					synctest.Wait()
					return a.a.AdapterStats().Misrouted
				}
				for range 3 {
					if err := e.a.Listen(t.Context()); err != nil {
						t.Fatal(err)
					}
					ask(t, e)
					e.emit(false)
					for range 9 {
						e.emit(false, manyRooms...)
					}
					time.Sleep(40 * time.Second)
				}
				if told := told(); told != nil || len(a.seen()) != 0 || len(a.got()) != 30 {
					t.Errorf("who asks, and emits what everyone hears, is told of: %v, gaps %+v, %d came", told, a.seen(), len(a.got()))
				}

				e.port.SetFate(func(wire.Frame) membus.Fate {
					return membus.Fate{Lost: true, Err: fmt.Errorf("%w: scripted", crosscast.ErrRefused)}
				})
				e.emit(false, room("A"))
				synctest.Wait()
				e.port.SetFate(nil)
				e.emit(false, room("A"))
				if told := told(); (told != nil) != (test.log != "") || (told != nil) != (len(routingGaps(a)) == 1) {
					t.Errorf("who emits to a room: %v, gaps %+v", told, a.seen())
				}
				again := 0
				c.hub.OnExecute(func(f wire.Frame) {
					if f.Topic == "cc:all" && test.emitter.Topics != 1 {
						again++
					}
				})
				e.emit(false, room("A"))
				synctest.Wait()
				if again != 0 {
					t.Errorf("it tells it %d times within a minute", again+1)
				}
				time.Sleep(2 * time.Second)
			})
			all := strings.Join(log.take(), "\n")
			if at := strings.Index(all, test.log); at < 0 || !strings.Contains(all[at:], "docs/scale.md") != (test.log == "") {
				t.Errorf("logged: %s", all)
			}
		})
	}
}

// TestLogOfNodesThatDisagree: the log has the name of a node, although it publishes before its hello.
func TestLogOfNodesThatDisagree(t *testing.T) {
	var log lines
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New()
		start := func(name string, o wire.Options) *crosscast.Node {
			n, err := crosscast.Start(t.Context(), crosscast.Options{Name: name, Adapter: wire.New(bus.Port(name), o)})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		one := start("one", wire.Options{Topics: 32, Logger: slog.New(&log)})
		defer one.Close(t.Context())
		odd := start("odd", wire.Options{Topics: 64})
		defer odd.Close(t.Context())
		time.Sleep(3 * time.Second)
		all := strings.Join(log.take(), "\n")
		if want := fmt.Sprintf(": 1: odd (%s): Topics 64: Topics 32: give all", odd.ID()); strings.Count(all, want) != 1 {
			t.Errorf("logged without %q: %s", want, all)
		}
	})
}

// manyRooms are so many that everyone gets what is for them.
var manyRooms = func() (all []crosscast.Address) {
	for i := range 9 {
		all = append(all, room(fmt.Sprint("room", i)))
	}
	return all
}()

// ask publishes a query about a room.
func ask(t *testing.T, p *peer) {
	t.Helper()
	if err := p.a.Publish(t.Context(), &crosscast.Instruction{
		Kind: kind.Ask, Namespace: "/", Target: crosscast.Target{Rooms: []string{"A"}}, Ref: "r",
		Question: &crosscast.Question{Kind: kind.AskStats},
	}); err != nil {
		t.Fatal(err)
	}
}

func routingGaps(p *peer) []crosscast.Gap {
	return slices.DeleteFunc(p.seen(), func(g crosscast.Gap) bool { return g.Reason != reasons.GapRouting })
}

// TestRoutingChangesInTwoSteps: first all nodes use the old and the new way, then only the new one. Meanwhile everybody
// hears everybody, once and in order, and no gap is reported. Without the first step there is a gap.
func TestRoutingChangesInTwoSteps(t *testing.T) {
	for _, steps := range [][]wire.Options{
		{{}, {Topics: 8, AlsoTopics: []int{0}}, {Topics: 8}},
		{{}, {AlsoTopics: []int{1}}, {Topics: 1}},
		{{Topics: 8}, {Topics: 16, AlsoTopics: []int{8}}, {Topics: 16}},
		{{}, {Topics: 8}},
	} {
		t.Run(fmt.Sprint(steps[len(steps)-1].Topics, len(steps)), func(t *testing.T) {
			inBubble(t, 3, steps[0], func(t *testing.T, c *cluster) {
				now := slices.Clone(c.peers)
				all := []string{"A", "B", "C"}
				for _, p := range now {
					subscribe(t, p, all...)
				}
				gaps := 0
				// talk has all emit to all rooms, and checks what comes.
				talk := func() {
					before := make([]int, len(now))
					for i, p := range now {
						before[i] = len(p.got())
						gaps += len(routingGaps(p))
					}
					for range 2 {
						for _, p := range now {
							p.emit(false, room("A"), room("B"))
							p.emit(false, room("A"))
							p.emit(false, room("C"))
						}
						synctest.Wait()
					}
					for i, p := range now {
						for _, from := range now {
							own := slices.DeleteFunc(p.got()[before[i]:], func(e string) bool { return !strings.HasPrefix(e, string(from.id)) })
							if from != p && len(steps) == 3 && (len(own) != 6 || !slices.IsSortedFunc(own, byNumber)) {
								t.Errorf("%s got of %s: %v", p.id, from.id, own)
							}
						}
					}
				}
				talk()
				for _, o := range steps[1:] {
					for i := range now {
						now[i].a.Publish(t.Context(), &crosscast.Instruction{Kind: kind.Goodbye, Target: crosscast.Target{Everyone: true}})
						if err := now[i].a.Close(t.Context()); err != nil {
							t.Fatal(err)
						}
						now[i] = c.add(o)
						subscribe(t, now[i], all...)
						c.beat(time.Second)
						talk()
					}
				}
				if (gaps > 0) != (len(steps) == 2) {
					t.Errorf("%d gaps in %d steps", gaps, len(steps)-1)
				}
			})
		})
	}
}

// byNumber orders the events of one peer.
func byNumber(a, b string) int {
	return cmp.Or(len(a)-len(b), strings.Compare(a, b))
}

// TestSharedTopicsAreFiltered: a node drops, and counts, what it has no member for on a topic that rooms share.
func TestSharedTopicsAreFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		start := func(name string) *crosscast.Node {
			n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: wire.New(hub.Port(name), wire.Options{Topics: 2})})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		a, b := start("a"), start("b")
		defer a.Close(t.Context())
		defer b.Close(t.Context())
		for i := range 10 {
			if _, err := b.Connect(t.Context(), nobody{}, crosscast.ConnectOptions{Rooms: []string{fmt.Sprint("room", i)}}); err != nil {
				t.Fatal(err)
			}
		}
		before := b.Stats()
		for i := range 20 {
			if err := a.To(fmt.Sprint("room", i)).Emit(t.Context(), "e", nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		after := b.Stats()
		if d, dropped := after.Delivered-before.Delivered, after.Dropped["unwanted"]; d != 10 || dropped != 10 {
			t.Errorf("of 20 emissions, 10 for its members, %d were delivered and %d dropped as unwanted", d, dropped)
		}
	})
}
