// Embedded is a cluster with nothing installed: each process has a NATS server in it, and these servers find each other.
//
//	go run . -http :8081 -cluster 127.0.0.1:6221
//	go run . -http :8082 -cluster 127.0.0.1:6222 -join 127.0.0.1:6221
//
// A client of either process hears the clients of both. Any process may end. One that starts later joins any of the
// others, which tell it of the rest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/natsadapter"
	"github.com/crosscast/crosscast/ws"
)

func main() {
	var o options
	flag.StringVar(&o.http, "http", "127.0.0.1:8081", "where clients connect to")
	flag.StringVar(&o.cluster, "cluster", "127.0.0.1:6221", "where the other processes connect to; for trusted networks only")
	flag.StringVar(&o.join, "join", "", "such addresses of some other processes, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := start(ctx, o)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("clients connect to ws://%s/, and processes to -join %s", s.addr, s.bus.ClusterAddr())
	<-ctx.Done()
	if err := s.close(); err != nil {
		log.Fatal(err)
	}
}

type options struct{ http, cluster, join string }

// process is what runs in one process.
type process struct {
	addr net.Addr // of the clients' server
	bus  *server.Server
	node *crosscast.Node
	chat *ws.Server
	web  *http.Server
}

func start(ctx context.Context, o options) (*process, error) {
	bus, err := startBus(o)
	if err != nil {
		return nil, err
	}
	adapter := natsadapter.Dial("", natsadapter.Options{}, nats.InProcessServer(bus))
	node, err := crosscast.Start(ctx, crosscast.Options{Adapter: adapter})
	if err != nil {
		bus.Shutdown()
		return nil, err
	}
	p := &process{bus: bus, node: node}
	if err := p.serve(o.http); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// startBus starts a NATS server that only this process connects to, and connects it to those of other processes.
func startBus(o options) (*server.Server, error) {
	host, port, err := net.SplitHostPort(o.cluster)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		number = server.RANDOM_PORT
	}
	var routes []string
	for other := range strings.SplitSeq(o.join, ",") {
		if other != "" {
			routes = append(routes, "nats://"+other)
		}
	}
	bus, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, // this process needs no port, but a server of a cluster must have one
		Cluster: server.ClusterOpts{Name: "embedded", Host: host, Port: number, NoAdvertise: true},
		Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		NoSigs:  true,
	})
	if err != nil {
		return nil, err
	}
	bus.Start()
	if !bus.ReadyForConnections(10 * time.Second) {
		bus.Shutdown()
		return nil, fmt.Errorf("no server for other processes on %s within 10 s", o.cluster)
	}
	return bus, nil
}

// serve accepts clients, which are all in one room.
func (p *process) serve(addr string) (err error) {
	say := func(ctx context.Context, _ *crosscast.Socket, text string) error {
		return p.node.To("lobby").Emit(ctx, "said", text)
	}
	if p.chat, err = ws.New(p.node.Namespace, ws.Options{Events: ws.Events{"say": ws.Typed(say)}}); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	p.addr = ln.Addr()
	p.web = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.chat.Accept(w, r, ws.Client{Rooms: []string{"lobby"}})
	})}
	go p.web.Serve(ln)
	return nil
}

// close ends everything, the bus last, because the node publishes what it still has.
func (p *process) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	if p.web != nil {
		err = p.web.Shutdown(ctx)
	}
	err = errors.Join(err, p.node.Close(ctx))
	p.bus.Shutdown()
	p.bus.WaitForShutdown()
	return err
}
