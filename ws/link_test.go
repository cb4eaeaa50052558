package ws_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// answering is an adapter that answers each Subscribe with its function's result.
type answering func(ctx context.Context) error

func (answering) Start(context.Context, crosscast.AdapterStart) error           { return nil }
func (answering) Publish(context.Context, *crosscast.Instruction) error         { return nil }
func (answering) Close(context.Context) error                                   { return nil }
func (f answering) Subscribe(ctx context.Context, _ ...crosscast.Address) error { return f(ctx) }
func (answering) Unsubscribe(context.Context, ...crosscast.Address) error       { return nil }
func (answering) Listen(context.Context) error                                  { return nil }

// TestWithoutLink: while the bus is down clients connect, and are served by their node.
func TestWithoutLink(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{
		Adapter: answering(func(context.Context) error { return crosscast.ErrNotConnected }),
	})
	s := newServer(t, n, ws.Options{Events: echo})
	errs := make(chan error, 1)
	c := dial(t, wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := s.Accept(w, r, ws.Client{Rooms: []string{"lobby"}})
		errs <- err
	})).URL, nil)
	if err := wstest.Wait(t, errs, "Accept"); err != nil {
		t.Errorf("Accept: %v", err)
	}
	if err := n.To("lobby").Emit(t.Context(), "local", nil); err != nil {
		t.Fatal(err)
	}
	c.Expect(`{"event":"local"}`)
}

// TestUnconfirmed: a client whose socket cannot be made gets earlier emissions to it, and then "try again later".
func TestUnconfirmed(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"refused": func(context.Context) error { return crosscast.ErrDenied },
		"late":    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{Adapter: answering(answer)})
			s := newServer(t, n, ws.Options{
				Events:       echo,
				OnConnect:    func(context.Context, *crosscast.Socket) { t.Error("connected") },
				OnDisconnect: func(context.Context, *crosscast.Socket, crosscast.Reason) { t.Error("disconnected") },
			})
			errs := make(chan error, 1)
			c := dial(t, wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), 50*time.Millisecond)
				defer cancel()
				socket, err := s.Accept(w, r.WithContext(ctx), ws.Client{Rooms: []string{"lobby"}})
				if socket != nil {
					t.Error("a socket beside an error")
				}
				errs <- err
			})).URL, nil)
			if err := wstest.Wait(t, errs, "Accept"); !errors.Is(err, crosscast.ErrDenied) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Accept: %v", err)
			}
			if n.Stats().Sockets != 0 {
				t.Error("a socket")
			}
			c.ExpectClose(websocket.StatusTryAgainLater, "try again later")
		})
	}
}
