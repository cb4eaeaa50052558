package crosscast_test

import (
	"context"
	"fmt"

	"github.com/crosscast/crosscast"
)

// meter counts what goes in and out. A real one would have the counters and histograms of a metrics library.
type meter struct{}

func (meter) Emitting(ctx context.Context, _ crosscast.Emitted) (context.Context, []crosscast.KeyValue) {
	return ctx, nil // a tracer would return a context with its span, and what the message needs to carry for it
}

func (meter) Emitted(_ context.Context, e crosscast.Emitted) {
	fmt.Printf("emitted %s: %d bytes, error %v\n", e.Event, e.Bytes, e.Err)
}

func (meter) Delivered(_ context.Context, d crosscast.Delivered) {
	fmt.Printf("delivered %s: to %d, refused by %d\n", d.Event, d.Sockets, d.Refused)
}

func (meter) Handled(crosscast.Handled) {} // instructions of peers

// printConn prints what a client gets.
type printConn string

func (c printConn) Send(m *crosscast.Message) error {
	fmt.Printf("%s: %s %s\n", string(c), m.Event, m.Payload.Data)
	return nil
}

func (printConn) Close(crosscast.Reason) {}

// An observer sees each emission with its size, its error and its duration.
func ExampleObserver() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{Observer: meter{}})
	if err != nil {
		panic(err)
	}
	defer node.Close(ctx)
	if _, err := node.Connect(ctx, printConn("ann"), crosscast.ConnectOptions{Rooms: []string{"lobby"}}); err != nil {
		panic(err)
	}
	if err := node.To("lobby").Emit(ctx, "said", "hello"); err != nil {
		panic(err)
	}
	// Output:
	// ann: said "hello"
	// delivered said: to 1, refused by 0
	// emitted said: 7 bytes, error <nil>
}
