package otelcrosscast_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/crosscast/crosscast"
	otelcrosscast "github.com/crosscast/crosscast/otel"
)

// pair starts two nodes with an observer each. The second has three sockets and a subscription in the room.
func pair(t *testing.T, a, b *collector) (one, two *crosscast.Node, metas *[][]crosscast.KeyValue) {
	cluster := crosscast.NewCluster()
	one = start(t, crosscast.Options{Adapter: cluster.Adapter(), Observer: otelcrosscast.NewObserver(a.o)})
	two = start(t, crosscast.Options{Adapter: cluster.Adapter(), Observer: otelcrosscast.NewObserver(b.o)})
	metas = new([][]crosscast.KeyValue)
	for _, err := range []error{nil, nil, crosscast.ErrDropped} {
		connect(t, two, client{err}, "hidden-room")
	}
	_, err := two.Subscribe(t.Context(), crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { *metas = append(*metas, m.Meta) },
	}, "hidden-room")
	ok(t, err)
	synctest.Wait()
	return one, two, metas
}

// slow is a client that takes a second.
type slow struct{ client }

func (slow) Send(*crosscast.Message) error { time.Sleep(time.Second); return nil }

// TestSpans: an emission is a span, and so is the delivery on each node, as its child. A subscription can go on.
func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newCollector(), newCollector()
		one, two, metas := pair(t, a, b)
		busy := connect(t, one, slow{}, "hidden-room")
		ctx, caller := a.traces.Tracer("").Start(t.Context(), "caller")

		ok(t, one.To("hidden-room").Emit(ctx, "said", "hello"))
		spans, theirs := a.take(), b.take()
		emit, here, there := named(t, spans, "emit said"), named(t, spans, "deliver said"), named(t, theirs, "deliver said")
		childOf(t, emit, caller.SpanContext())
		childOf(t, here, emit.SpanContext)
		childOf(t, there, emit.SpanContext)
		if !there.Parent.IsRemote() || here.Parent.IsRemote() || len(spans) != 2 || len(theirs) != 1 {
			t.Errorf("remote %v and %v, spans %v, %v", there.Parent.IsRemote(), here.Parent.IsRemote(), spans, theirs)
		}
		if emit.SpanKind != trace.SpanKindProducer || here.SpanKind != trace.SpanKindConsumer {
			t.Errorf("kinds %v, %v", emit.SpanKind, here.SpanKind)
		}
		took := here.EndTime.Sub(here.StartTime)
		if took != time.Second || here.StartTime.Before(emit.StartTime) || here.EndTime.After(emit.EndTime) {
			t.Errorf("%v-%v is not within %v-%v", here.StartTime, here.EndTime, emit.StartTime, emit.EndTime)
		}
		wantValues(t, emit, map[attribute.Key]any{
			"messaging.system": "crosscast", "messaging.operation.name": "emit", "messaging.operation.type": "send",
			"messaging.message.body.size": int64(7), "crosscast.event": "said", "crosscast.namespace": "/",
		})
		wantValues(t, there, map[attribute.Key]any{
			"messaging.operation.type": "process", "messaging.message.body.size": int64(7), "crosscast.event": "said",
			"crosscast.from": string(one.ID()), "crosscast.sockets": int64(2), "crosscast.refused": int64(1),
			"crosscast.subscriptions": int64(1),
		})
		if text := fmt.Sprintf("%+v%+v", spans, theirs); strings.Contains(text, "hidden") {
			t.Errorf("a name is in %s", text)
		}
		carrier := otelcrosscast.Carrier{Meta: (*metas)[0]}
		goesOn := trace.SpanContextFromContext(a.o.Propagator.Extract(t.Context(), &carrier))
		if goesOn.SpanID() != emit.SpanContext.SpanID() || goesOn.TraceID() != caller.SpanContext().TraceID() {
			t.Errorf("the subscription has %v", goesOn)
		}

		busy.Close(crosscast.ReasonLeft)
		connect(t, one, client{}, "hidden-room")

		// A message that is passed on with the Meta of another one belongs to the new emission.
		ok(t, two.To("hidden-room").Meta((*metas)[0]...).Emit(t.Context(), "again", nil))
		spans, theirs = b.take(), a.take()
		emit = named(t, spans, "emit again")
		childOf(t, named(t, theirs, "deliver again"), emit.SpanContext)
		if emit.SpanContext.TraceID() == caller.SpanContext().TraceID() {
			t.Error("an emission with an empty context belongs to a trace")
		}
		one.To("hidden-room").EmitAck(ctx, "asked", nil).Close()
		childOf(t, named(t, b.take(), "deliver asked"), named(t, a.take(), "emit asked").SpanContext)
		s := connect(t, one, client{errors.New("broken")})
		err := s.Emit(ctx, "own", nil)
		spans = a.take()
		childOf(t, named(t, spans, "deliver own"), named(t, spans, "emit own").SpanContext)
		if own := named(t, spans, "emit own"); own.Status.Code != codes.Error || own.Status.Description != err.Error() {
			t.Errorf("%v: status %v", err, own.Status)
		}
	})
}

