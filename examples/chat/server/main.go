// Program server is a chat server. Start it on as many ports as you like: they are one chat.
//
// Environment: PORT (default 5001; 0: any that is free), NODE_ID (the node's name; default node-<PORT>), REDIS_URL
// (default redis://localhost:6379). It serves a page at /, websockets at /ws, its counters at GET /stats, and
// POST /emit/<roomId> with {"text":"…"} sends to a room.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/examples/chat/internal/chat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	redis.SetLogger(quiet{})
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// quiet is go-redis's log: it would repeat at each attempt to connect what the adapter says once.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func run(ctx context.Context, env func(string) string, out io.Writer) error {
	port := cmp.Or(env("PORT"), "5001")
	name := cmp.Or(env("NODE_ID"), "node-"+port)
	redisURL := cmp.Or(env("REDIS_URL"), "redis://localhost:6379")
	rdb, err := chat.Redis(redisURL)
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer rdb.Close()
	p := chat.NewPrinter(out)
	s, err := chat.StartServer(ctx, chat.ServerOptions{Name: name, Address: ":" + port, Redis: rdb, Printer: p})
	if err != nil {
		return err
	}
	p.Print(name, "Redis: %s", redacted(redisURL))
	return s.Run(ctx)
}

// redacted is the URL without its password.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(a URL)"
	}
	return u.Redacted()
}
