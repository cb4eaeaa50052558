package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

// A server ends: first the clients, which go to the other servers one after the other, then the HTTP server.
func ExampleNode_Drain() {
	ctx := context.Background()
	node, err := crosscast.Start(ctx, crosscast.Options{Name: "server-1"}) // with an Adapter
	if err != nil {
		panic(err)
	}
	chat, err := ws.New(node.Namespace, ws.Options{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", chat)
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { // the load balancer's probe
		if err := node.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	// <-terminate: signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // longer than Notice and Window
	defer cancel()
	fmt.Println("ready:", node.Ready())
	err = node.Drain(ctx, crosscast.DrainOptions{Notice: time.Millisecond, Window: time.Millisecond}) // the defaults: 5 s, 20 s
	fmt.Println("drained:", err)
	fmt.Println("ready:", node.Ready())
	err = server.Shutdown(ctx)
	fmt.Println("shut down:", err, errors.Is(<-served, http.ErrServerClosed))

	// Output:
	// ready: <nil>
	// drained: <nil>
	// ready: crosscast: closed
	// shut down: <nil> true
}
