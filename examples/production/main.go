// Program production is a server with everything that a deployment needs: probes, a drain when it is ended, logs of
// what an operator must know, limits, and a start that does not depend on Redis.
//
//	go run ./examples/production -redis redis://localhost:6379
//
// docs/production.md explains it, and recipes/ holds the configurations of what stands around it.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/health"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
)

// settings are the flags.
type settings struct {
	address string
	redis   string
	notice  time.Duration
	window  time.Duration
	ping    time.Duration
	clients int
}

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	s := settings{}
	flag.StringVar(&s.address, "address", "localhost:8080", "where to listen")
	flag.StringVar(&s.redis, "redis", "redis://localhost:6379", "URL of Redis")
	flag.DurationVar(&s.notice, "notice", 5*time.Second, "how long a load balancer needs to see that the server is not ready")
	flag.DurationVar(&s.window, "window", 20*time.Second, "over how long the clients are sent away")
	flag.DurationVar(&s.ping, "ping", 25*time.Second, "between two pings to a client")
	flag.IntVar(&s.clients, "clients", 20_000, "at most so many clients")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, s, log); err != nil {
		log.Error("ended", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, log *slog.Logger) error {
	node, err := crosscast.Start(ctx, crosscast.Options{
		Adapter:      redisadapter.Dial(s.redis, redisadapter.Options{}),
		StartOffline: true, // Redis may be up later than this process
		Logger:       log,
		OnGap:        func(_ *crosscast.Node, g crosscast.Gap) { log.Warn("gap", "reason", g.Reason, "since", g.Since) },
		OnLoss: func(_ *crosscast.Node, l crosscast.Loss) {
			log.Warn("loss", "reason", l.Reason, "emissions", l.Instructions)
		},
	})
	if err != nil {
		return err
	}
	handler, err := routes(node, s)
	if err != nil {
		return errors.Join(err, node.Close(context.WithoutCancel(ctx)))
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return errors.Join(err, node.Close(context.WithoutCancel(ctx)))
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("serving", "address", listener.Addr().String(), "node", node.ID())
	select {
	case err = <-served: // it never returns nil
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.notice+s.window+10*time.Second)
	defer cancel()
	return errors.Join(
		err,
		node.Drain(ctx, crosscast.DrainOptions{Notice: s.notice, Window: s.window}),
		server.Shutdown(ctx),
	)
}

// routes are what the server answers: clients, and the probes.
func routes(node *crosscast.Node, s settings) (http.Handler, error) {
	say := func(ctx context.Context, _ *crosscast.Socket, text string) error {
		return node.To("lobby").Emit(ctx, "said", text)
	}
	clients, err := ws.New(node.Namespace, ws.Options{
		Events:       ws.Events{"say": ws.Typed(say)},
		AllowJoin:    allowJoin,
		PingInterval: s.ping,
		MaxClients:   s.clients,
		EventRate:    20, // a second, for each client
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		_, _ = clients.Accept(w, r, ws.Client{}) // Accept answers a client that it refuses
	})
	mux.Handle("GET /live", health.Live())
	mux.Handle("GET /ready", health.Ready(node, health.Options{WithoutBus: true}))
	return mux, nil
}

func allowJoin(_ context.Context, _ *crosscast.Socket, room string) error {
	if room != "lobby" {
		return ws.Errorf("there is only the lobby")
	}
	return nil
}
