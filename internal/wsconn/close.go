package wsconn

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// patienceAtEnd is how long an ending connection may take beyond the queue's grace.
const patienceAtEnd = 4 * time.Second

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
	if c.cause != nil {
		return *c.cause, false
	}
	c.cause = &why
	c.limit = time.AfterFunc(patienceAtEnd+max(cmp.Or(c.config.Queue.CloseGrace, time.Second), 0), c.cut)
	return why, true
}

// hangUp is the queue's OnClose. After the closing frame, it waits for the client's. Without that wait, the client might
// lose the frame, because the system ends a connection on which unread bytes wait with a reset. The limit of SetCause
// bounds all of it.
func (c *Conn) hangUp(reason crosscast.Reason) {
	if f := c.config.Ended; f != nil {
		defer f()
	}
	why := c.SetCause(CauseOf(reason))
	err := c.outlet.sendClose(closing(why.Code, why.Text))
	if err == nil || err == net.ErrClosed { // the second one was sent
		if c.reading.CompareAndSwap(false, true) {
			c.input.discard()
		} else {
			select {
			case <-c.read.Done():
				c.input.discard()
			case <-time.After(patienceAtEnd): // the application holds the reader
			}
		}
	}
	c.shut()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit.Stop()
}

// answerEnd sends a closing frame when the client has ended reading. It does not wait for the frames of the queue.
func (c *Conn) answerEnd(err error) {
	var end closeFrame
	var unacceptable Unacceptable
	switch {
	case errors.As(err, &end):
		if c.outlet.sendClose(closing(end.code, "")) == nil { // otherwise it was the answer to ours
			c.shut()
		}
	case errors.As(err, &unacceptable):
		_ = c.outlet.sendClose(closing(unacceptable.Code, unacceptable.Text)) // hangUp notices
	}
}

// closing makes a closing frame. It cuts text to the size of a control frame.
func closing(code websocket.StatusCode, text string) []byte {
	if code == websocket.StatusNoStatusRcvd {
		return appendHeader(nil, final|opClose, 0)
	}
	text = closeText(text)
	frame := binary.BigEndian.AppendUint16(appendHeader(nil, final|opClose, 2+len(text)), uint16(code))
	return append(frame, text...)
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
	ends := c.cause != nil
	c.mu.Unlock()
	if !ends {
		c.cut()
	}
}

// cut closes the network connection at once, so that blocked reads and writes return. It begins below TLS, because
// closing a TLS connection might wait for the client.
func (c *Conn) cut() {
	below := c.outlet.conn
	for {
		above, ok := below.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		below = above.NetConn()
	}
	_ = below.Close()
	c.shut()
}

// shut closes the network connection from above. TLS tells the client that this is the end, and a listener's wrapper
// might count its connections.
func (c *Conn) shut() {
	c.gone.Store(true)
	c.look()
	_ = c.outlet.conn.Close()
}
