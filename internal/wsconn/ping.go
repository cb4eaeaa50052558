package wsconn

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// controls are control frames that wait for the end of a frame of the queue. The library would make the reader or the
// pinger wait for 5 seconds, and then give up. Only the newest ping and the newest pong are worth sending.
type controls struct{ ping, pong []byte }

// Control frames are written below the library. Apart from frames of the queue, the library writes each frame at once,
// because it fits its buffer, so a control frame never splits one.
const opPing, opPong = 9, 10

// sendControl sends a control frame, here or on the goroutine that is writing a frame of the queue.
func (c *Conn) sendControl(op byte, payload []byte) {
	frame := append([]byte{0x80 | op, byte(len(payload))}, payload...)
	c.mu.Lock()
	if c.cause.Reason != "" { // its closing frame might be out, and must be the last
		c.mu.Unlock()
		return
	}
	if op == opPing {
		c.controls.ping = frame
	} else {
		c.controls.pong = frame
	}
	c.control.Store(true)
	c.mu.Unlock()
	defer time.AfterFunc(c.config.WriteTimeout, c.stalled).Stop()
	c.sendControls()
}

// sendControls sends the waiting control frames, unless a frame is being written: then its writer sends them.
func (c *Conn) sendControls() {
	for c.control.Load() && c.tryOut() {
		c.mu.Lock()
		frames := append(c.controls.ping, c.controls.pong...)
		c.controls = controls{}
		c.control.Store(false)
		c.mu.Unlock()
		if len(frames) > 0 {
			if _, err := c.net.Write(frames); err != nil {
				c.broken()
			}
		}
		<-c.out
	}
}

// tryOut takes the place in out, if it is free.
func (c *Conn) tryOut() bool {
	select {
	case c.out <- struct{}{}:
		return true
	default:
		return false
	}
}

// handlePing answers a ping of the client. The library would wait for the end of the message that is being written.
func (c *Conn) handlePing(_ context.Context, payload []byte) bool {
	c.heard.Add(1)
	c.sendControl(opPong, payload)
	return false
}

func (c *Conn) handlePong(context.Context, []byte) {
	c.heard.Add(1)
	select {
	case c.pongs <- struct{}{}:
	default:
	}
}

// Ping sends a ping of the websocket protocol, and waits for a pong.
func (c *Conn) Ping(ctx context.Context) error {
	select {
	case <-c.pongs: // of an earlier ping
	default:
	}
	c.sendControl(opPing, nil)
	select {
	case <-c.pongs:
		return nil
	case <-c.read:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

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
	return !dead.Load()
}
