// Program production is a server with everything that a deployment needs: probes, metrics, a page to look at, a drain
// when it is ended, logs of what an operator must know, limits, and a start that does not depend on Redis.
//
//	cd examples/production && go run . -redis redis://localhost:6379
//
// docs/production.md explains it, and recipes/ holds the configurations of what stands around it.
package main

import (
	"cmp"
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

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/health"
	"github.com/crosscast/crosscast/page"
	"github.com/crosscast/crosscast/prometheus"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// settings are the flags.
type settings struct {
	name    string
	address string
	admin   string
	redis   string
	notice  time.Duration
	window  time.Duration
	ping    time.Duration
	clients int
}

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	s := settings{}
	flag.StringVar(&s.name, "name", "", "name of the node; default: that of the host")
	flag.StringVar(&s.address, "address", "localhost:8080", "where to listen for clients")
	flag.StringVar(&s.admin, "admin", "localhost:0", "where to listen for operators, whom only they may reach")
	flag.StringVar(&s.redis, "redis", "", "URL of Redis; default: REDIS_URL of the environment, or redis://localhost:6379")
	flag.DurationVar(&s.notice, "notice", 5*time.Second, "how long a load balancer needs to see that the server is not ready")
	flag.DurationVar(&s.window, "window", 20*time.Second, "over how long the clients are sent away")
	flag.DurationVar(&s.ping, "ping", 25*time.Second, "between two pings to a client")
	flag.IntVar(&s.clients, "clients", 20_000, "at most so many clients")
	flag.Parse()
	s.redis = cmp.Or(s.redis, os.Getenv("REDIS_URL"), "redis://localhost:6379")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, s, log); err != nil {
		log.Error("ended", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, log *slog.Logger) error {
	look, err := page.New(page.Options{Logger: log})
	if err != nil {
		return err
	}
	recent := health.NewRecent()
	node, err := crosscast.Start(ctx, crosscast.Options{
		Name:         s.name,
		Adapter:      redisadapter.Dial(s.redis, redisadapter.Options{}),
		StartOffline: true, // Redis may be up later than this process
		Histograms:   true,
		Logger:       log, // gets gaps, losses and the state of the link, too
		OnGap:        func(n *crosscast.Node, g crosscast.Gap) { look.OnGap(n, g); recent.OnGap(n, g) },
		OnLoss:       func(n *crosscast.Node, l crosscast.Loss) { look.OnLoss(n, l); recent.OnLoss(n, l) },
		OnLink:       look.OnLink,
	})
	if err != nil {
		return err
	}
	chat, clients, err := accept(node, s)
	if err != nil {
		return errors.Join(err, node.Close(context.WithoutCancel(ctx)))
	}
	metrics := prometheus.New(node, prometheus.Options{WS: []*ws.Server{chat}, SSE: []*sse.Server{clients}})
	public, admin := &http.Server{Handler: routes(node, clients)}, &http.Server{Handler: adminRoutes(node, look, recent, metrics)}
	served := make(chan error, 2)
	serve := func(server *http.Server, what, address string) error {
		server.ReadHeaderTimeout, server.IdleTimeout = 10*time.Second, time.Minute
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		log.Info("serving", what, listener.Addr().String(), "node", node.ID())
		go func() { served <- server.Serve(listener) }()
		return nil
	}
	err = errors.Join(serve(public, "address", s.address), serve(admin, "admin", s.admin))
	if err != nil {
		return errors.Join(err, public.Close(), admin.Close(), node.Close(context.WithoutCancel(ctx)))
	}
	select {
	case err = <-served: // it never returns nil
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.notice+s.window+10*time.Second)
	defer cancel()
	return errors.Join(
		err,
		node.Drain(ctx, crosscast.DrainOptions{Notice: s.notice, Window: s.window}),
		public.Shutdown(ctx),
		admin.Shutdown(ctx), // last, so that operators can look at the drain
	)
}

// accept returns the binding of the clients, and the one in front of it, which also takes streams of events.
func accept(node *crosscast.Node, s settings) (*ws.Server, *sse.Server, error) {
	say := func(ctx context.Context, _ *crosscast.Socket, text string) error {
		return node.To("lobby").Emit(ctx, "said", text)
	}
	chat, err := ws.New(node.Namespace, ws.Options{
		Events:       ws.Events{"say": ws.Typed(say)},
		AllowJoin:    allowJoin,
		PingInterval: s.ping,
		MaxClients:   s.clients,
		EventRate:    20, // a second, for each client
	})
	if err != nil {
		return nil, nil, err
	}
	clients, err := sse.New(node, chat, sse.Options{})
	return chat, clients, err
}

// routes are what everybody reaches: clients, and the probes.
func routes(node *crosscast.Node, clients *sse.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		_ = clients.Accept(w, r, ws.Client{}) // Accept answers a client that it refuses
	})
	mux.Handle("GET /live", health.Live())
	mux.Handle("GET /ready", health.Ready(node, health.Options{WithoutBus: true}))
	return mux
}

// adminRoutes are what only operators reach: they have the names of rooms and users, and errors.
func adminRoutes(node *crosscast.Node, look *page.Page, recent *health.Recent, metrics client.Collector) http.Handler {
	registry := client.NewRegistry()
	registry.MustRegister(metrics)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /details", health.Details(node, recent))
	mux.Handle("/cluster/", http.StripPrefix("/cluster", look.Handler(node)))
	return mux
}

func allowJoin(_ context.Context, _ *crosscast.Socket, room string) error {
	if room != "lobby" {
		return ws.Errorf("there is only the lobby")
	}
	return nil
}
