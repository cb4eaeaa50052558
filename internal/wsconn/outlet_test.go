package wsconn

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast/internal/warn"
)

// A recordingConn records its writes. It takes so many bytes, and then fails with err.
type recordingConn struct {
	net.Conn
	writes []string
	takes  int
	err    error
}

func (c *recordingConn) Write(p []byte) (int, error) {
	n := len(p)
	var err error
	if c.err != nil && n > c.takes {
		n, err = c.takes, c.err
	}
	c.takes -= n
	c.writes = append(c.writes, string(p[:n]))
	return n, err
}

func (c *recordingConn) SetWriteDeadline(time.Time) error { return nil }

func newOutlet(conn net.Conn, resumes bool) *outlet {
	return &outlet{conn: conn, timeout: time.Second, resumes: resumes}
}

// TestOutletFailure: after a write that fails after some bytes, the frames that lie wholly within them are written, and
// nothing else is.
func TestOutletFailure(t *testing.T) {
	broken := errors.New("broken pipe")
	frames := [][]byte{[]byte("aaa"), []byte("bb"), nil, []byte("cccc")}
	for takes, want := range []int{0, 0, 0, 1, 1, 3, 3, 3, 3} {
		for _, err := range []error{broken, os.ErrDeadlineExceeded} {
			c := &recordingConn{takes: takes, err: err}
			o := newOutlet(c, true)
			written, got := o.sendSome(frames)
			if err != broken {
				err = errStalled
				if takes == 3 || takes == 5 { // the client has become slow between frames
					err = nil
				}
			}
			if written != want || got != err {
				t.Errorf("%d bytes: wrote %d frames, %v, want %d, %v", takes, written, got, want, err)
			}
			if sent := strings.Join(c.writes, ""); sent != "aaabbcccc"[:takes] {
				t.Errorf("%d bytes: sent %q", takes, sent)
			}
			if err == nil {
				continue
			}
			before := len(c.writes)
			_, again := o.sendSome(frames)
			if again != err || o.send(frames[0]) != err || o.sendClose(frames[0]) != err || len(c.writes) > before {
				t.Errorf("%d bytes: went on after %v", takes, err)
			}
		}
	}
}

// TestOutletBatches: frames that wait share a write, up to a size.
func TestOutletBatches(t *testing.T) {
	for _, resumes := range []bool{true, false} {
		c := &recordingConn{}
		o := newOutlet(c, resumes)
		var frames [][]byte
		for _, size := range []int{100_000, 1, 100, 10_000, 10_000, 50_000, 30_000, 20_000, 10_000} {
			frames = append(frames, bytes.Repeat([]byte{'x'}, size))
		}
		for len(frames) > 0 {
			n, err := o.sendSome(frames)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			frames = frames[n:]
		}
		var sizes []int
		for _, w := range c.writes {
			sizes = append(sizes, len(w))
		}
		want := []int{100_000, 20_101, 50_000, 60_000} // 50,000 does not fit behind 20,101
		if !resumes {
			want = []int{100_000, 10_101, 10_000, 50_000, 30_000, 20_000, 10_000}
		}
		if !slices.Equal(sizes, want) {
			t.Errorf("resumes %v: writes of %d bytes, want %d", resumes, sizes, want)
		}
	}
}

// TestOutletEnds: nothing follows a closing frame.
func TestOutletEnds(t *testing.T) {
	c := &recordingConn{}
	o := newOutlet(c, true)
	if err := o.sendClose([]byte("\x88\x00")); err != nil {
		t.Error(err)
	}
	n, err := o.sendSome([][]byte{{1}, {2}})
	if n != 0 || !errors.Is(err, net.ErrClosed) || !errors.Is(o.send([]byte{1}), net.ErrClosed) {
		t.Error(n, err)
	}
	if err := o.sendClose([]byte("\x88\x00")); !errors.Is(err, net.ErrClosed) {
		t.Error("closed twice:", err)
	}
	if fmt.Sprintf("%x", c.writes) != "[8800]" {
		t.Errorf("%x", c.writes)
	}
}

