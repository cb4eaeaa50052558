package crosscast_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
)

// tracer is an observer that puts a number into the context and pairs into Meta, and notes where both arrive.
type tracer struct {
	log
	number int
	more   []crosscast.KeyValue
}

func (o *tracer) Emitting(ctx context.Context, e crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	o.number++
	o.add("emitting %d %v %s %s %v", o.number, ctx.Value(traceKey{}), e.Namespace, e.Event, e.Meta)
	return context.WithValue(ctx, traceKey{}, o.number), o.more
}

func (o *tracer) Emitted(ctx context.Context, e crosscast.Emitted) {
	o.add("emitted %v %v-%d %v", ctx.Value(traceKey{}), e.Meta, e.LeftOut, e.Err)
}

func (o *tracer) Delivered(ctx context.Context, d crosscast.Delivered) {
	o.add("delivered %v %v", ctx.Value(traceKey{}), d.Meta)
}

func (o *tracer) Handled(crosscast.Handled) {}

// sees fails unless o saw lines since the last call.
func (o *tracer) sees(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got := o.take(); got != strings.Join(lines, "; ") {
		t.Errorf("got %q, want %q", got, strings.Join(lines, "; "))
	}
}

// tracedDriver is a driver that notes the number in the context of an emission.
type tracedDriver struct {
	*driver
	o *tracer
}

func (d tracedDriver) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	if inst.Event != "" {
		d.o.add("published %v %v", ctx.Value(traceKey{}), inst.Meta)
	}
	return d.driver.Publish(ctx, inst)
}

func (d tracedDriver) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	return d.receipt, d.Publish(ctx, inst)
}

// TestObserverEmitting: each way to emit begins with the caller's context. The rest of it has the observer's.
func TestObserverEmitting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &tracer{more: []crosscast.KeyValue{{Key: "x", Value: "y"}}}
		n := start(t, crosscast.Options{Adapter: tracedDriver{newDriver(t), o}, Observer: o})
		s := connect(t, n.Namespace, &recorder{}, "r")
		traced := context.WithValue(ctx, traceKey{}, "caller's")
		target := n.To("r").Meta(crosscast.KeyValue{Key: "k", Value: "v"})

		ok(t, target.Emit(traced, "a", nil))
		o.sees(t, "emitting 1 caller's / a [{k v}]", "delivered 1 [{k v} {x y}]", "published 1 [{k v} {x y}]",
			"emitted 1 [{k v} {x y}]-0 <nil>")
		_, err := target.Deliver(traced, "b", nil)
		ok(t, err)
		o.sees(t, "emitting 2 caller's / b [{k v}]", "delivered 2 [{k v} {x y}]", "published 2 [{k v} {x y}]",
			"emitted 2 [{k v} {x y}]-0 <nil>")
		answers := target.EmitAck(traced, "c", nil)
		o.sees(t, "emitting 3 caller's / c [{k v}]", "delivered 3 [{k v} {x y}]", "published 3 [{k v} {x y}]",
			"emitted 3 [{k v} {x y}]-0 <nil>")
		answers.Close()
		ok(t, s.Emit(traced, "d", nil))
		o.sees(t, "emitting 4 caller's / d []", "delivered 4 [{x y}]", "emitted 4 [{x y}]-0 <nil>")
		err = target.Emit(traced, "", nil)
		o.sees(t, "emitting 5 caller's /  [{k v}]", fmt.Sprintf("emitted 5 [{k v}]-0 %v", err))
		ok(t, n.EmitAffected(crosscast.Gap{}, "e", nil))
		o.sees(t, "delivered <nil> []")
	})
}

// TestObserverMeta: peers and this node's subscriptions get the pairs of the observer, whose context stays here.
func TestObserverMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		o, peers := &tracer{more: []crosscast.KeyValue{{Key: "x", Value: "y"}}}, &tracer{}
		a := start(t, crosscast.Options{Adapter: cluster.Adapter(), Observer: o})
		b := start(t, crosscast.Options{Adapter: cluster.Adapter(), Observer: peers})
		connect(t, b.Namespace, &recorder{}, "r")
		var got []crosscast.KeyValue
		_, err := a.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { got = m.Meta },
		}, "r")
		ok(t, err)
		ok(t, a.To("r").Emit(ctx, "a", nil))
		peers.sees(t, "delivered <nil> [{x y}]")
		equal(t, "subscription got", fmt.Sprint(got), "[{x y}]")
		a.To("r").EmitAck(ctx, "b", nil).Close()
		peers.sees(t, "delivered <nil> [{x y}]")
	})
}

