package socketio

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// event is an event of the client, or the note that the client has left.
type event struct {
	name    string
	args    Args
	id      uint64 // of the acknowledgement that the client waits for
	hasID   bool
	refused bool // one too many
	caught  bool // CatchAll handles it
	left    bool
}

// Size implements wsconn.Event.
func (e event) Size() int { return len(e.name) + e.args.size() }

// Handle implements wsconn.Worker.
func (s *session) Handle(e event) {
	if e.left {
		s.socket.Close(crosscast.ReasonLeft)
		return
	}
	if e.refused {
		if e.hasID {
			s.fail(&e, wsconn.ErrTooMany)
		}
		return
	}
	h := s.space.Events[e.name]
	if h == nil {
		if h = s.space.CatchAll; h == nil || e.name == "" || len(e.name) > limit.Name {
			s.conn.server.stats.unhandled.Add(1)
			if e.hasID {
				s.fail(&e, Errorf("unknown event %.64q", e.name))
			}
			return
		}
		e.caught = true
	}
	err := guard.ErrExit
	defer func() { s.finish(&e, err) }()
	err = guard.Call(func() error { return s.handle(h, &e) })
}

// EventName returns the name of the event that Namespace.CatchAll handles. ctx is the handler's, or made from it. The
// result is empty for other handlers.
func EventName(ctx context.Context) string { return wsconn.EventName(ctx) }

// handle calls a handler, and sends its result as the acknowledgement.
func (s *session) handle(h Handler, e *event) error {
	ctx := s.ctx
	if e.caught {
		ctx = wsconn.WithEventName(ctx, e.name)
	}
	if !e.hasID {
		return h(ctx, s.socket, e.args)
	}
	result := new(answer)
	if err := h(context.WithValue(ctx, answerKey{}, result), s.socket, e.args); err != nil {
		return err
	}
	var v any
	if p := result.Load(); p != nil {
		v = *p
	}
	return s.sendAck(e, v)
}

// finish handles the outcome of an event.
func (s *session) finish(e *event, err error) {
	switch err.(type) {
	case nil:
	case *PanicError:
		defer s.socket.Close(wsconn.ReasonInternal)
		s.conn.server.report(s.socket, e.name, err)
	default:
		s.fail(e, err)
	}
}

// fail sends the client the error of its event, if it waits for an acknowledgement. The application gets the error if
// the client does not get its text.
func (s *session) fail(e *event, err error) {
	text, visible := wsconn.Tellable(err)
	if !visible {
		text = string(wsconn.ReasonInternal)
	}
	if e.hasID {
		defer s.sendAck(e, map[string]string{"error": text}) // even if OnError ends the goroutine
	}
	if !visible || !e.hasID {
		s.conn.server.report(s.socket, e.name, err)
	}
}

// sendAck queues an acknowledgement. The queue handles slow clients.
func (s *session) sendAck(e *event, v any) error {
	p, err := s.space.ns.Encode(v)
	if err != nil {
		return err
	}
	frame, err := s.conn.frames.ack(s.space.name, e.id, p)
	if err != nil {
		return err
	}
	if s.now.Load() == open {
		_ = s.queue.SendFrame(frame)
	}
	return nil
}

// handleAck passes on the client's reply to an acknowledged emission at once: a handler of the same client might wait
// for it, and the client's earlier events wait for that handler. A reply for which nobody waits is no fault of the
// client; the node counts it.
func (s *session) handleAck(id uint64, args Args) {
	s.mu.Lock()
	socket := s.socket
	s.mu.Unlock()
	if socket == nil {
		return
	}
	if err := socket.Reply(id, args.Payload()); err != nil && !errors.Is(err, crosscast.ErrDropped) {
		s.conn.server.report(socket, "", Errorf("acknowledgement: %w", err))
		_ = socket.Refuse(id)
	}
}

// Typed makes a [Handler] of a function that takes the first argument decoded. Without arguments, it gets the zero T.
func Typed[T any](f func(ctx context.Context, s *crosscast.Socket, arg T) error) Handler {
	return func(ctx context.Context, s *crosscast.Socket, args Args) error {
		v, err := first[T](args)
		if err != nil {
			return err
		}
		return f(ctx, s, v)
	}
}

func first[T any](args Args) (v T, err error) {
	if args.Len() > 0 {
		if err := args.Decode(0, &v); err != nil {
			return v, Errorf("argument: %v", err)
		}
	}
	return v, nil
}

// Answered makes a [Handler] of a function whose result is the acknowledgement. nil is no argument, an [Args] or
// [Values] is all its arguments, and anything else is one argument, encoded as in [crosscast.BoundTarget.Emit]. The
// result is dropped if the client does not wait for an acknowledgement.
//
// All other handlers acknowledge without arguments.
func Answered(f func(ctx context.Context, s *crosscast.Socket, args Args) (any, error)) Handler {
	return func(ctx context.Context, s *crosscast.Socket, args Args) error {
		v, err := f(ctx, s, args)
		if a, ok := ctx.Value(answerKey{}).(*answer); ok && err == nil {
			a.Store(&v)
		}
		return err
	}
}

// TypedAnswer is [Answered] for a function that takes the first argument decoded, as in [Typed].
func TypedAnswer[T, R any](f func(ctx context.Context, s *crosscast.Socket, arg T) (R, error)) Handler {
	return Answered(func(ctx context.Context, s *crosscast.Socket, args Args) (any, error) {
		v, err := first[T](args)
		if err != nil {
			return nil, err
		}
		return f(ctx, s, v)
	})
}

// answerKey finds the place for a handler's result in its context. A Handler returns only an error, and its wrappers
// (logging, timeouts) pass the context on anyway. The pointer is atomic because a wrapper might return before f does.
type answerKey struct{}

type answer = atomic.Pointer[any]
