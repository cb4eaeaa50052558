package socketio_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestWrapAndCatchAll: New wraps each handler once, and events without a handler go to CatchAll, which answers as every
// handler does.
func TestWrapAndCatchAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		var wrapped, log []string
		s := newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{
			Events: socketio.Events{"b": echo["echo"], "a": socketio.Answered(
				func(ctx context.Context, _ *crosscast.Socket, args socketio.Args) (any, error) {
					return socketio.EventName(ctx) + "!", nil
				},
			)},
			CatchAll: socketio.Answered(func(ctx context.Context, _ *crosscast.Socket, args socketio.Args) (any, error) {
				return socketio.EventName(ctx), nil
			}),
			Wrap: func(event string, next socketio.Handler) socketio.Handler {
				wrapped = append(wrapped, event)
				return func(ctx context.Context, s *crosscast.Socket, args socketio.Args) error {
					log = append(log, event)
					return next(ctx, s, args)
				}
			},
		})})
		c, _ := dialInMemory(t, s)
		c.join("/")
		long := strings.Repeat("x", 256)
		for range 2 {
			c.send(`421["a"]`, `422["c",1]`, `42["c"]`, `423["`+long+`"]`)
			c.Expect(`431["!"]`, `432["c"]`, `433[{"error":"unknown event \"`+long[:64]+`\""}]`)
		}
		if want := []string{"a", "b", ""}; !slices.Equal(wrapped, want) {
			t.Errorf("wrapped %q", wrapped)
		}
		if want := []string{"a", "", "", "a", "", ""}; !slices.Equal(log, want) {
			t.Errorf("calls %q", log)
		}
		if got := s.Stats().Unhandled; got != 2 {
			t.Errorf("%d unhandled", got)
		}
	})
}

func TestWrapReturnsNone(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	for of, want := range map[string]string{"echo": `the event "echo"`, "": "CatchAll"} {
		_, err := socketio.New(n, socketio.Options{Namespaces: namespaces(socketio.Namespace{
			Events: echo, CatchAll: echo["echo"],
			Wrap: func(event string, next socketio.Handler) socketio.Handler {
				if event == of {
					return nil
				}
				return next
			},
		})})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
