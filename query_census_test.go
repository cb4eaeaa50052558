package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// counting is a driver that knows of peers only how many there are.
type counting struct {
	foreignDriver
	peers func(ctx context.Context, inst *crosscast.Instruction, again bool) (int, error)
}

func (c *counting) CountPeers(ctx context.Context, inst *crosscast.Instruction, again bool) (int, error) {
	c.log.add("count in %s, again: %v", inst.Namespace, again)
	if inst.Ref == "" || inst.From == "" || inst.TTL == 0 || inst.Payload.Data != nil {
		c.tb.Errorf("counted for %+v", inst)
	}
	return c.peers(ctx, inst, again)
}

// countingNode starts a node whose driver always counts so many peers. Whatever asks for answers is passed to answer,
// with a function that answers it.
func countingNode(
	t *testing.T, peers int, answer func(inst *crosscast.Instruction, reply func(crosscast.NodeID, *crosscast.Answer)),
) (*crosscast.Node, *counting) {
	t.Helper()
	c := &counting{foreignDriver: foreignDriver{driver: newDriver(t)}}
	c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return peers, nil }
	c.onPublish = func(inst *crosscast.Instruction) {
		if inst.Ref == "" {
			return
		}
		ref := inst.Ref
		answer(inst, func(from crosscast.NodeID, a *crosscast.Answer) {
			c.h.Handle(&crosscast.Instruction{Kind: kind.Answer, Namespace: "/", From: from, Ref: ref, Answer: a})
		})
	}
	n := start(t, crosscast.Options{Adapter: c})
	c.log.take()
	return n, c
}

type reply = func(crosscast.NodeID, *crosscast.Answer)

func infos(ids ...string) []crosscast.SocketInfo {
	var all []crosscast.SocketInfo
	for _, id := range ids {
		all = append(all, crosscast.SocketInfo{
			ID: crosscast.SocketID(id), User: "user of " + id, Rooms: []string{"r", "room of " + id},
		})
	}
	return all
}

// missing fails unless err names so many nodes that have no ID, and nothing else.
func missing(t *testing.T, err error, nodes, silent int, cause error) {
	t.Helper()
	var e *crosscast.IncompleteError
	if !errors.As(err, &e) || !slices.Equal(missingIDs(e), make([]crosscast.NodeID, nodes)) ||
		!slices.Equal(e.Silent, make([]crosscast.SocketID, silent)) {
		t.Errorf("error: %.300v", err)
	} else if cause != nil && !errors.Is(err, cause) {
		t.Errorf("cause: %.300v", err)
	}
}

// Answers without a sender, and with sockets in the place of what was asked about them, are as good as others.
func TestCensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := countingNode(t, 4, func(inst *crosscast.Instruction, reply reply) {
			reply("", &crosscast.Answer{Last: true, Sockets: infos("x", "y")})
			reply("", &crosscast.Answer{Last: true, Sockets: infos("y", "z", "z")})
			reply("", &crosscast.Answer{Last: true})
			switch {
			case inst.Question == nil:
				reply("named", &crosscast.Answer{Last: true, Count: 2})
			case inst.Question.Kind == kind.AskSockets:
				reply("named", &crosscast.Answer{Last: true, Sockets: infos("a", "b")})
			case inst.Question.Kind == kind.AskRooms:
				reply("named", &crosscast.Answer{Last: true, Rooms: []crosscast.RoomCount{{Room: "r", Sockets: 2}}})
			default:
				reply("named", &crosscast.Answer{Last: true, Count: 2, Users: []uint64{1, 2}})
			}
		})
		own := connectUser(t, n.Namespace, &recorder{}, "user of x", "r")
		c.log.take()
		began := time.Now()

		sockets, err := n.To("r").Count(ctx)
		ok(t, err)
		equal(t, "count", sockets, 1+3+2)
		equal(t, "counted before it was asked", c.log.take(), "count in /, again: false; ")
		sockets, err = n.ToSocket("aaaaaaaa-another-one").Count(ctx)
		ok(t, err)
		equal(t, "count of a socket that names its node", sockets, 3+2) // all the same, everyone was asked
		users, err := n.Everyone().CountUsers(ctx)
		ok(t, err)
		equal(t, "users", users, 3+2) // x's has a socket here, too
		has, err := n.To("nobody").Has(ctx)
		ok(t, err)
		equal(t, "has", has, true)
		var ids []string
		answers := n.To("r").Sockets(ctx, crosscast.Fields{})
		for s := range answers.All() {
			ids = append(ids, strings.Replace(string(s.ID), string(own.ID()), "own", 1))
		}
		ok(t, answers.Err())
		equal(t, "sockets", sorted(ids), "a b own x y z")
		rooms := make(map[string]int)
		counts := n.To("r").Rooms(ctx)
		for r := range counts.All() {
			rooms[r.Room] += r.Sockets
		}
		ok(t, counts.Err())
		equal(t, "rooms", fmt.Sprint(rooms), "map[r:6 room of x:1 room of y:1 room of z:1]")
		changed, err := n.To("r").Do(ctx, crosscast.Command{Join: []string{"s"}, Leave: []string{"t"}})
		ok(t, err)
		equal(t, "changed", fmt.Sprint(changed.Sockets, changed.Nodes[""], changed.Nodes["named"], changed.Nodes[n.ID()]),
			"6 3 2 1")
		equal(t, "took", time.Since(began), 0)
		equal(t, "known nodes", len(n.Nodes()), 0)
		equal(t, "unwanted", n.Stats().Dropped["answer"], 0)
	})
}

