package wstest

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// Options are what the options of all bindings say of the handshake.
type Options struct {
	Origins, Subprotocols []string
	CompressFrom          int
}

// TestOptions checks that each of these options has an effect. serve makes a server that sends a text of 60 to 900 bytes
// to each client, first, to a request for path.
func TestOptions(t *testing.T, path string, serve func(t *testing.T, o Options) (http.Handler, error)) {
	handler := func(t *testing.T, o Options) http.Handler {
		t.Helper()
		h, err := serve(t, o)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	for _, tt := range []struct {
		origin  string
		origins []string
		status  int
	}{
		{"", nil, 101},
		{"https://example.com", nil, 101},
		{"https://www.example.com", nil, 403},
		{"https://WWW.example.com", []string{"other.example", "*.Example.com"}, 101},
		{"https://example.net", []string{"*.example.com"}, 403},
		{"https://example.net", []string{"https://example.net"}, 101},
		{"http://example.net", []string{"https://example.net"}, 403},
		{"https://example.net", []string{"*"}, 101},
		{"null", []string{"*"}, 101},
	} {
		h := handler(t, Options{Origins: tt.origins})
		if resp, _ := roundTrip(t, h, path, "Origin", tt.origin); resp.StatusCode != tt.status {
			t.Errorf("a page of %q, with %q allowed: %s, want %d", tt.origin, tt.origins, resp.Status, tt.status)
		}
	}
	for _, tt := range []struct {
		offered string
		known   []string
		want    string
	}{
		{"chat, v2", nil, ""}, {"chat, v2", []string{"v2", "chat"}, "v2"}, {"chat", []string{"v2", "chat"}, "chat"},
		{"other", []string{"v2"}, ""}, {"", []string{"v2"}, ""},
	} {
		h := handler(t, Options{Subprotocols: tt.known})
		resp, _ := roundTrip(t, h, path, "Sec-WebSocket-Protocol", tt.offered)
		if got := resp.Header.Get("Sec-WebSocket-Protocol"); resp.StatusCode != 101 || got != tt.want {
			t.Errorf("of %s the server, which knows %q, chose %q (%s)", tt.offered, tt.known, got, resp.Status)
		}
	}
	const deflate = "permessage-deflate"
	for _, tt := range []struct {
		offered   string
		from      int
		extension string
		first     byte // of the first frame
	}{
		{deflate, 0, "", 0x81},
		{"", 1, "", 0x81},
		{deflate, 50, deflate + "; client_no_context_takeover; server_no_context_takeover", 0xc1},
		{deflate, 1000, deflate + "; client_no_context_takeover; server_no_context_takeover", 0x81},
	} {
		h := handler(t, Options{CompressFrom: tt.from})
		resp, conn := roundTrip(t, h, path, "Sec-WebSocket-Extensions", tt.offered)
		got := resp.Header.Get("Sec-WebSocket-Extensions")
		first := make([]byte, 1)
		if _, err := io.ReadFull(conn, first); err != nil || got != tt.extension || first[0] != tt.first {
			t.Errorf("CompressFrom %d: %q, %x, %v", tt.from, got, first, err)
		}
	}
	// What is compressed can be read.
	conn, _ := DialWith(t, "ws://example.com"+path, handler(t, Options{CompressFrom: 1}), websocket.DialOptions{
		CompressionMode: websocket.CompressionContextTakeover,
	})
	if _, b, err := conn.Read(context.Background()); err != nil || len(b) < 60 {
		t.Errorf("read %s, %v", b, err)
	}
	for want, o := range map[string]Options{
		"Options.Origins":      {Origins: []string{"["}},
		"Options.CompressFrom": {CompressFrom: -1},
	} {
		if _, err := serve(t, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// roundTrip returns the answer to a request for a websocket with one more header, and the client's end of the
// connection, which ends with the test.
func roundTrip(t *testing.T, h http.Handler, path, key, value string) (*http.Response, io.Reader) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://example.com"+path, nil)
	r.Header = Upgrade()
	if value != "" {
		r.Header.Set(key, value)
	}
	m := &inMemory{h: h}
	resp, err := m.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.conn.Close() })
	resp.Status = cmp.Or(resp.Status, http.StatusText(resp.StatusCode))
	return resp, m.conn
}
