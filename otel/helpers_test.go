package otelcrosscast_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	otelcrosscast "github.com/crosscast/crosscast/otel"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// A collector has the spans and metrics of what is tested.
type collector struct {
	spans  *tracetest.InMemoryExporter
	reader *sdkmetric.ManualReader
	traces *sdktrace.TracerProvider
	o      otelcrosscast.Options
}

func newCollector(options ...sdktrace.TracerProviderOption) *collector {
	c := &collector{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	c.traces = sdktrace.NewTracerProvider(append(options, sdktrace.WithSyncer(c.spans))...)
	c.o = otelcrosscast.Options{
		TracerProvider: c.traces, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader)),
		Propagator: propagation.TraceContext{},
	}
	return c
}

// take returns the spans since the last call, in the order of their ends.
func (c *collector) take() tracetest.SpanStubs {
	synctest.Wait()
	defer c.spans.Reset()
	return c.spans.GetSpans()
}

// named returns the only span of that name.
func named(t *testing.T, spans tracetest.SpanStubs, name string) tracetest.SpanStub {
	t.Helper()
	var names []string
	var found tracetest.SpanStubs
	for _, s := range spans {
		if names = append(names, s.Name); s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q among %q", len(found), name, names)
	}
	return found[0]
}

func childOf(t *testing.T, child tracetest.SpanStub, parent trace.SpanContext) {
	t.Helper()
	if child.Parent.SpanID() != parent.SpanID() || child.SpanContext.TraceID() != parent.TraceID() {
		t.Errorf("the parent of %q is %v, want %v", child.Name, child.Parent, parent)
	}
}

func value(span tracetest.SpanStub, key attribute.Key) any {
	i := slices.IndexFunc(span.Attributes, func(kv attribute.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return nil
	}
	return span.Attributes[i].Value.AsInterface()
}

func wantValues(t *testing.T, span tracetest.SpanStub, want map[attribute.Key]any) {
	t.Helper()
	for key, v := range want {
		if got := value(span, key); got != v {
			t.Errorf("%s of %q is %v, want %v", key, span.Name, got, v)
		}
	}
}

func start(t *testing.T, o crosscast.Options) *crosscast.Node {
	t.Helper()
	n, err := crosscast.Start(t.Context(), o)
	ok(t, err)
	t.Cleanup(func() { ok(t, n.Close(context.Background())) })
	return n
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client is a conn that takes everything, or refuses it.
type client struct{ err error }

func (c client) Send(*crosscast.Message) error { return c.err }
func (client) Close(crosscast.Reason)          {}

func connect(t *testing.T, n *crosscast.Node, c crosscast.Conn, rooms ...string) *crosscast.Socket {
	t.Helper()
	s, err := n.Connect(t.Context(), c, crosscast.ConnectOptions{User: "hidden-user", Rooms: rooms})
	ok(t, err)
	return s
}
