package otelcrosscast_test

import (
	"context"
	"encoding/json"
	"fmt"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/crosscast/crosscast"
	otelcrosscast "github.com/crosscast/crosscast/otel"
	"github.com/crosscast/crosscast/ws"
)

// A node whose emissions, deliveries and handlers are spans, and whose metrics are exported. A real program has an
// exporter such as otlptracehttp, and sets the globals of package otel; then all Options are zero.
func Example() {
	ctx := context.Background()
	spans := tracetest.NewInMemoryExporter()
	options := otelcrosscast.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)),
		Propagator:     propagation.TraceContext{},
	}

	node, err := crosscast.Start(ctx, crosscast.Options{Observer: otelcrosscast.NewObserver(options)})
	if err != nil {
		panic(err)
	}
	defer node.Close(ctx)
	server, err := ws.New(node.Namespace, ws.Options{
		Events: ws.Events{"say": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
			return s.To("lobby").Emit(ctx, "said", data) // with ctx: part of the trace
		}},
		Wrap: otelcrosscast.Wrap[ws.Handler](options),
	})
	if err != nil {
		panic(err)
	}
	if _, err := otelcrosscast.RegisterMetrics(node, otelcrosscast.MetricsOptions{WS: []*ws.Server{server}}); err != nil {
		panic(err)
	}

	if _, err := node.Connect(ctx, client{}, crosscast.ConnectOptions{Rooms: []string{"lobby"}}); err != nil {
		panic(err)
	}
	if err := node.To("lobby").Emit(ctx, "said", "hello"); err != nil {
		panic(err)
	}
	for _, span := range spans.GetSpans() {
		fmt.Println(span.SpanKind, span.Name)
	}
	// Output:
	// consumer deliver said
	// producer emit said
}
