package crosscast_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// watcher is an observer that notes what it sees. It leaves out heartbeats and what else nodes say of themselves.
type watcher struct {
	log
	tb testing.TB
}

type traceKey struct{}

func (w *watcher) Emitting(ctx context.Context, _ crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	return ctx, nil
}

func (w *watcher) Emitted(ctx context.Context, e crosscast.Emitted) {
	w.add("emitted %v %s %s %d %v %v %v", ctx.Value(traceKey{}), e.Namespace, e.Event, e.Bytes, e.Meta, e.Err, e.Duration)
}

func (w *watcher) Delivered(_ context.Context, d crosscast.Delivered) {
	w.add("delivered %s %s %d %v %d+%d+%d %v", d.Namespace, d.Event, d.Bytes, d.Meta, d.Sockets, d.Refused, d.Subscriptions,
		d.Duration)
}

func (w *watcher) Handled(h crosscast.Handled) {
	if h.Kind == kind.Hello || h.Kind == kind.Heartbeat || h.Kind == kind.Goodbye {
		return
	}
	w.add("handled %d %s %s %d %v %v", h.Kind, h.Namespace, h.Event, h.Bytes, h.Meta, h.Duration)
}

// sees fails unless w saw lines since the last call.
func (w *watcher) sees(lines ...string) {
	w.tb.Helper()
	synctest.Wait()
	if got := w.take(); got != strings.Join(lines, "; ") {
		w.tb.Errorf("got %q, want %q", got, strings.Join(lines, "; "))
	}
}

// observed starts nodes, each with an observer.
func observed(t *testing.T, number int) (nodes []*crosscast.Node, ws []*watcher) {
	cluster := crosscast.NewCluster()
	for range number {
		w := &watcher{tb: t}
		ws = append(ws, w)
		nodes = append(nodes, start(t, crosscast.Options{Adapter: cluster.Adapter(), Observer: w}))
	}
	return nodes, ws
}

// TestObserverEmitted: each way to emit is seen once, with its size, error and duration.
func TestObserverEmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, ws := observed(t, 1)
		n, w := nodes[0], ws[0]
		traced := context.WithValue(ctx, traceKey{}, 7)
		meta := crosscast.KeyValue{Key: "k", Value: "v"}

		ok(t, n.To("r").Meta(meta).Emit(traced, "a", json.RawMessage(`"four"`)))
		w.sees("emitted 7 / a 6 [{k v}] <nil> 0s")
		_, err := n.Everyone().Deliver(traced, "b", nil)
		ok(t, err)
		w.sees("emitted 7 / b 0 [] <nil> 0s")
		ok(t, n.To().Emit(traced, "nobody", crosscast.Bytes("12")))
		w.sees("emitted 7 / nobody 2 [] <nil> 0s")
		err = n.To("r").Emit(traced, "", nil)
		w.sees(fmt.Sprintf("emitted 7 /  0 [] %v 0s", err))
		err = n.To("r").Emit(traced, "c", []byte("bare"))
		w.sees(fmt.Sprintf("emitted 7 / c 0 [] %v 0s", err))

		ns, err := n.Of("other")
		ok(t, err)
		answers := ns.To("r").Meta(meta).EmitAck(traced, "d", crosscast.Bytes("123"))
		w.sees("emitted 7 other d 3 [{k v}] <nil> 0s")
		answers.Close()
		answers = n.To("r").EmitAck(traced, "e", []byte("bare"))
		_, err = answers.Collect()
		w.sees(fmt.Sprintf("emitted 7 / e 0 [] %v 0s", err))

		conn := &recorder{}
		s := connect(t, n.Namespace, conn)
		ok(t, s.Emit(traced, "f", crosscast.Bytes("1234")))
		w.sees("delivered / f 4 [] 1+0+0 0s", "emitted 7 / f 4 [] <nil> 0s")
		conn.fail(crosscast.ErrDropped)
		equal(t, "error", s.Emit(traced, "g", nil), crosscast.ErrDropped)
		w.sees("delivered / g 0 [] 0+1+0 0s", "emitted 7 / g 0 [] "+crosscast.ErrDropped.Error()+" 0s")
		s.Close(crosscast.ReasonLeft)
		equal(t, "error", s.Emit(traced, "h", nil), crosscast.ErrClosed)
		w.sees("emitted 7 / h 0 [] " + crosscast.ErrClosed.Error() + " 0s")

		connect(t, n.Namespace, slowConn(time.Second), "r")
		ok(t, n.To("r").Emit(traced, "i", nil))
		w.sees("delivered / i 0 [] 1+0+0 1s", "emitted 7 / i 0 [] <nil> 1s")
		ok(t, n.Close(ctx))
		equal(t, "error", n.To("r").Emit(traced, "j", nil), crosscast.ErrClosed)
		w.sees("emitted 7 / j 0 [] " + crosscast.ErrClosed.Error() + " 0s")
	})
}

