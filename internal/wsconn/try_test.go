//go:build unix && !aix

package wsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/warn"
)

// connected returns both ends of a TCP connection.
func connected(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dialled.Close()
		_ = accepted.Close()
	})
	return accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

// over is a Conn over a connection.
func over(conn net.Conn) *Conn {
	c := &Conn{}
	c.Init(&Config{WriteTimeout: 10 * time.Second, Firsts: new(warn.Firsts)})
	c.outlet.conn, c.outlet.resumes, c.outlet.raw = conn, resumes(conn), rawOf(conn)
	return c
}

// TestTryWrite: what a client does not take at once is left, even the rest of a frame. Nothing comes between the two.
func TestTryWrite(t *testing.T) {
	near, far := connected(t)
	c := over(near)
	frames := [][]byte{bytes.Repeat([]byte("a"), 1000), nil, bytes.Repeat([]byte("b"), 100), bytes.Repeat([]byte("c"), 60_000),
		bytes.Repeat([]byte("d"), 3*maxBatch)} // the last one goes alone
	var want []byte
	left := frames
	for range 1000 { // until it is stuck
		n, err := c.tryWrite(left)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range left[:n] {
			want = append(want, f...)
		}
		if left = left[n:]; len(left) > 0 {
			break
		}
		left = frames
	}
	part := c.outlet.part
	if len(left) == 0 || part >= len(left[0]) {
		t.Fatalf("%d frames left, %d bytes of the first were written", len(left), part)
	}
	pinged := []byte("ping")
	if part > 0 { // otherwise it would wait for the client
		if c.sendControl(ping, pinged); c.controls == nil {
			t.Error("a ping within a frame")
		}
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far)
		got <- b
	}()
	for first := true; len(left) > 0; first = false {
		n, err := c.write(left)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		for _, f := range left[:n] {
			want = append(want, f...)
		}
		if first && part > 0 {
			want = append(want, pinged...)
		}
		left = left[n:]
	}
	n, err := c.tryWrite(frames[:3]) // it is possible again
	if n != 3 || err != nil {
		t.Error(n, err)
	}
	for _, f := range frames[:3] {
		want = append(want, f...)
	}
	if c.outlet.part != 0 || !c.outlet.tryTake() {
		t.Error("nobody writes, and the turn is taken")
	}
	_ = near.Close()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("got %d bytes, want %d", len(b), len(want))
	}
}

// TestTryWriteYields: a try does not wait for other writers, leaves a slow client to a goroutine, and reports the end of
// the connection.
func TestTryWriteYields(t *testing.T) {
	near, far := connected(t)
	c := over(near)
	frames := [][]byte{[]byte("a"), []byte("b")}
	expect := func(what string, written int, want error) {
		t.Helper()
		n, err := c.tryWrite(frames)
		if n != written || !errors.Is(err, want) {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	c.outlet.take()
	expect("a frame is being written", 0, nil)
	c.outlet.give()
	c.outlet.wanted.Add(1)
	expect("a control frame waits", 0, nil)
	c.outlet.wanted.Add(-1)
	c.outlet.slow = true
	expect("a slow client", 0, nil)
	c.outlet.slow = false
	_ = near.SetWriteDeadline(time.Unix(1, 0))
	expect("the deadline of a former write", 2, nil)
	c.outlet.over = errStalled
	expect("a failed write", 0, errStalled)
	c.outlet.over = nil
	_ = far.SetLinger(0)
	_ = far.Close()
	for range 1000 { // until the reset has arrived
		if _, err := c.tryWrite(frames); err != nil {
			break
		}
	}
	expect("a reset", 0, c.outlet.over)
	if over := c.outlet.over; !errors.Is(over, syscall.EPIPE) && !errors.Is(over, syscall.ECONNRESET) {
		t.Error("a reset:", over)
	}
	near, _ = connected(t)
	c = over(near)
	_ = near.Close()
	expect("a closed connection", 0, net.ErrClosed)
	if !c.outlet.tryTake() {
		t.Error("the turn is taken")
	}
}

// TestWritesOfTheEnd: the error of a write has the reason for which the connection ends already.
func TestWritesOfTheEnd(t *testing.T) {
	frames := [][]byte{[]byte("a")}
	for _, f := range []func(*Conn) (int, error){
		func(c *Conn) (int, error) { return c.write(frames) },
		func(c *Conn) (int, error) { return c.tryWrite(frames) },
	} {
		near, _ := connected(t)
		c := over(near)
		_ = near.Close()
		_, err := f(c)
		if reasoned := new(reasonError); errors.As(err, reasoned) || !errors.Is(err, net.ErrClosed) {
			t.Error("without a cause:", err)
		}
		c.SetCause(CauseOf(crosscast.ReasonTimeout))
		defer c.limit.Stop()
		_, err = f(c)
		if reasoned := new(reasonError); !errors.As(err, reasoned) || reasoned.Reason() != crosscast.ReasonTimeout || !errors.Is(err, net.ErrClosed) {
			t.Error("after a timeout:", err)
		}
	}
}

// TestTryWriteOnly: writes are tried on connections of the system only, because others have a Write of their own.
func TestTryWriteOnly(t *testing.T) {
	near, _ := connected(t)
	if rawOf(near) == nil {
		t.Error("not on TCP")
	}
	for _, conn := range []net.Conn{tls.Server(near, &tls.Config{}), struct{ *net.TCPConn }{near}} {
		if rawOf(conn) != nil {
			t.Errorf("on %T", conn)
		}
	}
}

// TestTryWriteNeverBlocks: a try returns even if the application has made the socket one that blocks.
func TestTryWriteNeverBlocks(t *testing.T) {
	near, far := connected(t)
	f, err := near.File()
	if err != nil {
		t.Fatal(err)
	}
	f.Fd() // makes it block
	_ = f.Close()
	c := over(near)
	tried := make(chan struct{})
	go func() {
		defer close(tried)
		for range 1000 {
			if n, err := c.tryWrite([][]byte{make([]byte, 1<<20)}); n == 0 || err != nil {
				return
			}
		}
		t.Error("the client took everything")
	}()
	select {
	case <-tried:
	case <-time.After(5 * time.Second):
		t.Error("it blocks")
		_ = far.Close()
	}
}

// A hookedRaw calls hook before each try.
type hookedRaw struct {
	syscall.RawConn
	hook func()
}

func (r hookedRaw) Control(f func(fd uintptr)) error {
	r.hook()
	return r.RawConn.Control(f)
}

// TestTryWriteThenControl: a control frame that comes during a try is sent after it.
func TestTryWriteThenControl(t *testing.T) {
	near, far := connected(t)
	c := over(near)
	c.outlet.raw = hookedRaw{c.outlet.raw, func() { c.sendControl(ping, []byte("ping")) }}
	if n, err := c.tryWrite([][]byte{[]byte("a"), []byte("b")}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, 6)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "abping" {
		t.Errorf("%q, %v", got, err)
	}
}
