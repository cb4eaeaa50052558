package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// A client that joins a room, emits an event, and receives it.
func Example() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(ctx)
	chat, err := ws.New(node.Namespace, ws.Options{
		Events: ws.Events{"say": ws.TypedAnswer(func(ctx context.Context, s *crosscast.Socket, text string) (string, error) {
			return "said to all", node.To("room1").Emit(ctx, "said", text)
		})},
		AllowJoin: func(ctx context.Context, s *crosscast.Socket, room string) error {
			if room != "room1" {
				return ws.Errorf("there is no %s", room)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(chat)
	defer server.Close()

	said := make(chan string)
	c, err := client.Dial(ctx, server.URL, client.Options{
		Events: client.Events{"said": client.Typed(func(ctx context.Context, _ *client.Client, text string) error {
			said <- text
			return nil
		})},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)
	if err := c.Join(ctx, "room1"); err != nil { // and again after each reconnect
		log.Fatal(err)
	}
	var answer string
	if err := c.Request(ctx, "say", "hello", &answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	fmt.Println(<-said)
	fmt.Println(c.Join(ctx, "room2"))
	// Output:
	// said to all
	// hello
	// there is no room2
}

// Who is in a room, with what each shows: first all users, then each change.
func ExampleClient_Presence() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(ctx)
	chat, err := ws.New(node.Namespace, ws.Options{
		AllowPresence: func(ctx context.Context, s *crosscast.Socket, room string) error { return nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = chat.Accept(w, r, ws.Client{User: r.Header.Get("X-User"), Rooms: []string{"room1"}, Presence: "here"})
	}))
	defer server.Close()
	dial := func(user string) *client.Client {
		c, err := client.Dial(ctx, server.URL, client.Options{Header: http.Header{"X-User": {user}}})
		if err != nil {
			log.Fatal(err)
		}
		return c
	}

	ann := dial("ann")
	defer ann.Close(ctx)
	told := make(chan struct{})
	_, err = ann.Presence("room1", func(p client.Presence) {
		for _, user := range p.Joined {
			fmt.Printf("%s joined: %s\n", user, p.Members[user])
		}
		for _, user := range p.Left {
			fmt.Println(user, "left")
		}
		told <- struct{}{}
	})
	if err != nil {
		log.Fatal(err)
	}
	<-told
	bob := dial("bob")
	<-told
	bob.Close(ctx)
	<-told
	// Output:
	// ann joined: "here"
	// bob joined: "here"
	// bob left
}
