package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// ErrGaveUp means that the client has given up: see Options.GiveUp. The error also matches the cause.
var ErrGaveUp = errors.New("crosscast/client: gave up")

// codeRefused is the close code with which a server refuses a client for good.
const codeRefused = 4001

// A StatusError is the HTTP status with which a server has refused the handshake. Options.OnRetry and GiveUp get it.
// Not for js/wasm, where the browser does not tell the status.
type StatusError struct {
	Code int
	// RetryAfter is how long the server wants the client to wait (header Retry-After, in seconds), up to a minute. The next
	// attempt comes no sooner, and up to a second later, because many clients might have got the same number.
	RetryAfter time.Duration
	err        error
}

// retryAfter returns how long to wait at least after a failed attempt.
func retryAfter(err error) time.Duration {
	var status *StatusError
	if !errors.As(err, &status) || status.RetryAfter == 0 {
		return 0
	}
	return status.RetryAfter + draw(time.Second)
}

func (e *StatusError) Error() string { return e.err.Error() }

// Refused is the default of Options.GiveUp. It reports whether the server has refused the client itself: by status 401
// or 403, or by close code 4001, which ws.Server.Reject sends.
func Refused(err error) bool {
	var status *StatusError
	var closed *CloseError
	switch {
	case errors.As(err, &status):
		return status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden
	case errors.As(err, &closed):
		return closed.Code == codeRefused
	}
	return false
}

// A State is what a client does now.
type State uint8

const (
	StateConnecting State = iota // an attempt is under way, until the rooms are joined
	StateConnected               // events are handled
	StateWaiting                 // the pause before the next attempt
	StateGaveUp                  // for good: see Options.GiveUp
	StateClosed                  // for good: Close was called
)

func (s State) String() string {
	switch s {
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateWaiting:
		return "waiting"
	case StateGaveUp:
		return "gave up"
	case StateClosed:
		return "closed"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// State returns what the client does now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// enter changes the state, and reports it. Only the client's goroutine calls it.
func (c *Client) enter(s State) {
	c.mu.Lock()
	same := c.state == s
	c.state = s
	close(c.entered)
	c.entered = make(chan struct{})
	c.mu.Unlock()
	if !same && c.o.OnState != nil {
		c.o.OnState(c, s)
	}
}

// giveUp ends the client for a cause.
func (c *Client) giveUp(err error) {
	c.cancel(fmt.Errorf("%w: %w", ErrGaveUp, err))
	c.enter(StateGaveUp)
	if c.o.OnGiveUp != nil {
		c.o.OnGiveUp(c, err)
	}
}

// over returns why the client has ended; nil: it has not.
func (c *Client) over() error { return context.Cause(c.ctx) }

// reserve makes room for a request that waits for a connection. It returns false if there is none.
func (c *Client) reserve(size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away+size > c.o.AwayBytes {
		return false
	}
	c.away += size
	return true
}

func (c *Client) unreserve(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away -= size
}

// next waits for a connection other than lost that has been entered.
func (c *Client) next(ctx context.Context, lost *session) (*session, error) {
	for {
		c.mu.Lock()
		s, state, entered := c.session, c.state, c.entered
		c.mu.Unlock()
		if state == StateConnected && s != nil && s != lost {
			return s, nil
		}
		select {
		case <-entered:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.ctx.Done():
			return nil, c.over()
		}
	}
}
