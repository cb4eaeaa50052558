package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// withEmitter starts two nodes and an emitter.
func withEmitter(t *testing.T) (c *crosscast.Cluster, a, b, e *crosscast.Node) {
	t.Helper()
	c = crosscast.NewCluster()
	a = start(t, crosscast.Options{Name: "a", Adapter: c.Adapter()})
	b = start(t, crosscast.Options{Name: "b", Adapter: c.Adapter()})
	e = start(t, crosscast.Options{Name: "cron", Adapter: c.Adapter(), EmitOnly: true})
	ok(t, c.Settle(ctx))
	return c, a, b, e
}

func TestEmitterEmitsAndCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b, e := withEmitter(t)
		var inA, inB recorder
		sa := connectUser(t, a.Namespace, &inA, "ann", "r")
		connectUser(t, b.Namespace, &inB, "bob", "r")
		other, err := b.Of("other")
		ok(t, err)
		var elsewhere recorder
		connect(t, other, &elsewhere, "r")

		ok(t, e.To("r").Emit(ctx, "room", nil))
		ok(t, e.ToUser("ann").Except("x").Emit(ctx, "user", nil))
		ok(t, e.ToSocket(sa.ID()).Emit(ctx, "socket", nil))
		ok(t, e.Emit(ctx, "everyone", nil))
		receipt, err := e.To("r").Deliver(ctx, "delivered", nil)
		ok(t, err)
		equal(t, "receipt", receipt, crosscast.Receipt{Nodes: 2, Known: true})
		ok(t, e.ToUser("bob").Join(ctx, "new"))
		synctest.Wait() // it takes a Do to know when they did
		ok(t, e.To("new").Emit(ctx, "commanded", nil))
		ok(t, e.ToUser("ann").Disconnect(ctx, "bye"))
		ok(t, e.Flush(ctx))
		want(t, "room everyone delivered commanded", &inB)
		want(t, "room user socket everyone delivered", &inA)
		equal(t, "closed", inA.reasons(), "bye")
		ns, err := e.Of("other")
		ok(t, err)
		ok(t, ns.To("r").Emit(ctx, "elsewhere", nil))
		want(t, "elsewhere", &elsewhere)
	})
}

// Nobody hears of an emitter: not when it starts, nor when it asks or ends.
func TestEmitterIsNobodysPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		var events log
		a := start(t, crosscast.Options{Adapter: cluster.Adapter(), OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) {
			events.add("%d %s", e.Kind, e.Peer.Name)
		}})
		e := start(t, crosscast.Options{Name: "cron", Adapter: cluster.Adapter(), EmitOnly: true})
		connect(t, a.Namespace, &recorder{}, "r")
		in := a.Stats().InstructionsIn
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "what it sent for a minute", a.Stats().InstructionsIn-in, 0)
		n, err := e.To("r").Count(ctx)
		ok(t, err)
		equal(t, "count", n, 1)
		equal(t, "peers of the emitter", len(e.Nodes()), 1)
		ok(t, a.Emit(ctx, "x", nil))
		synctest.Wait()
		equal(t, "what it was told: three answers", e.Stats().InstructionsIn, 3)
		time.Sleep(time.Minute)
		ok(t, e.Close(ctx))
		synctest.Wait()
		equal(t, "peers", len(a.Nodes()), 0)
		equal(t, "what the node was told of it", events.take(), "")
		equal(t, "instructions: who is there, whom do you know, and the question", a.Stats().InstructionsIn-in, 3)
	})
}

func TestEmitterAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a, b, e := withEmitter(t)
		for i, n := range []*crosscast.Node{a, b, b} {
			c := &ackClient{reply: says("here")}
			c.socket.Store(connectUser(t, n.Namespace, c, "u"+string(rune('0'+i%2)), "r"))
		}
		n, err := e.To("r").Count(ctx)
		ok(t, err)
		equal(t, "count", n, 3)
		n, err = e.Everyone().CountUsers(ctx)
		ok(t, err)
		equal(t, "users", n, 2)
		changed, err := e.ToUser("u0").Do(ctx, crosscast.Command{Join: []string{"new"}, Leave: []string{"r"}})
		ok(t, err)
		equal(t, "commanded", changed.Sockets, 2)
		replies := e.To("new").EmitAck(ctx, "hi", nil)
		got := 0
		for range replies.All() {
			got++
		}
		ok(t, replies.Err())
		equal(t, "replies", got, 2)
		ok(t, a.OnRequest("name", func(context.Context, *crosscast.Request) (any, error) { return "a", nil }))
		answers := e.Servers().Only(a.ID()).Ask(ctx, "name", nil)
		for r := range answers.All() {
			equal(t, "answer", string(r.Payload.Data), `"a"`)
		}
		ok(t, answers.Err())
		sockets := e.ToSocket(a.Members("new")[0].ID()).Sockets(ctx, crosscast.Fields{})
		for s := range sockets.All() {
			equal(t, "user", s.User, "u0")
		}
		ok(t, sockets.Err())

		// A node that comes is asked once what is known is a heartbeat old.
		late := start(t, crosscast.Options{Adapter: c.Adapter()})
		connect(t, late.Namespace, &recorder{}, "new")
		time.Sleep(time.Second)
		n, err = e.To("new").Count(ctx)
		ok(t, err)
		equal(t, "with the node that came", n, 3)
		// One that went is not waited for.
		ok(t, late.Close(ctx))
		time.Sleep(time.Second)
		began := time.Now()
		n, err = e.To("new").Count(ctx)
		ok(t, err)
		equal(t, "without the node that went", n, 2)
		equal(t, "took", time.Since(began), 0)
		equal(t, "asked nobody", e.ToUser().Local().To("r").Emit(ctx, "x", nil), nil)
	})
}