// TestWithoutContext: a message whose emitter has no observer begins a trace where it is delivered.
func TestWithoutContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, c := crosscast.NewCluster(), newCollector()
		one := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		two := start(t, crosscast.Options{Adapter: cluster.Adapter(), Observer: otelcrosscast.NewObserver(c.o)})
		connect(t, two, client{}, "hidden-room")
		ok(t, one.To("hidden-room").Emit(t.Context(), "said", nil))
		if d := named(t, c.take(), "deliver said"); d.Parent.IsValid() || !d.SpanContext.IsValid() {
			t.Errorf("parent %v", d.Parent)
		}
	})
}

// remoteParent is a context with the span of another service.
func remoteParent(flags trace.TraceFlags, state trace.TraceState) context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags, TraceState: state,
	}))
}

// TestSampling: what the caller does not record nobody records, and the flag says so to the peers.
func TestSampling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))
		for _, tt := range []struct {
			name   string
			ctx    context.Context
			a, b   *collector
			ha, hb int // recorded spans
		}{
			{"a parent that is not recorded", remoteParent(0, trace.TraceState{}), newCollector(), newCollector(), 0, 0},
			{"a recorded parent", remoteParent(trace.FlagsSampled, trace.TraceState{}), newCollector(never), newCollector(never), 1, 1},
			{"no parent, not recorded", context.Background(), newCollector(never), newCollector(), 0, 0},
			{"no parent, recorded", context.Background(), newCollector(), newCollector(never), 1, 1},
		} {
			one, _, metas := pair(t, tt.a, tt.b)
			ok(t, one.To("hidden-room").Emit(tt.ctx, "said", nil))
			if ha, hb := len(tt.a.take()), len(tt.b.take()); ha != tt.ha || hb != tt.hb {
				t.Errorf("%s: %d and %d spans", tt.name, ha, hb)
			}
			flag := fmt.Sprintf("-%02d", tt.ha)
			if len(*metas) != 1 || len((*metas)[0]) != 1 || !strings.HasSuffix((*metas)[0][0].Value, flag) {
				t.Errorf("%s: Meta %v, want a traceparent with %s", tt.name, *metas, flag)
			}
		}
	})
}

// leftOut returns what the counter of it says.
func leftOut(t *testing.T, c *collector) (sum int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	ok(t, c.reader.Collect(t.Context(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == "crosscast.trace_context_left_out" {
				for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
					sum += p.Value
				}
			}
		}
	}
	return sum
}

// TestMetaLimits: the context takes what room there is, the traceparent first. The rest is left out and counted.
func TestMetaLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := func(bytes int) trace.TraceState {
			s, err := trace.ParseTraceState("k=" + strings.Repeat("v", bytes-2))
			ok(t, err)
			return s
		}
		for _, tt := range []struct {
			own    int // pairs of the application
			state  trace.TraceState
			joined bool
			keys   string
			out    int64
		}{
			{0, state(255), true, "traceparent tracestate", 0},
			{0, state(256), true, "traceparent", 1},
			{6, state(9), true, "a b c d e f traceparent tracestate", 0},
			{7, state(9), true, "a b c d e f g traceparent", 1},
			{8, state(9), false, "a b c d e f g h", 2},
			{8, trace.TraceState{}, false, "a b c d e f g h", 1},
		} {
			a, b := newCollector(), newCollector()
			one, _, metas := pair(t, a, b)
			target := one.To("hidden-room")
			for i := range tt.own {
				target = target.Meta(crosscast.KeyValue{Key: string(rune('a' + i))})
			}
			ok(t, target.Emit(remoteParent(trace.FlagsSampled, tt.state), "said", nil))
			there, emit := named(t, b.take(), "deliver said"), named(t, a.take(), "emit said")
			if joined := there.Parent.SpanID() == emit.SpanContext.SpanID(); joined != tt.joined {
				t.Errorf("%d pairs, %d: joined %v", tt.own, len(tt.state.String()), joined)
			}
			carrier := otelcrosscast.Carrier{Meta: (*metas)[0]}
			if got := strings.Join(carrier.Keys(), " "); got != tt.keys {
				t.Errorf("%d pairs, %d: keys %s, want %s", tt.own, len(tt.state.String()), got, tt.keys)
			}
			if got := leftOut(t, a); got != tt.out {
				t.Errorf("%d pairs, %d: %d left out, want %d", tt.own, len(tt.state.String()), got, tt.out)
			}
		}
	})
}

