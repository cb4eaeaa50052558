package wsconn

import (
	"slices"
	"time"

	"github.com/crosscast/crosscast"
)

// controls are frames that come before those of the queue, but wait for the end of a frame that is being written.
// Neither the reader nor the pinger waits for that. Only the newest ping and the newest pong are worth sending.
type controls struct{ ping, pong []byte }

// sendControl sends a ping or a pong, here or on the goroutine that is writing frames of the queue.
func (c *Conn) sendControl(which func(*controls) *[]byte, frame []byte) {
	c.mu.Lock()
	if c.cause != nil { // nobody needs them any more
		c.mu.Unlock()
		return
	}
	if c.controls == nil {
		c.controls = &controls{}
		c.outlet.wanted.Add(1)
	}
	*which(c.controls) = frame
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
		waiting := c.controls
		c.controls = nil
		c.mu.Unlock()
		if waiting == nil { // somebody else has sent them; others might have been added since
			c.outlet.give()
			continue
		}
		c.outlet.wanted.Add(-1)
		var err error
		if c.outlet.over == nil {
			err = c.outlet.send(slices.Concat(waiting.ping, waiting.pong))
		}
		c.outlet.give()
		if err == errStalled {
			c.timeOut()
			c.cut()
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
	return c.controls != nil
}

// handleControl implements controller.
func (c *Conn) handleControl(op byte, payload []byte) {
	switch op {
	case opPing:
		c.sendControl(pong, append(appendHeader(nil, final|opPong, len(payload)), payload...))
	case opPong:
		c.Pong()
	}
}

func ping(c *controls) *[]byte { return &c.ping }
func pong(c *controls) *[]byte { return &c.pong }

// A pinger sends pings, and waits for their answers.
type pinger struct {
	timer   *time.Timer // for the next ping, or the time within which the client must send something; nil: no pings
	stopped bool
	waits   bool   // for the answer to a ping
	before  uint32 // the signs of life when the ping was sent
}

// WebsocketPing is a ping of the websocket protocol.
func WebsocketPing() []byte { return appendHeader(nil, final|opPing, 0) }

// startPings sends a ping at each interval until StopPings. The owner calls Pong for its answer, unless that is a pong of
// the websocket protocol. During a pause of reading nothing can come, so the client does not count as silent. Pings do
// not wait for the frames of the queue.
func (c *Conn) startPings() {
	if c.config.PingInterval < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := &c.pinger; !p.stopped {
		p.timer = time.AfterFunc(c.config.PingInterval, c.tick)
	}
}

// tick sends a ping, or ends the wait for the answer to one.
func (c *Conn) tick() {
	c.mu.Lock()
	p := &c.pinger
	if p.stopped {
		c.mu.Unlock()
		return
	}
	if !p.waits {
		p.waits, p.before = true, c.input.heard.Load()
		p.timer.Reset(c.config.PingTimeout)
		c.mu.Unlock()
		c.sendControl(ping, c.config.Ping)
		return
	}
	if c.paused.Load() || c.input.heard.Load() != p.before { // in this order, see Lane.Push
		p.waits = false
		p.timer.Reset(c.config.PingInterval)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if !c.read.IsOpen() { // otherwise the connection has ended
		c.timeOut()
	}
}

// timeOut ends a connection whose client counts as dead.
func (c *Conn) timeOut() {
	c.SetCause(CauseOf(crosscast.ReasonTimeout))
	c.mu.Lock()
	stopped := c.pinger.stopped
	c.pinger.stopped = true
	c.mu.Unlock()
	if !stopped && c.owner != nil {
		c.owner.Silent()
	}
}

// Pong is called when the client has answered a ping.
func (c *Conn) Pong() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := &c.pinger; p.waits && !p.stopped {
		p.waits = false
		p.timer.Reset(c.config.PingInterval)
	}
}

// StopPings prevents further pings.
func (c *Conn) StopPings() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinger.stopped = true
	if c.pinger.timer != nil {
		c.pinger.timer.Stop()
	}
}