// beats is the list of nodes in an answer to an emitter, and a broken one.
func beats(ids ...crosscast.NodeID) []byte {
	var list []byte
	for _, id := range ids {
		var err error
		list, err = crosscast.AppendInstruction(append(list, id...), &crosscast.Instruction{
			Kind: kind.Heartbeat, Namespace: "/", Target: crosscast.Target{Everyone: true},
			Node: crosscast.NodeInfo{Name: string(id[:1]), Heartbeat: time.Second},
		})
		if err != nil {
			panic(err)
		}
	}
	return append(list, "ddddddddbroken"...)
}

// TestEmitterKnowsNames: the nodes of an emitter are those of its peers, with all that these know, in any number.
func TestEmitterKnowsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crosscast.NewCluster()
		want := map[crosscast.NodeID]crosscast.Peer{}
		long := strings.Repeat("v", 255)
		for i := range 60 { // more than one part of an answer
			o := crosscast.Options{Name: fmt.Sprint("node", i), Adapter: c.Adapter(), Heartbeat: 2 * time.Second}
			for k := range 8 {
				o.Meta = append(o.Meta, crosscast.KeyValue{Key: strings.Repeat("k", 250) + fmt.Sprint(k), Value: long})
			}
			n := start(t, o)
			want[n.ID()] = crosscast.Peer{NodeInfo: crosscast.NodeInfo{ID: n.ID(), Name: o.Name, Heartbeat: o.Heartbeat}, Meta: o.Meta}
		}
		e := start(t, crosscast.Options{Adapter: c.Adapter(), EmitOnly: true})
		_, err := e.Everyone().Count(ctx)
		ok(t, err)
		since := time.Now()
		equal(t, "nodes", len(e.Nodes()), len(want))
		for _, p := range e.Nodes() {
			equal(t, "since", p.Since, since)
			equal(t, "heard", p.Heard, since)
			p.Since, p.Heard = time.Time{}, time.Time{}
			if !reflect.DeepEqual(p, want[p.ID]) {
				t.Errorf("got %v, want %v", p, want[p.ID])
			}
		}
		time.Sleep(time.Minute)
		_, err = e.Everyone().Count(ctx)
		ok(t, err)
		equal(t, "since, of a node known before", e.Nodes()[0].Since, since)
	})
}

