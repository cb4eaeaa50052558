package socketio_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an event that should come at once.
const patience = 20 * time.Second

// query is the end of a client's URL.
const query = "/socket.io/?EIO=4&transport=websocket"

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

// namespaces are those of a server: "/" and, with echo handlers, "/chat".
func namespaces(root socketio.Namespace) map[string]*socketio.Namespace {
	return map[string]*socketio.Namespace{"/": &root, "/chat": {Events: echo}}
}

// echo answers an event "echo" with its arguments, and acknowledges it with them.
var echo = socketio.Events{"echo": socketio.Answered(
	func(ctx context.Context, s *crosscast.Socket, args socketio.Args) (any, error) {
		return args.Payload(), s.Emit(ctx, "echo", args.Payload())
	},
)}

func newServer(t testing.TB, n *crosscast.Node, o socketio.Options) *socketio.Server {
	t.Helper()
	if o.Namespaces == nil {
		o.Namespaces = namespaces(socketio.Namespace{Events: echo})
	}
	s, err := socketio.New(n, o)
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

// dial connects to a server and reads its first packet.
func dial(t testing.TB, url string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	c := &client{t, conn}
	c.opened()
	return c
}

// dialInMemory is dial without a network. It also returns the client's end of the connection.
func dialInMemory(t testing.TB, h http.Handler) (*client, net.Conn) {
	t.Helper()
	conn, end := wstest.Dial(t, "ws://example.com"+query, h)
	c := &client{t, conn}
	c.opened()
	return c, end
}

func (c *client) opened() {
	c.t.Helper()
	if got, err := c.read(); err != nil || !strings.HasPrefix(got, `0{"sid":"`) {
		c.t.Fatalf("the first packet is %s, %v", got, err)
	}
}

// join connects to namespaces, and returns the ID of the last socket.
func (c *client) join(namespaces ...string) (id crosscast.SocketID) {
	c.t.Helper()
	for _, nsp := range namespaces {
		prefix := "40"
		if nsp != "/" {
			prefix += nsp + ","
		}
		c.send(prefix)
		got, err := c.read()
		after, ok := strings.CutPrefix(got, prefix+`{"sid":"`)
		before, ok2 := strings.CutSuffix(after, `"}`)
		if err != nil || !ok || !ok2 || len(before) != 20 {
			c.t.Fatalf("%s was answered by %s, %v", prefix, got, err)
		}
		id = crosscast.SocketID(before)
	}
	return id
}

// connect returns a client of a new server with the given options, in "/", and its node.
func connect(t testing.TB, o socketio.Options) (*client, *crosscast.Node) {
	t.Helper()
	n := startNode(t, crosscast.Options{})
	c := dial(t, serve(t, newServer(t, n, o)).URL)
	c.join("/")
	return c, n
}

func (c *client) send(packets ...string) {
	c.t.Helper()
	for _, p := range packets {
		c.write(websocket.MessageText, []byte(p))
	}
}

func (c *client) write(typ websocket.MessageType, b []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.conn.Write(ctx, typ, b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// read returns a text, or bytes behind "bytes:".
func (c *client) read() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	typ, b, err := c.conn.Read(ctx)
	if typ == websocket.MessageBinary {
		return "bytes:" + string(b), err
	}
	return string(b), err
}

// expect reads messages.
func (c *client) expect(messages ...string) {
	c.t.Helper()
	for _, want := range messages {
		got, err := c.read()
		if err != nil {
			c.t.Fatalf("got %v, want %s", err, want)
		}
		if got != want {
			c.t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// expectClose reads until the connection is closed, and returns the messages.
func (c *client) expectClose(code websocket.StatusCode, reason string) (messages []string) {
	c.t.Helper()
	for {
		m, err := c.read()
		if err == nil {
			messages = append(messages, m)
			continue
		}
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != code || ce.Reason != reason {
			c.t.Fatalf("closed with %v after %q, want %d %q", err, messages, code, reason)
		}
		return messages
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
