package sse

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// A stream is the net.Conn below a connection of package ws. What is written are websocket frames, which become
// server-sent events. What is read are the messages of POSTs, in websocket frames.
//
// It has no goroutine of its own. The goroutine of the request serves it, and owns w.
type stream struct {
	w         http.ResponseWriter
	rc        *http.ResponseController
	limit     int // bytes of POSTs that may wait
	id        string
	hash      [32]byte // of the secret
	node      crosscast.NodeID
	namespace string
	user      string
	wake      chan struct{} // signals to Read
	done      chan struct{} // closed by Close

	writing sync.Mutex // held while w is used; guards the fields below
	muted   bool       // w may not be used any more
	stamped time.Time  // when an event had an ID

	mu       sync.Mutex // guards the fields below, and calls of rc.SetWriteDeadline
	in       []byte     // for Read
	left     bool       // nothing more comes for Read
	late     bool       // a write has failed because it took too long
	closed   bool
	detached bool // rc may not be used any more
	deadline time.Time
}

// begin writes the first events.
func (s *stream) begin(hello, absence []byte) error {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses would also gather
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no")
	s.writing.Lock()
	defer s.writing.Unlock()
	s.w.WriteHeader(http.StatusOK)
	return s.sendLocked(append(hello, absence...))
}

// serve waits until the stream ends, or the client has left.
func (s *stream) serve(ctx context.Context) {
	select {
	case <-s.done:
	case <-ctx.Done():
		s.mu.Lock()
		s.left = !s.lateLocked() // otherwise HTTP/2 has ended the stream, and Write returns that error
		s.mu.Unlock()
		s.signal()
	}
}

// finish is how long net/http may take to end the response.
const finish = 5 * time.Second

// detach waits until nobody uses the response, and prevents that from now on.
func (s *stream) detach() {
	if !s.writing.TryLock() {
		s.interrupt()
		s.writing.Lock()
	}
	s.muted = true
	s.writing.Unlock()
	_ = s.SetWriteDeadline(time.Now().Add(finish))
	s.mu.Lock()
	s.detached = true
	s.mu.Unlock()
}

// Write implements net.Conn. p has whole frames.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.muted || s.isClosed() {
		return 0, net.ErrClosed
	}
	out := buffers.Get().(*[]byte)
	defer release(out)
	b, answers, err := s.translate((*out)[:0], p)
	if err != nil {
		return 0, err
	}
	*out = b
	if err := s.sendLocked(b); err != nil {
		return 0, err
	}
	if len(answers) > 0 {
		s.mu.Lock()
		s.in = append(s.in, answers...)
		s.mu.Unlock()
		s.signal()
	}
	return len(p), nil
}

// sendLocked sends events at once.
func (s *stream) sendLocked(b []byte) error {
	_, err := s.w.Write(b)
	if err == nil {
		err = s.rc.Flush()
	}
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.left { // it might have failed because nobody needs it any more
		return net.ErrClosed
	}
	s.late = errors.Is(err, os.ErrDeadlineExceeded)
	return err
}

// lateLocked reports whether a write has taken too long. After that, there might be no deadline any more.
func (s *stream) lateLocked() bool {
	return s.late || !s.deadline.IsZero() && time.Now().After(s.deadline)
}

// interrupt makes a write return.
func (s *stream) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.detached {
		_ = s.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}

func (s *stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Read implements net.Conn. Only one goroutine reads at a time.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if n, err := s.tryRead(p); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-s.wake:
		case <-s.done:
		}
	}
}

func (s *stream) tryRead(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case len(s.in) > 0:
		n := copy(p, s.in)
		if s.in = s.in[n:]; len(s.in) == 0 {
			s.in = nil
		}
		return n, nil
	case s.left:
		return 0, io.EOF
	}
	return 0, nil
}

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // holds one
	}
}

// receive passes the body of a POST on to the reader. It never waits.
func (s *stream) receive(body []byte) (gone, busy bool) {
	frames := framesOf(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.left:
		return true, false
	case len(s.in) > 0 && len(s.in)+len(frames) > s.limit:
		return false, true
	}
	s.in = append(s.in, frames...)
	s.signal()
	return false, false
}

// Close implements net.Conn. It makes calls of Read and Write return.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed, s.in = true, nil
	close(s.done)
	s.mu.Unlock()
	if s.writing.TryLock() {
		s.writing.Unlock()
		return nil
	}
	s.interrupt()
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detached {
		return net.ErrClosed
	}
	s.deadline = t
	return s.rc.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. Package ws reads without a deadline.
func (s *stream) SetReadDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error { return s.SetWriteDeadline(t) }

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return addr{} }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "sse" }
func (addr) String() string  { return "sse" }

// A handshake is the response to upgradeOf. If the upgrade is refused, the client gets that answer.
type handshake struct {
	w      http.ResponseWriter
	stream *stream
	header http.Header
	begin  func() error
	begun  bool
	status int
}

// Header implements http.ResponseWriter.
func (h *handshake) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *handshake) WriteHeader(status int) {
	if h.status = status; status == http.StatusSwitchingProtocols {
		return
	}
	for name, values := range h.header {
		h.w.Header()[name] = values
	}
	h.w.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (h *handshake) Write(b []byte) (int, error) {
	if h.status == 0 {
		h.WriteHeader(http.StatusOK)
	}
	return h.w.Write(b)
}

// SetWriteDeadline is for http.ResponseController.
func (h *handshake) SetWriteDeadline(t time.Time) error { return h.stream.SetWriteDeadline(t) }

// Hijack implements http.Hijacker. It begins the stream. An error of that is met again by whoever writes.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.begun = true
	if err := h.begin(); err != nil {
		_ = h.stream.Close()
	}
	return h.stream, bufio.NewReadWriter(bufio.NewReaderSize(h.stream, 0), bufio.NewWriterSize(h.stream, 0)), nil
}
