package ws

import (
	"context"
	"errors"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/guard"
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

// Last implements wsconn.Worker.
func (c *conn) Last(reason crosscast.Reason) {
	defer func() {
		<-c.ReadEnd()
		<-c.Queue.Done()
		c.cancel()
		close(c.done)
	}()
	if f := c.server.o.OnDisconnect; f != nil {
		_ = c.call("", func() error { f(context.WithoutCancel(c.ctx), c.socket, reason); return nil })
	}
}

// Handle implements wsconn.Worker.
func (c *conn) Handle(e event) {
	switch {
	case e.left:
		c.end(wsconn.CauseOf(crosscast.ReasonLeft))
		return
	case e.err != nil:
		c.tell(e.err.Error())
		return
	}
	h := c.server.o.Events[e.name]
	if h == nil {
		c.fail(&e, Errorf("unknown event %.64q", e.name))
		return
	}
	e.known = true
	ctx := c.ctx
	var result *answer
	if e.id != 0 {
		result = new(answer)
		ctx = context.WithValue(ctx, answerKey{}, result)
	}
	err := c.call(e.name, func() error { return h(ctx, c.socket, e.data) })
	var panicked *PanicError
	switch {
	case errors.As(err, &panicked):
		c.end(wsconn.CauseOf(wsconn.ReasonInternal))
	case err != nil:
		c.fail(&e, err)
	case result != nil:
		var v any
		if p := result.Load(); p != nil {
			v = *p
		}
		c.reply(&e, v)
	}
}

// call calls f, and reports its error.
func (c *conn) call(event string, f func() error) error {
	err := guard.Call(f)
	if err != nil && !wsconn.ForClient(err) {
		c.server.o.OnError(c.socket, event, err)
	}
	return err
}
