// Program client is a chat client: it joins a room, says hi, and prints what it gets until it is stopped. When its
// server goes away it connects again, backing off.
//
// Environment: SERVER_URL (default http://localhost:5001), NAME (default client), ROOM (default room1).
package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/crosscast/crosscast/examples/chat/internal/wschat"
	"github.com/crosscast/crosscast/examples/internal/chat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run(ctx, os.Getenv, os.Stdout)
}

func run(ctx context.Context, env func(string) string, out io.Writer) {
	c := &wschat.Client{
		Name:      cmp.Or(env("NAME"), "client"),
		Room:      cmp.Or(env("ROOM"), "room1"),
		ServerURL: cmp.Or(env("SERVER_URL"), "http://localhost:5001"),
		Printer:   chat.NewPrinter(out),
		Greet:     true,
	}
	c.Run(ctx)
}
