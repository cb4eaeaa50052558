package wsconn

import (
	"context"
	"errors"
	"strings"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// ReasonInternal closes a socket whose handler panicked, or a connection for which no socket could be made.
const ReasonInternal = crosscast.ReasonInternal

// ReasonUnavailable ends a connection for which no socket could be made now. Another attempt might succeed.
const ReasonUnavailable crosscast.Reason = "try again later"

// ReasonOf returns the reason for ending a connection that did not become a socket. err is the error of Connect.
func ReasonOf(err error) crosscast.Reason {
	switch {
	case errors.Is(err, crosscast.ErrClosed):
		return crosscast.ReasonShutdown
	case errors.Is(err, crosscast.ErrDraining):
		return crosscast.ReasonDrained
	case errors.Is(err, crosscast.ErrDenied), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ReasonUnavailable
	}
	return ReasonInternal // Connect refused an argument
}

// ReasonRefused ends a connection for which no socket is made.
const ReasonRefused crosscast.Reason = "refused"

// StatusExpired closes a connection whose client's credential has expired. The client should come back with a new one.
const StatusExpired websocket.StatusCode = 4002

// StatusRefused closes a connection whose client should not come back by itself.
const StatusRefused websocket.StatusCode = 4001

// A Cause is the cause for which a connection ends: the application gets Reason, the client gets Code and Text.
type Cause struct {
	Reason crosscast.Reason
	Code   websocket.StatusCode
	Text   string
}

// CauseOf returns the cause that belongs to a reason.
func CauseOf(r crosscast.Reason) Cause {
	code := websocket.StatusNormalClosure
	switch r {
	case crosscast.ReasonShutdown:
		code = websocket.StatusGoingAway
	case crosscast.ReasonDrained:
		code = websocket.StatusServiceRestart
	case crosscast.ReasonSlow, crosscast.ReasonTimeout, crosscast.ReasonFlood:
		code = websocket.StatusPolicyViolation
	case crosscast.ReasonProtocol:
		code = websocket.StatusProtocolError
	case ReasonUnavailable:
		code = websocket.StatusTryAgainLater
	case ReasonInternal:
		code = websocket.StatusInternalError
	case crosscast.ReasonExpired:
		code = StatusExpired
	case crosscast.ReasonReplaced:
		code = StatusRefused
	}
	return Cause{r, code, string(r)}
}

// closeText cuts s to the size of a close frame's text: at most 123 bytes of UTF-8.
func closeText(s string) string { return strings.ToValidUTF8(s[:min(len(s), 123)], "") }
