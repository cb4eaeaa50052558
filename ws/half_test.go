package ws_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestEarlyMessages: a client may send messages together with its request.
func TestEarlyMessages(t *testing.T) {
	s := wstest.Serve(t, newServer(t, wstest.StartNode(t, crosscast.Options{}), ws.Options{Events: echo}))
	for _, size := range []int{10, 127, 300, 4000, 5000, 60_000} {
		for _, count := range []int{1, 3, 100} {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			sends := upgradeRequest("example.com")
			for i := range count {
				sends += wstest.Masked(fmt.Sprintf(`{"event":"echo","data":"%d%s"}`, i, strings.Repeat("x", size)))
			}
			go func() { _, _ = io.WriteString(conn, sends) }()
			readAnswer(t, conn)
			for i := range count {
				want := fmt.Sprintf(`{"event":"echo","data":"%d%s"}`, i, strings.Repeat("x", size))
				if _, got, err := readFrame(conn); err != nil || string(got) != want {
					t.Fatalf("message %d of %d bytes: received %.50q, %v", i, size, got, err)
				}
			}
			_ = conn.Close()
		}
	}
}

// TestHalfClosed: a client may end its side of the connection without a closing frame. The events that it has sent are
// handled, and it gets what is emitted to it, and then a closing frame.
func TestHalfClosed(t *testing.T) {
	for _, secure := range []bool{false, true} {
		n := wstest.StartNode(t, crosscast.Options{})
		release := make(chan struct{})
		server := httptest.NewUnstartedServer(newServer(t, n, ws.Options{Events: ws.Events{
			"n": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
				<-release
				return s.Emit(ctx, "n", data)
			},
		}}))
		t.Cleanup(server.Close)
		server.StartTLS()
		if !secure {
			server = wstest.Serve(t, server.Config.Handler)
		}
		raw, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn := raw.(interface {
			net.Conn
			CloseWrite() error
		})
		if secure {
			conn = tls.Client(raw, &tls.Config{
				RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com",
			})
		}
		handshake(t, conn, "example.com")
		const count = 500
		for i := range count {
			_, _ = io.WriteString(conn, wstest.Masked(fmt.Sprintf(`{"event":"n","data":%d}`, i)))
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		close(release)
		for i := range count {
			if _, got, err := readFrame(conn); err != nil || string(got) != fmt.Sprintf(`{"event":"n","data":%d}`, i) {
				t.Fatalf("TLS %v: answer %d: %q, %v", secure, i, got, err)
			}
		}
		if op, got, err := readFrame(conn); err != nil || op != 8 {
			t.Errorf("TLS %v: at the end %d %q, %v", secure, op, got, err)
		}
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("TLS %v: behind the end %q, %v", secure, rest, err)
		}
		_ = conn.Close()
	}
}
