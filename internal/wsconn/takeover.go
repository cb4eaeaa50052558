package wsconn

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// A response notes its status.
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

// Hijack implements http.Hijacker. The connection gets buffers of its own, with what was read already: those of the HTTP
// server would keep the request alive, with its headers.
func (t takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.c.net = conn
	read, _ := rw.Reader.Peek(rw.Reader.Buffered())
	r := bufio.NewReaderSize(bytes.NewReader(read), max(len(read), 4096))
	_, _ = r.Peek(len(read))
	return conn, bufio.NewReadWriter(r, bufio.NewWriter(conn)), nil
}

// WriteHeaderNow is what a response of the framework gin needs before Hijack.
func (t takeover) WriteHeaderNow() {
	if w, ok := t.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		w.WriteHeaderNow()
	}
}

// canHijack reports whether the connection of a response can be taken over.
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
