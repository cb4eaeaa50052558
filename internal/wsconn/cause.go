package wsconn

import (
	"strings"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// ReasonInternal is why a socket is closed whose handler panicked, or which could not be made.
const ReasonInternal crosscast.Reason = "internal error"

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
	case ReasonInternal:
		code = websocket.StatusInternalError
	}
	return Cause{r, code, closeText(string(r))}
}

// closeText makes of s what a close frame can carry: at most 123 bytes of UTF-8.
func closeText(s string) string { return strings.ToValidUTF8(s[:min(len(s), 123)], "") }
