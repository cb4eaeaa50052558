package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// A client that joins a room, emits an event, and receives it.
func Example() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(ctx)
	chat, err := ws.New(node.Namespace, ws.Options{
		Events: ws.Events{"say": ws.TypedAnswer(func(ctx context.Context, s *crosscast.Socket, text string) (string, error) {
			return "said to all", node.To("room1").Emit(ctx, "said", text)
		})},
		AllowJoin: func(ctx context.Context, s *crosscast.Socket, room string) error {
			if room != "room1" {
				return ws.Errorf("there is no %s", room)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(chat)
	defer server.Close()

	said := make(chan string)
	c, err := client.Dial(ctx, server.URL, client.Options{
		Events: client.Events{"said": client.Typed(func(ctx context.Context, _ *client.Client, text string) error {
			said <- text
			return nil
		})},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	if err := c.Join(ctx, "room1"); err != nil { // and again after each reconnect
		log.Fatal(err)
	}
	var answer string
	if err := c.Request(ctx, "say", "hello", &answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	fmt.Println(<-said)
	fmt.Println(c.Join(ctx, "room2"))
	// Output:
	// said to all
	// hello
	// there is no room2
}
