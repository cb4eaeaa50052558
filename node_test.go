package crosscast_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

func TestEmitReachesWhoeverHoldsTheSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		var ra, rb, rc, other recorder
		sa := connectUser(t, a.Namespace, &ra, "u", "room")
		sb := connectUser(t, b.Namespace, &rb, "u", "room", "second")
		sc := connectUser(t, c.Namespace, &rc, "v", "second")
		ns, err := b.Of("/other")
		ok(t, err)
		connectUser(t, ns, &other, "u", "room", "second")
		all := []*recorder{&ra, &rb, &rc}

		for _, v := range []struct {
			name   string
			target crosscast.BoundTarget
			got    []*recorder
		}{
			{"room", a.To("room"), []*recorder{&ra, &rb}},
			{"rooms", a.To("room", "second"), all},
			{"chained", a.To("room").To("second"), all},
			{"user", c.ToUser("u"), []*recorder{&ra, &rb}},
			{"socket", a.ToSocket(sc.ID()), []*recorder{&rc}},
			{"sockets", a.ToSocket(sa.ID(), sb.ID()).ToSocket(sc.ID()), all},
			{"union", a.To("second").ToUser("u").ToSocket(sc.ID()), all},
			{"everyone", b.Everyone(), all},
			{"nobody", a.To(), nil},
			{"nobody.except", a.To().Except("room"), nil},
			{"no.such.room", a.To("u", "v", string(sa.ID())), nil},
			{"no.such.user", a.ToUser("room", string(sa.ID())), nil},
			{"except.room", a.Everyone().Except("room"), []*recorder{&rc}},
			{"except.user", a.To("room", "second").ExceptUser("u"), []*recorder{&rc}},
			{"except.socket", a.To("room").ExceptSocket(sb.ID()), []*recorder{&ra}},
			{"except.itself", a.To("room").Except("room"), nil},
			{"others", sa.To("room"), []*recorder{&rb}},
			{"broadcast", sb.Broadcast(), []*recorder{&ra, &rc}},
			{"local", b.Everyone().Local(), []*recorder{&rb}},
			{"volatile", a.To("room").Volatile(), []*recorder{&ra, &rb}},
		} {
			ok(t, v.target.Emit(ctx, v.name, 1))
			synctest.Wait()
			for i, r := range all {
				expected := ""
				if slices.Contains(v.got, r) {
					expected = v.name
				}
				equal(t, fmt.Sprintf("%s: node %c", v.name, 'a'+i), r.take(), expected)
			}
		}
		want(t, "", &other)
		ok(t, ns.Emit(ctx, "there", nil))
		want(t, "", all...)
		want(t, "there", &other)
		ok(t, sc.Emit(ctx, "you", nil))
		want(t, "you", &rc)
		want(t, "", &ra, &rb)
	})
}

func TestMessageCarriesWhatWasEmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		var got []*crosscast.Message
		keep := func(_ *crosscast.Subscription, m *crosscast.Message) { got = append(got, m) }
		_, err := b.Subscribe(ctx, crosscast.Receiver{OnMessage: keep}, "room")
		ok(t, err)
		payloads := []any{
			nil, map[string]int{"n": 1}, json.RawMessage(`[1, 2]`), crosscast.Bytes{0, 255},
			crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("7")}, "text",
			crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte{0x91, 1}},
		}
		for _, p := range payloads {
			target := a.To("room").Except("x").Volatile().Meta(crosscast.KeyValue{Key: "k", Value: "v"})
			ok(t, target.Emit(ctx, "e", p))
		}
		synctest.Wait()
		var data []string
		for _, m := range got {
			data = append(data, fmt.Sprintf("%d %q", m.Payload.Encoding, m.Payload.Data))
			if m.Namespace != "/" || m.From != a.ID() || m.Event != "e" || !m.Volatile || len(m.Meta) != 1 ||
				m.Meta[0].Value != "v" || m.Target.Rooms[0] != "room" || m.Target.ExceptRooms[0] != "x" {
				t.Errorf("message %+v", m)
			}
		}
		equal(t, "payloads", strings.Join(data, ", "),
			`0 "", 1 "{\"n\":1}", 1 "[1, 2]", 2 "\x00\xff", 1 "7", 1 "\"text\"", 3 "\x91\x01"`)
	})
}

func TestOrderOfOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		var here, there recorder
		connect(t, a.Namespace, &here, "r", "s")
		connect(t, b.Namespace, &there, "r", "s")
		var expected []string
		for i := range 300 {
			event := fmt.Sprint(i)
			switch i % 3 {
			case 0:
				ok(t, a.To("r").Emit(ctx, event, nil))
			case 1:
				ok(t, a.To("s", "r").Emit(ctx, event, nil))
			case 2:
				ok(t, a.Emit(ctx, event, nil))
			}
			expected = append(expected, event)
		}
		want(t, strings.Join(expected, " "), &here, &there)
	})
}

func TestDeliverCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		connect(t, a.Namespace, &recorder{}, "r", "both")
		connect(t, a.Namespace, &recorder{}, "r")
		connect(t, b.Namespace, &recorder{}, "r", "s")
		sc := connect(t, c.Namespace, &recorder{}, "s")
		for _, v := range []struct {
			target         crosscast.BoundTarget
			sockets, nodes int
		}{
			{a.To("r"), 2, 1}, {a.To("r", "both", "s"), 2, 2}, {a.Everyone(), 2, 2}, {a.To("none"), 0, 0},
			{a.ToSocket(sc.ID()), 0, 1}, {a.Everyone().Local(), 2, 0}, {a.To(), 0, 0},
		} {
			got, err := v.target.Deliver(ctx, "e", nil)
			ok(t, err)
			equal(t, "receipt", got, crosscast.Receipt{
				Sockets: v.sockets, Nodes: v.nodes, Known: true,
			})
		}
	})
}

func TestInterestKeepsTheRestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := three(t)
		connect(t, b.Namespace, &recorder{}, "r")
		in := func(n *crosscast.Node) uint64 { return n.Stats().InstructionsIn }
		synctest.Wait()
		inB, inC := in(b), in(c)
		ok(t, a.To("r").Emit(ctx, "e", nil))
		ok(t, a.To("nobody").Emit(ctx, "e", nil))
		ok(t, a.ToSocket(connect(t, b.Namespace, &recorder{}).ID()).Emit(ctx, "e", nil))
		synctest.Wait()
		equal(t, "instructions to b", in(b)-inB, 2)
		equal(t, "instructions to c", in(c)-inC, 0)
	})
}

