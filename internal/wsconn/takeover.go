package wsconn

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"syscall"
)

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
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.c.outlet.conn, t.c.outlet.resumes = conn, resumes(conn)
	below := libraryConn{conn, &t.c.outlet}
	if rw.Reader.Buffered() == 0 { // otherwise the client did not wait for the answer
		rw.Reader = bufio.NewReaderSize(below, readBuffer)
	}
	rw.Writer = bufio.NewWriterSize(below, maxControl)
	return below, rw, nil
}

// resumes reports whether a write to conn can go on after its deadline. Connections of the system do that. A connection
// of another kind might have TLS below, even if the request does not say so.
func resumes(conn net.Conn) bool {
	_, ok := conn.(syscall.Conn)
	return ok
}

const (
	readBuffer = 1 << 10 // larger reads bypass it
	maxControl = 2 + 125 // the size of the largest control frame
)

// A libraryConn is the connection as the websocket library sees it.
type libraryConn struct {
	net.Conn
	outlet *outlet
}

// Write writes a closing frame. The library writes nothing else, and each frame at once, because it fits the buffer.
func (l libraryConn) Write(p []byte) (int, error) {
	if len(p) == 0 || p[0] != final|opClose {
		return 0, errNotClosing
	}
	if err := l.outlet.sendClose(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

var errNotClosing = errors.New("crosscast: the websocket library has written something else than a closing frame")

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
