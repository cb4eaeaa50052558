package interop

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
)

// TestConnectAgain: a client that leaves a namespace before the server's answer, and comes back, is connected.
func TestConnectAgain(t *testing.T) {
	cs := startClients(t)
	node, err := crosscast.Start(t.Context(), crosscast.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, node.Close(context.Background())) })
	chat := &socketio.Namespace{Events: socketio.Events{"echo": socketio.Answered(echo)}}
	binding, err := socketio.New(node, socketio.Options{Namespaces: map[string]*socketio.Namespace{
		"/": chat, "/chat": chat,
	}})
	must(t, err)
	web := httptest.NewServer(binding)
	t.Cleanup(web.Close)
	u, err := url.Parse(web.URL)
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	ns, err := node.Of("/chat")
	must(t, err)
	for i, atOnce := range []bool{false, true} {
		c, err := cs.connect(port, "/", hello{})
		must(t, err)
		var id crosscast.SocketID
		cs.must(t, "hurry", map[string]any{"nsp": "/chat", "beside": c.name, "atOnce": atOnce}, &id)
		if count, err := ns.Everyone().Count(t.Context()); ns.Socket(id) == nil || count != i+1 || err != nil {
			t.Errorf("at once %v: %d sockets, %v, and that which the client knows of is %v", atOnce, count, err, ns.Socket(id))
		}
		if stats := binding.Stats(); stats.Malformed > 0 {
			t.Errorf("at once %v: %+v", atOnce, stats)
		}
	}
}
