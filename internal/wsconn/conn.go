// Package wsconn is shared by the bindings over websocket. It has a connection with a queue, pings and a cause for its
// end, and a lane in which the client's events are handled.
package wsconn

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/warn"
)

// Config is the part that all connections of a server share. It must not change once there are connections.
type Config struct {
	Owner  string // the binding, for errors and logs
	Logger *slog.Logger
	Firsts *warn.Firsts // logged refusals, by cause
	// Origins are the pages from which browsers may connect, in addition to pages of the server's own host: patterns of
	// path.Match for a host or for scheme://host.
	Origins      []string
	Subprotocols []string // of the server, the best first
	CompressFrom int      // size in bytes from which messages are compressed; 0: no compression
	ReadLimit    int      // of one message, in bytes
	LimitOption  string   // the binding's name for ReadLimit
	// Queue has the options of the connections' queues. Its Framer, OnClose and WriteTimeout are not used. Its DropNotice
	// makes the payload of a message.
	Queue crosscast.QueueOptions
	// Framer makes the framer of the queues of connections with a format. It must be comparable.
	Framer       func(Format) crosscast.Framer
	Type         websocket.MessageType // of messages that DropNotice makes
	Written      *atomic.Uint64        // counts frames of the queues; optional
	WriteTimeout time.Duration         // of one frame
	PingInterval time.Duration         // between the answer to a ping and the next one; negative: no pings
	PingTimeout  time.Duration         // within which the client must send something after a ping
}

// Check checks the options that all bindings share. Zero values are defaults.
func (c *Config) Check() error {
	owner := c.Owner
	q := &c.Queue
	if q.Policy > crosscast.QueueDropOldest {
		return fmt.Errorf("%s: Options.Queue.Policy is %d: it must be one of crosscast.QueuePolicy", owner, q.Policy)
	}
	q.WriteTimeout = c.WriteTimeout
	c.Origins, c.Subprotocols = slices.Clone(c.Origins), slices.Clone(c.Subprotocols)
	for _, pattern := range c.Origins {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%s: Options.Origins: %.100q is no pattern of path.Match", owner, pattern)
		}
	}
	return cmp.Or(
		bounds.Size(owner+": Options.CompressFrom", cmp.Or(c.CompressFrom, 1), 1),
		bounds.Size(owner+": Options."+c.LimitOption, c.ReadLimit, 1),
		bounds.Size(owner+": Options.Queue.Limit", cmp.Or(q.Limit, 1), 1),
		bounds.Size(owner+": Options.Queue.Burst", cmp.Or(q.Burst, bounds.MaxSize), cmp.Or(q.Limit, 1<<20)),
		bounds.Time(owner+": Options.Queue.BurstTime", max(q.BurstTime, 1)),   // negative: none
		bounds.Time(owner+": Options.Queue.CloseGrace", max(q.CloseGrace, 1)), // negative: none
		bounds.Time(owner+": Options.WriteTimeout", c.WriteTimeout),
		bounds.Time(owner+": Options.PingInterval", max(c.PingInterval, 1)), // negative: no pings
		bounds.Time(owner+": Options.PingTimeout", c.PingTimeout),
	)
}

// A Conn is a websocket connection of a server. Its goroutines are: the owner's, which calls Read; the queue's, which
// writes while there are frames; and one that waits while a ping is unanswered.
//
// Its methods may be called concurrently, unless they say otherwise. A Conn is embedded in its owner, so that the
// memory that a broadcast touches is in one place. It must not be copied.
type Conn struct {
	*crosscast.Queue                  // set by Accept
	WS               *websocket.Conn  // for reading and closing; set by Accept
	Format           Format           // set by Accept
	Framer           crosscast.Framer // of the queue; set by Accept
	Debtor           Debtor           // the client's sockets; set before Read

	config *Config
	outlet outlet
	heard  atomic.Uint32 // counts signs of life
	paused atomic.Bool   // the reader waits for room in a lane
	gone   atomic.Bool   // cut was called, so nothing needs to wait
	read   chan struct{} // closed when reading has ended
	room   chan struct{} // signals to the reader that it might not have to wait any more; holds one
	pongs  chan struct{} // signals a pong; holds one

	mu       sync.Mutex  // guards the fields below
	cause    Cause       // the first one set
	limit    *time.Timer // ends the connection some time after it got a cause
	controls controls
	pinger   *time.Timer
	stopped  bool // no ping begins any more
}

// Init initializes c. Nothing is written before Accept.
func (c *Conn) Init(config *Config) {
	c.config, c.read = config, make(chan struct{})
	c.outlet.turn, c.outlet.timeout = make(chan struct{}, 1), config.WriteTimeout
	c.room, c.pongs = make(chan struct{}, 1), make(chan struct{}, 1)
}

// newQueue makes the queue, once the format is known.
func (c *Conn) newQueue() *crosscast.Queue {
	o := c.config.Queue
	o.Framer, o.OnClose = c.Framer, c.hangUp
	if f := o.DropNotice; f != nil {
		format, typ := c.Format, c.config.Type
		o.DropNotice = func(dropped int) []byte {
			payload := f(dropped)
			if payload == nil {
				return nil
			}
			return format.Append(nil, typ, payload)
		}
	}
	return crosscast.NewBatchQueue(c.write, o)
}