// What an emitter knows of who is there is what one of them knows. So those who do not answer are missed by name.
func TestEmitterMissesNobodySilently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		d.receipt = crosscast.Receipt{Nodes: 1, Known: true}
		answers := true
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind != kind.Ask || !answers {
				return
			}
			a := &crosscast.Answer{Count: 2, Last: true}
			if inst.Question.Kind == kind.AskNodes && inst.To != "" {
				equal(t, "asked", inst.To, crosscast.NodeID("aaaaaaaa"))
				a.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: beats("bbbbbbbb", "cccccccc")}
				inst := &crosscast.Instruction{Kind: kind.Answer, From: "dddddddd", Ref: inst.Ref, Answer: &crosscast.Answer{}}
				d.h.Handle(inst) // who was not asked
			}
			d.h.Handle(&crosscast.Instruction{Kind: kind.Answer, From: "aaaaaaaa", Ref: inst.Ref, Answer: a})
		}
		e := start(t, crosscast.Options{Adapter: d, EmitOnly: true})
		equal(t, "what the adapter is told", d.emitOnly, true)
		equal(t, "calls", d.log.take(), "")
		began := time.Now()
		n, err := e.To("r").Count(ctx)
		equal(t, "count", n, 2)
		var incomplete *crosscast.IncompleteError
		if !errors.As(err, &incomplete) || !slices.Equal(missingIDs(incomplete), []crosscast.NodeID{"bbbbbbbb", "cccccccc"}) {
			t.Fatalf("error: %v", err)
		}
		equal(t, "took", time.Since(began), 5*time.Second) // the deadline
		equal(t, "nodes", len(e.Nodes()), 3)

		answers = false
		for _, d.receipt = range []crosscast.Receipt{{Nodes: 1, Known: true}, {}} {
			began = time.Now()
			_, err := e.To("r").Count(ctx)
			if !errors.As(err, &incomplete) || !slices.Equal(missingIDs(incomplete), []crosscast.NodeID{""}) {
				t.Errorf("error: %v", err)
			}
			equal(t, "text", err.Error(), "crosscast: incomplete: no node said that it is there")
			equal(t, "took", time.Since(began), time.Second) // a heartbeat
		}
		short, cancel := context.WithTimeout(ctx, time.Second/2)
		defer cancel()
		if _, err := e.To("r").Count(short); err != context.DeadlineExceeded {
			t.Error("with less time than it takes to look:", err)
		}
		d.receipt = crosscast.Receipt{Known: true}
		n, err = e.To("r").Count(ctx)
		if !errors.As(err, &incomplete) || !slices.Equal(missingIDs(incomplete), []crosscast.NodeID{""}) || n != 0 {
			t.Errorf("where the bus counts nobody: %d, %v", n, err)
		}
		equal(t, "nodes", len(e.Nodes()), 0)

		d.publishErr = crosscast.ErrNotConnected
		time.Sleep(time.Second)
		if _, err := e.To("r").Count(ctx); !errors.Is(err, crosscast.ErrNotConnected) || errors.As(err, &incomplete) {
			t.Error("while the link is down:", err)
		}
		d.publishErr = nil
		d.receipt.Known = false
		asked := make(chan error)
		go func() {
			_, err := e.To("r").Count(ctx)
			asked <- err
		}()
		go func() {
			_, err := e.To("r").Count(ctx)
			asked <- err
		}()
		synctest.Wait()
		d.log.take()
		d.h.Gap(crosscast.Gap{Reason: reasons.GapLinkLost})
		d.h.Loss(crosscast.Loss{Instructions: 1, Err: crosscast.ErrRefused})
		e.Close(ctx)
		equal(t, "after a loss", d.log.take(), "goodbye; close")
		for range 2 {
			if err := <-asked; !errors.Is(err, crosscast.ErrClosed) {
				t.Error("a question that Close ended:", err)
			}
		}
	})
}

// What it takes to find the nodes is over when they are found: questions under way are limited.
func TestEmitterLeavesNoQuestionsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		d.receipt = crosscast.Receipt{Nodes: 1, Known: true}
		d.onPublish = func(inst *crosscast.Instruction) {
			d.h.Handle(&crosscast.Instruction{
				Kind: kind.Answer, From: "aaaaaaaa", Ref: inst.Ref, Answer: &crosscast.Answer{Last: true},
			})
		}
		e := start(t, crosscast.Options{Adapter: d, EmitOnly: true})
		for range 5000 {
			_, err := e.To("r").Count(ctx)
			ok(t, err)
			time.Sleep(time.Second)
		}
	})
}

func TestEmitterRefuses(t *testing.T) {
	_, _, _, e := withEmitter(t)
	_, err := e.Connect(ctx, &recorder{}, crosscast.ConnectOptions{})
	_, err2 := e.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
	err3 := e.OnRequest("x", func(context.Context, *crosscast.Request) (any, error) { return nil, nil })
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, crosscast.ErrEmitOnly) {
			t.Error(err)
		}
	}
	adapter := crosscast.NewCluster().Adapter
	for _, o := range []crosscast.Options{
		{},
		{Adapter: adapter(), OnGap: func(*crosscast.Node, crosscast.Gap) {}},
		{Adapter: adapter(), OnNode: func(*crosscast.Node, crosscast.NodeEvent) {}},
		{Adapter: adapter(), OnRoom: func(*crosscast.Node, crosscast.RoomEvent) {}},
	} {
		o.EmitOnly = true
		if _, err := crosscast.Start(ctx, o); err == nil {
			t.Errorf("started: %+v", o)
		}
	}
	ok(t, e.Close(ctx))
	if err := e.To("r").Emit(ctx, "x", nil); !errors.Is(err, crosscast.ErrClosed) {
		t.Error("after Close:", err)
	}
	if _, err := e.To("r").Count(ctx); !errors.Is(err, crosscast.ErrClosed) {
		t.Error("after Close:", err)
	}
}
