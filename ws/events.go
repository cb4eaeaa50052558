package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/crosscast/crosscast"
)

// event is an event of the client, or why its message is none, or that it has left.
type event struct {
	name  string
	data  json.RawMessage
	id    uint64 // of the reply that the client waits for; 0: of none
	err   error
	left  bool
	known bool // it has a handler
}

// eventSize is what a waiting event takes beside its data.
const eventSize = 256

func (e *event) size() int { return eventSize + len(e.name) + len(e.data) }

// events are those that wait. conn.mu guards them.
type events struct {
	queue   []event
	bytes   int
	running bool          // a goroutine handles them
	paused  bool          // the reader waits for room
	room    chan struct{} // tells the reader that something was taken out; holds one
	closed  bool          // the socket is closed: nothing is added any more
	reason  crosscast.Reason
}

func (q *events) close(discard bool, reason crosscast.Reason) {
	q.closed, q.reason = true, reason
	if discard {
		q.queue, q.bytes = nil, 0
	}
	q.signal()
}

func (q *events) signal() {
	select {
	case q.room <- struct{}{}:
	default:
	}
}

// push adds e, and waits for room first. Only the reader calls it.
func (c *conn) push(e event) {
	q := &c.events
	size := e.size()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(q.queue) > 0 && q.bytes+size > c.server.o.EventBytes && !q.closed && !e.left {
		q.paused = true
		c.mu.Unlock()
		<-q.room
		c.mu.Lock()
	}
	if q.paused {
		q.paused = false
		c.heard.Add(1) // the client's control frames begin to be read only now
	}
	if q.closed {
		return
	}
	q.queue = append(q.queue, e)
	q.bytes += size
	c.wake()
}

// wake starts the goroutine that handles events, unless there is one; c.mu is held.
func (c *conn) wake() {
	if !c.events.running {
		c.events.running = true
		go c.work()
	}
}

func (c *conn) paused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events.paused
}

// open is the first goroutine to handle events.
func (c *conn) open() {
	if f := c.server.o.OnConnect; f != nil {
		if c.call("", func() error { f(c.ctx, c.socket); return nil }) != nil {
			c.end(causeOf(reasonInternal))
		}
	}
	c.work()
}

// work handles what waits and, once the socket is closed, is the last to go.
func (c *conn) work() {
	q := &c.events
	c.mu.Lock()
	for len(q.queue) > 0 {
		e := q.queue[0]
		q.queue[0] = event{}
		q.queue = q.queue[1:]
		q.bytes -= e.size()
		q.signal()
		c.mu.Unlock()
		c.handle(&e)
		c.mu.Lock()
	}
	q.queue = nil
	if !q.closed {
		q.running = false
		c.mu.Unlock()
		return
	}
	reason := q.reason
	c.mu.Unlock()
	if f := c.server.o.OnDisconnect; f != nil {
		_ = c.call("", func() error { f(context.WithoutCancel(c.ctx), c.socket, reason); return nil })
	}
	<-c.read
	<-c.Queue.Done()
	c.cancel()
	close(c.done)
}

func (c *conn) handle(e *event) {
	switch {
	case e.left:
		c.end(causeOf(crosscast.ReasonLeft))
		return
	case e.err != nil:
		c.tell(e.err.Error())
		return
	}
	h := c.server.o.Events[e.name]
	if h == nil {
		c.fail(e, Errorf("unknown event %.64q", e.name))
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
		c.end(causeOf(reasonInternal))
	case err != nil:
		c.fail(e, err)
	case result != nil:
		var v any
		if p := result.Load(); p != nil {
			v = *p
		}
		c.reply(e, v)
	}
}

// forClient reports whether the client may see err's text.
func forClient(err error) bool {
	var own clientError
	return errors.As(err, &own) || errors.Is(err, crosscast.ErrInvalidName) || errors.Is(err, crosscast.ErrTooLarge)
}

// A PanicError is what Options.OnError gets when a handler panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// call calls f, reports its error, and makes an error of a panic: one client's event must not end the server.
func (c *conn) call(event string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
		if err != nil && !forClient(err) {
			c.server.o.OnError(c.socket, event, err)
		}
	}()
	return f()
}