// A command's steps are the same sockets, and different peers' answers are different ones.
func TestCensusOfCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := countingNode(t, 2, func(inst *crosscast.Instruction, reply reply) {
			more := 0
			if inst.Kind == kind.Leave {
				more = 10
			}
			reply("", &crosscast.Answer{Last: true, Count: 1 + more})
			reply("", &crosscast.Answer{Last: true, Count: 2})
		})
		changed, err := n.To("r").Do(ctx, crosscast.Command{Join: []string{"s"}, Leave: []string{"t"}, Disconnect: "bye"})
		ok(t, err)
		equal(t, "sockets", changed.Sockets, 13)
	})
}

func TestCensusIgnoresWhatIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repeat := func(inst *crosscast.Instruction, reply reply) {
			for range 3 {
				reply("", &crosscast.Answer{Last: true, Sockets: infos("x", "y")})
				reply("named", &crosscast.Answer{Last: true, Sockets: infos("x")}) // nothing new, but it has answered
			}
			reply("", &crosscast.Answer{Last: false, Count: 7}) // a part of what is no answer
			reply("", &crosscast.Answer{Last: true, Sockets: []crosscast.SocketInfo{{ID: "y"}}})
		}
		n, _ := countingNode(t, 3, func(inst *crosscast.Instruction, reply reply) {
			own := crosscast.SocketInfo{ID: crosscast.SocketID(inst.From) + "twelve-chars"}
			reply("", &crosscast.Answer{Last: true, Sockets: []crosscast.SocketInfo{own}})
			repeat(inst, reply)
			time.AfterFunc(time.Second/2, func() { reply("", &crosscast.Answer{Last: true, Count: 4}) })
		})
		began := time.Now()
		sockets, err := n.Everyone().Count(ctx)
		ok(t, err)
		equal(t, "count", sockets, 2+0+4)
		equal(t, "took", time.Since(began), time.Second/2)
		equal(t, "unwanted", n.Stats().Dropped["answer"], 7)
	})
}

// Whoever does not answer is counted again, so that a peer that has left, or never was one, is not waited for.
func TestCensusIsTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := countingNode(t, 3, func(inst *crosscast.Instruction, reply reply) {
			reply("", &crosscast.Answer{Last: true, Count: 1})
			reply("", &crosscast.Answer{Last: true, Count: 1})
		})
		var counts []int
		var failure error
		c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) {
			next := counts[0]
			counts = counts[1:]
			if next == 0 {
				return 0, failure
			}
			return next, nil
		}
		for _, try := range []struct {
			counts  []int
			took    time.Duration
			missing int
		}{
			{[]int{3, 2}, time.Second, 0},
			{[]int{3, 5, 3, 2}, 3 * time.Second, 0},
			{[]int{3, 1}, time.Second, 0},
			{[]int{4, 5, 3, 5, 5}, 4500 * time.Millisecond, 1}, // the smallest of all
			{[]int{4, 0, 0, 0, 0}, 4500 * time.Millisecond, 2}, // cannot be counted
		} {
			began := time.Now()
			counts, failure = try.counts, crosscast.ErrNotConnected
			c.log.take()
			short, cancel := context.WithTimeout(ctx, 4500*time.Millisecond)
			sockets, err := n.Everyone().Count(short)
			cancel()
			equal(t, "count", sockets, 2)
			equal(t, "took", time.Since(began), try.took)
			if try.missing == 0 {
				ok(t, err)
			} else {
				missing(t, err, try.missing, 0, context.DeadlineExceeded)
			}
			equal(t, "counted", strings.Count(c.log.take(), "count"), len(try.counts)-len(counts))
			equal(t, "not counted any more", len(counts), 0)
		}
	})
}

