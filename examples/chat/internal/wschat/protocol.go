// Package wschat is the chat over crosscast's own protocols, and a client of it: what the programs of examples/chat share.
package wschat

import (
	_ "embed"
	"log/slog"
	"net/http"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/examples/internal/chat"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

// Protocol is that of package ws between servers and clients, and that of package redisadapter between servers. A client
// is told of errors by replies, and by the event error {message}.
var Protocol = chat.Protocol{Adapter: adapter, Clients: clients, Errorf: ws.Errorf}

func adapter(url string, log *slog.Logger) crosscast.Adapter {
	return redisadapter.Dial(url, redisadapter.Options{Logger: log})
}

//go:embed connect.js
var connectJS []byte

func clients(s *chat.Server, mux *http.ServeMux) error {
	sockets, err := ws.New(s.Node().Namespace, ws.Options{
		MaxClients: 20_000, EventRate: 20, EventBurst: 100, // a client that sends more waits
		Events:       ws.Events{"joinRoom": ws.Typed(s.JoinRoom), "sendToRoom": ws.Typed(s.SendToRoom)},
		OnConnect:    s.Connected,
		OnDisconnect: s.Disconnected,
		OnError:      s.Failed,
	})
	if err != nil {
		return err
	}
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		_, _ = sockets.Accept(w, r, ws.Client{User: chat.Name(r.URL.Query())}) // it answers whom it refuses
	})
	mux.HandleFunc("GET /client.js", ws.ClientJS)
	mux.HandleFunc("GET /connect.js", chat.Script(connectJS))
	return nil
}
