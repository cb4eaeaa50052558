package crosscast_test

import (
	"context"
	"fmt"

	"github.com/crosscast/crosscast"
)

// exampleServers starts two servers that know each other, with a client of ann's on the first and two of bob's.
func exampleServers() (one, two *crosscast.Node, stop func()) {
	ctx := context.Background()
	cluster := crosscast.NewCluster()
	for _, n := range []**crosscast.Node{&one, &two} {
		var err error
		if *n, err = crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()}); err != nil {
			panic(err)
		}
	}
	lobby := []string{"lobby"}
	one.Connect(ctx, newExampleClient(), crosscast.ConnectOptions{User: "ann", Rooms: lobby, Data: "phone"})
	one.Connect(ctx, newExampleClient(), crosscast.ConnectOptions{User: "bob", Rooms: lobby, Data: "phone"})
	two.Connect(ctx, newExampleClient(), crosscast.ConnectOptions{User: "bob", Rooms: lobby, Data: "laptop"})
	return one, two, func() { two.Close(ctx); one.Close(ctx) }
}

func ExampleBoundTarget_Sockets() {
	one, _, stop := exampleServers()
	defer stop()
	answers := one.To("lobby").Sockets(context.Background(), crosscast.Fields{User: true, Data: true})
	for s := range answers.All() { // as the servers answer
		fmt.Printf("%s %s\n", s.User, s.Data)
	}
	fmt.Println("missing:", answers.Err())
	// Unordered output:
	// ann "phone"
	// bob "phone"
	// bob "laptop"
	// missing: <nil>
}

func ExampleBoundTarget_Count() {
	one, _, stop := exampleServers()
	defer stop()
	ctx := context.Background()
	sockets, err := one.To("lobby").Count(ctx)
	fmt.Println(sockets, err)
	users, err := one.To("lobby").CountUsers(ctx)
	fmt.Println(users, err)
	// Output:
	// 3 <nil>
	// 2 <nil>
}

// All of a user's connections are moved to a room; what is emitted there afterwards reaches them.
func ExampleBoundTarget_Do() {
	one, two, stop := exampleServers()
	defer stop()
	ctx := context.Background()
	move := crosscast.Command{Join: []string{"game"}, Leave: []string{"lobby"}}
	changed, err := one.ToUser("bob").Do(ctx, move)
	fmt.Println("moved:", changed.Sockets, "on", len(changed.Nodes), "servers", err)
	left, err := two.To("lobby").Count(ctx)
	fmt.Println("left in the lobby:", left, err)
	// Output:
	// moved: 2 on 2 servers <nil>
	// left in the lobby: 1 <nil>
}

// politeClient replies to what is to be acknowledged. A binding would send m.Ack to its client, and pass on the reply.
type politeClient struct {
	exampleClient
	socket chan *crosscast.Socket
}

func (c politeClient) Send(m *crosscast.Message) error {
	if ack := m.Ack; ack != 0 {
		go func() { (<-c.socket).Reply(ack, "got it") }()
	}
	return nil
}

func ExampleBoundTarget_EmitAck() {
	one, two, stop := exampleServers()
	defer stop()
	ctx := context.Background()
	c := politeClient{newExampleClient(), make(chan *crosscast.Socket, 1)}
	socket, err := two.Connect(ctx, c, crosscast.ConnectOptions{User: "cay"})
	if err != nil {
		panic(err)
	}
	c.socket <- socket
	replies := one.ToUser("cay").EmitAck(ctx, "order", 7)
	for r := range replies.All() {
		fmt.Println(r.Socket == socket.ID(), string(r.Payload.Data))
	}
	fmt.Println("missing:", replies.Err())
	// Output:
	// true "got it"
	// missing: <nil>
}

func ExampleServers_Ask() {
	one, two, stop := exampleServers()
	defer stop()
	ctx := context.Background()
	two.OnRequest("version", func(context.Context, *crosscast.Request) (any, error) { return "1.2.3", nil })
	responses := one.Servers().Ask(ctx, "version", nil)
	for r := range responses.All() {
		fmt.Println(r.Node == two.ID(), string(r.Payload.Data))
	}
	fmt.Println("missing:", responses.Err())
	// Output:
	// true "1.2.3"
	// missing: <nil>
}
