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

	"github.com/coder/websocket"
)

var (
	// ErrNotConnected means that there is no connection now, and nothing was sent.
	ErrNotConnected = errors.New("crosscast/client: not connected")
	// ErrUncertain means that the connection was lost, and the server might have received the message.
	ErrUncertain = errors.New("crosscast/client: connection lost, outcome unknown")
	// ErrClosed means that Close was called.
	ErrClosed = errors.New("crosscast/client: closed")
	// ErrTooLarge means that the message is larger than Options.WriteLimit.
	ErrTooLarge = errors.New("crosscast/client: message too large")
)

// A RemoteError is the server's error in reply to a request.
type RemoteError string

func (e RemoteError) Error() string { return string(e) }

// A CloseError holds the code and the reason with which the server closed a connection. "Close codes" in the
// documentation of package ws lists them. Options.OnDisconnect gets it. OnRetry gets it if the server closes the
// connection before OnConnect has returned.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("crosscast/client: the server closed the connection: %d %q", e.Code, e.Reason)
}

// errorOf makes an error of the websocket library an error of this package.
func errorOf(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return &CloseError{Code: int(closed.Code), Reason: closed.Reason}
	}
	return err
}

// A Client keeps a connection and makes it again when it is lost, until Close. Its methods may be called concurrently.
type Client struct {
	url    string
	o      Options
	ctx    context.Context // of handlers; ends with Close, or when the client gives up
	cancel context.CancelCauseFunc
	first  chan struct{} // closed when OnConnect has returned nil for the first time
	done   chan struct{} // closed when everything has ended

	writing  atomic.Bool   // a message is being written
	changing chan struct{} // holds one while rooms are changed: see changeRooms

	refetches refetches
	rewatches schedule[*rewatch] // only the client's goroutine uses it
	open      openGaps

	mu      sync.Mutex // guards the fields below
	session *session   // the present connection; nil: none
	failed  error      // the error of the last attempt
	rooms   map[string]*keptRoom
	watched map[string]*watchedRoom
	state   State
	entered chan struct{} // closed and replaced when state changes
	away    int           // bytes of requests that wait for a connection
}

