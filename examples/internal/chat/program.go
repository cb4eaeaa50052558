package chat

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
)

// Main is a program that is one server until it is interrupted, with the environment that examples/chat/server documents.
func Main(p *Protocol) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	redis.SetLogger(quiet{})
	if err := Run(ctx, p, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// quiet is go-redis's log: it would repeat at each attempt to connect what the adapter says once.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// Run is Main until ctx ends, with the environment env.
func Run(ctx context.Context, protocol *Protocol, env func(string) string, out io.Writer) error {
	port := cmp.Or(env("PORT"), "5001")
	name := cmp.Or(env("NODE_ID"), "node-"+port)
	redisURL := cmp.Or(env("REDIS_URL"), "redis://localhost:6379")
	p := NewPrinter(out)
	s, err := StartServer(ctx, ServerOptions{
		Name: name, Address: ":" + port, Protocol: protocol, RedisURL: redisURL, Printer: p,
	})
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
