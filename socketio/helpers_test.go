package socketio_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// query is the end of a client's URL.
const query = "/socket.io/?EIO=4&transport=websocket"

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

// client is a client that knows the protocol.
type client struct{ *wstest.Client }

// dial connects to a server and reads its first packet.
func dial(t testing.TB, url string) *client {
	t.Helper()
	c := &client{wstest.Connect(t, url+query, nil)}
	c.opened()
	return c
}

// dialInMemory is dial without a network. It also returns the client's end of the connection.
func dialInMemory(t testing.TB, h http.Handler) (*client, net.Conn) {
	t.Helper()
	conn, end := wstest.Dial(t, "ws://example.com"+query, h)
	c := &client{&wstest.Client{T: t, Conn: conn}}
	c.opened()
	return c, end
}

func (c *client) opened() {
	c.T.Helper()
	if got, err := c.Read(); err != nil || !strings.HasPrefix(got, `0{"sid":"`) {
		c.T.Fatalf("the first packet is %s, %v", got, err)
	}
}

// join connects to namespaces, and returns the ID of the last socket.
func (c *client) join(namespaces ...string) (id crosscast.SocketID) {
	c.T.Helper()
	for _, nsp := range namespaces {
		prefix := "40"
		if nsp != "/" {
			prefix += nsp + ","
		}
		c.send(prefix)
		got, err := c.Read()
		after, ok := strings.CutPrefix(got, prefix+`{"sid":"`)
		before, ok2 := strings.CutSuffix(after, `"}`)
		if err != nil || !ok || !ok2 || len(before) != 20 {
			c.T.Fatalf("%s was answered by %s, %v", prefix, got, err)
		}
		id = crosscast.SocketID(before)
	}
	return id
}

// connect returns a client of a new server with the given options, in "/", and its node.
func connect(t testing.TB, o socketio.Options) (*client, *crosscast.Node) {
	t.Helper()
	n := wstest.StartNode(t, crosscast.Options{})
	c := dial(t, wstest.Serve(t, newServer(t, n, o)).URL)
	c.join("/")
	return c, n
}

func (c *client) send(packets ...string) {
	c.T.Helper()
	for _, p := range packets {
		c.Write(websocket.MessageText, []byte(p))
	}
}
