package ws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// reasonInternal is why a socket is closed whose handler panicked, or which could not be made.
const reasonInternal crosscast.Reason = "internal error"

// conn is the crosscast.Conn of one client. Its goroutines: one that reads; while there is something to do, one that
// writes (the queue's) and one that handles events; and while a ping is unanswered, one that waits for the pong.
type conn struct {
	*crosscast.Queue // Send
	server           *Server
	ws               *websocket.Conn
	socket           *crosscast.Socket
	ctx              context.Context // of handlers
	cancel           context.CancelFunc

	stall *time.Timer   // ends a write that takes too long; armed by write
	heard atomic.Uint32 // counts signs of life
	read  chan struct{} // closed when reading has ended
	done  chan struct{} // closed when everything has

	mu     sync.Mutex // guards what follows
	cause  cause      // the first one
	pinger *time.Timer
	events events
}

// A cause is why a connection ends: what the application and what the client is told.
type cause struct {
	reason crosscast.Reason
	code   websocket.StatusCode
	text   string
}

func newConn(s *Server, ctx context.Context) *conn {
	c := &conn{server: s, read: make(chan struct{}), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.events.room = make(chan struct{}, 1)
	c.events.running = true // until open
	o := s.o.Queue
	o.Framer, o.OnClose = s.framer, c.hangUp
	c.Queue = crosscast.NewQueue(c.write, o)
	return c
}

// start lets the connection's goroutines run. The socket may have been closed already.
func (c *conn) start(s *crosscast.Socket) {
	c.socket = s
	go c.open()
	go c.reader()
	if c.server.o.PingInterval > 0 {
		c.mu.Lock()
		c.pinger = time.AfterFunc(c.server.o.PingInterval, c.ping)
		if c.events.closed {
			c.pinger.Stop()
		}
		c.mu.Unlock()
	}
}

// refuse ends a connection that was upgraded and did not become a socket.
func (c *conn) refuse(err error) {
	reason := reasonInternal // an argument of the application's
	if errors.Is(err, crosscast.ErrClosed) {
		reason = crosscast.ReasonShutdown
	}
	c.Queue.Close(reason)
}

// Close implements crosscast.Conn.
func (c *conn) Close(reason crosscast.Reason) {
	c.setCause(causeOf(reason))
	left := reason == crosscast.ReasonLeft
	c.mu.Lock()
	if c.pinger != nil {
		c.pinger.Stop()
	}
	c.events.close(!left, reason)
	c.wake()
	c.mu.Unlock()
	if !left {
		c.cancel() // now that the handler which it ends has no successor
	}
	c.Queue.Close(reason)
}

// Done is closed when the connection and its handlers have ended.
func (c *conn) Done() <-chan struct{} { return c.done }

// setCause sets why the connection ends, unless that is known already, and returns why.
func (c *conn) setCause(why cause) cause {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause.reason == "" {
		c.cause = why
	}
	return c.cause
}

// causeOf says what a client is told for a reason.
func causeOf(r crosscast.Reason) cause {
	code := websocket.StatusNormalClosure
	switch r {
	case crosscast.ReasonShutdown:
		code = websocket.StatusGoingAway
	case crosscast.ReasonSlow, crosscast.ReasonTimeout:
		code = websocket.StatusPolicyViolation
	case crosscast.ReasonProtocol:
		code = websocket.StatusProtocolError
	case reasonInternal:
		code = websocket.StatusInternalError
	}
	return cause{r, code, closeText(string(r))}
}

// closeText makes of s what a close frame can carry: at most 123 bytes of UTF-8.
func closeText(s string) string { return strings.ToValidUTF8(s[:min(len(s), 123)], "") }

// end closes the socket for a cause.
func (c *conn) end(why cause) { c.socket.Close(c.setCause(why).reason) }

// hangUp is the queue's OnClose.
func (c *conn) hangUp(reason crosscast.Reason) {
	why := c.setCause(causeOf(reason))
	// An error means that the client took no part in the handshake: the connection is closed all the same.
	_ = c.ws.Close(why.code, why.text)
}

// write is the queue's. The bound on its time is a timer that is used again, which a context would allocate.
func (c *conn) write(frame []byte) error {
	if c.stall == nil {
		c.stall = time.AfterFunc(c.server.o.WriteTimeout, c.stalled)
	} else {
		c.stall.Reset(c.server.o.WriteTimeout)
	}
	err := c.ws.Write(context.Background(), c.server.typ, frame)
	c.stall.Stop()
	return err
}

func (c *conn) stalled() {
	c.setCause(causeOf(crosscast.ReasonSlow))
	_ = c.ws.CloseNow()
}

// reader reads until the connection ends.
func (c *conn) reader() {
	why := c.setCause(causeOfRead(c.readAll()))
	close(c.read)
	if why.reason != crosscast.ReasonLeft {
		c.socket.Close(why.reason)
		return
	}
	c.push(event{left: true})
}

// errMessage is about a message that may not be sent.
type errMessage cause

func (errMessage) Error() string { return "unacceptable message" }

// causeOfRead says why a connection ends that cannot be read from.
func causeOfRead(err error) cause {
	var unacceptable errMessage
	var network net.Error
	switch {
	case errors.As(err, &unacceptable):
		return cause(unacceptable)
	case errors.Is(err, websocket.ErrMessageTooBig): // the library has closed with 1009
		return causeOf(crosscast.ReasonProtocol)
	case websocket.CloseStatus(err) != -1, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe), errors.As(err, &network):
		return causeOf(crosscast.ReasonLeft)
	}
	return causeOf(crosscast.ReasonProtocol) // the library has closed with 1002, mostly
}

