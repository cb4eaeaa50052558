package crosscast_test

import (
	"context"
	"fmt"
	"time"

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
		OnChange: func(_ *crosscast.Watch, e crosscast.PresenceEvent) { events <- e },
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

// Each client that connects gets who is there, and then each change: one watch for all of them, and no change is missed
// or told twice in between.
func ExampleWatch_Follow() {
	ctx := context.Background()
	node, _ := crosscast.Start(ctx, crosscast.Options{})
	watch, err := node.Watch(ctx, "room1", crosscast.WatchOptions{Users: true})
	if err != nil {
		panic(err)
	}
	connect := func(user string) {
		told := make(chan struct{}, 16)
		s, _ := node.Connect(ctx, newExampleClient(), crosscast.ConnectOptions{User: user, Rooms: []string{"room1"}})
		watch.Follow(func(e crosscast.PresenceEvent) bool {
			if e.Current {
				fmt.Println(s.User(), "sees", len(e.Joined), "there")
			}
			for _, m := range e.Joined {
				if !e.Current {
					fmt.Println(s.User(), "sees", m.User, "join")
				}
			}
			told <- struct{}{}
			return s.Emit(ctx, "members", e) == nil // else the client has left
		})
		<-told
	}
	connect("ann")
	connect("bob")
	watch.Close()
	node.Close(ctx)
	// Unordered output:
	// ann sees 1 there
	// ann sees bob join
	// bob sees 2 there
}

// What members show of themselves, and a user who reconnects in time, which is no event.
func ExampleSocket_SetPresence() {
	ctx := context.Background()
	cluster := crosscast.NewCluster()
	one, _ := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	two, _ := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	join := func(n *crosscast.Node, user string, shows any) *crosscast.Socket {
		o := crosscast.ConnectOptions{User: user, Rooms: []string{"room1"}, Presence: shows}
		s, _ := n.Connect(ctx, newExampleClient(), o)
		return s
	}
	phone := join(two, "bob", "here")
	events := make(chan crosscast.PresenceEvent, 16)
	watch, err := one.Watch(ctx, "room1", crosscast.WatchOptions{
		Users: true, Grace: time.Minute,
		OnChange: func(_ *crosscast.Watch, e crosscast.PresenceEvent) { events <- e },
	})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s is %s\n", (<-events).Joined[0].User, watch.Members()[0].Presence)
	phone.SetPresence("away")
	fmt.Printf("bob is %s\n", (<-events).Changed[0].Presence)
	phone.Close(crosscast.ReasonServer)
	join(one, "bob", "back")
	fmt.Printf("bob is %s\n", (<-events).Changed[0].Presence)

	watch.Close()
	two.Close(ctx)
	one.Close(ctx)
	// Output:
	// bob is "here"
	// bob is "away"
	// bob is "back"
}
