package wsconn

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// controls are frames that come before those of the queue, but wait for the end of a frame that is being written.
// Neither the reader nor the pinger waits for that. Only the newest ping and the newest pong are worth sending.
type controls struct{ ping, pong []byte }

// sendControl sends a ping or a pong, here or on the goroutine that is writing frames of the queue.
func (c *Conn) sendControl(which func(*controls) *[]byte, frame []byte) {
	c.mu.Lock()
	if c.cause.Reason != "" { // nobody needs them any more
		c.mu.Unlock()
		return
	}
	if c.controls.ping == nil && c.controls.pong == nil {
		c.outlet.wanted.Add(1)
	}
	*which(&c.controls) = frame
	c.mu.Unlock()
	c.sendControls()
	if c.outlet.wanted.Load() > 0 {
		c.outlet.hurry()
	}
}

// sendControls sends the waiting control frames, unless a frame is being written: then its writer sends them.
func (c *Conn) sendControls() {
	for c.controlsWait() && c.outlet.tryTake() {
		c.mu.Lock()
		frames := append(c.controls.ping, c.controls.pong...)
		c.controls = controls{}
		c.mu.Unlock()
		if len(frames) == 0 { // somebody else has sent them; others might have been added since
			c.outlet.give()
			continue
		}
		c.outlet.wanted.Add(-1)
		var err error
		if c.outlet.over == nil {
			err = c.outlet.send(frames)
		}
		c.outlet.give()
		if err == errStalled {
			c.end(crosscast.ReasonTimeout)
		} else if err != nil {
			c.broken()
		}
	}
}

func (c *Conn) controlsWait() bool {
	if c.outlet.wanted.Load() == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.controls.ping != nil || c.controls.pong != nil
}

// handlePing answers a ping of the client. The library would wait for the end of the message that is being written.
func (c *Conn) handlePing(_ context.Context, payload []byte) bool {
	c.heard.Add(1)
	c.sendControl(pong, append(appendHeader(nil, final|opPong, len(payload)), payload...))
	return false
}

func (c *Conn) handlePong(context.Context, []byte) {
	c.heard.Add(1)
	select {
	case c.pongs <- struct{}{}:
	default:
	}
}

func ping(c *controls) *[]byte { return &c.ping }
func pong(c *controls) *[]byte { return &c.pong }

// Ping sends a ping of the websocket protocol, and waits for a pong.
func (c *Conn) Ping(ctx context.Context) error {
	select {
	case <-c.pongs: // of an earlier ping
	default:
	}
	c.SendPing(appendHeader(nil, final|opPing, 0))
	select {
	case <-c.pongs:
		return nil
	case <-c.read:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SendPing sends a frame that is a ping, before the frames of the queue. It does not wait for them.
func (c *Conn) SendPing(frame []byte) { c.sendControl(ping, frame) }

// StartPings calls ping at each interval until StopPings. ping sends a ping, and waits for its answer or the end of its
// context, which is derived from ctx. If ping fails, and nothing came from the client in time, StartPings calls silent,
// and ping no more. During a pause of reading nothing can come, so the client does not count as silent.
func (c *Conn) StartPings(ctx context.Context, ping func(context.Context) error, silent func()) {
	if c.config.PingInterval < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.pinger = time.AfterFunc(c.config.PingInterval, func() {
		if !c.answers(ctx, ping) {
			silent()
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.stopped {
			c.pinger.Reset(c.config.PingInterval)
		}
	})
}

// StopPings prevents further pings. A ping that is under way ends with its answer, its timeout, or the context of
// StartPings.
func (c *Conn) StopPings() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.pinger != nil {
		c.pinger.Stop()
	}
}

// answers sends one ping. It reports whether the client lives, or nobody needs to know any more. If the client is
// silent, the cause is set before the ping's context ends, because that might close the connection.
func (c *Conn) answers(ctx context.Context, ping func(context.Context) error) bool {
	before := c.heard.Load()
	alive := func() bool { return c.paused.Load() || c.heard.Load() != before } // in this order, see Lane.Push
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var dead atomic.Bool
	defer time.AfterFunc(c.config.PingTimeout, func() {
		if !alive() {
			dead.Store(true)
			c.SetCause(CauseOf(crosscast.ReasonTimeout))
		}
		cancel()
	}).Stop()
	err := ping(ctx)
	if err != nil && ctx.Err() == nil {
		c.broken()
	}
	if err == nil || alive() {
		return true
	}
	select {
	case <-c.read: // the connection has ended
	case <-ctx.Done(): // or the ping is stuck behind a message that the client does not read
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !dead.Load() && c.cause.Reason != crosscast.ReasonTimeout // or the ping did not get out
}
