package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

var (
	// ErrNotConnected: there is no connection now, and nothing was sent.
	ErrNotConnected = errors.New("crosscast/client: not connected")
	// ErrUncertain: the connection was lost; the server may have got what was sent, or not.
	ErrUncertain = errors.New("crosscast/client: connection lost, outcome unknown")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("crosscast/client: closed")
	// ErrTooLarge: the message is larger than Options.WriteLimit.
	ErrTooLarge = errors.New("crosscast/client: message too large")
)

// A RemoteError is what the server answered to a request that it did not carry out.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// A CloseError is why a connection was lost that the server closed: the code and the reason of its closing handshake.
// "Close codes" in the documentation of package ws lists them. Options.OnDisconnect gets it, and OnRetry when the server
// closes the connection before OnConnect has returned.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("crosscast/client: the server closed the connection: %d %q", e.Code, e.Reason)
}

// errorOf is an error of the library's as one of this package.
func errorOf(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return &CloseError{Code: int(closed.Code), Reason: closed.Reason}
	}
	return err
}

// A Client is a connection that is made again when it is lost, until Close. Its methods may be called concurrently.
type Client struct {
	url    string
	o      Options
	ctx    context.Context // of handlers; ends with Close
	cancel context.CancelFunc
	first  chan struct{} // closed when OnConnect has returned nil for the first time
	done   chan struct{} // closed when everything has ended

	writing atomic.Bool // a message is being written

	mu      sync.Mutex // guards what follows
	session *session   // the connection that stands; nil: none
	failed  error      // why the last attempt did
}

// Dial connects to a server: url begins with ws://, wss://, http:// or https://. It returns when OnConnect has returned
// nil. When attempts fail, it goes on until ctx ends, and then returns an error that has the last one's, with nothing
// left behind; that waits for a closing handshake that has begun, and for a hook that runs.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	if err := o.set(); err != nil {
		return nil, err
	}
	c := &Client{url: url, o: o, first: make(chan struct{}), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go c.run()
	select {
	case <-c.first:
		return c, nil
	case <-ctx.Done():
	}
	c.cancel()
	<-c.done
	return nil, fmt.Errorf("crosscast/client: dial %s: %w", url, errors.Join(ctx.Err(), c.failed))
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("crosscast/client: %w", err)
	}
	if !slices.Contains([]string{"ws", "wss", "http", "https"}, u.Scheme) || u.Host == "" {
		return fmt.Errorf("crosscast/client: %.100q is no address of a websocket server", s)
	}
	return nil
}

// Close ends the connection with a handshake, and waits for it and for a handler or hook that runs: so none of them may
// wait for Close. Events that wait are dropped. It is bounded by ctx; a server that takes no part in the handshake is
// waited for 5 seconds each way, after that too. It may be called more than once.
func (c *Client) Close(ctx context.Context) error {
	c.cancel()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Connected reports whether there is a connection now.
func (c *Client) Connected() bool { return c.current() != nil }

func (c *Client) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

func (c *Client) use(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
}

// Emit sends an event. data is marshalled to JSON; with nil there is none. nil means that it was written, not that the
// server has it: [Client.Request] tells that.
//
// When ctx ends, Emit does not begin to write. It does not break off a write, which would cost the connection.
func (c *Client) Emit(ctx context.Context, event string, data any) error {
	frame, err := c.frame(&outgoing{Event: event, Data: data})
	if err != nil {
		return err
	}
	s, err := c.connected(ctx)
	if err != nil {
		return err
	}
	return s.send(ctx, frame)
}

// Request sends an event and waits for the reply, whose data is unmarshalled into reply unless that is nil. The
// deadline is ctx's, or Options.RequestTimeout. What the server answers instead of a reply is a [RemoteError].
func (c *Client) Request(ctx context.Context, event string, data, reply any) error {
	s, err := c.connected(ctx)
	if err != nil {
		return err
	}
	id, replied := s.expect()
	defer s.forget(id)
	frame, err := c.frame(&outgoing{Event: event, Data: data, ID: id})
	if err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.RequestTimeout)
		defer cancel()
	}
	if err := s.send(ctx, frame); err != nil {
		return err
	}
	var r *incoming
	select {
	case r = <-replied:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return ErrClosed
	case <-s.ctx.Done():
		select {
		case r = <-replied: // the last thing that was read
		default:
			return ErrUncertain
		}
	}
	switch {
	case r.Error != nil:
		return RemoteError(*r.Error)
	case reply == nil || len(r.Data) == 0:
		return nil
	}
	if err := json.Unmarshal(r.Data, reply); err != nil {
		return fmt.Errorf("crosscast/client: reply to %q: %w", event, err)
	}
	return nil
}

// connected returns the connection that stands.
func (c *Client) connected(ctx context.Context) (*session, error) {
	switch s := c.current(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case c.ctx.Err() != nil:
		return nil, ErrClosed
	case s == nil:
		return nil, ErrNotConnected
	default:
		return s, nil
	}
}

// outgoing is a message to the server.
type outgoing struct {
	Event string `json:"event,omitempty"`
	Data  any    `json:"data,omitempty"`
	ID    uint64 `json:"id,omitempty"`
	Error string `json:"error,omitempty"`
}

func (c *Client) frame(m *outgoing) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("crosscast/client: %q: %w", m.Event, err)
	}
	if !utf8.Valid(b) { // of a json.RawMessage or a MarshalJSON: the server would end the connection
		return nil, fmt.Errorf("crosscast/client: %q: not UTF-8", m.Event)
	}
	if len(b) > c.o.WriteLimit {
		return nil, fmt.Errorf("%w: %d bytes (at most %d)", ErrTooLarge, len(b), c.o.WriteLimit)
	}
	return b, nil
}

// run is the client's goroutine.
func (c *Client) run() {
	defer close(c.done)
	backoff := c.o.MinBackoff
	var since time.Time // when what the previous connection may have missed begins; zero: there was none
	for {
		began := time.Now()
		s, err := c.connect()
		if err == nil {
			err = s.serve(since)
			if s.joined {
				since = s.mayMiss()
			}
		}
		if c.ctx.Err() != nil {
			return
		}
		joined := s != nil && s.joined
		if joined && time.Since(began) > c.o.MaxBackoff {
			backoff = c.o.MinBackoff
		}
		half := max(backoff/2, 1)
		wait := half + rand.N(half)
		backoff = min(2*backoff, c.o.MaxBackoff)
		c.reportEnd(joined, err, wait)
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return
		}
	}
}

// reportEnd reports the end of a connection that was joined, or that there was none.
func (c *Client) reportEnd(joined bool, err error, wait time.Duration) {
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
	switch {
	case joined && c.o.OnDisconnect != nil:
		c.o.OnDisconnect(c, err)
	case !joined && c.o.OnRetry != nil:
		c.o.OnRetry(c, err, wait)
	}
}

// connect makes one attempt.
func (c *Client) connect() (*session, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.DialTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(int64(c.o.ReadLimit))
	return newSession(c, conn), nil
}
