package wsconn

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
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
	return &outlet{conn: conn, timeout: time.Second, resumes: resumes, turn: make(chan struct{}, 1)}
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
	l := libraryConn{c, o}
	if n, err := l.Write([]byte("\x88\x00")); n != 2 || err != nil {
		t.Error(n, err)
	}
	n, err := o.sendSome([][]byte{{1}, {2}})
	if n != 0 || !errors.Is(err, net.ErrClosed) || !errors.Is(o.send([]byte{1}), net.ErrClosed) {
		t.Error(n, err)
	}
	for _, p := range []string{"\x88\x00", "\x81\x00", ""} {
		if _, err := l.Write([]byte(p)); err == nil {
			t.Errorf("%q was written", p)
		}
	}
	if fmt.Sprintf("%x", c.writes) != "[8800]" {
		t.Errorf("%x", c.writes)
	}
}
