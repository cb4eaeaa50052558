package wstest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
)

// Patience is how long a test waits for an event that should come at once.
const Patience = 20 * time.Second

// StartNode starts a node that is closed at the end of the test.
func StartNode(t testing.TB, o crosscast.Options) *crosscast.Node {
	t.Helper()
	n, err := crosscast.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("Node.Close: %v", err)
		}
	})
	return n
}

// Serve runs h on a real port until the end of the test.
func Serve(t testing.TB, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// Wait receives from ch, and fails the test if that takes too long.
func Wait[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(Patience):
		t.Fatalf("timed out waiting for %s", what)
		panic("unreachable")
	}
}

// An Ending is a call of a binding's OnDisconnect.
type Ending struct {
	Reason crosscast.Reason
	After  time.Duration
}

// Disconnects returns an OnDisconnect, and its calls, with the time since Disconnects.
func Disconnects() (func(context.Context, *crosscast.Socket, crosscast.Reason), <-chan Ending) {
	start, ch := time.Now(), make(chan Ending, 10)
	return func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) {
		ch <- Ending{r, time.Since(start)}
	}, ch
}

// A Client is a websocket client that fails its test if anything is not as expected.
type Client struct {
	T    testing.TB
	Conn *websocket.Conn
}

// Connect connects to a server over the network. The connection ends with the test.
func Connect(t testing.TB, url string, o *websocket.DialOptions) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &Client{t, conn}
}

// Write writes one message.
func (c *Client) Write(typ websocket.MessageType, b []byte) {
	c.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := c.Conn.Write(ctx, typ, b); err != nil {
		c.T.Fatalf("write: %v", err)
	}
}

// Read reads one message. It returns a text, or bytes behind "bytes:".
func (c *Client) Read() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	typ, b, err := c.Conn.Read(ctx)
	if typ == websocket.MessageBinary {
		return "bytes:" + string(b), err
	}
	return string(b), err
}

// Expect reads these messages.
func (c *Client) Expect(messages ...string) {
	c.T.Helper()
	for _, want := range messages {
		got, err := c.Read()
		if err != nil {
			c.T.Fatalf("got %v, want %s", err, want)
		}
		if got != want {
			c.T.Fatalf("got %s, want %s", got, want)
		}
	}
}

// ExpectClose reads until the connection is closed, and returns the messages.
func (c *Client) ExpectClose(code websocket.StatusCode, reason string) (messages []string) {
	c.T.Helper()
	for {
		m, err := c.Read()
		if err == nil {
			messages = append(messages, m)
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != code || ce.Reason != reason {
			c.T.Fatalf("closed with %v after %q, want %d %q", err, messages, code, reason)
		}
		return messages
	}
}
