package ws_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestIdleConnection: a connection that has sent and got messages and pings, and is idle now, is one goroutine with a
// small stack, and keeps no buffers. Compression that was agreed upon makes no difference.
func TestIdleConnection(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testIdle(t, 0) })
	t.Run("compression", func(t *testing.T) { testIdle(t, 1<<20) })
}

func testIdle(t *testing.T, compressFrom int) {
	const clients, maxStack = 500, 3 << 10 // stacks have 2, 4 or 8 KiB
	n := wstest.StartNode(t, crosscast.Options{})
	s := wstest.Serve(t, accept(newServer(t, n, ws.Options{
		CompressFrom: compressFrom, PingInterval: 200 * time.Millisecond, PingTimeout: time.Minute, Events: ws.Events{
			"echo": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
				return s.Emit(ctx, "echo", data)
			},
		}}), ws.Client{User: "ann", Rooms: []string{"lobby"}}))
	heap, stack, goroutines := memtest.Heap(), stacks(), runtime.NumGoroutine()
	var conns []net.Conn
	for range clients {
		conns = append(conns, upgrade(t, s.URL))
	}
	large := strings.Repeat("x", 2000)
	for _, conn := range conns {
		_, _ = io.WriteString(conn, wstest.Masked(`{"event":"echo","data":"`+large+`"}`))
	}
	for _, large := range []string{large, ""} {
		for _, conn := range conns {
			for pinged, answered := false, large == ""; !pinged || !answered; {
				op, payload, err := readFrame(conn)
				switch {
				case err != nil:
					t.Fatal(err)
				case op == 9:
					pinged = true
					_, _ = io.WriteString(conn, "\x8a\x80\x00\x00\x00\x00")
				case strings.Contains(string(payload), large):
					answered = true
				}
			}
		}
	}
	idle := func() bool { // what writers, handlers, and the HTTP server had is gone
		return runtime.NumGoroutine()-goroutines <= clients+5 && (memtest.Race || stacks()-stack <= clients*maxStack)
	}
	for deadline := time.Now().Add(wstest.Patience); !idle() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // poll
	}
	goroutines = runtime.NumGoroutine() - goroutines
	heap = (memtest.Heap() - heap) / clients
	stack = (stacks() - stack) / clients
	t.Logf("an idle connection: %d bytes of heap, with the client's end; %d of stack", heap, stack)
	if goroutines > clients+5 {
		t.Errorf("%d goroutines for %d connections", goroutines, clients)
	}
	if !memtest.Race && (heap > 4300 || stack > maxStack) {
		t.Error("an idle connection is too large")
	}
}

// upgrade connects to a server, and returns the network connection after the handshake.
func upgrade(t testing.TB, url string) net.Conn {
	t.Helper()
	address := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	handshake(t, conn, address)
	return conn
}

// handshake makes the handshake of a client.
func handshake(t testing.TB, conn net.Conn, host string) {
	t.Helper()
	if _, err := io.WriteString(conn, upgradeRequest(host)); err != nil {
		t.Fatal(err)
	}
	readAnswer(t, conn)
}

// readAnswer reads the answer to a request.
func readAnswer(t testing.TB, conn net.Conn) {
	t.Helper()
	for answer := ""; !strings.HasSuffix(answer, "\r\n\r\n"); {
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			t.Fatal(err)
		}
		answer += string(b[:])
	}
}

func upgradeRequest(host string) string {
	return "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-Websocket-Version: 13\r\nSec-Websocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n" +
		"Sec-Websocket-Extensions: permessage-deflate\r\n\r\n"
}

// stacks returns how much memory the stacks of goroutines have.
func stacks() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.StackInuse)
}
