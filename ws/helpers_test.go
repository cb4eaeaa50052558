package ws_test

import (
	"encoding/json"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t testing.TB, n *crosscast.Node, o ws.Options) *ws.Server {
	t.Helper()
	s, err := ws.New(n.Namespace, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client is a client that knows the protocol.
type client struct{ *wstest.Client }

func dial(t testing.TB, url string, o *websocket.DialOptions) *client {
	t.Helper()
	return &client{wstest.Connect(t, url, o)}
}

// connect returns a client of a new server with the given options, and its node.
func connect(t testing.TB, o ws.Options) (*client, *crosscast.Node) {
	t.Helper()
	n := wstest.StartNode(t, crosscast.Options{})
	return dial(t, wstest.Serve(t, newServer(t, n, o)).URL, nil), n
}

func (c *client) send(event string, data any) {
	c.T.Helper()
	b, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err != nil {
		c.T.Fatal(err)
	}
	c.Write(websocket.MessageText, b)
}

// dialInMemory returns a client and its end of the connection.
func dialInMemory(t testing.TB, h http.Handler) (*client, net.Conn) {
	t.Helper()
	c, conn := wstest.Dial(t, "ws://example.com", h)
	return &client{&wstest.Client{T: t, Conn: c}}, conn
}

// errorEvent is how an error is answered.
func errorEvent(message string) string {
	b, _ := json.Marshal(message)
	return `{"event":"error","data":{"message":` + string(b) + `}}`
}