// A count that hangs holds up nobody for longer than a heartbeat.
func TestCensusThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := countingNode(t, 0, func(inst *crosscast.Instruction, reply reply) {
			time.AfterFunc(1500*time.Millisecond, func() { reply("", &crosscast.Answer{Last: true, Count: 1}) })
		})
		c.peers = func(ctx context.Context, _ *crosscast.Instruction, again bool) (int, error) {
			if again {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return 1, nil
		}
		began := time.Now()
		sockets, err := n.Everyone().Count(ctx)
		ok(t, err)
		equal(t, "count", sockets, 1)
		equal(t, "took", time.Since(began), 2*time.Second)
	})
}

// remote fails unless each missing answer is the error "too busy" of its node.
func remote(t *testing.T, err error, nodes ...crosscast.NodeID) {
	t.Helper()
	var e *crosscast.IncompleteError
	if !errors.As(err, &e) || !slices.Equal(missingIDs(e), nodes) {
		t.Fatalf("got %v", err)
	}
	for i, m := range e.Missing {
		if r, ok := m.Err.(*crosscast.RemoteError); !ok || *r != (crosscast.RemoteError{Node: nodes[i], Text: "too busy"}) {
			t.Errorf("got %v", m.Err)
		}
	}
}

// TestCensusNamesWhoFails: an error of a peer has its ID, if that is known.
func TestCensusNamesWhoFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := countingNode(t, 2, func(_ *crosscast.Instruction, reply reply) {
			reply("named", &crosscast.Answer{Last: true, Err: "too busy"})
			reply("", &crosscast.Answer{Last: true, Err: "too busy"})
		})
		_, err := n.To("r").Count(ctx)
		remote(t, err, "", "named")
	})
}

func TestCensusThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := countingNode(t, 3, func(inst *crosscast.Instruction, reply reply) {
			reply("", &crosscast.Answer{Last: true, Count: 3})
			reply("", &crosscast.Answer{Last: true, Err: "too busy"})
			reply("", &crosscast.Answer{Last: true, Err: "too busy"})
		})
		connect(t, n.Namespace, &recorder{}, "r")
		sockets, err := n.To("r").Count(ctx)
		equal(t, "count", sockets, 4)
		missing(t, err, 2, 0, nil)
		remote(t, err, "", "")

		c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return 0, crosscast.ErrNotConnected }
		c.log.take()
		sockets, err = n.To("r").Count(ctx)
		equal(t, "count of this node's", sockets, 1)
		missing(t, err, 1, 0, crosscast.ErrNotConnected)
		equal(t, "nothing was asked", c.log.take(), "count in /, again: false")

		c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return 1_000_000, nil }
		c.onPublish = nil
		short, cancel := context.WithTimeout(ctx, time.Second/2)
		defer cancel()
		_, err = n.To("r").Count(short)
		missing(t, err, 4096, 0, context.DeadlineExceeded)
		equal(t, "text", err.Error(), "crosscast: incomplete: "+
			strings.Repeat("a peer did not answer: context deadline exceeded; ", 4)+"4092 more nodes")

		c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return -1, nil }
		_, err = n.To("r").Count(ctx)
		ok(t, err)
	})
}

// What one question remembers of hostile answers has a limit.
func TestCensusIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := countingNode(t, 1000, func(inst *crosscast.Instruction, reply reply) {
			for i := range 100 {
				sockets := make([]crosscast.SocketInfo, 100)
				for k := range sockets {
					sockets[k].ID = crosscast.SocketID(fmt.Sprint(i, "-", k, strings.Repeat("x", 10_000)))
				}
				reply("", &crosscast.Answer{Last: true, Sockets: sockets})
			}
		})
		began := time.Now()
		sockets, err := n.Everyone().Count(ctx)
		if sockets < 6000 || sockets > 7000 {
			t.Errorf("%d sockets of 10 kB were counted", sockets)
		}
		var e *crosscast.IncompleteError
		if !errors.As(err, &e) || len(e.Missing)+sockets/100 != 1000 {
			t.Errorf("%d counted, %.100v", sockets, err)
		}
		equal(t, "took", time.Since(began), 0)
	})
}

func TestCensusOfReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer func(reply reply)
		n, c := countingNode(t, 2, func(_ *crosscast.Instruction, reply reply) { answer(reply) })
		own := connectClient(t, n, says("own"), "r")
		names := map[crosscast.SocketID]string{own.id(): "own", "": "anon", "x": "x"}
		says := func(id crosscast.SocketID, text string) *crosscast.Answer {
			p := crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(text)}
			return &crosscast.Answer{Replies: []crosscast.Reply{{Socket: id, Payload: p}}}
		}
		answer = func(reply reply) {
			reply("", says("", "1")) // before its node has said how many there are
			reply("", says("x", "2"))
			reply("", says("x", `"2 again"`))
			reply("", &crosscast.Answer{Count: 3, Last: true})
			reply("named", &crosscast.Answer{Count: 1, Last: true})
			reply("named", &crosscast.Answer{Count: 1, Last: true})
			reply("named", says("", "3"))
			time.AfterFunc(time.Second, func() {
				reply("", says("", "4"))
				reply("", says("", `"too many"`))
			})
		}
		began := time.Now()
		got, err := replies(n.To("r").EmitAck(ctx, "e", crosscast.Bytes("payload")), names)
		ok(t, err)
		equal(t, "replies", got, "anon:1 anon:3 anon:4 own:own x:2")
		equal(t, "took", time.Since(began), time.Second)
		synctest.Wait()
		equal(t, "unwanted", n.Stats().Dropped["answer"], 3)

		answer = func(reply reply) { reply("", &crosscast.Answer{Last: true}); reply("", &crosscast.Answer{Last: true}) }
		got, err = replies(n.To("r").EmitAck(ctx, "e", nil), names)
		ok(t, err)
		equal(t, "replies when peers have nobody", got, "own:own")
		equal(t, "took", time.Since(began), time.Second)

		answer = func(reply reply) {
			reply("", says("", "1"))
			reply("", &crosscast.Answer{Count: 3, Last: true})
		}
		got, err = replies(n.To("r").EmitAck(ctx, "e", nil), names)
		equal(t, "replies", got, "anon:1 own:own")
		missing(t, err, 1, 2, context.DeadlineExceeded)
		if !strings.HasSuffix(err.Error(), "; 2 sockets did not reply") {
			t.Error(err)
		}

		answer = func(reply reply) {
			reply("", &crosscast.Answer{Count: math.MaxInt, Last: true})
			reply("", &crosscast.Answer{Count: -math.MaxInt, Last: true})
		}
		got, err = replies(n.To("r").EmitAck(ctx, "e", nil), names)
		equal(t, "replies", got, "own:own")
		missing(t, err, 0, 1024, nil)

		c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return 0, crosscast.ErrNotConnected }
		got, err = replies(n.To("r").EmitAck(ctx, "e", nil), names)
		equal(t, "this node's replies", got, "own:own")
		missing(t, err, 1, 0, crosscast.ErrNotConnected)
	})
}

// What the driver cannot carry it refuses, and whoever asked for it is told.
func TestCensusOfWhatIsNotSupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := countingNode(t, 2, nil)
		c.onPublish = nil
		c.publishErr = fmt.Errorf("no instructions to one node: %w", errors.ErrUnsupported)
		own := connect(t, n.Namespace, &recorder{}, "r")
		servers := n.Servers()
		none := crosscast.Command{Join: []string{"s"}}
		for name, call := range map[string]func() error{
			"Tell to one": func() error { return servers.Only("aaaaaaaa").Tell(ctx, "x", nil) },
			"Tell with":   func() error { return servers.With("r").Tell(ctx, "x", nil) },
			"Emit":        func() error { return n.To("r").Emit(ctx, "x", nil) },
			"Leave":       func() error { return n.To("r").Leave(ctx, "x") },
			"Ask with":    func() error { return drained(servers.With("r").Ask(ctx, "x", nil)) },
			"Ask to one":  func() error { return drained(servers.Only("aaaaaaaa").Ask(ctx, "x", nil)) },
			"EmitAck":     func() error { return drained(n.ToSocket("aaaaaaaa-another-one").EmitAck(ctx, "x", nil)) },
			"Sockets": func() error {
				return drained(n.ToSocket(own.ID(), "aaaaaaaa-another-one").Sockets(ctx, crosscast.Fields{ID: true}))
			},
			"Do":           func() error { _, err := n.ToSocket("aaaaaaaa-another-one").Do(ctx, none); return err },
			"Watch":        func() error { _, err := n.Watch(ctx, "r", crosscast.WatchOptions{}); return err },
			"Ask two":      func() error { return drained(servers.Only("aaaaaaaa", "bbbbbbbb").Ask(ctx, "x", nil)) },
			"Do with room": func() error { _, err := n.To("r").Do(ctx, none); return err },
		} {
			began := time.Now()
			if err := call(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
			equal(t, name+" took", time.Since(began), 0)
		}
		err := drained(servers.Only("aaaaaaaa").Ask(ctx, "x", nil))
		var e *crosscast.IncompleteError
		if !errors.As(err, &e) || !slices.Equal(missingIDs(e), []crosscast.NodeID{"aaaaaaaa"}) {
			t.Errorf("who could not be asked: %v", err)
		}
	})
}

