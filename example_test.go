package crosscast_test

import (
	"context"
	"fmt"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// exampleClient stands for a connection: what it is sent can be received from it.
type exampleClient chan string

func newExampleClient() exampleClient { return make(exampleClient, 16) }

func (c exampleClient) Send(m *crosscast.Message) error {
	select {
	case c <- fmt.Sprintf("%s %s", m.Event, m.Payload.Data):
		return nil
	default: // a conn never blocks
		return crosscast.ErrDropped
	}
}

func (c exampleClient) Close(reason crosscast.Reason) {}

// Two servers, and a client on each of them.
func Example() {
	ctx := context.Background()
	cluster := crosscast.NewCluster()
	one, err := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	if err != nil {
		panic(err)
	}
	two, err := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	if err != nil {
		panic(err)
	}
	ann, bob := newExampleClient(), newExampleClient()
	if _, err := one.Connect(ctx, ann, crosscast.ConnectOptions{Rooms: []string{"room1"}}); err != nil {
		panic(err)
	}
	socket, err := two.Connect(ctx, bob, crosscast.ConnectOptions{User: "u9"})
	if err != nil {
		panic(err)
	}
	if err := socket.Join(ctx, "room1"); err != nil { // from here on, bob hears what is emitted anywhere
		panic(err)
	}

	one.To("room1").Emit(ctx, "roomMessage", "hello")
	one.ToUser("u9").Emit(ctx, "done", 7)
	fmt.Println("ann:", <-ann)
	fmt.Println("bob:", <-bob)
	fmt.Println("bob:", <-bob)

	two.Close(ctx)
	one.Close(ctx)
	// Output:
	// ann: roomMessage "hello"
	// bob: roomMessage "hello"
	// bob: done 7
}

// A function that gets what is emitted to a room, without a socket.
func ExampleNamespace_Subscribe_worker() {
	ctx := context.Background()
	cluster := crosscast.NewCluster()
	worker, _ := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
	server, _ := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})

	done := make(chan struct{})
	sub, err := worker.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
		fmt.Printf("%s %s\n", m.Event, m.Payload.Data)
		close(done)
	}}, "orders")
	if err != nil {
		panic(err)
	}
	server.To("orders").Emit(ctx, "order.created", map[string]int{"id": 12})
	<-done

	sub.Close()
	server.Close(ctx)
	worker.Close(ctx)
	// Output: order.created {"id":12}
}

// A target can be kept and extended.
func ExampleBoundTarget_Except() {
	ctx := context.Background()
	node, _ := crosscast.Start(ctx, crosscast.Options{})
	defer node.Close(ctx)
	ann, bob := newExampleClient(), newExampleClient()
	node.Connect(ctx, ann, crosscast.ConnectOptions{Rooms: []string{"news"}})
	node.Connect(ctx, bob, crosscast.ConnectOptions{Rooms: []string{"news", "muted"}})

	news := node.To("news")
	news.Except("muted").Emit(ctx, "headline", "rain")
	news.Emit(ctx, "alarm", "flood")
	fmt.Println("ann:", <-ann)
	fmt.Println("ann:", <-ann)
	fmt.Println("bob:", <-bob)
	// Output:
	// ann: headline "rain"
	// ann: alarm "flood"
	// bob: alarm "flood"
}

// Everyone but the sender.
func ExampleSocket_Broadcast() {
	ctx := context.Background()
	node, _ := crosscast.Start(ctx, crosscast.Options{})
	defer node.Close(ctx)
	ann, bob := newExampleClient(), newExampleClient()
	socket, _ := node.Connect(ctx, ann, crosscast.ConnectOptions{})
	node.Connect(ctx, bob, crosscast.ConnectOptions{})

	socket.Broadcast().Emit(ctx, "joined", "ann")
	fmt.Println("bob:", <-bob)
	fmt.Println("waiting for ann:", len(ann))
	// Output:
	// bob: joined "ann"
	// waiting for ann: 0
}

// A server that may have missed messages has its clients fetch again what they show.
func ExampleNode_EmitAffected() {
	ctx := context.Background()
	onGap := func(n *crosscast.Node, g crosscast.Gap) {
		n.EmitAffected(g, "fetchAgain", map[string]any{"why": g.Reason})
	}
	node, _ := crosscast.Start(ctx, crosscast.Options{OnGap: onGap})
	defer node.Close(ctx)
	ann, bob := newExampleClient(), newExampleClient()
	node.Connect(ctx, ann, crosscast.ConnectOptions{User: "ann", Rooms: []string{"news", "sport"}})
	node.Connect(ctx, bob, crosscast.ConnectOptions{User: "bob", Rooms: []string{"chess"}})

	onGap(node, crosscast.Gap{ // as an adapter makes them
		Reason: reasons.GapLoss,
		Names: []crosscast.Address{
			{Namespace: "/", Space: crosscast.SpaceRoom, Name: "news"},
			{Namespace: "/", Space: crosscast.SpaceRoom, Name: "sport"},
		},
	})
	node.Emit(ctx, "headline", "rain")
	fmt.Println("ann:", <-ann)
	fmt.Println("ann:", <-ann)
	fmt.Println("bob:", <-bob)
	// Output:
	// ann: fetchAgain {"why":"loss"}
	// ann: headline "rain"
	// bob: headline "rain"
}
