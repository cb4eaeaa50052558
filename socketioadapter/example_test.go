package socketioadapter_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/socketioadapter"
)

// In place of this publisher there would be a server of Socket.IO, or an emitter.
func ExampleDial() {
	ctx := context.Background()
	server, _ := miniredis.Run() // where a real program has a Redis
	defer server.Close()

	adapter := socketioadapter.Dial("redis://"+server.Addr(), socketioadapter.Options{})
	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: adapter})
	if err != nil {
		panic(err)
	}
	defer node.Close(ctx)
	got := make(chan string)
	_, err = node.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
		got <- m.Event + " " + string(m.Payload.Data)
	}}, "room1")
	if err != nil {
		panic(err)
	}

	// new Emitter(client).to("room1").emit("hello", "world")
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	rdb.Publish(ctx, "socket.io#/#room1#", "\x93\xa7emitter\x83\xa4type\x02\xa4data\x92\xa5hello\xa5world"+
		"\xa3nsp\xa1/\x83\xa5rooms\x91\xa5room1\xa5flags\x80\xa6except\x90")
	fmt.Println(<-got)
	// Output: hello "world"
}
