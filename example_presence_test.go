package crosscast_test

import (
	"context"
	"fmt"

	"github.com/crosscast/crosscast"
)

// Who is in a room, on all servers, by user: first those who are there, then who comes and goes.
func ExampleNamespace_Watch() {
	ctx := context.Background()
	cluster := crosscast.NewCluster()
	one, _ := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	two, _ := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	join := func(n *crosscast.Node, user string) *crosscast.Socket {
		s, _ := n.Connect(ctx, newExampleClient(), crosscast.ConnectOptions{User: user, Rooms: []string{"room1"}})
		return s
	}
	join(one, "ann")
	phone := join(two, "bob")

	events := make(chan crosscast.PresenceEvent, 16)
	watch, err := one.Watch(ctx, "room1", crosscast.WatchOptions{
		Users:    true,
		OnChange: func(e crosscast.PresenceEvent) { events <- e },
	})
	if err != nil {
		panic(err)
	}
	for _, m := range (<-events).Joined {
		fmt.Println(m.User, "is here")
	}
	laptop := join(one, "bob") // is here already
	join(two, "eve")
	fmt.Println((<-events).Joined[0].User, "joined")
	phone.Close(crosscast.ReasonServer)
	laptop.Close(crosscast.ReasonServer)
	fmt.Println((<-events).Left[0].User, "left")
	two.Close(ctx) // its members leave
	fmt.Println((<-events).Left[0].User, "left")

	watch.Close()
	one.Close(ctx)
	// Output:
	// ann is here
	// bob is here
	// eve joined
	// bob left
	// eve left
}
