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

// A client of msgpack, and one of JSON: both get bytes as bytes.
func Example_bytes() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(ctx)
	chat, err := ws.New(node.Namespace, ws.Options{ // no option is about bytes
		AllowJoin: func(context.Context, *crosscast.Socket, string) error { return nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(chat)
	defer server.Close()
	for _, offers := range [][]string{{client.SubprotocolMsgPack}, nil} {
		pictures := make(chan []byte)
		c, err := client.Dial(ctx, server.URL, client.Options{
			Subprotocols: offers,
			Events: client.Events{"picture": client.Typed(func(ctx context.Context, _ *client.Client, png []byte) error {
				pictures <- png
				return nil
			})},
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := c.Join(ctx, "room1"); err != nil {
			log.Fatal(err)
		}
		if err := node.To("room1").Emit(ctx, "picture", crosscast.Bytes{0x89, 'P', 'N', 'G'}); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%x\n", <-pictures)
		if err := c.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 89504e47
	// 89504e47
}
