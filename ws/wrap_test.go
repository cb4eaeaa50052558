package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestWrap: New wraps each handler once, by its name, and the client's events only meet what Wrap has returned.
func TestWrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		events := ws.Events{
			"b": ws.Answered(func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) (any, error) { return data, nil }),
			"a": func(context.Context, *crosscast.Socket, json.RawMessage) error { return nil },
		}
		var wrapped, log []string
		s := newServer(t, n, ws.Options{
			Events: events,
			CatchAll: func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
				log = append(log, "caught "+ws.EventName(ctx))
				return nil
			},
			Wrap: func(event string, next ws.Handler) ws.Handler {
				wrapped = append(wrapped, event)
				return func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
					log = append(log, "begin "+event)
					defer func() { log = append(log, "end "+event) }()
					if string(data) == `"refuse"` {
						return ws.Errorf("not allowed")
					}
					return next(ctx, s, data)
				}
			},
		})
		c, _ := dialInMemory(t, s)
		for range 2 {
			for _, m := range []string{
				`{"event":"a","id":1}`, `{"event":"b","id":2,"data":7}`, `{"event":"b","id":3,"data":"refuse"}`, `{"event":"c","id":4}`,
			} {
				c.Write(websocket.MessageText, []byte(m))
			}
			c.Expect(`{"id":1}`, `{"id":2,"data":7}`, `{"id":3,"error":"not allowed"}`, `{"id":4}`)
		}
		if want := []string{"a", "b", ""}; !slices.Equal(wrapped, want) {
			t.Errorf("wrapped %q", wrapped)
		}
		once := []string{"begin a", "end a", "begin b", "end b", "begin b", "end b", "begin ", "caught c", "end "}
		if want := append(once, once...); !slices.Equal(log, want) {
			t.Errorf("calls %q", log)
		}
		if _, ok := events["c"]; ok || len(events) != 2 {
			t.Errorf("the options were changed: %v", events)
		}
	})
}

func TestWrapReturnsNone(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	for of, want := range map[string]string{"a": `the event "a"`, "": "CatchAll"} {
		none := func(context.Context, *crosscast.Socket, json.RawMessage) error { return nil }
		_, err := ws.New(n.Namespace, ws.Options{
			Events: ws.Events{"a": none}, CatchAll: none,
			Wrap: func(event string, next ws.Handler) ws.Handler {
				if event == of {
					return nil
				}
				return next
			},
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestCatchAll: it gets the events without a handler, with their names and data, and answers as every handler does.
func TestCatchAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		failed := ""
		s := newServer(t, n, ws.Options{
			Events: ws.Events{"known": ws.Answered(func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) (any, error) {
				return "known " + ws.EventName(ctx), nil
			})},
			CatchAll: ws.TypedAnswer(func(ctx context.Context, _ *crosscast.Socket, i int) (string, error) {
				if i == 0 {
					return "", errors.New("secret")
				}
				return ws.EventName(ctx), nil
			}),
			OnError: func(_ *crosscast.Socket, event string, _ error) { failed = event },
		})
		c, _ := dialInMemory(t, s)
		long := strings.Repeat("x", 256)
		for _, m := range []string{
			`{"event":"known","id":1}`, `{"event":"new","id":2,"data":1}`, `{"event":"new","data":1}`, `{"event":"new","data":0}`,
			`{"event":"` + long[1:] + `","id":3,"data":1}`, `{"event":"` + long + `","id":4,"data":1}`,
		} {
			c.Write(websocket.MessageText, []byte(m))
		}
		c.Expect(`{"id":1,"data":"known "}`, `{"id":2,"data":"new"}`, errorEvent("new: internal error"),
			`{"id":3,"data":"`+long[1:]+`"}`, `{"id":4,"error":"unknown event \"`+long[:64]+`\""}`)
		if failed != "new" || s.Stats().Unhandled != 1 {
			t.Errorf("failed %q, %+v", failed, s.Stats())
		}
	})
}
