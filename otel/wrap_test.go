package otelcrosscast_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/crosscast/crosscast"
	otelcrosscast "github.com/crosscast/crosscast/otel"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/ws"
)

var _ = socketio.Namespace{Wrap: otelcrosscast.Wrap[socketio.Handler](otelcrosscast.Options{})}

// TestWrap: each call of a handler is a span that begins a trace, and has a link to the client's request.
func TestWrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector()
		n := start(t, crosscast.Options{Observer: otelcrosscast.NewObserver(c.o)})
		s := connect(t, n, client{}, "hidden-room")
		wrap := ws.Options{Wrap: otelcrosscast.Wrap[ws.Handler](c.o)}.Wrap
		request, span := c.traces.Tracer("").Start(t.Context(), "request")
		span.End()
		c.take()

		ok(t, wrap("said", func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
			return s.To("hidden-room").Emit(ctx, "text", data)
		})(request, s, json.RawMessage("1")))
		spans := c.take()
		handle := named(t, spans, "handle said")
		childOf(t, named(t, spans, "emit text"), handle.SpanContext)
		if handle.Parent.IsValid() || len(handle.Links) != 1 || !handle.Links[0].SpanContext.Equal(span.SpanContext()) {
			t.Errorf("parent %v, links %v", handle.Parent, handle.Links)
		}
		if handle.SpanKind != trace.SpanKindServer || handle.Status.Code != codes.Unset {
			t.Errorf("kind %v, status %v", handle.SpanKind, handle.Status)
		}
		wantValues(t, handle, map[attribute.Key]any{"crosscast.event": "said", "crosscast.namespace": "/"})

		failed := errors.New("failed")
		if err := wrap("", func(context.Context, *crosscast.Socket, json.RawMessage) error { return failed })(t.Context(), s, nil); err != failed {
			t.Errorf("error %v", err)
		}
		handle = named(t, c.take(), "handle")
		if handle.Status.Code != codes.Error || handle.Status.Description != "failed" || len(handle.Links) != 0 {
			t.Errorf("status %v, links %v", handle.Status, handle.Links)
		}
		wantValues(t, handle, map[attribute.Key]any{"crosscast.event": nil})

		func() {
			defer func() {
				if v := recover(); v != "no luck" {
					t.Errorf("panic %v", v)
				}
			}()
			_ = wrap("said", func(context.Context, *crosscast.Socket, json.RawMessage) error { panic("no luck") })(t.Context(), s, nil)
		}()
		if handle = named(t, c.take(), "handle said"); handle.Status.Code != codes.Error {
			t.Errorf("status %v", handle.Status)
		}
	})
}
