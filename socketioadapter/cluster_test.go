package socketioadapter_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// client is a conn that passes on the events that it gets, and acknowledges those that want it.
type client struct {
	socket atomic.Pointer[crosscast.Socket]
	events chan string
}

func (c *client) Send(m *crosscast.Message) error {
	c.events <- m.Event
	if m.Ack != 0 {
		return c.socket.Load().Reply(m.Ack, "yes")
	}
	return nil
}

func (c *client) Close(crosscast.Reason) {}

// TestNodesOnACluster: nodes work together when they are connected to different servers of a Redis Cluster.
func TestNodesOnACluster(t *testing.T) {
	redisCluster := redistest.StartCluster(t, 3)
	for _, o := range []socketioadapter.Options{classic, sharded} {
		t.Run(fmt.Sprint("mode ", o.Mode), func(t *testing.T) {
			ctx := redistest.Within(t, redistest.Patience)
			var nodes [3]*crosscast.Node
			var clients [3]*client
			for i := range nodes {
				var err error
				nodes[i], err = crosscast.Start(ctx, crosscast.Options{Adapter: socketioadapter.New(redisCluster.Client(), o)})
				must(t, err)
				t.Cleanup(func() { must(t, nodes[i].Close(context.WithoutCancel(ctx))) })
				must(t, nodes[i].OnRequest("name", func(context.Context, *crosscast.Request) (any, error) { return i, nil }))
				clients[i] = &client{events: make(chan string, 100)}
				s, err := nodes[i].Connect(ctx, clients[i], crosscast.ConnectOptions{
					User: fmt.Sprint("user", i), Rooms: []string{"all", fmt.Sprint("room", i)},
				})
				must(t, err)
				clients[i].socket.Store(s)
			}
			want := func(event string, of ...int) {
				t.Helper()
				for _, i := range of {
					select {
					case got := <-clients[i].events:
						if got != event {
							t.Fatalf("client %d got %q instead of %q", i, got, event)
						}
					case <-ctx.Done():
						t.Fatalf("client %d does not get %q", i, event)
					}
				}
			}
			for from, n := range nodes {
				for to := range nodes {
					must(t, n.To(fmt.Sprint("room", to)).Emit(ctx, "room", nil))
					want("room", to)
					must(t, n.ToUser(fmt.Sprint("user", to)).Emit(ctx, "user", nil))
					want("user", to)
					must(t, n.ToSocket(clients[to].socket.Load().ID()).Emit(ctx, "socket", nil))
					want("socket", to)
				}
				must(t, n.Emit(ctx, "everyone", nil))
				want("everyone", 0, 1, 2)

				if count, err := n.To("all").Count(ctx); count != 3 || err != nil {
					t.Errorf("3 sockets are counted as %d, %v", count, err)
				}
				room := fmt.Sprint("joined", from)
				changed, err := n.To("all").Do(ctx, crosscast.Command{Join: []string{room}})
				if changed.Sockets != 3 || err != nil {
					t.Errorf("a command to 3 sockets: %+v, %v", changed, err)
				}
				must(t, n.To(room).Emit(ctx, room, nil))
				want(room, 0, 1, 2)
				replies := n.To("all").EmitAck(ctx, "question", nil)
				got := 0
				for range replies.All() {
					got++
				}
				if got != 3 || replies.Err() != nil {
					t.Errorf("of 3 clients %d reply, %v", got, replies.Err())
				}
				want("question", 0, 1, 2)
				responses := n.Servers().Ask(ctx, "name", nil)
				got = 0
				for range responses.All() {
					got++
				}
				if got != 2 || responses.Err() != nil {
					t.Errorf("of 2 peers %d respond, %v", got, responses.Err())
				}
			}
		})
	}
}
