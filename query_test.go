package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// crowd connects nine sockets, three to each node: number i is of user u<i%4>, in the rooms all and r<i%2>.
func crowd(t *testing.T, nodes []*crosscast.Node) []*crosscast.Socket {
	t.Helper()
	sockets, _ := crowdOf(t, nodes)
	return sockets
}

func crowdOf(t *testing.T, nodes []*crosscast.Node) (sockets []*crosscast.Socket, conns []*recorder) {
	t.Helper()
	for i := range 9 {
		conns = append(conns, new(recorder))
		s, err := nodes[i%3].Connect(ctx, conns[i], crosscast.ConnectOptions{
			User: fmt.Sprint("u", i%4), Rooms: []string{"all", fmt.Sprint("r", i%2)}, Data: map[string]int{"i": i},
		})
		ok(t, err)
		sockets = append(sockets, s)
	}
	return sockets, conns
}

// incomplete fails unless err names exactly nodes, and matches cause.
func incomplete(tb testing.TB, err, cause error, nodes ...*crosscast.Node) *crosscast.IncompleteError {
	tb.Helper()
	var ids []crosscast.NodeID
	for _, n := range nodes {
		ids = append(ids, n.ID())
	}
	slices.Sort(ids)
	var e *crosscast.IncompleteError
	if !errors.As(err, &e) || !slices.Equal(missingIDs(e), ids) {
		tb.Fatalf("got %v, want an IncompleteError about %v", err, ids)
	}
	if cause != nil && !errors.Is(err, cause) {
		tb.Errorf("%v does not match %v", err, cause)
	}
	return e
}

// failedThere fails unless err is an IncompleteError about one node, which answered with this error.
func failedThere(tb testing.TB, err error, n *crosscast.Node, text string) {
	tb.Helper()
	incomplete(tb, err, nil, n)
	var remote *crosscast.RemoteError
	if !errors.As(err, &remote) || *remote != (crosscast.RemoteError{Node: n.ID(), Text: text}) {
		tb.Errorf("got %v, want %q of node %s", err, text, n.ID())
	}
}

func missingIDs(e *crosscast.IncompleteError) (ids []crosscast.NodeID) {
	for _, m := range e.Missing {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestQuestionsOverTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		sockets := crowd(t, nodes)
		other, err := nodes[0].Of("other")
		ok(t, err)
		connectUser(t, other, new(recorder), "u0", "all")
		n := nodes[0]
		for _, c := range []struct {
			name           string
			target         crosscast.BoundTarget
			sockets, users int
			rooms          string
		}{
			{"room", n.To("r0"), 5, 2, "all:5 r0:5"},
			{"rooms", n.To("r0", "r1", "all"), 9, 4, "all:9 r0:5 r1:4"},
			{"user", n.ToUser("u0"), 3, 1, "all:3 r0:3"},
			{"sockets", n.ToSocket(sockets[1].ID(), sockets[2].ID(), sockets[0].ID()), 3, 3, "all:3 r0:2 r1:1"},
			{"a socket of a peer", n.ToSocket(sockets[1].ID()), 1, 1, "all:1 r1:1"},
			{"mixed", n.ToUser("u1").To("r0"), 7, 3, "all:7 r0:5 r1:2"},
			{"everyone", n.Everyone(), 9, 4, "all:9 r0:5 r1:4"},
			{"except", n.Everyone().Except("r1").ExceptUser("u2").ExceptSocket(sockets[4].ID()), 2, 1, "all:2 r0:2"},
			{"local", n.Everyone().Local(), 3, 3, "all:3 r0:2 r1:1"},
			{"nobody", n.To(), 0, 0, ""},
			{"unknown room", n.To("nothing"), 0, 0, ""},
			{"unknown socket", n.ToSocket("aaaaaaaabbbbbbbbbbbb"), 0, 0, ""},
			{"namespace", other.Everyone(), 1, 1, "all:1"},
		} {
			count, err := c.target.Count(ctx)
			ok(t, err)
			equal(t, c.name+": count", count, c.sockets)
			users, err := c.target.CountUsers(ctx)
			ok(t, err)
			equal(t, c.name+": users", users, c.users)
			has, err := c.target.Has(ctx)
			ok(t, err)
			equal(t, c.name+": has", has, c.sockets > 0)
			seen := map[crosscast.SocketID]bool{}
			answers := c.target.Sockets(ctx, crosscast.Fields{})
			for s := range answers.All() {
				seen[s.ID] = true
				if s.User == "" || len(s.Rooms) == 0 {
					t.Errorf("%s: %+v", c.name, s)
				}
			}
			ok(t, answers.Err())
			equal(t, c.name+": sockets", len(seen), c.sockets)
			rooms := map[string]int{}
			counts := c.target.Rooms(ctx)
			for r := range counts.All() {
				rooms[r.Room] += r.Sockets
			}
			ok(t, counts.Err())
			var texts []string
			for r, n := range rooms {
				texts = append(texts, fmt.Sprint(r, ":", n))
			}
			equal(t, c.name+": rooms", sorted(texts), c.rooms)
		}
		// A peer's namespace that this node does not have, and the other way round.
		for _, n := range nodes {
			ns, err := n.Of("other")
			ok(t, err)
			count, err := ns.Everyone().Count(ctx)
			ok(t, err)
			equal(t, "count in the namespace", count, 1)
		}
	})
}

func TestFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		sockets := crowd(t, nodes)
		for i, s := range sockets[:3] {
			for f, want := range map[crosscast.Fields]string{
				{ID: true}: "  ", {User: true}: s.User() + "  ", {Rooms: true}: fmt.Sprintf(" all r%d ", i%2),
				{Data: true}: fmt.Sprintf(`  {"i":%d}`, i), {Handshake: true}: "  ",
				{ID: true, User: true}: s.User() + "  ", {}: fmt.Sprintf(`%s all r%d {"i":%d}`, s.User(), i%2, i),
			} {
				for info := range nodes[0].ToSocket(s.ID()).Sockets(ctx, f).All() {
					equal(t, "socket", info.ID, s.ID())
					equal(t, "info", fmt.Sprint(info.User, " ", sorted(info.Rooms), " ", string(info.Data)), want)
				}
			}
		}
		// What an application does with its value afterwards is its own affair, and what is too large is its own error.
		data := map[string]string{"a": "b"}
		s, err := nodes[1].Connect(ctx, new(recorder), crosscast.ConnectOptions{Data: data, Handshake: data})
		ok(t, err)
		data["a"] = "c"
		equal(t, "handshake", fmt.Sprint(s.Handshake()), fmt.Sprint(data))
		for f, want := range map[crosscast.Fields]string{
			{Data: true}: `{"a":"b"} `, {Handshake: true}: ` {"a":"b"}`,
			{Data: true, Handshake: true}: `{"a":"b"} {"a":"b"}`, {}: `{"a":"b"} {"a":"b"}`,
		} {
			for info := range nodes[0].ToSocket(s.ID()).Sockets(ctx, f).All() {
				equal(t, "data and handshake", fmt.Sprintf("%s %s", info.Data, info.Handshake), want)
			}
		}
		long := strings.Repeat("x", 1<<20)
		for _, o := range []crosscast.ConnectOptions{{Data: long}, {Handshake: long}} {
			if _, err = nodes[1].Connect(ctx, new(recorder), o); !errors.Is(err, crosscast.ErrTooLarge) {
				t.Error(err)
			}
		}
	})
}

func TestAnswersOfASilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		crowd(t, nodes)
		taps[2].loseAnswers()
		for _, c := range []struct {
			ctx  context.Context
			wait time.Duration
		}{{timeout(t, 2*time.Second), 2 * time.Second}, {ctx, 5 * time.Second}} {
			began := time.Now()
			count, err := nodes[0].To("all").Count(c.ctx)
			equal(t, "count", count, 6)
			equal(t, "took", time.Since(began), c.wait)
			e := incomplete(t, err, context.DeadlineExceeded, nodes[2])
			equal(t, "text", e.Error(),
				fmt.Sprintf("crosscast: incomplete: node %q (%s): context deadline exceeded", nodes[2].Name(), nodes[2].ID()))
		}
		// Who has what is asked about ends the question, whatever the others say.
		has, err := nodes[0].ToUser("u0").Has(ctx)
		equal(t, "has", has, true)
		ok(t, err)
		has, err = nodes[0].To("nothing").Has(timeout(t, time.Second))
		equal(t, "has", has, false)
		incomplete(t, err, context.DeadlineExceeded, nodes[2])
		cancelled, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		_, err = nodes[0].To("all").Count(cancelled)
		incomplete(t, err, context.Canceled, nodes[2])
	})
}

