package wsconn

import "strings"

// CureOf says what to do when the upgrade of a request was refused for its origin; empty: it was for something else.
func CureOf(err error) string {
	if !strings.Contains(err.Error(), "request Origin") { // coder/websocket has no error value for it
		return ""
	}
	return "pages of other hosts are accepted with Options.Handshake.OriginPatterns"
}
