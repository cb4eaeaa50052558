package ws_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// A closeListener makes TLS connections of a type of its own, and signals their closing.
type closeListener struct {
	net.Listener
	config *tls.Config
	closed chan struct{}
}

func (l *closeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &closeConn{Conn: tls.Server(conn, l.config), l: l}, nil
}

// A closeConn has the methods of tls.Conn, too.
type closeConn struct {
	*tls.Conn
	l      *closeListener
	closed atomic.Bool
}

func (c *closeConn) Close() error {
	err := c.Conn.Close()
	if c.closed.CompareAndSwap(false, true) {
		c.l.closed <- struct{}{}
	}
	return err
}

// TestEndOverTLS: at the end, a client over TLS gets a closing frame and the end of TLS, and the connection of the
// listener is closed, whoever ends it.
func TestEndOverTLS(t *testing.T) {
	for _, c := range []struct {
		name, sends, gets string
		reason            crosscast.Reason
		raw               bool // it sends that below TLS
	}{
		{name: "client", sends: "\x88\x82\x00\x00\x00\x00\x0b\xb8", gets: "\x88\x02\x0b\xb8", reason: crosscast.ReasonLeft},
		{name: "server", sends: wstest.Masked(`{"event":"kick"}`), gets: "\x88\x08\x03\xe8kicked", reason: "kicked"},
		{name: "violation", sends: "\x83\x80\x00\x00\x00\x00", gets: "\x88\x10\x03\xeaunknown opcode", reason: crosscast.ReasonProtocol},
		{name: "panic", sends: wstest.Masked(`{"event":"panic"}`), gets: "\x88\x10\x03\xf3internal error", reason: crosscast.ReasonInternal},
		{name: "garbage", sends: strings.Repeat("x", 1000), reason: crosscast.ReasonLeft, raw: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{})
			gone, ended := wstest.Disconnects()
			server := httptest.NewUnstartedServer(newServer(t, n, ws.Options{
				OnDisconnect: gone, OnError: func(*crosscast.Socket, string, error) {},
				Events: ws.Events{
					"kick":  func(_ context.Context, s *crosscast.Socket, _ json.RawMessage) error { s.Close("kicked"); return nil },
					"panic": func(context.Context, *crosscast.Socket, json.RawMessage) error { panic("no luck") },
				},
			}))
			defer server.Close()
			server.StartTLS()
			listener := &closeListener{
				Listener: listen(t), config: &tls.Config{Certificates: server.TLS.Certificates}, closed: make(chan struct{}, 1),
			}
			go func() { _ = server.Config.Serve(listener) }()
			raw, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			conn := tls.Client(raw, &tls.Config{
				RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com",
			})
			handshake(t, conn, "example.com")
			if c.raw {
				_, err = io.WriteString(raw, c.sends)
			} else {
				_, err = io.WriteString(conn, c.sends)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !c.raw {
				got := make([]byte, len(c.gets))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.gets {
					t.Errorf("received %q, %v", got, err)
				}
				_, _ = io.WriteString(conn, "\x88\x80\x00\x00\x00\x00")
				if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
					t.Errorf("received %q at the end, %v", rest, err)
				}
			}
			if e := wstest.Wait(t, ended, "OnDisconnect"); e.Reason != c.reason {
				t.Errorf("ended with %q", e.Reason)
			}
			wstest.Wait(t, listener.closed, "the end of the listener's connection")
		})
	}
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
