package crosscast_test

import (
	"context"
	"fmt"
	"time"

	"github.com/crosscast/crosscast"
)

// A hub is what many servers have already: it keeps its own clients, and a loop of its own serves them. Nothing of it
// knows crosscast but say, and the receiver that newHub subscribes.
type hub struct {
	node      *crosscast.Node
	register  chan chan<- string
	broadcast chan string
}

func newHub(ctx context.Context, node *crosscast.Node) (*hub, error) {
	h := &hub{node: node, register: make(chan chan<- string), broadcast: make(chan string)}
	go h.run(ctx)
	_, err := node.Subscribe(ctx, crosscast.Receiver{
		OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			select {
			case h.broadcast <- string(m.Payload.Data):
			case <-ctx.Done():
			}
		},
	}, "chat")
	return h, err
}

func (h *hub) run(ctx context.Context) {
	clients := map[chan<- string]bool{}
	for {
		select {
		case c := <-h.register:
			clients[c] = true
		case text := <-h.broadcast:
			for c := range clients {
				c <- text
			}
		case <-ctx.Done():
			return
		}
	}
}

// say is where the hub had `h.broadcast <- text`. The text comes back through the receiver, here and on every other
// node.
func (h *hub) say(ctx context.Context, text string) error {
	return h.node.To("chat").Emit(ctx, "text", crosscast.Bytes(text))
}

// A server that keeps its own hub uses crosscast for the part between processes alone.
func ExampleNamespace_Subscribe_ownHub() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cluster := crosscast.NewCluster()
	var hubs []*hub
	var clients []chan string
	for range 2 {
		node, err := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Close(ctx)
		h, err := newHub(ctx, node)
		if err != nil {
			fmt.Println(err)
			return
		}
		client := make(chan string, 8)
		h.register <- client
		hubs, clients = append(hubs, h), append(clients, client)
	}

	if err := hubs[0].say(ctx, "hello from the first process"); err != nil {
		fmt.Println(err)
	}
	for i, client := range clients {
		fmt.Printf("client of hub %d: %s\n", i+1, <-client)
	}
	// Output:
	// client of hub 1: hello from the first process
	// client of hub 2: hello from the first process
}
