package wsconn

import (
	"context"
	"errors"
	"strings"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// ReasonInternal is why a socket is closed whose handler panicked, or which could not be made.
const ReasonInternal = crosscast.ReasonInternal

// ReasonUnavailable is why a connection ends whose socket could not be made, and might be another time.
const ReasonUnavailable crosscast.Reason = "try again later"

// ReasonOf says why a connection ends that did not become a socket, by the error of Connect.
func ReasonOf(err error) crosscast.Reason {
	switch {
	case errors.Is(err, crosscast.ErrClosed):
		return crosscast.ReasonShutdown
	case errors.Is(err, crosscast.ErrDenied), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ReasonUnavailable
	}
	return ReasonInternal // an argument of the application's
}

// A Cause is why a connection ends: what the application and what the client is told.
type Cause struct {
	Reason crosscast.Reason
	Code   websocket.StatusCode
	Text   string
}

// CauseOf says what a client is told for a reason.
func CauseOf(r crosscast.Reason) Cause {
	code := websocket.StatusNormalClosure
	switch r {
	case crosscast.ReasonShutdown:
		code = websocket.StatusGoingAway
	case crosscast.ReasonSlow, crosscast.ReasonTimeout:
		code = websocket.StatusPolicyViolation
	case crosscast.ReasonProtocol:
		code = websocket.StatusProtocolError
	case ReasonUnavailable:
		code = websocket.StatusTryAgainLater
	case ReasonInternal:
		code = websocket.StatusInternalError
	}
	return Cause{r, code, closeText(string(r))}
}

// closeText makes of s what a close frame can carry: at most 123 bytes of UTF-8.
func closeText(s string) string { return strings.ToValidUTF8(s[:min(len(s), 123)], "") }