// sizedDriver refuses instructions with more than so many pairs.
type sizedDriver struct {
	*driver
	most int
}

func (d sizedDriver) MaxPayload() int { return 1 << 30 }

func (d sizedDriver) Fits(inst *crosscast.Instruction) error {
	if len(inst.Meta) > d.most {
		return fmt.Errorf("%d pairs: %w", len(inst.Meta), crosscast.ErrTooLarge)
	}
	return nil
}

// TestObserverMetaThatDoesNotFit: a pair that does not fit is left out. Those of the application stay, and their number
// and size are its matter.
func TestObserverMetaThatDoesNotFit(t *testing.T) {
	o := &tracer{}
	n := start(t, crosscast.Options{Adapter: sizedDriver{newDriver(t), 2}, Observer: o})
	remote, local := n.To("r"), n.To("r").Local()
	kv := func(key string) crosscast.KeyValue { return crosscast.KeyValue{Key: key} }
	long := kv(strings.Repeat("k", 256))
	seven := local
	for i := range 7 {
		seven = seven.Meta(kv(fmt.Sprint(i)))
	}
	for i, tt := range []struct {
		target crosscast.BoundTarget
		more   []crosscast.KeyValue
		want   string // emitted; empty: an error
	}{
		{local, []crosscast.KeyValue{kv("a"), long, {Value: long.Key}, kv("b")}, "[{a } {b }]-2 <nil>"},
		{local, []crosscast.KeyValue{kv(long.Key[:255])}, fmt.Sprintf("[{%s }]-0 <nil>", long.Key[:255])},
		{seven, []crosscast.KeyValue{kv("a"), kv("b")}, "[{0 } {1 } {2 } {3 } {4 } {5 } {6 } {a }]-1 <nil>"},
		{remote, []crosscast.KeyValue{kv("a"), kv("b"), kv("c"), kv("d")}, "[{a } {b }]-2 <nil>"},
		{remote.Meta(kv("k"), kv("l")), []crosscast.KeyValue{kv("a")}, "[{k } {l }]-1 <nil>"},
		{remote.Meta(kv("k"), kv("l"), kv("m")), []crosscast.KeyValue{kv("a")}, ""},
		{local.Meta(long), []crosscast.KeyValue{kv("a")}, ""},
	} {
		o.more = tt.more
		o.take()
		err := tt.target.Emit(ctx, "e", nil)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%d: no error", i)
			}
			continue
		}
		ok(t, err)
		if got := o.take(); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%d: got %s, want %s", i, got, tt.want)
		}
		answers := tt.target.EmitAck(ctx, "e", nil)
		if got := o.take(); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%d, acknowledged: got %s, want %s", i, got, tt.want)
		}
		answers.Close()
	}
}

// exitConn ends the goroutine of whoever sends.
type exitConn struct{}

func (exitConn) Send(*crosscast.Message) error { runtime.Goexit(); return nil }
func (exitConn) Close(crosscast.Reason)        {}

type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("no luck") }

// TestObserverEmissionsThatDoNotReturn: Emitted follows each Emitting.
func TestObserverEmissionsThatDoNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &tracer{}
		n := start(t, crosscast.Options{Observer: o})
		connect(t, n.Namespace, exitConn{}, "r")
		const ended = "crosscast: the goroutine was ended"
		elsewhere(func() { n.To("r").Emit(ctx, "a", nil) })
		o.sees(t, "emitting 1 <nil> / a []", "delivered 1 []", "emitted 1 []-0 "+ended)
		for i, emit := range []func(){
			func() { n.To("r").Emit(ctx, "b", panicking{}) },
			func() { n.To("r").EmitAck(ctx, "b", panicking{}) },
			func() { connect(t, n.Namespace, &recorder{}).Emit(ctx, "b", panicking{}) },
		} {
			func() {
				defer func() { recover() }()
				emit()
				t.Error("no panic")
			}()
			o.sees(t, fmt.Sprintf("emitting %d <nil> / b []", i+2), fmt.Sprintf("emitted %d []-0 %s", i+2, ended))
		}
	})
}
