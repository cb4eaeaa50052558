package redisadapter_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
)

func ExampleDial() {
	ctx := context.Background()
	server, _ := miniredis.Run() // where a real program has a Redis
	defer server.Close()

	start := func(name string) *crosscast.Node {
		node, err := crosscast.Start(ctx, crosscast.Options{
			Name: name, Adapter: redisadapter.Dial("redis://"+server.Addr(), redisadapter.Options{}),
		})
		if err != nil {
			panic(err)
		}
		return node
	}
	one, two := start("server-1"), start("server-2")
	defer one.Close(ctx)
	defer two.Close(ctx)

	got := make(chan string)
	_, err := two.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
		got <- m.Event + " " + string(m.Payload.Data)
	}}, "room1")
	if err != nil {
		panic(err)
	}
	if err := one.To("room1").Emit(ctx, "roomMessage", "hello"); err != nil {
		panic(err)
	}
	fmt.Println(<-got)
	// Output: roomMessage "hello"
}
