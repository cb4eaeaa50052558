// Package wstest has websocket connections without a network, for tests and benchmarks of the bindings.
package wstest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Dial connects to a server that is h, without a network: the connection has no buffers, and works under synctest. It
// also returns the client's end of the connection, for tests that read and write bytes.
func Dial(t testing.TB, url string, h http.Handler) (*websocket.Conn, net.Conn) {
	t.Helper()
	return DialWith(t, url, h, websocket.DialOptions{})
}

// DialWith is Dial with options, of which HTTPClient is not used.
func DialWith(t testing.TB, url string, h http.Handler, o websocket.DialOptions) (*websocket.Conn, net.Conn) {
	t.Helper()
	transport := &inMemory{h: h}
	o.HTTPClient = &http.Client{Transport: transport}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, &o)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c, transport.conn
}

// TryDial is Dial to a server that might refuse the client, which offers subprotocols. Then c is nil, and status is that of the answer.
func TryDial(t testing.TB, url string, h http.Handler, offers ...string) (c *websocket.Conn, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &inMemory{h: h}}, Subprotocols: offers,
	})
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c, resp.StatusCode
}

// inMemory is an http.RoundTripper that keeps the client's end.
type inMemory struct {
	h    http.Handler
	conn net.Conn
}

func (m *inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	var server net.Conn
	m.conn, server = net.Pipe()
	server = Resuming{server}
	w := &hijackable{httptest.NewRecorder(), server}
	m.h.ServeHTTP(w, r)
	resp := w.Result()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = readWriteCloser{m.conn}
	}
	return resp, nil
}

// A Resuming is a connection on which a write can go on after its deadline, as on a connection of the system.
type Resuming struct{ net.Conn }

// SyscallConn implements syscall.Conn.
func (Resuming) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

type readWriteCloser struct{ net.Conn }

type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// Masked is a frame of a client that masks with zero, with text of less than 64 KiB as a message.
func Masked(text string) string {
	if len(text) < 126 {
		return "\x81" + string([]byte{0x80 | byte(len(text))}) + "\x00\x00\x00\x00" + text
	}
	return "\x81\xfe" + string([]byte{byte(len(text) >> 8), byte(len(text))}) + "\x00\x00\x00\x00" + text
}

// A Sink is a connection whose writes go nowhere, and which reads what it is given, and then nothing until its end.
type Sink struct {
	Resuming
	writes *Writes
	reads  chan string
	rest   string    // of the last of reads
	once   sync.Once // closes closed
	closed chan struct{}
}

// Writes counts the frames that are written to sinks down.
type Writes struct {
	left atomic.Int64
	done chan struct{}
	hold sync.RWMutex
}

// NewWrites returns a counter that expects nothing.
func NewWrites() *Writes { return &Writes{done: make(chan struct{}, 1)} }

// Expect begins to count n frames.
func (w *Writes) Expect(n int) { w.left.Store(int64(n)) }

// Wait waits for the last of those that are expected.
func (w *Writes) Wait() { <-w.done }

// Hold lets no write return until Release.
func (w *Writes) Hold() { w.hold.Lock() }

// Release ends a Hold.
func (w *Writes) Release() { w.hold.Unlock() }

// NewSink returns a sink whose writes are counted by w.
func NewSink(w *Writes) *Sink {
	return &Sink{writes: w, reads: make(chan string, 8), closed: make(chan struct{})}
}

// Request returns a request for a websocket and a response writer that has the sink for a connection.
func (s *Sink) Request(url string) (http.ResponseWriter, *http.Request) {
	r := httptest.NewRequest(http.MethodGet, url, nil)
	r.Header = Upgrade()
	return struct {
		http.ResponseWriter
		http.Hijacker
	}{httptest.NewRecorder(), s}, r
}

// Upgrade is the header of a request for a websocket.
func Upgrade() http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
	}
}

// Give lets the connection read b. It takes a few times.
func (s *Sink) Give(b string) { s.reads <- b }

// Hijack implements http.Hijacker.
func (s *Sink) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return s, bufio.NewReadWriter(bufio.NewReader(s), bufio.NewWriter(s)), nil
}

// Write counts the frames in p, which must be whole.
func (s *Sink) Write(p []byte) (int, error) {
	s.writes.hold.RLock()
	defer s.writes.hold.RUnlock()
	if s.writes.left.Add(-frames(p)) == 0 {
		s.writes.done <- struct{}{}
	}
	return len(p), nil
}

// frames returns the number of a server's frames in p. The answer to the handshake is none, and counts as one.
func frames(p []byte) (n int64) {
	for rest := p; len(rest) > 0; n++ {
		size, header := 0, 2
		if rest[0]&0x80 == 0 || len(rest) < 2 {
			return 1
		}
		switch size = int(rest[1]); size {
		case 126:
			size, header = int(binary.BigEndian.Uint16(rest[2:])), 4
		case 127:
			size, header = int(binary.BigEndian.Uint64(rest[2:])), 10
		}
		rest = rest[header+size:]
	}
	return n
}

// SetWriteDeadline does nothing, because no write takes time.
func (s *Sink) SetWriteDeadline(time.Time) error { return nil }

func (s *Sink) Read(p []byte) (int, error) {
	if s.rest == "" {
		select {
		case s.rest = <-s.reads:
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Close ends the connection.
func (s *Sink) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