// Dial connects to a server, and returns when OnConnect has returned nil. url begins with ws://, wss://, http:// or
// https://. Dial retries until ctx ends, or the client gives up. Then it returns an error that contains the last
// attempt's, and leaves nothing behind: it first waits for a closing handshake and for a hook that are under way.
func Dial(ctx context.Context, url string, o Options) (*Client, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	if err := o.set(); err != nil {
		return nil, err
	}
	c := &Client{
		url: url, o: o, first: make(chan struct{}), done: make(chan struct{}),
		changing: make(chan struct{}, 1), rooms: make(map[string]*keptRoom),
		watched:   make(map[string]*watchedRoom),
		entered:   make(chan struct{}),
		refetches: refetches{waiting: make(map[string]*refetch)}, open: make(openGaps),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	go c.run()
	select {
	case <-c.first:
		return c, nil
	case <-c.done:
		return nil, fmt.Errorf("crosscast/client: dial %s: %w", url, c.over())
	case <-ctx.Done():
	}
	c.cancel(ErrClosed)
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

// Close ends the connection with a closing handshake. It waits for the handshake, and for a running handler or hook, so
// none of them may wait for Close. Waiting events are dropped. If ctx ends first, Close returns its error, and the
// client goes on closing: for a server that takes no part in the handshake, for 5 seconds in each direction. Close may
// be called more than once.
func (c *Client) Close(ctx context.Context) error {
	c.cancel(ErrClosed)
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

// Emit sends an event. data is marshalled to JSON; nil sends no data. A []byte is sent as bytes, if the server has agreed to
// a subprotocol of package ws, and otherwise as a string in base64; its handlers do not see the difference.
//
// Emit returns nil when the event was written, but the server might not have received it: use [Client.Request] to be sure.
// If the server refuses it, it sends an event "error". Without a handler for that, Options.OnError gets it.
//
// If ctx ends before the write begins, nothing is sent. A write that has begun is not interrupted, because that would
// end the connection.
func (c *Client) Emit(ctx context.Context, event string, data any) error {
	s, lost := c.connected(ctx)
	frame, err := c.frame(&outgoing{Event: event, Data: data}, s.usedForm())
	if err != nil {
		return err
	}
	if lost != nil {
		return lost
	}
	return s.send(ctx, frame)
}

// Request sends an event, waits for the reply, and unmarshals its data into reply, unless reply is nil. The deadline is
// that of ctx, or else Options.RequestTimeout. If the server replies with an error, Request returns a [RemoteError].
// Without a connection it fails with [ErrNotConnected], or waits for the next one: see Options.AwayBytes.
func (c *Client) Request(ctx context.Context, event string, data, reply any) error {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	m := &outgoing{Event: event, Data: data}
	s, err := c.connected(ctx)
	var q question
	if err == nil {
		q, err = s.ask(ctx, m)
	}
	if errors.Is(err, ErrNotConnected) && c.o.AwayBytes > 0 {
		s, q, err = c.askLater(ctx, s, m)
	}
	if err != nil {
		return err
	}
	got, err := s.await(ctx, q)
	if err != nil || reply == nil || len(got) == 0 {
		return err
	}
	if err := json.Unmarshal(got, reply); err != nil {
		return fmt.Errorf("crosscast/client: reply to %q: %w", event, err)
	}
	return nil
}

// askLater sends a request on the first connection after lost.
func (c *Client) askLater(ctx context.Context, lost *session, m *outgoing) (s *session, q question, err error) {
	frame, err := c.frame(m, formPlain) // the form of the next connection is not known yet
	if err != nil {
		return nil, q, err
	}
	size := eventSize + len(frame.data)
	if !c.reserve(size) {
		return nil, q, ErrNotConnected
	}
	defer c.unreserve(size)
	for err = ErrNotConnected; errors.Is(err, ErrNotConnected); lost = s { // nothing was sent
		if s, err = c.next(ctx, lost); err == nil {
			q, err = s.ask(ctx, m)
		}
	}
	return s, q, err
}

// limit gives ctx the deadline of requests, unless it has one.
func (c *Client) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.o.RequestTimeout)
}

// connected returns the present connection.
func (c *Client) connected(ctx context.Context) (*session, error) {
	switch s := c.current(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case c.ctx.Err() != nil:
		return nil, c.over()
	case s == nil:
		return nil, ErrNotConnected
	default:
		return s, nil
	}
}

// outgoing is a message to the server.
type outgoing struct {
	Event   string `json:"event,omitempty"`
	Join    string `json:"join,omitempty"`
	Leave   string `json:"leave,omitempty"`
	Watch   string `json:"watch,omitempty"`
	Unwatch string `json:"unwatch,omitempty"`
	Data    any    `json:"data,omitempty"`
	ID      uint64 `json:"id,omitempty"`
	Error   string `json:"error,omitempty"`

	late    *lateRoom    // whose join this is; nil: none
	watched *watchedRoom // whose wish this is; nil: none
}

// run is the client's goroutine.
func (c *Client) run() {
	defer close(c.done)
	defer func() {
		if c.State() != StateGaveUp {
			c.enter(StateClosed)
		}
	}()
	backoff := c.o.MinBackoff
	var since time.Time // when the gap of the previous connection begins; zero: there was none
	for {
		c.enter(StateConnecting)
		began := time.Now()
		s, err := c.connect()
		if err == nil {
			err = s.serve(since)
			if s.joined {
				since = c.open.absence(s.mayMiss())
			} else if !since.IsZero() {
				since = s.earliestGap(since)
			}
		}
		if c.ctx.Err() != nil {
			return
		}
		joined := s != nil && s.joined
		if joined && time.Since(began) > c.o.MaxBackoff {
			backoff = c.o.MinBackoff
		}
		wait, planned := s.plannedWait()
		if !planned {
			half := max(backoff/2, 1)
			wait = max(half+rand.N(half), retryAfter(err))
			backoff = min(2*backoff, c.o.MaxBackoff)
		}
		gaveUp := c.o.GiveUp(err)
		if !gaveUp {
			c.enter(StateWaiting)
		}
		c.reportEnd(joined, gaveUp, err, wait)
		if gaveUp {
			c.giveUp(err)
			return
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return
		}
	}
}

// reportEnd reports the end of a joined connection, or a failed attempt.
func (c *Client) reportEnd(joined, gaveUp bool, err error, wait time.Duration) {
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
	switch {
	case joined && c.o.OnDisconnect != nil:
		c.o.OnDisconnect(c, err)
	case !joined && !gaveUp && c.o.OnRetry != nil:
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
