package otelcrosscast

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/crosscast/crosscast"
)

// ScopeName is the name of the instrumentation scope of all spans and metrics.
const ScopeName = "github.com/crosscast/crosscast/otel"

// Options of traces. The zero value takes the globals of package otel. Their propagator carries nothing until the
// application sets one, such as propagation.TraceContext{}.
type Options struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider // of the counter of what was left out
	Propagator     propagation.TextMapPropagator
}

func (o *Options) tracer() trace.Tracer {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	return o.TracerProvider.Tracer(ScopeName, trace.WithSchemaURL(semconv.SchemaURL))
}

// NewObserver returns an observer that makes spans of emissions and deliveries. Nodes may share it.
func NewObserver(o Options) crosscast.Observer {
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.Propagator == nil {
		o.Propagator = otel.GetTextMapPropagator()
	}
	leftOut, err := o.MeterProvider.Meter(ScopeName).Int64Counter("crosscast.trace_context_left_out",
		metric.WithDescription("Pairs of trace context that did not fit into the Meta of a message."))
	if err != nil {
		otel.Handle(err)
	}
	return &observer{o.tracer(), o.Propagator, leftOut}
}

type observer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	leftOut    metric.Int64Counter
}

// emitting is the context of an emission. It is a type of its own, so that Emitted never ends a span of somebody else.
type emitting struct {
	context.Context
	span trace.Span
}

var (
	emits = trace.WithAttributes(semconv.MessagingSystemKey.String("crosscast"),
		semconv.MessagingOperationName("emit"), semconv.MessagingOperationTypeSend)
	delivers = trace.WithAttributes(semconv.MessagingSystemKey.String("crosscast"),
		semconv.MessagingOperationName("deliver"), semconv.MessagingOperationTypeProcess)
	produces = trace.WithSpanKind(trace.SpanKindProducer)
	consumes = trace.WithSpanKind(trace.SpanKindConsumer)
)

// Attributes of spans.
const (
	namespaceKey     = attribute.Key("crosscast.namespace")
	eventKey         = attribute.Key("crosscast.event")
	fromKey          = attribute.Key("crosscast.from")
	socketsKey       = attribute.Key("crosscast.sockets")
	refusedKey       = attribute.Key("crosscast.refused")
	subscriptionsKey = attribute.Key("crosscast.subscriptions")
)

// Emitting implements crosscast.Observer.
func (o *observer) Emitting(ctx context.Context, e crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	ctx, span := o.tracer.Start(ctx, "emit "+e.Event, produces, emits)
	return &emitting{ctx, span}, o.inject(ctx, span)
}

// inject returns the pairs of the propagator. The traceparent is the first, because the last ones are left out first.
func (o *observer) inject(ctx context.Context, span trace.Span) []crosscast.KeyValue {
	var c Carrier
	defer func() {
		if v := recover(); v != nil { // the span must end all the same
			c.Meta = nil
			err := fmt.Errorf("otelcrosscast: the propagator panicked: %v", v)
			span.RecordError(err)
			otel.Handle(err)
		}
	}()
	o.propagator.Inject(ctx, &c)
	if i := slices.IndexFunc(c.Meta, func(kv crosscast.KeyValue) bool { return kv.Key == "traceparent" }); i > 0 {
		c.Meta[0], c.Meta[i] = c.Meta[i], c.Meta[0]
	}
	return c.Meta
}

// Emitted implements crosscast.Observer.
func (o *observer) Emitted(ctx context.Context, e crosscast.Emitted) {
	if e.LeftOut > 0 {
		o.leftOut.Add(ctx, int64(e.LeftOut))
	}
	begun, ok := ctx.(*emitting)
	if !ok {
		return
	}
	defer begun.span.End()
	if begun.span.IsRecording() {
		begun.span.SetAttributes(namespaceKey.String(strings.Clone(e.Namespace)), eventKey.String(strings.Clone(e.Event)),
			semconv.MessagingMessageBodySize(e.Bytes))
		fail(begun.span, e.Err)
	}
}

// fail gives a span an error, if it is one.
func fail(span trace.Span, err error) {
	if err != nil {
		span.SetAttributes(semconv.ErrorType(err))
		span.SetStatus(codes.Error, err.Error())
	}
}

// Delivered implements crosscast.Observer. The span began in the past.
func (o *observer) Delivered(ctx context.Context, d crosscast.Delivered) {
	end := time.Now()
	if len(d.Meta) > 0 && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = o.propagator.Extract(ctx, &Carrier{d.Meta})
	}
	_, span := o.tracer.Start(ctx, "deliver "+d.Event, consumes, delivers, trace.WithTimestamp(end.Add(-d.Duration)))
	defer span.End(trace.WithTimestamp(end))
	if span.IsRecording() {
		span.SetAttributes(namespaceKey.String(strings.Clone(d.Namespace)), eventKey.String(strings.Clone(d.Event)),
			fromKey.String(strings.Clone(string(d.From))), semconv.MessagingMessageBodySize(d.Bytes),
			socketsKey.Int(d.Sockets), refusedKey.Int(d.Refused), subscriptionsKey.Int(d.Subscriptions))
	}
}

// Handled implements crosscast.Observer.
func (o *observer) Handled(crosscast.Handled) {}
