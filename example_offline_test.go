package crosscast_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
)

// A server that boots before Redis serves its own clients meanwhile. Its probe for the load balancer is not ready until
// it has reached Redis.
func ExampleNode_Ready() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	url := "redis://" + server.Addr()
	server.Close() // Redis is down

	reached := make(chan crosscast.Gap, 1)
	node, err := crosscast.Start(ctx, crosscast.Options{
		Adapter:      redisadapter.Dial(url, redisadapter.Options{}),
		StartOffline: true,
		OnGap:        func(_ *crosscast.Node, g crosscast.Gap) { reached <- g },
		Logger:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	defer node.Close(ctx)
	fmt.Println("before:", node.Ready())

	if err := server.Restart(); err != nil { // Redis is up
		panic(err)
	}
	gap := <-reached // clients that have connected meanwhile fetch from here on: see EmitAffected
	fmt.Println("after:", gap.Reason, gap.Names == nil)
	for node.Ready() != nil {
		time.Sleep(time.Millisecond) // poll
	}
	// Output:
	// before: crosscast: not connected
	// after: link lost true
}
