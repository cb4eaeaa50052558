package wsconn

import (
	"cmp"
	"net"
	"time"

	"github.com/crosscast/crosscast"
)

// closing is how long after the queue's grace a connection that ends may take. The library's own bounds are longer, and
// do not hold while it discards the rest of a frame.
const closing = 4 * time.Second

// SetCause sets why the connection ends, unless that is known already, and returns why. It is the beginning of the end:
// the queue's grace and 4 seconds later the connection is gone, whatever the client does.
func (c *Conn) SetCause(why Cause) Cause {
	why, first := c.setCause(why)
	if first {
		c.warnOf(why)
	}
	return why
}

// setCause does so, and reports whether it has.
func (c *Conn) setCause(why Cause) (Cause, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.Reason != "" {
		return c.cause, false
	}
	c.cause = why
	c.limit = time.AfterFunc(closing+max(cmp.Or(c.config.Queue.CloseGrace, time.Second), 0), c.cut)
	return why, true
}

// hangUp is the queue's OnClose.
func (c *Conn) hangUp(reason crosscast.Reason) {
	why := c.SetCause(CauseOf(reason))
	// An error means that the client took no part in the handshake: the connection is closed all the same.
	_ = c.WS.Close(why.Code, why.Text)
	c.cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit.Stop()
}

// stalled ends a connection that cannot be written to: its writer and its reader find that it has ended.
func (c *Conn) stalled() {
	c.SetCause(CauseOf(crosscast.ReasonSlow))
	c.cut()
}

// broken cuts a connection that cannot be written to, so that the reader finds out, also while it waits. One that has a
// cause ends anyway.
func (c *Conn) broken() {
	c.mu.Lock()
	ends := c.cause.Reason != ""
	c.mu.Unlock()
	if !ends {
		c.cut()
	}
}

// cut closes what is below the connection, and so makes whoever reads or writes return. Closing a TLS connection may
// wait for its client.
func (c *Conn) cut() {
	c.gone.Store(true)
	c.look()
	conn := c.net
	for {
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			_ = conn.Close()
			return
		}
		conn = above.NetConn()
	}
}

// cutStuck cuts the connection when a frame is being written for as long as the library waits for its turn to write: it
// has found a violation of the protocol, and could not say so.
func (c *Conn) cutStuck() {
	const turn = 5 * time.Second
	if began := c.began.Load(); began != 0 && time.Since(time.Unix(0, began)) >= turn {
		c.cut()
	}
}
