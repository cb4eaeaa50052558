// Program server is the chat server of examples/chat/server for clients of Socket.IO: unmodified socket.io-client, with
// the option transports: ["websocket"]. Start it on as many ports as you like, beside servers on Node.js: they are one
// chat, and one cluster of Socket.IO, over @socket.io/redis-adapter's channels.
//
//	redis-server &
//	go run ./examples/socketio/server &              # http://localhost:5001
//	PORT=5002 go run ./examples/socketio/server &    # http://localhost:5002
//	npm install socket.io @socket.io/redis-adapter redis
//	PORT=5003 node server.mjs                        # the server in docs/socketio.md: no page, but clients may connect
//
// Environment: PORT (default 5001; 0: any that is free), NODE_ID (the node's name; default node-<PORT>), REDIS_URL
// (default redis://localhost:6379). It serves a page at /, Socket.IO at /socket.io/, its counters at GET /stats, and
// POST /emit/<roomId> with {"text":"…"} sends to a room. joinRoom and sendToRoom are acknowledged to a client that asks.
package main

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/examples/internal/chat"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
)

// The page's client is socket.io-client as its package has it; which version, says interop/package-lock.json. What
// follows copies it from there, after npm ci --prefix interop.
//
//go:generate cp ../../../interop/node_modules/socket.io-client/dist/socket.io.min.js page/socket.io.min.js
//go:generate cp ../../../interop/node_modules/socket.io-client/LICENSE page/socket.io.LICENSE
var (
	//go:embed page/socket.io.min.js
	clientJS []byte
	//go:embed page/connect.js
	connectJS []byte
)

func main() { chat.Main(&protocol) }

var protocol = chat.Protocol{Adapter: adapter, Clients: clients, Errorf: socketio.Errorf}

func adapter(url string, log *slog.Logger) crosscast.Adapter {
	return socketioadapter.Dial(url, socketioadapter.Options{Logger: log})
}

func clients(s *chat.Server, mux *http.ServeMux) error {
	io, err := socketio.New(s.Node(), socketio.Options{
		Namespaces: map[string]*socketio.Namespace{"/": {
			Authenticate: func(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
				return socketio.Client{User: chat.Name(h.Request.URL.Query())}, nil
			},
			Events:       socketio.Events{"joinRoom": socketio.Typed(s.JoinRoom), "sendToRoom": socketio.Typed(s.SendToRoom)},
			OnConnect:    s.Connected,
			OnDisconnect: s.Disconnected,
		}},
		OnError:  s.Failed,
		GapEvent: "gap", // see page/connect.js
	})
	if err != nil {
		return err
	}
	mux.Handle("/socket.io/", io)
	mux.HandleFunc("GET /client.js", chat.Script(clientJS))
	mux.HandleFunc("GET /connect.js", chat.Script(connectJS))
	return nil
}
