package crosscasttest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/crosscast/crosscast"
)

// The actions of a client, beside receiving.

// HangUp ends the connection from the client's side. The socket is closed for [crosscast.ReasonLeft], and its OnClose
// has run when HangUp returns.
func (c *Conn) HangUp() {
	c.tb.Helper()
	c.Socket().Close(crosscast.ReasonLeft)
}

// Refuse makes the client refuse every message with err, until Refuse(nil). After [crosscast.ErrDropped] the node goes
// on; after any other error it closes the socket.
func (c *Conn) Refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

// Stall makes the client too slow until Resume. Messages are held back, and count as not received. It holds at most
// room messages that are not volatile. The next one is refused with [crosscast.ErrSlow], and the node closes the
// socket. Volatile messages are dropped.
func (c *Conn) Stall(room int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled, c.room = true, room
}

// Resume ends Stall: the held messages arrive, in order.
func (c *Conn) Resume() {
	c.mu.Lock()
	held := c.held
	c.stalled, c.held = false, nil
	c.got = append(c.got, held...)
	c.change()
	c.mu.Unlock()
	c.answer(held...)
}

// Reply replies to m, a message of an acknowledged emission. The error is that of [crosscast.Socket.Reply].
func (c *Conn) Reply(m *crosscast.Message, payload any) error {
	c.tb.Helper()
	if m.Ack == 0 {
		c.tb.Fatalf("crosscasttest: nobody waits for a reply to %q: it was not emitted by EmitAck", line(m))
	}
	return c.Socket().Reply(m.Ack, payload)
}

// ReplyWith makes the client reply to all later acknowledged emissions by itself, with the payload that f returns, if
// reply is true. f is called on a delivering goroutine, so it must not block. With nil, the client does not reply.
func (c *Conn) ReplyWith(f func(m *crosscast.Message) (payload any, reply bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = f
}

// answer replies to messages that want a reply.
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
			// An error means that nobody waits any more: the caller knows already that the client was silent.
			_ = s.Reply(m.Ack, payload)
		}
	}
}

const fencePrefix = "\x00crosscasttest:"

var fences atomic.Uint64

// WantNone fails the test if a message with one of the given events has arrived so far, or arrives from an earlier
// emission of from. Without events it counts all messages. It emits a fence: an emission that keeps its place among all
// emissions of from, and reaches this client only. It works with every adapter. It does not cover emissions of other
// nodes.
func (c *Conn) WantNone(ctx context.Context, from *crosscast.Node, events ...string) {
	c.tb.Helper()
	s := c.Socket()
	ctx, cancel := bounded(ctx)
	defer cancel()
	fence := fmt.Sprintf("%s%d", fencePrefix, fences.Add(1))
	ns, err := from.Of(s.Namespace().Name())
	if err == nil {
		// The room, which nobody is in, makes a target of several names, so the fence keeps its place among all.
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