func timeout(t *testing.T, d time.Duration) context.Context {
	c, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return c
}

func TestAPeerThatGoesIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		crowd(t, nodes)
		everything := func(*crosscast.Instruction) bool { return true }
		taps[2].lose(everything) // like a process that was stopped
		began := time.Now()
		count, err := nodes[0].To("all").Count(timeout(t, time.Minute))
		ok(t, err)
		equal(t, "count", count, 6)
		if d := time.Since(began); d < 6*time.Second || d > 8*time.Second {
			t.Errorf("expired after %v", d)
		}
		began = time.Now()
		_, err = nodes[0].To("all").Count(ctx) // it is not even asked any more
		ok(t, err)
		equal(t, "took", time.Since(began), 0)

		taps[1].loseAnswers()
		time.AfterFunc(time.Second, func() { nodes[1].Close(ctx) })
		began = time.Now()
		count, err = nodes[0].To("all").Count(timeout(t, time.Minute))
		ok(t, err)
		equal(t, "count", count, 3)
		equal(t, "took", time.Since(began), time.Second)
	})
}

func TestQuestionsThatAreNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		n := nodes[0]
		late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
		defer cancel()
		ask := func(c context.Context, target crosscast.BoundTarget) map[string]error {
			errs := map[string]error{}
			_, errs["count"] = target.Count(c)
			_, errs["users"] = target.CountUsers(c)
			_, errs["has"] = target.Has(c)
			_, errs["do"] = target.Do(c, crosscast.Command{Join: []string{"r"}})
			sockets, rooms := target.Sockets(c, crosscast.Fields{ID: true}), target.Rooms(c)
			for s := range sockets.All() {
				t.Error(s)
			}
			for r := range rooms.All() {
				t.Error(r)
			}
			acks := target.EmitAck(c, "e", nil)
			for a := range acks.All() {
				t.Error(a)
			}
			errs["sockets"], errs["rooms"], errs["acks"] = sockets.Err(), rooms.Err(), acks.Err()
			return errs
		}
		for what, err := range ask(late, n.Everyone()) {
			if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*crosscast.IncompleteError)) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for what, err := range ask(ctx, n.To("")) {
			if !errors.Is(err, crosscast.ErrInvalidName) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for what, err := range ask(ctx, n.To()) {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, k := range []kind.Kind{kind.Ask, kind.Emit, kind.Join} {
			equal(t, "published", taps[0].count(k), 0)
		}
		ok(t, n.Close(ctx))
		for what, err := range ask(ctx, n.Everyone()) {
			if !errors.Is(err, crosscast.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

func TestStrangeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		crowd(t, nodes)
		n, h := nodes[0], taps[0].handler
		var ref string
		taps[0].lose(func(inst *crosscast.Instruction) bool {
			if inst.Kind == kind.Ask {
				ref = inst.Ref
			}
			return inst.Kind == kind.Ask
		})
		answer := func(from crosscast.NodeID, part int, last bool) {
			h.Handle(&crosscast.Instruction{
				Kind: kind.Answer, From: from, Ref: ref,
				Answer: &crosscast.Answer{Part: part, Last: last, Count: 10},
			})
		}
		b, c := nodes[1].ID(), nodes[2].ID()
		type result struct {
			count int
			err   error
		}
		count := func() chan result {
			done := make(chan result, 1)
			go func() {
				count, err := n.To("all").Count(ctx)
				done <- result{count, err}
			}()
			synctest.Wait()
			return done
		}
		dropped := func(want uint64) {
			t.Helper()
			equal(t, "dropped", n.Stats().Dropped["answer"], want)
		}
		done := count()
		answer(b, 0, false)
		answer(b, 0, false)         // repeated
		answer("strange1", 0, true) // unknown
		answer(b, 1, true)
		answer(b, 1, true) // repeated
		dropped(3)
		answer(c, 0, true)
		r := <-done
		ok(t, r.err)
		equal(t, "count", r.count, 3+30)
		answer(c, 0, true) // to a forgotten question
		h.Handle(&crosscast.Instruction{Kind: kind.Answer, From: c, Ref: "zz"})
		dropped(5)

		done = count()
		answer(b, 0, true)
		answer(c, 0, false)
		answer(c, 2, true) // part 1 was missed
		r = <-done
		equal(t, "count", r.count, 3+20)
		incomplete(t, r.err, nil, nodes[2])
		dropped(5)
	})
}

func TestTooManyQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		crowd(t, nodes)
		n := nodes[0]
		taps[0].lose(func(inst *crosscast.Instruction) bool { return inst.Kind == kind.Ask })
		var open []*crosscast.Answers[crosscast.SocketInfo]
		for range 4096 {
			open = append(open, n.Everyone().Sockets(ctx, crosscast.Fields{ID: true}))
		}
		if _, err := n.Everyone().Count(ctx); !errors.Is(err, crosscast.ErrBusy) {
			t.Error(err)
		}
		for range open[0].All() {
			break // frees its place
		}
		ok(t, open[0].Err())
		taps[0].lose(nil)
		_, err := n.Everyone().Count(ctx)
		ok(t, err)
		time.Sleep(6 * time.Second) // nobody reads the others: their places are freed by the deadline
		taps[0].lose(func(inst *crosscast.Instruction) bool { return inst.Kind == kind.Ask })
		for range 4095 {
			n.Everyone().Sockets(ctx, crosscast.Fields{ID: true})
		}
		taps[0].lose(nil)
		_, err = n.Everyone().Count(ctx)
		ok(t, err)
		for range open[1].All() {
		}
		incomplete(t, open[1].Err(), context.DeadlineExceeded, nodes[1], nodes[2])
	})
}

func TestTooManyQuestionsOfPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		crowd(t, nodes)
		free := make(chan struct{})
		taps[1].lose(func(inst *crosscast.Instruction) bool {
			if inst.Kind == kind.Answer && inst.Answer.Err == "" {
				<-free // the bus is slow
			}
			return false
		})
		var open []*crosscast.Answers[crosscast.SocketInfo]
		for range 256 {
			open = append(open, nodes[0].Everyone().Sockets(ctx, crosscast.Fields{ID: true}))
		}
		synctest.Wait()
		count, err := nodes[0].Everyone().CountUsers(ctx)
		equal(t, "count", count, 4)
		failedThere(t, err, nodes[1], "too busy")
		equal(t, "busy", nodes[1].Stats().Dropped["busy"], 1)
		close(free)
		for _, a := range open {
			for range a.All() {
			}
			ok(t, a.Err())
		}
	})
}

// Ten thousand sockets come in parts, and each once.
func TestManySockets(t *testing.T) {
	nodes, taps := threeTaps(t)
	const many = 10_000
	for i := range many {
		_, err := nodes[i%3].Connect(ctx, new(recorder), crosscast.ConnectOptions{
			User: fmt.Sprint("user ", i), Rooms: []string{"all", fmt.Sprint("room ", i)}, Data: strings.Repeat("x", 50),
		})
		ok(t, err)
	}
	largest := make(chan int, 1000)
	for _, p := range taps[1:] {
		p.lose(func(inst *crosscast.Instruction) bool {
			if inst.Kind == kind.Answer {
				largest <- len(mustAppend(nil, inst))
			}
			return false
		})
	}
	seen := map[crosscast.SocketID]bool{}
	answers := nodes[0].To("all").Sockets(ctx, crosscast.Fields{})
	for s := range answers.All() {
		if seen[s.ID] || len(s.Rooms) != 2 || len(s.Data) != 52 {
			t.Fatalf("%+v", s)
		}
		seen[s.ID] = true
	}
	ok(t, answers.Err())
	equal(t, "sockets", len(seen), many)
	rooms := nodes[0].Everyone().Rooms(ctx)
	sum := map[string]int{}
	for r := range rooms.All() {
		sum[r.Room] += r.Sockets
	}
	ok(t, rooms.Err())
	equal(t, "rooms", len(sum), many+1)
	equal(t, "in all", sum["all"], many)
	users, err := nodes[0].Everyone().CountUsers(ctx)
	ok(t, err)
	equal(t, "users", users, many)
	if len(largest) < 10 {
		t.Errorf("%d parts", len(largest))
	}
	close(largest)
	for size := range largest {
		if size > 256<<10 {
			t.Errorf("a part of %d bytes", size)
		}
	}
}