// One node can be asked by a driver that can say who answers.
func TestCensusOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, c := countingNode(t, 2, func(inst *crosscast.Instruction, reply reply) {
			reply("", &crosscast.Answer{Last: true, Handled: true})
			reply(inst.To, &crosscast.Answer{Last: true, Handled: true})
		})
		answers := n.Servers().Only("aaaaaaaa").Ask(ctx, "x", nil)
		for r := range answers.All() {
			equal(t, "who answered", r.Node, "aaaaaaaa")
		}
		ok(t, answers.Err())
		equal(t, "nobody was counted", c.log.take(), " to aaaaaaaa")
		answers = n.Servers().Ask(ctx, "x", nil)
		got := 0
		for range answers.All() {
			got++
		}
		ok(t, answers.Err())
		equal(t, "answers of all", got, 2)
	})
}

// Nothing is expected of peers that never say who they are.
func TestCounterHasNoPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{foreignDriver: foreignDriver{driver: newDriver(t)}}
		c.receipt = crosscast.Receipt{Nodes: 5, Known: true}
		began := time.Now()
		n := start(t, crosscast.Options{Adapter: c,
			OnNode: func(*crosscast.Node, crosscast.NodeEvent) { t.Error("told of a node") }})
		equal(t, "took", time.Since(began), 0)
		equal(t, "published", c.log.take(), "")
		connect(t, n.Namespace, &recorder{}, "r")
		w, err := n.Watch(ctx, "r", crosscast.WatchOptions{})
		if w != nil || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Watch: %v, %v", w, err)
		}
	})
}

// An emitter whose adapter counts no servers knows nothing, and says so.
func TestEmitterOfNoServers(t *testing.T) {
	c := &counting{foreignDriver: foreignDriver{driver: newDriver(t)}}
	c.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return 0, nil }
	e := start(t, crosscast.Options{Adapter: c, EmitOnly: true})
	var incomplete *crosscast.IncompleteError
	nobody := func(what string, err error) {
		t.Helper()
		if !errors.As(err, &incomplete) || !slices.Equal(missingIDs(incomplete), []crosscast.NodeID{""}) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	n, err := e.To("r").Count(ctx)
	nobody("count", err)
	equal(t, "count", n, 0)
	_, err = e.To("r").Do(ctx, crosscast.Command{Join: []string{"s"}})
	nobody("command", err)
	acks := e.To("r").EmitAck(ctx, "x", nil)
	for range acks.All() {
	}
	nobody("acknowledged emission", acks.Err())
	sockets := e.To("r").Sockets(ctx, crosscast.Fields{ID: true})
	for range sockets.All() {
	}
	nobody("sockets", sockets.Err())
}

// listening is a counting driver that is told when an emitter needs to hear.
type listening struct {
	*counting
	err error
}

func (l listening) Listen(context.Context) error {
	l.log.add("listen")
	return l.err
}

func TestEmitterWithACensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listening{counting: &counting{foreignDriver: foreignDriver{driver: newDriver(t)}}}
		l.peers = func(context.Context, *crosscast.Instruction, bool) (int, error) { return 2, nil }
		l.onPublish = func(inst *crosscast.Instruction) {
			for range 2 {
				l.h.Handle(&crosscast.Instruction{
					Kind: kind.Answer, Ref: inst.Ref, Answer: &crosscast.Answer{Count: 2, Last: true},
				})
			}
		}
		e := start(t, crosscast.Options{Adapter: &l, EmitOnly: true})
		for range 2 {
			sockets, err := e.To("r").Count(ctx)
			ok(t, err)
			equal(t, "count", sockets, 4)
			equal(t, "calls", l.log.take(), "listen; count in /, again: false; ")
		}
		l.err = crosscast.ErrNotConnected
		if _, err := e.To("r").Count(ctx); err != crosscast.ErrNotConnected {
			t.Error(err)
		}
		equal(t, "calls", l.log.take(), "listen")
	})
}
