package sse_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// listen opens a stream over a connection that buffers nothing, and reads up to a text.
func listen(t testing.TB, url, until string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "GET /?room=r HTTP/1.1\r\nHost: x\r\n\r\n")
	for got := ""; !strings.Contains(got, until); {
		b := make([]byte, 1)
		if _, err := conn.Read(b); err != nil {
			t.Fatal(err)
		}
		got += string(b)
	}
	return conn
}

// TestIdleStream: an idle stream is the connection of net/http with its goroutines, and one of package ws.
func TestIdleStream(t *testing.T) {
	const clients, most = 300, 40 << 10
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{OnConnect: welcome, PingInterval: 100 * time.Millisecond}, sse.Options{}))
	stack := func() int {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	heap, stacks, goroutines := memtest.Heap(), stack(), runtime.NumGoroutine()
	var conns []net.Conn
	for range clients {
		conns = append(conns, listen(t, url, "welcome"))
	}
	for _, conn := range conns { // a comment
		var b [64]byte
		if _, err := conn.Read(b[:]); err != nil {
			t.Fatal(err)
		}
	}
	heap, stacks = (memtest.Heap()-heap)/clients, (stack()-stacks)/clients
	figures := fmt.Sprintf("%d bytes of heap, with the client's end; %d of stack; %.1f goroutines", heap, stacks,
		float64(runtime.NumGoroutine()-goroutines)/clients)
	t.Log(figures)
	if !memtest.Race && heap+stacks > most {
		t.Error(figures)
	}
}

// BenchmarkBroadcast: a message to 1,000 streams.
func BenchmarkBroadcast(b *testing.B) {
	const clients = 1000
	n := wstest.StartNode(b, crosscast.Options{})
	url := serve(b, newServer(b, n, ws.Options{OnConnect: welcome}, sse.Options{}))
	got := make(chan struct{}, clients)
	const end = "the end"
	for range clients {
		conn := listen(b, url, "welcome")
		go func() {
			buffer := make([]byte, 4096)
			for {
				k, err := conn.Read(buffer)
				if err != nil {
					return
				}
				for range strings.Count(string(buffer[:k]), end) {
					got <- struct{}{}
				}
			}
		}()
	}
	text := strings.Repeat("x", 100) + end
	for b.Loop() {
		if err := n.To("r").Emit(b.Context(), "said", text); err != nil {
			b.Fatal(err)
		}
		for range clients {
			<-got
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*clients), "µs/message")
}
