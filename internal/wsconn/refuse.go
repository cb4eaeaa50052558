package wsconn

import (
	"fmt"
	"net/http"

	"github.com/crosscast/crosscast"
)

// refused adds a cure to the answer of a refused request, and logs the first refusal for each cause.
func (c *Conn) refused(w *response, r *http.Request, err error) {
	var cause, cure string
	switch w.status {
	case http.StatusForbidden:
		cause = "origin"
		cure = "add the host of the page to Options.Origins"
	case http.StatusUpgradeRequired:
		cause = "upgrade"
		cure = "connect with a websocket, over HTTP/1.1; a proxy has to pass on the headers Connection and Upgrade"
	case http.StatusNotImplemented, http.StatusInternalServerError:
		cause = "hijack"
		cure = "a middleware's http.ResponseWriter needs a method Hijack, or Unwrap"
	default:
		cause = "handshake"
		cure = "use a client that speaks version 13 of the websocket protocol"
	}
	_, _ = fmt.Fprintln(w, cure)
	c.warn(cause, "a request was refused", "error", err, "cure", cure, "host", r.Host, "origin", r.Header.Get("Origin"))
}

// warnOf logs the first connection that ends for a cause, if an option is the cure.
func (c *Conn) warnOf(why Cause) {
	switch {
	case why.Text == tooLarge:
		c.warn("size", "a connection was closed because of a message", "error", why.Text,
			"cure", "a larger Options."+c.config.LimitOption, "limit", c.config.ReadLimit)
	case why.Reason == crosscast.ReasonSlow:
		c.warn("slow", "a connection was closed because its client is too slow",
			"cure", "emit less, or see Options.Queue and Options.WriteTimeout")
	}
}

// warn logs the first event for each cause.
func (c *Conn) warn(cause, message string, args ...any) {
	c.config.Firsts.Warn(c.config.Logger, cause, c.config.Owner+": "+message+"; more for this cause is not logged", args...)
}
