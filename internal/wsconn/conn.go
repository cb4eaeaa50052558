// Package wsconn is what the bindings over websocket have in common: a connection with a queue, which is pinged and
// closed with a cause, and a lane in which what the client sends is handled.
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

// Config is what the connections of one server have in common. It must not be changed once there are any.
type Config struct {
	Owner  string // the binding, in errors and logs
	Logger *slog.Logger
	Firsts *warn.Firsts // of causes for which clients are refused
	// Origins are the pages from which browsers may connect, beside those of the server's own host: patterns of path.Match,
	// of a host or of scheme://host.
	Origins      []string
	Subprotocols []string // that clients may choose from, the best first
	CompressFrom int      // size of the smallest message that is compressed, in bytes; 0: none is
	ReadLimit    int      // of one message, in bytes
	LimitOption  string   // what the binding calls ReadLimit
	// Queue is how messages wait for the client. Its OnClose and WriteTimeout are not used.
	Queue crosscast.QueueOptions
	// Write writes one frame of the queue.
	Write        func(c *Conn, frame []byte) error
	WriteTimeout time.Duration // of one Write
	PingInterval time.Duration // between the answer to a ping and the next one; negative: no pings
	PingTimeout  time.Duration // after a ping something must have come from the client
}

// Check checks what is the same in the options of all bindings. Zero values are defaults.
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

// A Conn is a websocket connection of a server. Its goroutines: the owner's, which calls Read; while there is something
// to do, one that writes (the queue's); and while a ping is unanswered, one that waits for what comes of it.
//
// Its methods may be called concurrently, except where they say otherwise. It is a part of its owner, so that what a
// broadcast touches is in one place, and must not be copied.
type Conn struct {
	*crosscast.Queue
	WS     *websocket.Conn // set by Accept
	Debtor Debtor          // what is asked for replies of the client; set before Read

	config *Config
	net    net.Conn      // below WS; set by Accept
	stall  *time.Timer   // ends a write that takes too long; armed by write
	heard  atomic.Uint32 // counts signs of life
	paused atomic.Bool   // the reader waits for room in a lane
	gone   atomic.Bool   // cut was called: there is nothing to wait for
	read   chan struct{} // closed when reading has ended
	room   chan struct{} // tells the reader that it might not have to wait any more; holds one
	pongs  chan struct{} // tells of a pong; holds one

	out     chan struct{} // holds one while a frame of the queue, or what waits in controls, is written
	control atomic.Bool   // something is in controls
	began   atomic.Int64  // when the frame that is being written was begun; 0: none is

	mu       sync.Mutex  // guards what follows
	cause    Cause       // the first one
	limit    *time.Timer // ends the connection some time after it has a cause
	controls controls
	pinger   *time.Timer
	stopped  bool // no ping begins any more
}

// Init makes c a connection to come. Until Accept, nothing of it runs that writes.
func (c *Conn) Init(config *Config) {
	c.config, c.read = config, make(chan struct{})
	c.out, c.room, c.pongs = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	o := config.Queue
	o.OnClose = c.hangUp
	c.Queue = crosscast.NewQueue(c.write, o)
}

// Accept upgrades a request, which is answered whatever happens.
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
	if canHijack(w) { // else websocket.Accept says so
		w = takeover{answer, c}
	}
	ws, err := websocket.Accept(w, r, &handshake)
	if err != nil {
		c.refused(answer, r, err)
		return err
	}
	ws.SetReadLimit(-1) // readMessage has its own
	c.WS = ws
	return nil
}

// write is the queue's. The bound on its time is a timer that is used again, which a context would allocate.
func (c *Conn) write(frame []byte) error {
	if c.stall == nil {
		c.stall = time.AfterFunc(c.config.WriteTimeout, c.stalled)
	} else {
		c.stall.Reset(c.config.WriteTimeout)
	}
	c.out <- struct{}{}
	c.began.Store(time.Now().UnixNano())
	err := c.config.Write(c, frame)
	c.began.Store(0)
	<-c.out
	c.sendControls() // that have waited for the frame's end
	c.stall.Stop()
	return err
}

// Read calls message with what the client sends, until the connection ends or message returns an error, and returns why
// the connection ends. b is valid during the call only; see CheckText. It is called once.
func (c *Conn) Read(message func(typ websocket.MessageType, b []byte) error) Cause {
	defer close(c.read)
	err := c.readAll(message)
	why := c.SetCause(causeOfRead(err))
	if why.Reason == crosscast.ReasonProtocol && !errors.As(err, new(Unacceptable)) {
		c.cutStuck()
	}
	return why
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

// maxPooled is the capacity of the largest buffer that is used again.
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

// A listener counts the parts of a long message as signs of life, and its bytes. The library has a limit too, and when
// that is reached waits for its turn to write, and then for the client.
type listener struct {
	r     io.Reader
	heard *atomic.Uint32
	left  int // of the limit
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(len(p), 4096, l.left+1)]) // returns only when p is full, or the frame over
	l.heard.Add(1)
	if l.left -= n; l.left < 0 {
		return 0, Unacceptable{crosscast.ReasonProtocol, websocket.StatusMessageTooBig, tooLarge}
	}
	return n, err
}

// A Debtor is a [crosscast.Socket], or several that have a connection together.
type Debtor interface {
	// Owes reports whether the client is to reply to something.
	Owes() bool
	// RefuseAll has nobody wait for that any more.
	RefuseAll()
}

// Asked is to be called when the client was asked for a reply: its reader might wait for room.
func (c *Conn) Asked() { c.look() }

// look has a reader that waits look whether it still must.
func (c *Conn) look() {
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// ReadEnd returns a channel that is closed when reading has ended.
func (c *Conn) ReadEnd() <-chan struct{} { return c.read }

// Unacceptable is the error of a message that may not be sent, with the cause that the connection ends of.
type Unacceptable Cause

func (Unacceptable) Error() string { return "unacceptable message" }

// causeOfRead says why a connection ends that cannot be read from.
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
	return CauseOf(crosscast.ReasonProtocol) // the library has closed with 1002, mostly
}