// Who does not read is not given unbounded memory.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := threeTaps(t)
		for range 40 {
			half := strings.Repeat("x", 1<<18)
			_, err := nodes[1].Connect(ctx, new(recorder), crosscast.ConnectOptions{Data: half, Handshake: half})
			ok(t, err)
		}
		for range 2 {
			_, err := nodes[2].Connect(ctx, new(recorder), crosscast.ConnectOptions{Data: "x"})
			ok(t, err)
		}
		answers := nodes[0].Everyone().Sockets(ctx, crosscast.Fields{Data: true, Handshake: true})
		synctest.Wait()
		size := 0
		for s := range answers.All() {
			size += len(s.Data) + len(s.Handshake)
		}
		if size < 15<<20 || size > 16<<20 {
			t.Errorf("%d bytes were kept", size)
		}
		incomplete(t, answers.Err(), nil, nodes[1])
	})
}

// A part that the driver cannot carry is an error at the asker, not silence.
func TestPartTooLargeForTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		b := start(t, crosscast.Options{Adapter: &narrow{newTap(cluster)}})
		_, err := b.Connect(ctx, new(recorder), crosscast.ConnectOptions{Data: strings.Repeat("x", 100_000)})
		ok(t, err)
		answers := a.Everyone().Sockets(ctx, crosscast.Fields{Data: true})
		for s := range answers.All() {
			t.Error(s.ID)
		}
		if !errors.As(incomplete(t, answers.Err(), nil, b), new(*crosscast.RemoteError)) {
			t.Error(answers.Err())
		}
	})
}

type narrow struct{ *tap }

func (n *narrow) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	if size := len(mustAppend(nil, inst)); size > 50_000 {
		return &limit.Error{What: "instruction", Len: size, Max: 50_000}
	}
	return n.tap.Publish(ctx, inst)
}

func TestCloseDuringAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, taps := threeTaps(t)
		crowd(t, nodes)
		taps[1].loseAnswers()
		taps[2].loseAnswers()
		began := time.Now()
		time.AfterFunc(time.Second, func() { nodes[0].Close(ctx) })
		unread := nodes[0].To("all").Sockets(ctx, crosscast.Fields{ID: true})
		count, err := nodes[0].To("all").Count(timeout(t, time.Minute))
		equal(t, "count", count, 3)
		incomplete(t, err, crosscast.ErrClosed, nodes[1], nodes[2])
		equal(t, "took", time.Since(began), time.Second)
		synctest.Wait()
		for range unread.All() {
		}
		incomplete(t, unread.Err(), crosscast.ErrClosed, nodes[1], nodes[2])
	})
}

// A question that finds no room in a peer's queue is the asker's to miss: the peer's clients have missed nothing.
func TestQuestionInAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		cluster.QueueBytes = 10_000
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		var l log
		p := newTap(cluster)
		b := start(t, crosscast.Options{Adapter: p,
			OnGap: func(_ *crosscast.Node, g crosscast.Gap) { l.add("gap %s", g.Reason) }})
		synctest.Wait()
		stuck := make(chan struct{})
		p.miss(func(*crosscast.Instruction) bool { <-stuck; return false })
		for range 2 { // one is being handled, one fills the queue
			ok(t, a.Emit(ctx, "e", strings.Repeat("x", 9_900)))
			synctest.Wait()
		}
		_, err := a.Everyone().Count(timeout(t, time.Second))
		incomplete(t, err, context.DeadlineExceeded, b)
		close(stuck)
		synctest.Wait()
		equal(t, "gaps", l.take(), "")
	})
}
