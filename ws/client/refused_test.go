package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// TestEmitRefused: OnError gets the server's error about an emission, unless there is a handler.
func TestEmitRefused(t *testing.T) {
	s := serve(t, ws.Options{
		Events:  ws.Events{"say": func(context.Context, *crosscast.Socket, json.RawMessage) error { return errors.New("secret") }},
		OnError: func(*crosscast.Socket, string, error) {},
	})
	for _, handled := range []bool{false, true} {
		l := newRecord()
		o := client.Options{OnError: func(_ *client.Client, event string, err error) {
			l.add("%s: %v, %t", event, err, errors.As(err, new(client.RemoteError)))
		}}
		if handled {
			o.Events = client.Events{"error": client.Typed(func(_ context.Context, _ *client.Client, m map[string]string) error {
				l.add("handled: %s", m["message"])
				return nil
			})}
		}
		c := dial(t, s.url, o)
		for _, event := range []string{"say", "unknown"} {
			if err := c.Emit(t.Context(), event, 1); err != nil {
				t.Fatal(err)
			}
		}
		if handled {
			l.expect(t, "handled: say: internal error", `handled: unknown event "unknown"`)
			continue
		}
		l.expect(t, "error: say: internal error, true", `error: unknown event "unknown", true`)
		for _, data := range []any{nil, 7} { // of the application
			if err := s.Emit(t.Context(), "error", data); err != nil {
				t.Fatal(err)
			}
		}
		l.expect(t, "error: without data, true", "error: 7, true")
	}
}
