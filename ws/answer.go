package ws

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// Answered makes a [Handler] of a function whose result is the reply to the client. The result is encoded as in
// [crosscast.Socket.Emit], and dropped if the client does not wait for a reply.
//
// All other handlers reply without data.
func Answered(f func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) (any, error)) Handler {
	return func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
		v, err := f(ctx, s, data)
		if a, ok := ctx.Value(answerKey{}).(*answer); ok && err == nil {
			a.Store(&v)
		}
		return err
	}
}

// TypedAnswer is [Answered] for a function that takes its data unmarshalled, as in [Typed].
func TypedAnswer[T, R any](f func(ctx context.Context, s *crosscast.Socket, data T) (R, error)) Handler {
	return Answered(func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) (any, error) {
		v, err := unmarshal[T](data)
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

// fail reports to the client that its event failed, in the reply if the client waits for one. The application gets the
// error if the client may not see its text.
func (c *conn) fail(e *event, err error) {
	text, visible := wsconn.Tellable(err)
	var retry, denied bool
	if e.isWish() {
		retry, denied = isTemporary(err)
	}
	if !visible {
		text = "internal error"
		if retry {
			text = string(wsconn.ReasonUnavailable)
		}
		if !denied { // else each client tries again and again; the node logs the room once
			defer c.server.report(c.socket, e.title(), err)
		}
	}
	control := Control{Kind: ControlReply, ID: e.id, Failure: text, Retry: retry}
	if e.id == 0 {
		control.Kind = ControlError
		if e.known {
			control.Failure = e.title() + ": " + text
		}
	}
	c.sendFailure(e.title(), control)
}

// sendFailure sends a control message about a failure. event may be empty.
func (c *conn) sendFailure(event string, control Control) {
	if err := guard.Call(func() error { return c.sendControl(control) }); err != nil {
		c.server.report(c.socket, event, err)
	}
}

// sendControl queues a control message. The queue handles slow clients.
func (c *conn) sendControl(control Control) error {
	typ, message, err := c.server.control(c.Format.Form, control)
	if err == nil && len(message) > 0 {
		_ = c.Queue.SendFrame(c.Format.Append(nil, typ, message))
	}
	return err
}

// handleReply passes on the client's reply to an acknowledged emission at once: a handler of the same client might wait
// for it, and the client's earlier events wait for that handler. A reply for which nobody waits is no fault of the
// client; the node counts it.
func (c *conn) handleReply(m *received) {
	var err error
	switch {
	case m.Failure != "":
		err = c.socket.Refuse(m.ID)
	case m.reply != nil:
		err = c.socket.Reply(m.ID, m.reply)
	case c.server.o.Envelope.Binary():
		err = c.socket.Reply(m.ID, crosscast.Bytes(m.Data))
	default:
		err = c.socket.Reply(m.ID, m.Data)
	}
	if err != nil && !errors.Is(err, crosscast.ErrDropped) {
		_ = c.socket.Refuse(m.ID)
		c.events.Push(event{kind: eventMalformed, err: Errorf("reply: %w", err)})
	}
}
