package crosscast_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// A hub is what many servers have already: it keeps its own clients, by room and by user. One subscription hears all that
// any of them is here for.
type hub struct {
	node *crosscast.Node
	sub  *crosscast.Subscription

	mu    sync.Mutex
	rooms clients
	users clients
}

// clients are a process's clients by a name. A client is the channel of what it gets.
type clients map[string]map[chan string]bool

func newHub(ctx context.Context, node *crosscast.Node) (h *hub, err error) {
	h = &hub{node: node, rooms: clients{}, users: clients{}}
	h.sub, err = node.Subscribe(ctx, crosscast.Receiver{OnMessage: h.handleMessage, OnGap: h.handleGap})
	return h, err
}

// handleMessage serves the clients of this process that a message is for, each once.
func (h *hub) handleMessage(_ *crosscast.Subscription, m *crosscast.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	to := map[chan string]bool{}
	for _, room := range m.Target.Rooms {
		maps.Copy(to, h.rooms[room])
	}
	for _, user := range m.Target.Users {
		maps.Copy(to, h.users[user])
	}
	for c := range to {
		c <- string(m.Payload.Data)
	}
}

// handleGap tells the clients that might have missed something.
func (h *hub) handleGap(_ *crosscast.Subscription, g crosscast.Gap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	to := map[chan string]bool{}
	for room, here := range h.rooms {
		if g.Covers(crosscast.Address{Namespace: h.node.Namespace.Name(), Space: crosscast.SpaceRoom, Name: room}) {
			maps.Copy(to, here)
		}
	}
	for user, here := range h.users {
		if g.Covers(crosscast.Address{Namespace: h.node.Namespace.Name(), Space: crosscast.SpaceUser, Name: user}) {
			maps.Copy(to, here)
		}
	}
	for c := range to {
		c <- "you might have missed something"
	}
}

// connect adds a client of a user. When it returns nil, the client misses nothing that is sent to the user later.
func (h *hub) connect(ctx context.Context, c chan string, user string) error {
	if err := h.sub.AddUser(ctx, user); err != nil {
		return err
	}
	h.enter(h.users, user, c)
	return nil
}

// join adds a client to a room. When it returns nil, the client misses nothing that is sent to the room later.
func (h *hub) join(ctx context.Context, c chan string, room string) error {
	if err := h.sub.Add(ctx, room); err != nil {
		return err
	}
	h.enter(h.rooms, room, c)
	return nil
}

// leave takes a client out of a room. The subscription counts: it hears the room until the last client has left.
func (h *hub) leave(c chan string, room string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.rooms[room], c)
	if len(h.rooms[room]) == 0 {
		delete(h.rooms, room)
	}
	return h.sub.Remove(room)
}

func (h *hub) enter(in clients, name string, c chan string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in[name] == nil {
		in[name] = map[chan string]bool{}
	}
	in[name][c] = true
}

// A server that keeps its own hub uses crosscast for the part between processes alone.
func ExampleNamespace_Subscribe_ownHub() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cluster := crosscast.NewCluster()
	var hubs []*hub
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
		hubs = append(hubs, h)
	}
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
		}
	}

	ann, bob := make(chan string, 8), make(chan string, 8)
	check(hubs[0].connect(ctx, ann, "ann"))
	check(hubs[0].join(ctx, ann, "chat"))
	check(hubs[1].join(ctx, bob, "chat"))

	node := hubs[1].node // Bob's
	check(node.To("chat").Emit(ctx, "text", crosscast.Bytes("hello, room")))
	fmt.Println("ann:", <-ann)
	fmt.Println("bob:", <-bob)
	check(node.ToUser("ann").Emit(ctx, "text", crosscast.Bytes("hello, ann")))
	fmt.Println("ann:", <-ann)
	check(hubs[1].leave(bob, "chat"))
	check(node.To("chat").Emit(ctx, "text", crosscast.Bytes("is anybody here?")))
	fmt.Println("ann:", <-ann)
	fmt.Println("waiting for bob:", len(bob))
	// Output:
	// ann: hello, room
	// bob: hello, room
	// ann: hello, ann
	// ann: is anybody here?
	// waiting for bob: 0
}
