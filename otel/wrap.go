package otelcrosscast

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/crosscast/crosscast"
)

// Wrap returns a function for Wrap of ws.Options, or of socketio.Namespace, that makes a span of each call of a handler:
//
//	ws.Options{Wrap: otelcrosscast.Wrap[ws.Handler](otelcrosscast.Options{})}
//	socketio.Namespace{Wrap: otelcrosscast.Wrap[socketio.Handler](otelcrosscast.Options{})}
//
// The handler's context has the span, so that what the handler emits belongs to it. The span begins a trace, because
// a connection lasts longer than a trace should. It has a link to the span of the client's request, if that has one. The
// handler for events without one of their own (CatchAll) has spans without the event's name, which is the client's.
func Wrap[H ~func(context.Context, *crosscast.Socket, D) error, D any](o Options) func(event string, next H) H {
	tracer := o.tracer()
	return func(event string, next H) H {
		name, attributes := "handle", trace.WithAttributes()
		if event != "" {
			name, attributes = "handle "+event, trace.WithAttributes(eventKey.String(event))
		}
		return func(ctx context.Context, s *crosscast.Socket, data D) error {
			options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), attributes}
			if request := trace.SpanContextFromContext(ctx); request.IsValid() {
				options = append(options, trace.WithLinks(trace.Link{SpanContext: request}))
			}
			ctx, span := tracer.Start(ctx, name, options...)
			defer span.End()
			span.SetAttributes(namespaceKey.String(s.Namespace().Name()))
			returned := false
			defer func() {
				if !returned {
					span.SetStatus(codes.Error, "the handler did not return") // it has panicked
				}
			}()
			err := next(ctx, s, data)
			returned = true
			fail(span, err)
			return err
		}
	}
}