// slowConn is a conn whose Send takes that long, which none should.
type slowConn time.Duration

func (c slowConn) Send(*crosscast.Message) error { time.Sleep(time.Duration(c)); return nil }
func (slowConn) Close(crosscast.Reason)          {}

// TestObserverDelivered: each message is seen with the recipients of this node, whoever emitted it; one without any is not.
func TestObserverDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		var seen []crosscast.Delivered
		b := start(t, crosscast.Options{
			Adapter: cluster.Adapter(), Observer: deliveries(func(d crosscast.Delivered) { seen = append(seen, d) }),
		})
		last := func() (d crosscast.Delivered) {
			t.Helper()
			synctest.Wait()
			if len(seen) != 1 {
				t.Fatalf("saw %v", seen)
			}
			d, seen = seen[0], nil
			return d
		}
		full, failed := &recorder{err: crosscast.ErrDropped}, &recorder{err: errors.New("broken")}
		connect(t, b.Namespace, &recorder{}, "r")
		connect(t, b.Namespace, &recorder{}, "r", "r2")
		connect(t, b.Namespace, full, "r")
		connect(t, b.Namespace, failed, "r")
		_, err := b.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
		ok(t, err)
		_, err = b.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore, QueueBytes: 1}, "r") // never has room
		ok(t, err)

		ok(t, a.To("r").Emit(ctx, "a", crosscast.Bytes("123")))
		d := last()
		equal(t, "peer's", fmt.Sprint(d.Namespace, d.Event, d.Bytes, d.Sockets, d.Refused, d.Subscriptions), "/a3 2 2 1")
		equal(t, "from", d.From, a.ID())
		ok(t, b.To("r2").Emit(ctx, "b", nil))
		d = last()
		equal(t, "own", fmt.Sprint(d.Namespace, d.Event, d.Bytes, d.Sockets, d.Refused, d.Subscriptions), "/b0 1 0 0")
		equal(t, "from", d.From, b.ID())
		answers := a.To("r2").EmitAck(ctx, "c", nil)
		d = last()
		equal(t, "acknowledged", fmt.Sprint(d.Event, d.Sockets), "c1")
		answers.Close()
		ok(t, b.EmitAffected(crosscast.Gap{}, "d", nil))
		d = last()
		equal(t, "affected", fmt.Sprint(d.Event, d.Sockets, d.Refused, d.Subscriptions), "d2 1 0")
		ok(t, b.To("empty").Emit(ctx, "e", nil))
		ok(t, a.To("empty").Emit(ctx, "e", nil))
		synctest.Wait()
		equal(t, "to nobody", len(seen), 0)
	})
}

// deliveries is an observer of deliveries.
type deliveries func(crosscast.Delivered)

func (deliveries) Emitting(ctx context.Context, _ crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	return ctx, nil
}
func (deliveries) Emitted(context.Context, crosscast.Emitted)           {}
func (f deliveries) Delivered(_ context.Context, d crosscast.Delivered) { f(d) }
func (deliveries) Handled(crosscast.Handled)                            {}

// TestObserverHandled: each instruction of a peer is seen once, of whatever kind, after what was delivered for it.
func TestObserverHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, ws := observed(t, 2)
		a, b, w := nodes[0], nodes[1], ws[1]
		connect(t, b.Namespace, slowConn(time.Second), "r")
		ok(t, b.OnRequest("q", func(context.Context, *crosscast.Request) (any, error) { return nil, nil }))
		w.sees()

		meta := crosscast.KeyValue{Key: "k", Value: "v"}
		ok(t, a.To("r").Meta(meta).Emit(ctx, "a", crosscast.Bytes("123")))
		time.Sleep(time.Second)
		w.sees("delivered / a 3 [{k v}] 1+0+0 1s", fmt.Sprintf("handled %d / a 3 [{k v}] 1s", kind.Emit))
		ok(t, a.Everyone().Join(ctx, "r2"))
		w.sees(fmt.Sprintf("handled %d /  0 [] 0s", kind.Join))
		_, err := a.Servers().Ask(ctx, "q", crosscast.Bytes("12")).Collect()
		ok(t, err)
		w.sees(fmt.Sprintf("handled %d / q 2 [] 0s", kind.Request))
		_, err = a.Everyone().Count(ctx)
		ok(t, err)
		w.sees(fmt.Sprintf("handled %d /  0 [] 0s", kind.Ask))
		if got := ws[0].take(); strings.Count(got, fmt.Sprintf("handled %d ", kind.Answer)) != 2 {
			t.Errorf("the node that asked saw %q", got)
		}
	})
}

