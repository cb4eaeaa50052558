package socketio

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// event is an event of the client, or that it has left.
type event struct {
	name  string
	args  Args
	id    uint64 // of the acknowledgement that the client waits for
	hasID bool
	left  bool
}

// Size implements wsconn.Event.
func (e event) Size() int { return len(e.name) + e.args.size() }

// Handle implements wsconn.Worker.
func (s *session) Handle(e event) {
	if e.left {
		s.socket.Close(crosscast.ReasonLeft)
		return
	}
	h := s.space.Events[e.name]
	if h == nil {
		s.conn.server.stats.unhandled.Add(1)
		if e.hasID {
			s.fail(&e, Errorf("unknown event %.64q", e.name))
		}
		return
	}
	err := guard.ErrExit
	defer func() { s.finish(&e, err) }()
	err = guard.Call(func() error { return s.handle(h, &e) })
}

// handle calls a handler, and acknowledges its event with what it returned.
func (s *session) handle(h Handler, e *event) error {
	if !e.hasID {
		return h(s.ctx, s.socket, e.args)
	}
	result := new(answer)
	if err := h(context.WithValue(s.ctx, answerKey{}, result), s.socket, e.args); err != nil {
		return err
	}
	var v any
	if p := result.Load(); p != nil {
		v = *p
	}
	return s.sendAck(e, v)
}

// finish acts on what has become of an event.
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

// fail tells the client that its event was not handled, if it asked, and as much of why as it may see. What it is not
// told the application is.
func (s *session) fail(e *event, err error) {
	text, visible := wsconn.Tellable(err)
	if !visible {
		text = string(wsconn.ReasonInternal)
	}
	if e.hasID {
		defer s.sendAck(e, map[string]string{"error": text}) // whatever OnError does
	}
	if !visible || !e.hasID {
		s.conn.server.report(s.socket, e.name, err)
	}
}

// sendAck queues an acknowledgement. A client that does not take it is dealt with by the queue.
func (s *session) sendAck(e *event, v any) error {
	p, err := s.space.ns.Encode(v)
	if err != nil {
		return err
	}
	frame, err := ackFrame(s.space.name, e.id, p, s.conn.server.o.MaxAttachments)
	if err != nil {
		return err
	}
	if s.now.Load() == open {
		_ = s.queue.SendFrame(frame)
	}
	return nil
}

// handleAck passes on the client's reply to an acknowledged emission, at once: a handler of the same client may wait
// for it, and what it has sent before waits for the handler. That nobody waits for the reply (any more) is not the
// client's fault, and is counted by the node.
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

// Typed makes a [Handler] of a function that takes the first argument decoded: the zero T when there is none.
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

// Answered makes a [Handler] of a function whose result is the acknowledgement, for a client that asked for one:
// nothing for nil, all arguments of an [Args] or of [Values], and one of anything else, as [crosscast.BoundTarget.Emit]
// takes it. Otherwise the result is dropped.
//
// A Handler that is not made by Answered or TypedAnswer acknowledges without arguments.
func Answered(f func(ctx context.Context, s *crosscast.Socket, args Args) (any, error)) Handler {
	return func(ctx context.Context, s *crosscast.Socket, args Args) error {
		v, err := f(ctx, s, args)
		if a, ok := ctx.Value(answerKey{}).(*answer); ok && err == nil {
			a.Store(&v)
		}
		return err
	}
}

// TypedAnswer is [Answered] for a function that takes the first argument decoded, as [Typed] does.
func TypedAnswer[T, R any](f func(ctx context.Context, s *crosscast.Socket, arg T) (R, error)) Handler {
	return Answered(func(ctx context.Context, s *crosscast.Socket, args Args) (any, error) {
		v, err := first[T](args)
		if err != nil {
			return nil, err
		}
		return f(ctx, s, v)
	})
}

// answerKey finds, in a handler's context, where its result goes: a Handler returns only an error, and what wraps one
// (a log, a time-out) passes the context on anyway. The pointer is atomic because a wrapper may return before f does.
type answerKey struct{}

type answer = atomic.Pointer[any]
