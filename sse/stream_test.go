package sse

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func newStream(t *testing.T) (*stream, *httptest.ResponseRecorder) {
	w := httptest.NewRecorder()
	st := &stream{w: w, rc: http.NewResponseController(w), wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := st.begin([]byte("hello\n\n"), nil); err != nil {
		t.Fatal(err)
	}
	return st, w
}

// TestDetached: behind the end of the handler nobody touches the response, because net/http uses it again.
func TestDetached(t *testing.T) {
	ping := []byte{final | opPing, 0}
	st, w := newStream(t)
	if n, err := st.Write(ping); n != len(ping) || err != nil {
		t.Fatal(n, err)
	}
	before := w.Body.String()
	st.detach()
	if n, err := st.Write(ping); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write: %d, %v", n, err)
	}
	if err := st.SetWriteDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a deadline: %v", err)
	}
	if got := w.Body.String(); got != before {
		t.Errorf("the response is %q, and was %q", got, before)
	}
}

// TestLateIsNotLeft: a request that ends has been left by its client, unless a write took too long. Then HTTP/2 has ended
// the stream, and the error of the write tells why.
func TestLateIsNotLeft(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, late := range []bool{false, true} {
		st, _ := newStream(t)
		if late {
			st.deadline = time.Now().Add(-time.Second)
		}
		st.serve(ended)
		if _, err := st.tryRead(make([]byte, 1)); (err == io.EOF) == late {
			t.Errorf("late %t: reading says %v", late, err)
		}
		if gone, _ := st.receive([]byte("1")); gone == late {
			t.Errorf("late %t: a POST finds it gone: %t", late, gone)
		}
	}
}
