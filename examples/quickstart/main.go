package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

func main() { // quickstart :8080 redis://localhost:6379
	adapter := redisadapter.Dial(os.Args[2], redisadapter.Options{})
	node, err := crosscast.Start(context.Background(), crosscast.Options{Adapter: adapter})
	if err != nil {
		log.Fatal(err)
	}
	say := func(ctx context.Context, s *crosscast.Socket, text string) error {
		return node.To("lobby").Emit(ctx, "said", text) // reaches the lobby on every server
	}
	chat, err := ws.New(node.Namespace, ws.Options{Events: ws.Events{"say": ws.Typed(say)}})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		chat.Accept(w, r, ws.Client{Rooms: []string{"lobby"}})
	})
	server := http.Server{Addr: os.Args[1], ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
	log.Fatal(server.ListenAndServe())
}