// TestClosing: a closing frame is a control frame, whatever the text.
func TestClosing(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "\x88\x02\x03\xe8",
		"bye":                          "\x88\x05\x03\xe8bye",
		strings.Repeat("x", 124):       "\x88\x7d\x03\xe8" + strings.Repeat("x", 123),
		strings.Repeat("x", 122) + "é": "\x88\x7c\x03\xe8" + strings.Repeat("x", 122),
	} {
		if got := closing(websocket.StatusNormalClosure, text); string(got) != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := closing(websocket.StatusNoStatusRcvd, ""); string(got) != "\x88\x00" {
		t.Errorf("without a code: %q", got)
	}
}

// A slowConn takes bytes at a rate.
type slowConn struct {
	net.Conn
	perByte  time.Duration
	deadline time.Time
	writes   [][]byte // without a copy
	given    []time.Duration
}

func (c *slowConn) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *slowConn) Write(p []byte) (int, error) {
	given := time.Until(c.deadline)
	c.writes, c.given = append(c.writes, p), append(c.given, given)
	if needs := time.Duration(len(p)) * c.perByte; needs > given {
		time.Sleep(given)
		return int(given / c.perByte), os.ErrDeadlineExceeded
	}
	time.Sleep(time.Duration(len(p)) * c.perByte)
	return len(p), nil
}

// TestOutletSlow: the frames of a client that takes its time are written one by one, without a copy, and each has the
// whole timeout. Once the client is fast again, they are written together.
func TestOutletSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowConn{perByte: 10 * time.Millisecond}
		o := newOutlet(c, true)
		var frames [][]byte
		for range 10 {
			frames = append(frames, bytes.Repeat([]byte{'x'}, 80)) // 0.8 s
		}
		if n, err := o.sendSome(frames); n != 1 || err != nil { // a part of the first, and its rest
			t.Fatal(n, err)
		}
		if len(c.writes) != 2 || len(c.writes[0]) != 800 || c.given[0] != 250*time.Millisecond || &c.writes[1][0] != &frames[0][25] ||
			c.given[1] != 750*time.Millisecond {
			t.Errorf("writes of a batch: %q, in %v", c.writes, c.given)
		}
		for i := 1; i < 4; i++ {
			c.writes, c.given = nil, nil
			n, err := o.sendSome(frames[i:])
			if n != 1 || err != nil || len(c.writes) != 1 || &c.writes[0][0] != &frames[i][0] || len(c.writes[0]) != 80 ||
				c.given[0] != time.Second {
				t.Fatalf("frame %d: %d, %v, writes %q in %v", i, n, err, c.writes, c.given)
			}
		}
		c.perByte = time.Microsecond
		for _, want := range []int{1, 5} {
			if n, err := o.sendSome(frames[4:9]); n != want || err != nil {
				t.Errorf("wrote %d frames of a client that is fast again, %v, want %d", n, err, want)
			}
		}
	})
}

// TestOutletDeadline: TLS also writes by itself, when the client wants new keys. No deadline of an earlier write ends
// that.
func TestOutletDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, send := range map[string]func(o *outlet) error{
			"frame": func(o *outlet) error { return o.send([]byte("x")) },
			"batch": func(o *outlet) error {
				_, err := o.sendSome([][]byte{[]byte("x"), []byte("y")})
				return err
			},
		} {
			c := &slowConn{perByte: time.Millisecond}
			if err := send(newOutlet(c, false)); err != nil || !c.deadline.IsZero() {
				t.Errorf("%s: %v, and the deadline is %v", what, err, c.deadline)
			}
			if len(c.given) != 1 || c.given[0] != time.Second {
				t.Errorf("%s: writes in %v", what, c.given)
			}
		}
	})
}

// TestControlsGetOut: of control frames that are sent at the same time, the last one does not stay behind.
func TestControlsGetOut(t *testing.T) {
	for range 20_000 {
		var c Conn
		c.Init(&Config{WriteTimeout: time.Second, Firsts: new(warn.Firsts)})
		c.outlet.conn, c.outlet.resumes = &recordingConn{}, true
		c.outlet.wanted.Add(1) // of takeSoon, which is about to wait
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 3 {
					c.sendControl(ping, []byte("p"))
				}
			})
		}
		wg.Wait()
		if n := c.outlet.wanted.Load(); n != 1 || c.controls != nil {
			t.Fatalf("%d writes wait, controls %+v", n, c.controls)
		}
	}
}
