package ws_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

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

// Limits, and a credential that expires. All of it is off by default.
func Example_limits() {
	node, err := crosscast.Start(context.Background(), crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(context.Background())

	chat, err := ws.New(node.Namespace, ws.Options{
		MaxClients:     50_000, // on this server
		MaxUserClients: 10,     // of one user, for example tabs
		HandshakeRate:  500,    // a second
		EventRate:      20,     // a second, of one client
		EventBurst:     2,      // at once
		EventPolicy:    ws.EventRefuse,
		Events: ws.Events{
			"say": ws.Typed(func(context.Context, *crosscast.Socket, string) error { return nil }),
			// The client sends a new token before the old one expires.
			"token": ws.Typed(func(_ context.Context, s *crosscast.Socket, token string) error {
				_, expires := check(token)
				return s.SetExpires(expires)
			}),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, expires := check(r.FormValue("token"))
		chat.Accept(w, r, ws.Client{User: user, Expires: expires})
	}))
	defer server.Close()

	ctx := context.Background()
	client, _, err := websocket.Dial(ctx, server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(websocket.StatusNormalClosure, "")
	for id := range 3 {
		m := fmt.Sprintf(`{"event":"say","data":"hello","id":%d}`, id+1)
		if err := client.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
			log.Fatal(err)
		}
		_, reply, err := client.Read(ctx)
		fmt.Println(string(reply), err)
	}
	fmt.Println(chat.Stats().Refused)
	// Output:
	// {"id":1} <nil>
	// {"id":2} <nil>
	// {"id":3,"error":"too many events"} <nil>
	// map[events:1]
}

// check stands for the application's own check of a token.
func check(string) (user string, expires time.Time) { return "ann", time.Now().Add(time.Hour) }
