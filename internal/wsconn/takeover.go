package wsconn

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Accept upgrades a request. It always sends an answer, also after an error. The websocket library makes the handshake,
// and nothing else.
func (c *Conn) Accept(w http.ResponseWriter, r *http.Request) error {
	handshake := websocket.AcceptOptions{OriginPatterns: c.config.Origins, Subprotocols: c.config.Subprotocols}
	if c.config.CompressFrom > 0 {
		handshake.CompressionMode = websocket.CompressionNoContextTakeover
	}
	answer := &response{ResponseWriter: w}
	w = answer
	if canHijack(w) { // otherwise websocket.Accept returns the error
		w = takeover{answer, c}
	}
	ws, err := websocket.Accept(w, r, &handshake)
	if err != nil {
		c.refused(answer, r, err)
		return err
	}
	_ = ws.CloseNow() // which does not close the connection: see handshaken
	if answer.Header().Get("Sec-Websocket-Extensions") != "" {
		c.Format.compressFrom = int32(c.config.CompressFrom) // at most 1 GiB
		c.input.inflates = true
	}
	if f := c.config.Form; f != nil {
		c.Format.Form = f(answer.Header().Get("Sec-Websocket-Protocol"))
	}
	c.Framer = share(c.config.Framer(c.Format))
	c.Queue = c.newQueue()
	return nil
}

// A response records its status.
type response struct {
	http.ResponseWriter
	status int
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// A takeover is a response whose connection is handed over to c.
type takeover struct {
	*response
	c *Conn
}

// Hijack implements http.Hijacker.
func (t takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	control := http.NewResponseController(t.ResponseWriter)
	deadline := time.Now().Add(t.c.config.WriteTimeout)
	_ = control.SetWriteDeadline(deadline) // Hijack writes the answer first
	conn, rw, err := control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = conn.SetWriteDeadline(time.Time{})
	t.c.outlet.conn, t.c.outlet.resumes, t.c.outlet.raw = conn, resumes(conn), rawOf(conn)
	early, _ := rw.Reader.Peek(rw.Reader.Buffered()) // a client that has not waited for the answer; no error
	t.c.input.from, t.c.input.unread = conn, bytes.Clone(early)
	if !time.Now().Before(deadline) { // nobody tells whether the answer was written, and no frame may come without it
		t.c.cut()
	}
	return handshaken{conn}, bufio.NewReadWriter(bufio.NewReaderSize(nil, 0), bufio.NewWriterSize(nil, 1)), nil
}

// resumes reports whether a write to conn can go on after its deadline. Connections of the system do that. A connection
// of another kind might have TLS below, even if the request does not say so.
func resumes(conn net.Conn) bool {
	_, ok := conn.(syscall.Conn)
	return ok
}

// A handshaken is the connection as the websocket library sees it after the handshake.
type handshaken struct{ net.Conn }

// Close does nothing, because the connection goes on without the library.
func (handshaken) Close() error { return nil }

// WriteHeaderNow is needed before Hijack by responses of the framework gin.
func (t takeover) WriteHeaderNow() {
	if w, ok := t.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		w.WriteHeaderNow()
	}
}

// canHijack reports whether the connection of a response can be hijacked.
func canHijack(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