// A target may be kept, extended in two ways, and used meanwhile.
func TestTargetIsAValue(t *testing.T) {
	n := start(t, crosscast.Options{})
	var r, r1, r2 recorder
	connect(t, n.Namespace, &r, "r")
	connect(t, n.Namespace, &r1, "1")
	connect(t, n.Namespace, &r2, "2")
	rooms := make([]string, 1, 8)
	rooms[0] = "r"
	base := n.To(rooms...)
	rooms[0] = "1"
	base = base.To("x").To("y") // so that there would be spare capacity to share
	one, two := base.To("1"), base.To("2")
	ok(t, one.Emit(ctx, "one", nil))
	ok(t, two.Emit(ctx, "two", nil))
	ok(t, base.Emit(ctx, "base", nil))
	equal(t, "r", r.take(), "one two base")
	equal(t, "1", r1.take(), "one")
	equal(t, "2", r2.take(), "two")

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				if err := base.To(fmt.Sprint(i)).Except("1").Emit(ctx, "e", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	equal(t, "r", len(strings.Fields(r.take())), 800)
	equal(t, "2", len(strings.Fields(r2.take())), 100)
	equal(t, "1", r1.take(), "")
}

func TestNodeLimits(t *testing.T) {
	n := start(t, crosscast.Options{MaxPayload: 10})
	s := connect(t, n.Namespace, &recorder{})
	long, most := strings.Repeat("x", 256), strings.Repeat("x", 255)
	many := make([]string, 1025)
	for i := range many {
		many[i] = "r"
	}
	_, connectRoom := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{Rooms: []string{"r", ""}})
	_, connectUser := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{User: long})
	_, connectData := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{Data: func() {}})
	_, connectNil := n.Connect(ctx, nil, crosscast.ConnectOptions{})
	_, space := n.Of("")
	_, subscribe := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, long)
	kv := crosscast.KeyValue{Key: "k", Value: long}
	anyError := errors.New("any error")
	for _, v := range []struct {
		what string
		err  error
		is   error
	}{
		{"room", s.Join(ctx, "r", ""), crosscast.ErrInvalidName},
		{"long room", s.Join(ctx, long), crosscast.ErrInvalidName},
		{"left room", s.Leave(long), crosscast.ErrInvalidName},
		{"connect room", connectRoom, crosscast.ErrInvalidName},
		{"connect user", connectUser, crosscast.ErrInvalidName},
		{"connect data", connectData, anyError},
		{"connect nil", connectNil, anyError},
		{"namespace", space, crosscast.ErrInvalidName},
		{"subscribe", subscribe, crosscast.ErrInvalidName},
		{"event", n.Emit(ctx, "", nil), crosscast.ErrInvalidName},
		{"event", s.Emit(ctx, long, nil), crosscast.ErrInvalidName},
		{"target room", n.To("").Emit(ctx, "e", nil), crosscast.ErrInvalidName},
		{"target user", n.ToUser(long).Emit(ctx, "e", nil), crosscast.ErrInvalidName},
		{"target socket", n.ToSocket("short").Emit(ctx, "e", nil), crosscast.ErrInvalidName},
		{"except room", n.Everyone().Except("").Emit(ctx, "e", nil), crosscast.ErrInvalidName},
		{"except user", n.Everyone().ExceptUser("").Emit(ctx, "e", nil), crosscast.ErrInvalidName},
		{"except socket", n.Everyone().ExceptSocket("").Emit(ctx, "e", nil), crosscast.ErrInvalidName},
		{"names", n.To(many...).Emit(ctx, "e", nil), crosscast.ErrTooLarge},
		{"meta", n.Everyone().Meta(kv).Emit(ctx, "e", nil), crosscast.ErrTooLarge},
		{"meta", n.Everyone().Meta(make([]crosscast.KeyValue, 9)...).Emit(ctx, "e", nil), crosscast.ErrTooLarge},
		{"binary", n.Emit(ctx, "e", make(crosscast.Bytes, 11)), crosscast.ErrTooLarge},
		{"value", s.Emit(ctx, "e", "123456789"), crosscast.ErrTooLarge},
		{"raw", n.Emit(ctx, "e", json.RawMessage("{")), anyError},
		{"empty raw", n.Emit(ctx, "e", json.RawMessage{}), anyError},
		{"payload", n.Emit(ctx, "e", crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("{")}), anyError},
		{"encoding", n.Emit(ctx, "e", crosscast.Payload{Encoding: 9}), anyError},
		{"arguments", n.Emit(ctx, "e", crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte{0x92, 1}}), anyError},
		{"arguments", n.Emit(ctx, "e", crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte{1}}), anyError},
		{"none", n.Emit(ctx, "e", crosscast.Payload{Data: []byte("{")}), anyError},
		{"value", n.Emit(ctx, "e", func() {}), anyError},

		{"long names", s.Join(ctx, most), nil},
		{"most names", n.To(many[:1024]...).Emit(ctx, "e", nil), nil},
		{"most payload", n.Emit(ctx, "e", make(crosscast.Bytes, 10)), nil},
		{"most event", n.Emit(ctx, most, "12345678"), nil},
	} {
		switch {
		case v.is == nil:
			ok(t, v.err)
		case v.err == nil, v.is != anyError && !errors.Is(v.err, v.is):
			t.Errorf("%s: got error %v, want %v", v.what, v.err, v.is)
		}
	}
	if rooms := s.Rooms(); len(rooms) != 1 || rooms[0] != most {
		t.Errorf("a refused Join changed the rooms: %q", rooms)
	}
	for _, o := range []crosscast.Options{
		{Heartbeat: -1}, {Linger: -1}, {MaxPayload: -1}, {Name: long},
	} {
		if _, err := crosscast.Start(ctx, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestNamesOfNodesSocketsAndNamespaces(t *testing.T) {
	n := start(t, crosscast.Options{Name: "label"})
	equal(t, "name", n.Name(), "label")
	equal(t, "default namespace", n.Namespace.Name(), "/")
	root, err := n.Of("/")
	ok(t, err)
	equal(t, "default namespace", root, n.Namespace)
	first, err := n.Of("x")
	ok(t, err)
	second, err := n.Of("x")
	ok(t, err)
	equal(t, "namespace", first, second)
	s, err := first.Connect(ctx, &recorder{}, crosscast.ConnectOptions{User: "u", Data: 7})
	ok(t, err)
	equal(t, "node of socket", s.ID().Node(), n.ID())
	equal(t, "user", s.User(), "u")
	equal(t, "data", s.Data(), any(7))
	equal(t, "namespace of socket", s.Namespace(), first)
	equal(t, "socket by ID", first.Socket(s.ID()), s)
	equal(t, "socket in another namespace", n.Socket(s.ID()), nil)
	s.Close(crosscast.ReasonLeft)
	equal(t, "closed socket by ID", first.Socket(s.ID()), nil)
	if unnamed := start(t, crosscast.Options{}); unnamed.Name() == "" || unnamed.ID() == n.ID() {
		t.Errorf("name %q, ID %q", unnamed.Name(), unnamed.ID())
	}
}

func TestStartFails(t *testing.T) {
	d := newDriver(t)
	d.publishErr = crosscast.ErrDenied
	if _, err := crosscast.Start(ctx, crosscast.Options{Adapter: d}); !errors.Is(err, crosscast.ErrDenied) {
		t.Errorf("hello is denied: %v", err)
	}
	equal(t, "calls", d.log.take(), "hello; close")

	c := crosscast.NewCluster().Adapter()
	start(t, crosscast.Options{Adapter: c})
	if _, err := crosscast.Start(ctx, crosscast.Options{Adapter: c}); err == nil {
		t.Error("an adapter may serve two nodes")
	}
}

// Start waits for as many answers as the bus says there are hearers, for at most one heartbeat.
func TestStartWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		d.receipt = crosscast.Receipt{Nodes: 2, Known: true}
		answer := func(from crosscast.NodeID, after time.Duration) {
			time.Sleep(after)
			d.h.Handle(&crosscast.Instruction{Kind: kind.Heartbeat, From: from})
		}
		d.onPublish = func(inst *crosscast.Instruction) {
			if inst.Kind == kind.Hello {
				go answer("aaaaaaaa", 10*time.Millisecond)
				go answer("aaaaaaaa", 15*time.Millisecond) // the same again
				go answer("bbbbbbbb", 20*time.Millisecond)
			}
		}
		begin := time.Now()
		n, err := crosscast.Start(ctx, crosscast.Options{Adapter: d})
		ok(t, err)
		equal(t, "waited", time.Since(begin), 20*time.Millisecond)
		equal(t, "peers", n.Stats().Peers, 2)
		ok(t, n.Close(ctx))

		d.receipt.Nodes = 3
		begin = time.Now()
		n, err = crosscast.Start(ctx, crosscast.Options{Adapter: d, Heartbeat: 3 * time.Second})
		ok(t, err)
		equal(t, "waited", time.Since(begin), 3*time.Second)
		ok(t, n.Close(ctx))

		// Or until its context ends: a peer that does not answer keeps nobody from starting.
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		begin = time.Now()
		n, err = crosscast.Start(short, crosscast.Options{Adapter: d, Heartbeat: 3 * time.Second})
		ok(t, err)
		equal(t, "waited", time.Since(begin), time.Second)
		ok(t, n.Close(ctx))

		d.log.take()
		if _, err = crosscast.Start(short, crosscast.Options{Adapter: d}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start with a context that has ended: %v", err)
		}
		equal(t, "calls", d.log.take(), "")
	})
}

func TestPeersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		b := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		equal(t, "peers of b when it has started", b.Stats().Peers, 1)
		equal(t, "peers of a", a.Stats().Peers, 1)
		time.Sleep(time.Minute)
		equal(t, "peers of a, later", a.Stats().Peers, 1)
		ok(t, b.Close(ctx))
		synctest.Wait()
		equal(t, "peers of a after goodbye", a.Stats().Peers, 0)

		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		heartbeat := crosscast.Instruction{
			Kind: kind.Heartbeat, From: "aaaaaaaa", Node: crosscast.NodeInfo{Heartbeat: 2 * time.Second},
		}
		d.h.Handle(&heartbeat)
		time.Sleep(12500 * time.Millisecond) // six heartbeats are missing when the next is due
		equal(t, "a silent peer", n.Stats().Peers, 1)
		time.Sleep(time.Second)
		equal(t, "a dead peer", n.Stats().Peers, 0)
	})
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		start(t, crosscast.Options{Adapter: d, Heartbeat: 2 * time.Second, Name: "n"})
		equal(t, "info", d.self, crosscast.NodeInfo{ID: d.self.ID, Name: "n", Heartbeat: 2 * time.Second})
		time.Sleep(7 * time.Second)
		equal(t, "calls", d.log.take(), "hello; heartbeat; heartbeat; heartbeat")
		d.h.Handle(&crosscast.Instruction{Kind: kind.Hello, From: "aaaaaaaa"})
		equal(t, "answer to hello", d.log.take(), "heartbeat to aaaaaaaa")
		d.h.Handle(&crosscast.Instruction{Kind: 99, From: "aaaaaaaa"}) // of a later version
	})
}

