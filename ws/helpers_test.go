package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event that should come at once.
const patience = 20 * time.Second

func startNode(t testing.TB, o crosscast.Options) *crosscast.Node {
	t.Helper()
	n, err := crosscast.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("Node.Close: %v", err)
		}
	})
	return n
}

func newServer(t testing.TB, n *crosscast.Node, o ws.Options) *ws.Server {
	t.Helper()
	s, err := ws.New(n.Namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs h on a real port.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// client is a websocket client that fails the test when something is not as expected.
type client struct {
	t    testing.TB
	conn *websocket.Conn
}

func dial(t testing.TB, url string, o *websocket.DialOptions) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &client{t, conn}
}

// connect returns a client of a new server with the given options, and its node.
func connect(t testing.TB, o ws.Options) (*client, *crosscast.Node) {
	t.Helper()
	n := startNode(t, crosscast.Options{})
	return dial(t, serve(t, newServer(t, n, o)).URL, nil), n
}

func (c *client) send(event string, data any) {
	c.t.Helper()
	b, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err != nil {
		c.t.Fatal(err)
	}
	c.sendRaw(websocket.MessageText, b)
}

func (c *client) sendRaw(typ websocket.MessageType, b []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.conn.Write(ctx, typ, b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *client) read() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.conn.Read(ctx)
	return string(b), err
}

// expect reads one message.
func (c *client) expect(want string) {
	c.t.Helper()
	got, err := c.read()
	if err != nil {
		c.t.Fatalf("got %v, want %s", err, want)
	}
	if got != want {
		c.t.Fatalf("got %s, want %s", got, want)
	}
}

// expectClose reads until the connection is closed.
func (c *client) expectClose(code websocket.StatusCode, reason string) {
	c.t.Helper()
	for {
		_, err := c.read()
		if err == nil {
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != code || ce.Reason != reason {
			c.t.Fatalf("closed with %v, want %d %q", err, code, reason)
		}
		return
	}
}

// wait receives from ch.
func wait[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

// dialInMemory returns a client and its end of the connection.
func dialInMemory(t testing.TB, h http.Handler) (*client, net.Conn) {
	t.Helper()
	c, conn := wstest.Dial(t, "ws://example.com", h)
	return &client{t, c}, conn
}

// errorEvent is how an error is answered.
func errorEvent(message string) string {
	b, _ := json.Marshal(message)
	return `{"event":"error","data":{"message":` + string(b) + `}}`
}
