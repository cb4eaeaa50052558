package ws_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

// discard is a connection whose writes go nowhere and whose reads wait for its end.
type discard struct {
	net.Conn
	all    *writes
	closed chan struct{}
}

// writes counts writes, and tells when there were enough.
type writes struct {
	left atomic.Int64
	done chan struct{}
}

func (d *discard) Write(p []byte) (int, error) {
	if d.all.left.Add(-1) == 0 {
		d.all.done <- struct{}{}
	}
	return len(p), nil
}
func (d *discard) Read([]byte) (int, error) { <-d.closed; return 0, net.ErrClosed }
func (d *discard) Close() error             { close(d.closed); return nil }
func (d *discard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return d, bufio.NewReadWriter(bufio.NewReader(d), bufio.NewWriter(d)), nil
}

// BenchmarkBroadcast is one emission to 1,000 sockets, until the last of their connections has written it.
func BenchmarkBroadcast(b *testing.B) {
	const sockets = 1000
	n, err := crosscast.Start(b.Context(), crosscast.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := newServer(b, n, ws.Options{})
	all := &writes{done: make(chan struct{})}
	for range sockets {
		w := struct {
			http.ResponseWriter
			http.Hijacker
		}{httptest.NewRecorder(), &discard{all: all, closed: make(chan struct{})}}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
		}
		if _, err := s.Accept(w, r, ws.Client{}); err != nil {
			b.Fatal(err)
		}
	}
	payload := crosscast.Payload{Encoding: crosscast.JSON, Data: []byte(`{"text":"hello"}`)}
	b.ReportAllocs()
	for b.Loop() {
		all.left.Store(sockets)
		if err := n.Emit(context.Background(), "message", payload); err != nil {
			b.Fatal(err)
		}
		<-all.done
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sockets, "ns/member")
	b.StopTimer()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = n.Close(ctx) // nobody answers its closing handshakes
}
