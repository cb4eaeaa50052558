package ws

import (
	"context"
	"errors"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// open is called before the first event is handled.
func (c *conn) open() {
	if f := c.server.o.OnConnect; f != nil {
		if c.call("", func() error { f(c.ctx, c.socket); return nil }) != nil {
			c.end(wsconn.CauseOf(wsconn.ReasonInternal))
		}
	}
}

// Late implements wsconn.Worker.
func (c *conn) Late() { c.cancel() }

// Last implements wsconn.Worker.
func (c *conn) Last(reason crosscast.Reason) {
	c.endWatches()
	defer func() {
		<-c.ReadEnd()
		<-c.Queue.Done()
		c.cancel()
		c.done.Open()
	}()
	if f := c.server.o.OnDisconnect; f != nil {
		_ = c.call("", func() error { f(context.WithoutCancel(c.ctx), c.socket, reason); return nil })
	}
}

// Handle implements wsconn.Worker.
func (c *conn) Handle(e event) {
	var h Handler
	switch e.kind {
	case eventLeft:
		c.end(wsconn.CauseOf(crosscast.ReasonLeft))
		return
	case eventMalformed:
		c.sendFailure("", Control{Kind: ControlError, Failure: e.err.Error()})
		return
	case eventRefused:
		c.fail(&e, wsconn.ErrTooMany)
		return
	case eventJoin:
		h = c.join(e.name)
	case eventLeave:
		h = c.leave(e.name)
	case eventWatch:
		h = c.watch(e.name)
	case eventUnwatch:
		h = c.unwatch(e.name)
	default:
		if h = c.server.o.Events[e.name]; h != nil {
			break
		}
		if h = c.server.o.CatchAll; h == nil || e.name == "" || len(e.name) > limit.Name {
			c.server.stats.unhandled.Add(1)
			c.fail(&e, Errorf("unknown event %.64q", e.name))
			return
		}
		e.kind = eventCaught
	}
	e.known = true
	err := guard.ErrExit
	defer func() { c.finish(&e, err) }()
	err = guard.Call(func() error { return c.handle(h, &e) })
}

// EventName returns the name of the event that Options.CatchAll handles. ctx is the handler's, or made from it. The
// result is empty for other handlers.
func EventName(ctx context.Context) string { return wsconn.EventName(ctx) }

// handle calls a handler, and sends its result as the reply.
func (c *conn) handle(h Handler, e *event) error {
	ctx := c.ctx
	if e.kind == eventCaught {
		ctx = wsconn.WithEventName(ctx, e.name)
	}
	if e.id == 0 {
		return h(ctx, c.socket, e.data)
	}
	result := new(answer)
	if err := h(context.WithValue(ctx, answerKey{}, result), c.socket, e.data); err != nil {
		return err
	}
	var v any
	if p := result.Load(); p != nil {
		v = *p
	}
	p, err := c.server.ns.Encode(v)
	if err != nil {
		return err
	}
	return c.sendControl(Control{Kind: ControlReply, ID: e.id, Data: p})
}

// finish handles the outcome of an event.
func (c *conn) finish(e *event, err error) {
	switch {
	case err == nil:
	case errors.As(err, new(*PanicError)):
		defer c.end(wsconn.CauseOf(wsconn.ReasonInternal))
		c.server.report(c.socket, e.title(), err)
	case e.kind != eventSent && e.kind != eventCaught && c.socket.Closed():
		// That is no refusal: the client joins the room on its next connection.
	default:
		c.fail(e, err)
	}
}

// call calls f, and reports its error.
func (c *conn) call(event string, f func() error) error {
	err := guard.Call(f)
	if err != nil {
		c.server.report(c.socket, event, err)
	}
	return err
}
