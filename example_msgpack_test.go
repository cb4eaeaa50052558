package crosscast_test

import (
	"context"
	"fmt"
	"math"

	"github.com/crosscast/crosscast"
)

// A value as msgpack: a client that has not asked for it gets the same value as JSON.
func ExampleMsgPack() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		panic(err)
	}
	defer node.Close(ctx)
	frames := make(chan string, 1)
	queue := crosscast.NewQueue(func(frame []byte) error { frames <- string(frame); return nil }, crosscast.QueueOptions{})
	if _, err := node.Connect(ctx, queue, crosscast.ConnectOptions{Rooms: []string{"room1"}}); err != nil {
		panic(err)
	}

	type position struct {
		X    float64 `json:"x"`
		Icon []byte  `json:"icon,omitempty"`
	}
	fmt.Println(node.To("room1").Emit(ctx, "moved", crosscast.MsgPack(position{X: 0.5, Icon: []byte{1, 2}})))
	fmt.Println(<-frames)
	fmt.Println(node.To("room1").Emit(ctx, "moved", crosscast.MsgPack(position{X: math.Inf(1)})))
	// Output:
	// <nil>
	// {"event":"moved","data":{"x":0.5,"icon":"AQI="}}
	// crosscast: payload: no counterpart in JSON: a float that is not finite, before byte 12
}
