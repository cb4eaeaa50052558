// Package wsconn is shared by the bindings over websocket. It has a connection with a queue, pings and a cause for its
// end, and a lane in which the client's events are handled.
package wsconn

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/pace"
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
	Subprotocols []string      // of the server, the best first
	CompressFrom int           // size in bytes from which messages are compressed; 0: no compression
	ReadLimit    int           // of one message, in bytes
	EventBytes   int           // of the events that wait in a lane
	LeaveTimeout time.Duration // for the remaining events of a client that has left
	Rate         Rate
	LimitOption  string // the binding's name for ReadLimit
	// Queue has the options of the connections' queues. Its Framer, OnClose, TryWrite and WriteTimeout are not used. Its
	// DropNotice makes the payload of a message.
	Queue crosscast.QueueOptions
	// Form returns the Form of the format of connections with a subprotocol, which may be empty. Optional.
	Form func(subprotocol string) uint8
	// Framer makes the framer of the queues of connections with a format. It must be comparable.
	Framer func(Format) crosscast.Framer
	// DropNotices makes the frames of the queues' DropNotice. It is used instead of the one of Queue; optional.
	DropNotices  func(*Conn, crosscast.QueueDrop) []byte
	Type         websocket.MessageType // of messages that DropNotice makes
	Written      *atomic.Uint64        // counts frames of the queues; optional
	Refused      *Tally                // counts refusals
	Ended        func()                // called once for each connection that Accept has upgraded, when it is gone
	WriteTimeout time.Duration         // of one frame
	Ping         []byte                // one or more frames
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
		c.Rate.check(owner),
		bounds.Size(owner+": Options.EventBytes", c.EventBytes, 1),
		bounds.Time(owner+": Options.LeaveTimeout", c.LeaveTimeout),
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

// A Conn is a websocket connection of a server. Its goroutines are one that reads, and the queue's, which writes while
// there are frames.
//
// Its methods may be called concurrently, unless they say otherwise. A Conn is embedded in its owner, so that the
// memory that a broadcast touches is in one place. It must not be copied.
type Conn struct {
	*crosscast.Queue                  // set by Accept
	Format           Format           // set by Accept
	Framer           crosscast.Framer // of the queue; set by Accept
	Debtor           Debtor           // the client's sockets; set before Start

	config  *Config
	outlet  outlet
	input   input
	owner   Owner         // set by Start
	handled time.Duration // from begin until everything was handled that had come; only the reader uses it
	reading atomic.Bool   // somebody uses input
	paused  atomic.Bool   // the reader waits for room in a lane
	gone    atomic.Bool   // the network connection is closed, so nothing needs to wait
	read    Latch         // opened when reading has ended

	mu       sync.Mutex    // guards the fields below
	room     chan struct{} // signals to the reader that it might not have to wait any more; nil: it has never waited
	cause    *Cause        // the first one set
	missed   missed        // nil: nothing
	bucket   pace.Bucket   // of the client's events
	limit    *time.Timer   // ends the connection some time after it got a cause
	controls *controls     // nil: none wait
	pinger   pinger
}

// Init initializes c. Nothing is written before Accept.
func (c *Conn) Init(config *Config) {
	c.config = config
	c.outlet.timeout = config.WriteTimeout
	c.input.limit = config.ReadLimit
}

// newQueue makes the queue, once the format is known.
func (c *Conn) newQueue() *crosscast.Queue {
	o := c.config.Queue
	o.Framer, o.OnClose = c.Framer, c.hangUp
	format, typ := c.Format, c.config.Type
	if f := c.config.DropNotices; f != nil {
		o.DropNotice = func(d crosscast.QueueDrop) []byte { return f(c, d) }
	} else if f := o.DropNotice; f != nil {
		o.DropNotice = func(d crosscast.QueueDrop) []byte {
			payload := f(d)
			if payload == nil {
				return nil
			}
			return format.Append(nil, typ, payload)
		}
	}
	if o.TryWrite = nil; c.outlet.raw != nil {
		o.TryWrite = c.tryWrite
	}
	return crosscast.NewBatchQueue(c.write, o)
}

// tryWrite is the queue's TryWrite.
func (c *Conn) tryWrite(frames [][]byte) (written int, err error) {
	written, err = c.outlet.trySome(frames)
	err = c.withReason(err)
	c.countWritten(written)
	if c.controlsWait() { // for the end of a frame
		go c.sendControls()
	}
	return written, err
}

func (c *Conn) countWritten(frames int) {
	if c.config.Written != nil && frames > 0 {
		c.config.Written.Add(uint64(frames))
	}
}

// write is the queue's write function.
func (c *Conn) write(frames [][]byte) (written int, err error) {
	if c.outlet.part == 0 { // otherwise tryWrite has taken the turn
		c.outlet.take()
	}
	written, err = c.outlet.sendSome(frames)
	c.outlet.give()
	c.countWritten(written)
	if err == errStalled {
		c.end(crosscast.ReasonSlow)
	}
	c.sendControls() // those that waited for the end of a frame
	return written, c.withReason(err)
}

// withReason adds to the error of a write the reason for which the connection ends already. Otherwise the node would take
// the failure of an emission for the client's leaving, and whoever is first decides what OnDisconnect gets.
func (c *Conn) withReason(err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		return err
	}
	return reasonError{err, c.cause.Reason}
}

type reasonError struct {
	error
	reason crosscast.Reason
}

func (e reasonError) Unwrap() error            { return e.error }
func (e reasonError) Reason() crosscast.Reason { return e.reason }

// CheckText returns an error for a text message that is not UTF-8.
func CheckText(b []byte) error {
	if !utf8.Valid(b) {
		return Unacceptable{crosscast.ReasonProtocol, websocket.StatusInvalidFramePayloadData, "not UTF-8"}
	}
	return nil
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room == nil {
		return
	}
	select {
	case c.room <- struct{}{}:
	default: // holds one
	}
}

// mayWait makes look signal from now on, and returns the channel. Only the reader calls it.
func (c *Conn) mayWait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room == nil {
		c.room = make(chan struct{}, 1)
	}
	return c.room
}

// ReadEnd returns a channel that is closed when reading has ended.
func (c *Conn) ReadEnd() <-chan struct{} { return c.read.Done() }

// Unacceptable is the error of a message that the client may not send. It holds the cause for which the connection
// ends.
type Unacceptable Cause

func (Unacceptable) Error() string { return "unacceptable message" }

// causeOfRead returns the cause for which a connection ends after reading has failed.
func causeOfRead(err error) Cause {
	var unacceptable Unacceptable
	if errors.As(err, &unacceptable) {
		return Cause(unacceptable)
	}
	return CauseOf(crosscast.ReasonLeft) // a closing frame, or an error of the network connection, of any type
}
