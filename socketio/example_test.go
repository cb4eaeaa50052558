package socketio_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketio"
)

// A chat server for clients of socket.io-client. With an Adapter in the node's Options, any number of them is one.
func Example() {
	node, err := crosscast.Start(context.Background(), crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(context.Background())

	type message struct{ Room, Text string }
	io, err := socketio.New(node, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {
		Authenticate: func(ctx context.Context, h *socketio.Handshake) (socketio.Client, error) {
			user, _, _ := h.Request.BasicAuth() // in place of the application's own check, often of h.Auth
			return socketio.Client{User: user}, nil
		},
		Events: socketio.Events{
			"join": socketio.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
				return s.Join(ctx, room)
			}),
			"say": socketio.TypedAnswer(func(ctx context.Context, s *crosscast.Socket, m message) (string, error) {
				return "said", node.To(m.Room).Emit(ctx, "said", socketio.Values(m.Text, crosscast.Bytes{1}))
			}),
		},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", io)
	server := httptest.NewServer(mux)
	defer server.Close()

	// A client, which usually is: io("http://…", { transports: ["websocket"] }), emit, on.
	ctx := context.Background()
	client, _, err := websocket.Dial(ctx, server.URL+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(websocket.StatusNormalClosure, "")
	send := func(packet string) {
		if err := client.Write(ctx, websocket.MessageText, []byte(packet)); err != nil {
			log.Fatal(err)
		}
	}
	send(`40`)
	client.Read(ctx) // the handshake
	client.Read(ctx) // the client is connected
	send(`42["join","room1"]`)
	send(`421["say",{"Room":"room1","Text":"hello"}]`)
	for range 3 {
		_, m, err := client.Read(ctx)
		fmt.Printf("%q %v\n", m, err)
	}
	// Output:
	// "451-[\"said\",\"hello\",{\"_placeholder\":true,\"num\":0}]" <nil>
	// "\x01" <nil>
	// "431[\"said\"]" <nil>
}

// A client's arguments for a room are passed on unchanged, with their bytes.
func ExampleArgs_Rest() {
	node, err := crosscast.Start(context.Background(), crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(context.Background())
	io, err := socketio.New(node, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {
		OnConnect: func(ctx context.Context, s *crosscast.Socket) { s.Join(ctx, "room1") },
		Events: socketio.Events{
			"say": func(ctx context.Context, s *crosscast.Socket, args socketio.Args) error {
				var room string
				if err := args.Decode(0, &room); err != nil {
					return socketio.Errorf("the room: %v", err)
				}
				return node.To(room).Emit(ctx, "said", args.Rest(1))
			},
		},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(io)
	defer server.Close()

	// A client, which usually is: socket.emit("say", "room1", "a picture", new Uint8Array([1, 2]))
	ctx := context.Background()
	client, _, err := websocket.Dial(ctx, server.URL+"/socket.io/?EIO=4&transport=websocket", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close(websocket.StatusNormalClosure, "")
	client.Write(ctx, websocket.MessageText, []byte(`40`))
	client.Read(ctx) // the handshake
	client.Read(ctx) // the client is connected
	client.Write(ctx, websocket.MessageText, []byte(`451-["say","room1","a picture",{"_placeholder":true,"num":0}]`))
	client.Write(ctx, websocket.MessageBinary, []byte{1, 2})
	for range 2 {
		_, m, err := client.Read(ctx)
		fmt.Printf("%q %v\n", m, err)
	}
	// Output:
	// "451-[\"said\",\"a picture\",{\"_placeholder\":true,\"num\":0}]" <nil>
	// "\x01\x02" <nil>
}