// Accept upgrades a request. It always sends an answer, also after an error.
func (c *Conn) Accept(w http.ResponseWriter, r *http.Request) error {
	handshake := websocket.AcceptOptions{
		OriginPatterns: c.config.Origins, Subprotocols: c.config.Subprotocols,
		OnPingReceived: c.handlePing, OnPongReceived: c.handlePong,
	}
	if c.config.CompressFrom > 0 {
		handshake.CompressionMode = websocket.CompressionNoContextTakeover
		handshake.CompressionThreshold = c.config.CompressFrom
	}
	answer := &response{ResponseWriter: w}
	w = answer
	if canHijack(w) { // otherwise websocket.Accept returns the error
		w = takeover{answer, c}
	}
	ws, err := websocket.Accept(w, r, &handshake)
	if err != nil {
		c.refused(answer, r, err)
		return err
	}
	ws.SetReadLimit(-1) // readMessage has its own limit
	c.WS = ws
	if answer.Header().Get("Sec-Websocket-Extensions") != "" {
		c.Format.compressFrom = c.config.CompressFrom
	}
	c.Framer = share(c.config.Framer(c.Format))
	c.Queue = c.newQueue()
	return nil
}

// write is the queue's write function.
func (c *Conn) write(frames [][]byte) (written int, err error) {
	c.outlet.take()
	written, err = c.outlet.sendSome(frames)
	c.outlet.give()
	if c.config.Written != nil {
		c.config.Written.Add(uint64(written))
	}
	if err == errStalled {
		c.end(crosscast.ReasonSlow)
	}
	c.sendControls() // those that waited for the end of a frame
	return written, err
}

// Read calls message for each message of the client, until the connection ends or message returns an error. It returns
// the cause for which the connection ends. b is valid only during the call, and not checked: see CheckText. Read is
// called once.
func (c *Conn) Read(message func(typ websocket.MessageType, b []byte) error) Cause {
	defer close(c.read)
	err := c.readAll(message)
	return c.SetCause(causeOfRead(err))
}

func (c *Conn) readAll(message func(websocket.MessageType, []byte) error) error {
	for {
		typ, r, err := c.WS.Reader(context.Background())
		if err != nil {
			return err
		}
		if err := c.readMessage(typ, r, message); err != nil {
			return err
		}
	}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled is the capacity of the largest buffer that is reused.
const maxPooled = 64 << 10

func (c *Conn) readMessage(
	typ websocket.MessageType, r io.Reader, message func(websocket.MessageType, []byte) error,
) error {
	c.heard.Add(1)
	b := buffers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= maxPooled {
			b.Reset()
			buffers.Put(b)
		}
	}()
	if _, err := b.ReadFrom(&listener{r, &c.heard, c.config.ReadLimit}); err != nil {
		return err
	}
	return message(typ, b.Bytes())
}

// CheckText returns an error for a text message that is not UTF-8.
func CheckText(b []byte) error {
	if !utf8.Valid(b) {
		return Unacceptable{crosscast.ReasonProtocol, websocket.StatusInvalidFramePayloadData, "not UTF-8"}
	}
	return nil
}

const tooLarge = "message too large"

// A listener counts the parts of a long message as signs of life, and limits its bytes. The library has a limit, too,
// but on reaching it, waits for its turn to write, and then for the client.
type listener struct {
	r     io.Reader
	heard *atomic.Uint32
	left  int // of the limit
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(len(p), 4096, l.left+1)]) // returns only when p is full, or the frame has ended
	l.heard.Add(1)
	if l.left -= n; l.left < 0 {
		return 0, Unacceptable{crosscast.ReasonProtocol, websocket.StatusMessageTooBig, tooLarge}
	}
	return n, err
}

// A Debtor is a [crosscast.Socket], or several sockets that share a connection.
type Debtor interface {
	// Owes reports whether a reply of the client is awaited.
	Owes() bool
	// RefuseAll ends the wait for all replies of the client.
	RefuseAll()
}

// Asked must be called after the client was sent a message that wants a reply, because its reader might be waiting for
// room.
func (c *Conn) Asked() { c.look() }

// look makes a waiting reader check whether it must still wait.
func (c *Conn) look() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// ReadEnd returns a channel that is closed when reading has ended.
func (c *Conn) ReadEnd() <-chan struct{} { return c.read }

// Unacceptable is the error of a message that the client may not send. It holds the cause for which the connection
// ends.
type Unacceptable Cause

func (Unacceptable) Error() string { return "unacceptable message" }

// causeOfRead returns the cause for which a connection ends after reading has failed.
func causeOfRead(err error) Cause {
	var unacceptable Unacceptable
	var network net.Error
	switch {
	case errors.As(err, &unacceptable):
		return Cause(unacceptable)
	case websocket.CloseStatus(err) != -1, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe), errors.As(err, &network):
		return CauseOf(crosscast.ReasonLeft)
	}
	return CauseOf(crosscast.ReasonProtocol) // mostly the library has closed with 1002
}
