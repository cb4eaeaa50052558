package wsconn

import (
	"time"

	"github.com/coder/websocket"
)

// An Owner handles what a connection's client sends.
type Owner interface {
	// HandleMessage is called for each message of the client, one after the other. b is valid only during the call, and not
	// checked: see CheckText. Reading ends with an error, or with the end of the goroutine.
	HandleMessage(typ websocket.MessageType, b []byte) error
	// ReadEnded is called once, when reading has ended. The connection has a cause for its end then, unless HandleMessage
	// has ended the goroutine: see SetCause.
	ReadEnded()
	// Silent is called at most once, when nothing has come after a ping in time, unless pings were stopped.
	Silent()
}

// Start starts to read, on one goroutine at a time, and to send pings, until the connection ends. It is called once.
func (c *Conn) Start(o Owner) {
	c.owner = o
	if c.reading.CompareAndSwap(false, true) {
		go c.listen()
	} else { // the connection is closing already
		go c.endRead()
	}
	c.startPings()
}

// listen waits for what the client sends next, and handles it. An idle connection waits here, on a goroutine that has not
// done anything else. So its stack is small, as long as these functions have few variables.
func (c *Conn) listen() {
	c.input.listen()
	c.handleAll()
}

// handleAll reads and handles messages, until the connection ends, or its client rests.
func (c *Conn) handleAll() {
	rests := false
	defer func() { // HandleMessage might end the goroutine
		if rests {
			go c.listen()
		} else {
			c.endRead()
		}
	}()
	for c.readNext() {
		if c.rests() {
			rests = true
			return
		}
	}
}

func (c *Conn) endRead() {
	c.read.Open()
	c.owner.ReadEnded()
}

// pause is the time between messages of a client from which on it rests between them. Then the next one is awaited on a
// new goroutine, because the stack of this one has grown. A busy client does not cost that for each message.
const pause = 100 * time.Millisecond

// begin is the beginning of handled.
var begin = time.Now()

// rests reports whether everything is handled that has come, and the last time that this was so is long ago.
func (c *Conn) rests() bool {
	if !c.input.empty() {
		return false
	}
	before := c.handled
	c.handled = time.Since(begin)
	return c.handled-before > pause
}

// readNext reads and handles a message or a control frame. It returns false when the connection ends.
func (c *Conn) readNext() bool {
	typ, m, err := c.input.next(c)
	if err != nil {
		c.readEnded(err)
		c.answerEnd(err)
		return false
	}
	if m == nil {
		return true
	}
	defer release(m) // HandleMessage might end the goroutine
	if err := c.owner.HandleMessage(typ, m.Bytes()); err != nil {
		c.readEnded(err)
		return false
	}
	return true
}

func (c *Conn) readEnded(err error) { c.SetCause(causeOfRead(err)) }