// failingObserver fails in each method. An Emitting that ends the goroutine of the caller would end it before the emission.
type failingObserver struct {
	f     *failures
	exits bool
}

func (o failingObserver) Emitting(ctx context.Context, _ crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	if !o.exits {
		o.f.do("Observer.Emitting")
	}
	return nil, nil
}
func (o failingObserver) Emitted(context.Context, crosscast.Emitted) { o.f.do("Observer.Emitted") }
func (o failingObserver) Delivered(context.Context, crosscast.Delivered) {
	o.f.do("Observer.Delivered")
}
func (o failingObserver) Handled(crosscast.Handled) { o.f.do("Observer.Handled") }

// TestObserversThatFail: everybody gets each message all the same, and each panic is logged once.
func TestObserversThatFail(t *testing.T) {
	failing(t, func(t *testing.T, f *failures, p *panics) {
		cluster := crosscast.NewCluster()
		exits := strings.HasSuffix(t.Name(), "exit")
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		b := start(t, crosscast.Options{
			Adapter: cluster.Adapter(), Logger: p.logger(), Observer: failingObserver{f, exits},
		})
		var x, y recorder
		s := connect(t, b.Namespace, &x, "r")
		connect(t, b.Namespace, &y, "r")
		_, heard := listen(t, b, "r")
		for i := range 2 {
			ok(t, a.To("r").Emit(ctx, fmt.Sprint("a", i), nil))
			synctest.Wait()
			elsewhere(func() { b.To("r").Emit(ctx, fmt.Sprint("b", i), nil) })
		}
		elsewhere(func() { s.Emit(ctx, "c", nil) })
		want(t, "a0 b0 a1 b1", &y)
		want(t, "a0 b0 a1 b1 c", &x)
		equal(t, "a subscription heard", heard.take(), "a0; b0; a1; b1")
		if f.count("Observer.Handled") < 2 || f.count("Observer.Delivered") != 5 {
			t.Errorf("%v", f.calls)
		}
		equal(t, "emitted", f.count("Observer.Emitted"), 3)
		if exits {
			return
		}
		equal(t, "emitting", f.count("Observer.Emitting"), 3)
		all := 0
		for _, what := range []string{"Observer.Emitting", "Observer.Emitted", "Observer.Delivered", "Observer.Handled"} {
			equal(t, what+" logged", p.count(what), f.count(what))
			all += f.count(what)
		}
		equal(t, "counted", int(b.Stats().Panics), all)
	})
}

// idle is an observer that does nothing.
type idle struct{}

func (idle) Emitting(ctx context.Context, _ crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	return ctx, nil
}
func (idle) Emitted(context.Context, crosscast.Emitted)     {}
func (idle) Delivered(context.Context, crosscast.Delivered) {}
func (idle) Handled(crosscast.Handled)                      {}

// TestObserverAllocatesNothing: neither its absence nor its presence costs an allocation, to emit or to handle.
func TestObserverAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	for _, observer := range []crosscast.Observer{nil, idle{}} {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Observer: observer})
		s := connect(t, n.Namespace, &countConn{}, "r")
		connect(t, n.Namespace, &countConn{}, "r")
		var p any = benchPayload
		meta := crosscast.KeyValue{Key: "k", Value: "v"}
		local, inst := n.To("r").Meta(meta).Local(), &crosscast.Instruction{
			Kind: kind.Emit, Namespace: "/", From: "peerpeer", Target: crosscast.Target{Rooms: []string{"r"}},
			Event: "e", Payload: benchPayload, Meta: []crosscast.KeyValue{meta},
		}
		for name, f := range map[string]func(){
			"emit": func() { local.Emit(ctx, "e", p) }, "Socket.Emit": func() { s.Emit(ctx, "e", p) },
			"handle": func() { d.h.Handle(inst) },
		} {
			if got := testing.AllocsPerRun(200, f); got != 0 {
				t.Errorf("%s with observer %v: %v allocations", name, observer, got)
			}
		}
	}
}

// BenchmarkObserved emits to 1 and 100 local sockets, with and without an observer.
func BenchmarkObserved(b *testing.B) {
	for _, observer := range []crosscast.Observer{nil, idle{}} {
		for _, members := range []int{1, 100} {
			b.Run(fmt.Sprintf("%T/%d", observer, members), func(b *testing.B) {
				n := start(b, crosscast.Options{Observer: observer})
				for range members {
					connect(b, n.Namespace, &countConn{}, "r")
				}
				target, p := n.To("r"), any(benchPayload)
				b.ReportAllocs()
				for b.Loop() {
					ok(b, target.Emit(ctx, "e", p))
				}
			})
		}
	}
}
