package ws_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

// A chat server. With an Adapter in the node's Options, any number of them is one.
func Example() {
	node, err := crosscast.Start(context.Background(), crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(context.Background())

	type message struct{ Room, Text string }
	chat, err := ws.New(node.Namespace, ws.Options{
		Events: ws.Events{"say": ws.Typed(func(ctx context.Context, s *crosscast.Socket, m message) error {
			return node.To(m.Room).Emit(ctx, "said", m.Text)
		})},
		AllowJoin: func(ctx context.Context, s *crosscast.Socket, room string) error {
			return nil // or an error if s.User() may not be in the room
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth() // in place of the application's own check
		chat.Accept(w, r, ws.Client{User: user})
	}))
	defer server.Close()

	// A client, as in a browser: new WebSocket(…), send, onmessage.
	ctx := context.Background()
	client, _, err := websocket.Dial(ctx, server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(websocket.StatusNormalClosure, "")
	for _, m := range []string{
		`{"join":"room1"}`,
		`{"event":"say","data":{"Room":"room1","Text":"hello"}}`,
	} {
		if err := client.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
			log.Fatal(err)
		}
	}
	_, m, err := client.Read(ctx)
	fmt.Println(string(m), err)
	// Output: {"event":"said","data":"hello"} <nil>
}
