package wsconn

import (
	"cmp"
	"net"
	"time"

	"github.com/crosscast/crosscast"
)

// closing is how long an ending connection may take beyond the queue's grace. The library's own limits are longer, and
// do not hold while it discards the rest of a frame.
const closing = 4 * time.Second

// SetCause sets the cause for which the connection ends, unless it has one already, and returns the cause that holds.
// The connection is gone after the queue's grace and 4 seconds, whatever the client does.
func (c *Conn) SetCause(why Cause) Cause {
	why, first := c.setCause(why)
	if first {
		c.warnOf(why)
	}
	return why
}

// setCause is SetCause without the log. It reports whether it has set the cause.
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
	// An error means that the client took no part in the handshake. The connection is closed anyway.
	_ = c.WS.Close(why.Code, why.Text)
	c.cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit.Stop()
}

// end ends a connection whose client does not take what is written. Its writer and its reader notice the end.
func (c *Conn) end(reason crosscast.Reason) {
	c.SetCause(CauseOf(reason))
	c.cut()
}

// broken cuts a connection after a failed write, so that the reader notices, even while it waits for room. A connection
// with a cause ends anyway.
func (c *Conn) broken() {
	c.mu.Lock()
	ends := c.cause.Reason != ""
	c.mu.Unlock()
	if !ends {
		c.cut()
	}
}

// cut closes the network connection, so that blocked reads and writes return. It goes below TLS, because closing a TLS
// connection might wait for the client.
func (c *Conn) cut() {
	c.gone.Store(true)
	c.look()
	conn := c.outlet.conn
	for {
		above, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			_ = conn.Close()
			return
		}
		conn = above.NetConn()
	}
}