func (c *conn) readAll() error {
	for {
		typ, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		if err := c.readMessage(typ, r); err != nil {
			return err
		}
	}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the capacity of the largest buffer that is used again.
const maxPooled = 64 << 10

func (c *conn) readMessage(typ websocket.MessageType, r io.Reader) error {
	c.heard.Add(1)
	b := buffers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= maxPooled {
			b.Reset()
			buffers.Put(b)
		}
	}()
	if _, err := b.ReadFrom(listener{r, &c.heard}); err != nil {
		return err
	}
	switch {
	case typ != c.server.typ:
		text := "only text messages are understood"
		if typ == websocket.MessageText {
			text = "only binary messages are understood"
		}
		return errMessage{crosscast.ReasonProtocol, websocket.StatusUnsupportedData, text}
	case typ == websocket.MessageText && !utf8.Valid(b.Bytes()):
		return errMessage{crosscast.ReasonProtocol, websocket.StatusInvalidFramePayloadData, "not UTF-8"}
	}
	in, err := c.server.o.Envelope.Parse(b.Bytes())
	if err == nil && in.Event == "" && in.ID != 0 {
		c.replied(&in)
		return nil
	}
	c.push(event{name: in.Event, data: in.Data, id: in.ID, err: err})
	return nil
}

// A listener counts the parts of a long message as signs of life.
type listener struct {
	r     io.Reader
	heard *atomic.Uint32
}

func (l listener) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(len(p), 4096)]) // returns only when p is full, or the frame over
	l.heard.Add(1)
	return n, err
}

func (c *conn) onPong(next func(context.Context, []byte)) func(context.Context, []byte) {
	return func(ctx context.Context, payload []byte) {
		c.heard.Add(1)
		if next != nil {
			next(ctx, payload)
		}
	}
}

// ping is the pinger's function: it sends one ping, and closes the socket unless something comes from the client in
// time. While reading pauses nothing can come, and that is not the client's fault.
func (c *conn) ping() {
	before := c.heard.Load()
	ctx, cancel := context.WithTimeout(c.ctx, c.server.o.PingTimeout)
	defer cancel()
	alive := func() bool { return c.heard.Load() != before || c.paused() }
	if err := c.ws.Ping(ctx); err != nil && !alive() {
		select {
		case <-c.read: // the connection has ended
			return
		case <-ctx.Done(): // or else the ping is stuck, behind a message that the client does not read
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && !alive() {
			c.end(causeOf(crosscast.ReasonTimeout))
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.events.closed {
		c.pinger.Reset(c.server.o.PingInterval)
	}
}
