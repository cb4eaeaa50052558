package crosscasttest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/crosscast/crosscast"
)

// What a client does, beside receiving.

// HangUp ends the connection as a client does: the socket is closed for [crosscast.ReasonLeft], and its OnClose has run
// when HangUp returns.
func (c *Conn) HangUp() {
	c.tb.Helper()
	c.Socket().Close(crosscast.ReasonLeft)
}

// Refuse makes the client refuse every message with err, until Refuse(nil): for [crosscast.ErrDropped] the node goes
// on, and for any other error it closes the socket.
func (c *Conn) Refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

// Stall makes the client too slow: what it is sent is held, and does not count as having come, until Resume. Of
// messages that are not volatile room are held, and the next one is refused with [crosscast.ErrSlow], for which the
// node closes the socket; volatile ones are dropped.
func (c *Conn) Stall(room int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled, c.room = true, room
}

// Resume ends Stall: what was held comes, in order.
func (c *Conn) Resume() {
	c.mu.Lock()
	held := c.held
	c.stalled, c.held = false, nil
	c.got = append(c.got, held...)
	c.change()
	c.mu.Unlock()
	c.answer(held...)
}

// Reply replies to m, which must be of an acknowledged emission, as a client does. The error is that of
// [crosscast.Socket.Reply].
func (c *Conn) Reply(m *crosscast.Message, payload any) error {
	c.tb.Helper()
	if m.Ack == 0 {
		c.tb.Fatalf("crosscasttest: nobody waits for a reply to %q: it was not emitted by EmitAck", line(m))
	}
	return c.Socket().Reply(m.Ack, payload)
}

// ReplyWith has the client reply to acknowledged emissions by itself, from now on: with what f returns, if its second
// result is true. f is called on a goroutine that delivers, so it must not block. nil: the client does not reply.
func (c *Conn) ReplyWith(f func(m *crosscast.Message) (payload any, reply bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = f
}

// answer replies to what wants a reply.
func (c *Conn) answer(messages ...*crosscast.Message) {
	for _, m := range messages {
		if m.Ack == 0 {
			continue
		}
		c.mu.Lock()
		f, s := c.reply, c.socket
		if f != nil && s == nil { // Connect has not returned yet
			c.early = append(c.early, m)
		}
		c.mu.Unlock()
		if f == nil || s == nil {
			continue
		}
		if payload, reply := f(m); reply {
			// When nobody waits any more the asker knows that the client was silent.
			_ = s.Reply(m.Ack, payload)
		}
	}
}

const fencePrefix = "\x00crosscasttest:"

var fences atomic.Uint64

// WantNone fails the test if any message came so far that has one of the given events (none given: any message at
// all), or is still to come of what from has emitted before. It emits a fence: something that keeps its place among all
// that from emits, and reaches this client only. It works with every adapter, and says nothing of what other nodes
// emit.
func (c *Conn) WantNone(ctx context.Context, from *crosscast.Node, events ...string) {
	c.tb.Helper()
	s := c.Socket()
	ctx, cancel := bounded(ctx)
	defer cancel()
	fence := fmt.Sprintf("%s%d", fencePrefix, fences.Add(1))
	ns, err := from.Of(s.Namespace().Name())
	if err == nil {
		// With a room, which nobody is in, the target is of several names, so the fence keeps its place among all.
		err = ns.ToSocket(s.ID()).To(fence).Emit(ctx, fence, nil)
	}
	if err != nil {
		c.tb.Fatalf("crosscasttest: emitting a fence: %v", err)
	}
	c.await(ctx, "the fence that shows that nothing else comes", func() bool { return c.fences[fence] || c.closed })
	var unwanted []*crosscast.Message
	for _, m := range c.Messages() {
		if len(events) == 0 || slices.Contains(events, m.Event) {
			unwanted = append(unwanted, m)
		}
	}
	if len(unwanted) > 0 {
		c.tb.Errorf("%s got what it should not have got: %s", c.name(), list(lines(unwanted)))
	}
}
