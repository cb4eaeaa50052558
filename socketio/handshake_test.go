package socketio_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestHandshake: the application and other nodes get the same handshake as on Node.js.
func TestHandshake(t *testing.T) {
	seen := make(chan *socketio.Handshake, 1)
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {}, "/chat": {
		Authenticate: func(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
			seen <- h
			return socketio.Client{}, nil
		},
	}}})
	server := wstest.Serve(t, s)
	conn, _, err := websocket.Dial(t.Context(), server.URL+query+"&room=a&room=b%20c", &websocket.DialOptions{
		HTTPHeader: http.Header{
			"Authorization": {"Bearer x"}, "Proxy-Authorization": {"Bearer y"}, "X-Twice": {"a", "b"}, "Cookie": {"a=1", "b=2"}, "User-Agent": {"first", "second"}, "Origin": {server.URL},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	c := &client{&wstest.Client{T: t, Conn: conn}}
	c.opened()
	c.join("/")
	c.send(`40/chat,{"token":"x"}`)
	if m, err := c.Read(); err != nil || !strings.HasPrefix(m, `40/chat,{"sid":"`) {
		t.Fatalf("%s, %v", m, err)
	}
	h := wstest.Wait(t, seen, "Authenticate")
	if string(h.Auth) != `{"token":"x"}` || h.Namespace != "/chat" || h.Query["room"] != "b c" || h.Request.Host == "" {
		t.Errorf("%+v", h)
	}
	for name, v := range map[string]string{"cookie": "a=1; b=2", "authorization": "Bearer x", "proxy-authorization": "Bearer y"} {
		if h.Headers[name] != v {
			t.Errorf("the application is told of %s: %q", name, h.Headers[name])
		}
	}
	chat, err := n.Of("/chat")
	if err != nil {
		t.Fatal(err)
	}
	var got [2]map[string]any
	for i, ns := range []*crosscast.Namespace{n.Namespace, chat} {
		sockets := ns.Everyone().Sockets(t.Context(), crosscast.Fields{Handshake: true})
		for info := range sockets.All() {
			if err := json.Unmarshal(info.Handshake, &got[i]); err != nil {
				t.Errorf("%s: %v", info.Handshake, err)
			}
		}
		if err := sockets.Err(); err != nil {
			t.Error(err)
		}
	}
	for i, auth := range []int{0, 1} {
		m := got[i]
		issued := time.UnixMilli(int64(m["issued"].(float64)))
		want := map[string]any{
			"address": "127.0.0.1", "xdomain": true, "secure": false,
			"url":  query + "&room=a&room=b%20c",
			"time": issued.UTC().Format("Mon Jan 02 2006 15:04:05") + " GMT+0000 (Coordinated Universal Time)",
		}
		for name, v := range want {
			if m[name] != v {
				t.Errorf("%s is %v, want %v", name, m[name], v)
			}
		}
		if d := time.Since(issued); d < 0 || d > time.Minute {
			t.Errorf("issued %v ago", d)
		}
		headers := m["headers"].(map[string]any)
		for name, v := range map[string]string{
			"x-twice": "a, b", "user-agent": "first", "upgrade": "websocket",
			"host": strings.TrimPrefix(server.URL, "http://"), "sec-websocket-version": "13",
		} {
			if headers[name] != v {
				t.Errorf("header %s is %v, want %v", name, headers[name], v)
			}
		}
		for _, name := range []string{"cookie", "authorization", "proxy-authorization"} {
			if v, ok := headers[name]; ok {
				t.Errorf("other nodes are told of %s: %v", name, v)
			}
		}
		query := map[string]any{"EIO": "4", "transport": "websocket", "room": "b c"}
		if q := m["query"].(map[string]any); !maps.Equal(q, query) {
			t.Errorf("query %v", q)
		}
		if a := m["auth"].(map[string]any); len(a) != auth {
			t.Errorf("auth %v", a)
		}
		if len(m) != 9 {
			t.Errorf("%d members: %v", len(m), m)
		}
	}
}

// TestHiddenHeaders: which they are is the application's choice.
func TestHiddenHeaders(t *testing.T) {
	for _, hidden := range [][]string{{}, {"X-Secret"}} {
		n := wstest.StartNode(t, crosscast.Options{})
		server := wstest.Serve(t, newServer(t, n, socketio.Options{HiddenHeaders: hidden}))
		conn, _, err := websocket.Dial(t.Context(), server.URL+query, &websocket.DialOptions{
			HTTPHeader: http.Header{"Cookie": {"a=1"}, "X-Secret": {"s"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		c := &client{&wstest.Client{T: t, Conn: conn}}
		c.opened()
		c.join("/")
		for info := range n.Everyone().Sockets(t.Context(), crosscast.Fields{Handshake: true}).All() {
			var h socketio.Handshake
			if err := json.Unmarshal(info.Handshake, &h); err != nil {
				t.Fatal(err)
			}
			if _, told := h.Headers["x-secret"]; h.Headers["cookie"] != "a=1" || told != (len(hidden) == 0) {
				t.Errorf("with %q hidden, told is %v", hidden, h.Headers)
			}
		}
	}
}

// TestMaxAuth: a client with a too large auth is refused, and can try again. OnError gets one error.
func TestMaxAuth(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	errs := make(chan error, 10)
	s := newServer(t, n, socketio.Options{OnError: func(_ *crosscast.Socket, _ string, err error) { errs <- err }})
	server := wstest.Serve(t, s)
	conn, _, err := websocket.Dial(t.Context(), server.URL+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	c := &client{&wstest.Client{T: t, Conn: conn}}
	c.opened()
	auth := func(n int) string { return `{"token":"` + strings.Repeat("x", n-12) + `"}` }
	for range 3 {
		c.send(`40` + auth(16<<10+1))
		if m, err := c.Read(); err != nil || m != `44{"message":"auth too large"}` {
			t.Fatalf("%s, %v", m, err)
		}
	}
	c.send(`40` + auth(16<<10))
	if m, err := c.Read(); err != nil || !strings.HasPrefix(m, `40{"sid":"`) {
		t.Fatalf("%.100s, %v", m, err)
	}
	if got := s.Stats().Refused["auth"]; got != 3 {
		t.Errorf("counted are %d", got)
	}
	if err := wstest.Wait(t, errs, "OnError"); !strings.Contains(err.Error(), "MaxAuth") || len(errs) > 0 {
		t.Errorf("OnError was told %v, and %d more", err, len(errs))
	}
}