func TestEmitReturnsTheAdaptersError(t *testing.T) {
	d := newDriver(t)
	n := start(t, crosscast.Options{Adapter: d})
	var r recorder
	s := connect(t, n.Namespace, &r, "r")
	d.mu.Lock()
	d.publishErr = crosscast.ErrNotConnected
	d.mu.Unlock()
	d.log.take()
	if err := n.To("r").Emit(ctx, "e", nil); !errors.Is(err, crosscast.ErrNotConnected) {
		t.Errorf("Emit: %v", err)
	}
	got, err := n.To("r").Deliver(ctx, "f", nil)
	if !errors.Is(err, crosscast.ErrNotConnected) || got.Sockets != 1 {
		t.Errorf("Deliver: %v, %v", got, err)
	}
	equal(t, "local socket", r.take(), "e f")
	equal(t, "calls", d.log.take(), "e; f")
	// What is only for this node does not touch the adapter.
	ok(t, n.To("r").Local().Emit(ctx, "e", nil))
	ok(t, n.ToSocket(s.ID()).Emit(ctx, "e", nil))
	ok(t, s.Emit(ctx, "e", nil))
	equal(t, "calls", d.log.take(), "")
	if err := n.ToSocket(s.ID(), "aaaaaaaabbbbbbbbbbbb").Emit(ctx, "e", nil); err == nil {
		t.Error("a socket elsewhere was not published for")
	}
}

func TestFlushReturnsLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		lose := func(instructions int) {
			d.h.Loss(crosscast.Loss{Instructions: instructions, Err: crosscast.ErrRefused})
		}
		ok(t, n.Flush(ctx))
		lose(1)
		lose(2)
		err := n.Flush(ctx)
		var le *crosscast.LossError
		if !errors.As(err, &le) || len(le.Losses) != 2 || le.More != 0 || !errors.Is(err, crosscast.ErrRefused) {
			t.Errorf("Flush: %v", err)
		}
		ok(t, n.Flush(ctx))
		for i := range 100 {
			lose(i)
		}
		err = n.Flush(ctx)
		if !errors.As(err, &le) || len(le.Losses) != 64 || le.More != 36 || le.Losses[63].Instructions != 99 {
			t.Errorf("Flush after many: %v", err)
		}
		equal(t, "losses", n.Stats().Losses, 102)
		lose(5)
		err = n.Close(ctx)
		if !errors.As(err, &le) || len(le.Losses) != 1 {
			t.Errorf("Close: %v", err)
		}
	})
}