// broken is a propagator that panics.
type broken struct{ propagation.TraceContext }

func (broken) Inject(context.Context, propagation.TextMapCarrier) { panic("no luck") }
func (broken) Extract(context.Context, propagation.TextMapCarrier) context.Context {
	panic("no luck")
}

// TestPropagatorPanics: everybody gets the message, the emission's span ends, and that of the caller does not.
func TestPropagatorPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newCollector(), newCollector()
		a.o.Propagator = broken{}
		one, two, metas := pair(t, a, b)
		connect(t, one, client{}, "hidden-room")
		ctx, caller := a.traces.Tracer("").Start(t.Context(), "caller")
		ok(t, one.To("hidden-room").Emit(ctx, "said", nil))
		spans := a.take()
		childOf(t, named(t, spans, "emit said"), caller.SpanContext())
		childOf(t, named(t, spans, "deliver said"), named(t, spans, "emit said").SpanContext)
		if named(t, b.take(), "deliver said").Parent.IsValid() || len(*metas) != 1 || !caller.IsRecording() {
			t.Errorf("metas %v, the caller's span goes on: %v", *metas, caller.IsRecording())
		}
		ok(t, two.To("hidden-room").Emit(t.Context(), "back", nil))
		if len(a.take()) != 0 || one.Stats().Delivered != 2 || one.Stats().Panics != 1 {
			t.Errorf("%+v", one.Stats())
		}
	})
}

// TestSamplerPanics: the observer has no span then, and leaves the caller's alone.
func TestSamplerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, sampler := newCollector(), &unlucky{}
		traces := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSyncer(c.spans))
		c.o.TracerProvider = traces
		n := start(t, crosscast.Options{Observer: otelcrosscast.NewObserver(c.o)})
		ctx, caller := traces.Tracer("").Start(t.Context(), "caller")
		sampler.fails = true
		ok(t, n.To("r").Emit(ctx, "said", nil))
		if !caller.IsRecording() || len(c.take()) != 0 || n.Stats().Panics != 1 {
			t.Errorf("the caller's span goes on: %v; %+v", caller.IsRecording(), n.Stats())
		}
	})
}

type unlucky struct{ fails bool }

func (u *unlucky) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if u.fails {
		panic("no luck")
	}
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
}

func (u *unlucky) Description() string { return "unlucky" }

// BenchmarkEmit emits to one local socket: without an observer, with one that does not record, and with one that does.
func BenchmarkEmit(b *testing.B) {
	observers := map[string]crosscast.Observer{"off": nil}
	for name, sampler := range map[string]sdktrace.Sampler{"not recorded": sdktrace.NeverSample(), "recorded": sdktrace.AlwaysSample()} {
		observers[name] = otelcrosscast.NewObserver(otelcrosscast.Options{
			TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)), Propagator: propagation.TraceContext{},
		})
	}
	for name, observer := range observers {
		b.Run(name, func(b *testing.B) {
			n, err := crosscast.Start(b.Context(), crosscast.Options{Observer: observer})
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close(context.Background())
			if _, err := n.Connect(b.Context(), client{}, crosscast.ConnectOptions{Rooms: []string{"r"}}); err != nil {
				b.Fatal(err)
			}
			target, p, ctx := n.To("r"), any(crosscast.Bytes("payload")), context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if err := target.Emit(ctx, "e", p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