// flusher lets two Flushes wait at the same time.
type flusher struct {
	*driver
	gate chan struct{}
}

func (f *flusher) Flush(context.Context) error { <-f.gate; return nil }

func TestOverlappingFlushesBothReturnALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flusher{newDriver(t), make(chan struct{})}
		n := start(t, crosscast.Options{Adapter: f})
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- n.Flush(ctx) }()
		}
		synctest.Wait()
		f.h.Loss(crosscast.Loss{Instructions: 1, Err: crosscast.ErrUncertain})
		close(f.gate)
		for range 2 {
			if err := <-errs; !errors.Is(err, crosscast.ErrUncertain) {
				t.Errorf("Flush: %v", err)
			}
		}
		ok(t, n.Flush(ctx))
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		second, err := a.Of("second")
		ok(t, err)
		equal(t, "namespaces in use", a.Stats().Namespaces, 1)
		_, err = second.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "other")
		ok(t, err)
		s := connectUser(t, a.Namespace, &recorder{}, "u", "1", "2")
		connectUser(t, a.Namespace, &recorder{}, "u", "2")
		bad := &recorder{}
		connect(t, a.Namespace, bad)
		sub, err := a.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "1", "3")
		ok(t, err)
		bad.fail(crosscast.ErrDropped)
		ok(t, a.Emit(ctx, "e", nil))
		ok(t, b.To("1").Emit(ctx, "e", nil))
		ok(t, b.Emit(ctx, "e", nil))
		synctest.Wait()
		got := a.Stats()
		equal(t, "what there is", fmt.Sprintf("%d sockets, %d namespaces, %d rooms, %d users, %d memberships, "+
			"%d subscriptions, %d peers", got.Sockets, got.Namespaces, got.Rooms, got.Users, got.Memberships,
			got.Subscriptions, got.Peers),
			"3 sockets, 2 namespaces, 2 rooms, 1 users, 3 memberships, 2 subscriptions, 2 peers")
		equal(t, "delivered", got.Delivered, 2+2+2)
		equal(t, "dropped by conns", got.Dropped["conn"], 2)
		equal(t, "joins that waited", got.Joins.Count, 3) // the second user and room were heard already
		equal(t, "connected", got.Connected && got.Adapter.Connected, true)
		if got.InstructionsIn == 0 || got.InstructionsOut == 0 || got.Adapter.BytesIn == 0 {
			t.Errorf("%+v", got)
		}
		equal(t, "unwanted by b", b.Stats().Dropped["unwanted"], 1) // from a, to everyone
		s.Close(crosscast.ReasonLeft)
		ok(t, sub.Close())
		got = a.Stats()
		equal(t, "what is left", fmt.Sprint(got.Sockets, got.Rooms, got.Users, got.Memberships, got.Subscriptions),
			"2 1 1 1 1")
	})
}

// A kept target and a payload that needs no marshalling: the whole broadcast allocates nothing.
func TestBroadcastAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	n := start(t, crosscast.Options{})
	var last *crosscast.Socket
	for i := range 1000 {
		last = connectUser(t, n.Namespace, &countConn{}, fmt.Sprint(i%10), "r", fmt.Sprint("r", i%3))
	}
	var p any = benchPayload
	for name, target := range map[string]crosscast.BoundTarget{
		"room": n.To("r"), "rooms": n.To("r", "r1"), "except": n.To("r").Except("r1").ExceptUser("1"),
		"others": last.To("r"), "everyone": n.Everyone(), "user": n.ToUser("3"), "socket": n.ToSocket(last.ID()),
	} {
		if got := testing.AllocsPerRun(200, func() { target.Emit(ctx, "e", p) }); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	if got := testing.AllocsPerRun(200, func() { last.Emit(ctx, "e", p) }); got != 0 {
		t.Errorf("Socket.Emit: %v allocations", got)
	}
}
