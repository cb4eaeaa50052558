package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// heartbeat is short, so that a death is seen soon: a node expires after six of its heartbeats.
const heartbeat = 300 * time.Millisecond

// A cluster is the servers and their clients, all in one process.
type cluster struct {
	redis   string
	prefix  string // of its own: whoever else uses this Redis must not be counted
	servers [3]*server
	dead    sync.WaitGroup // what is left of killed servers
	clients []*client.Client
	names   map[crosscast.NodeID]string // also of the dead

	notices chan notice // what clients got
	joined  chan string // users whose client has joined the lobby
	expired chan string // nodes that the first server's has taken for dead
}

type notice struct{ user, text string }

func newCluster(redis string) *cluster {
	return &cluster{
		redis: redis, prefix: "cc-admin-" + rand.Text(), names: make(map[crosscast.NodeID]string),
		notices: make(chan notice, 100), joined: make(chan string, 100), expired: make(chan string, 100),
	}
}

func (c *cluster) nameOf(id crosscast.NodeID) string { return c.names[id] }

func (c *cluster) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var errs []error
	for _, conn := range c.clients {
		errs = append(errs, conn.Close(ctx))
	}
	for _, s := range c.servers {
		if s != nil && !s.killed {
			errs = append(errs, s.close(ctx))
		}
	}
	c.dead.Wait()
	return errors.Join(errs...)
}

// A server is one server process: a node, with a link to Redis of its own, and websockets.
type server struct {
	c       *cluster
	address string
	node    *crosscast.Node
	rdb     redis.UniversalClient
	http    *http.Server
	network *network
	stopped chan struct{} // serving has ended
	killed  bool
}

// startServer starts server i, at the address of its predecessor if there is one.
func (c *cluster) startServer(ctx context.Context, i int, address string) error {
	s := &server{c: c, network: &network{}, stopped: make(chan struct{})}
	o, err := redisadapter.ParseURL(c.redis)
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	o.Dialer = s.network.dialer(redis.NewDialer(o.Simple()))
	s.rdb = redis.NewUniversalClient(o)
	name := fmt.Sprintf("node-%d", i+1)
	s.node, err = crosscast.Start(ctx, crosscast.Options{
		Name: name, Heartbeat: heartbeat,
		Adapter: redisadapter.New(s.rdb, redisadapter.Options{Prefix: c.prefix}),
		OnNode: func(_ *crosscast.Node, e crosscast.NodeEvent) {
			if i == 0 && e.Kind == crosscast.NodeExpired {
				c.expired <- e.Peer.Name
			}
		},
	})
	if err != nil {
		return errors.Join(err, s.rdb.Close())
	}
	if err := s.serve(address); err != nil {
		return errors.Join(err, s.node.Close(ctx), s.rdb.Close())
	}
	c.names[s.node.ID()] = name
	c.servers[i] = s
	return nil
}

func (s *server) serve(address string) error {
	sockets, err := ws.New(s.node.Namespace, ws.Options{
		AllowJoin: func(context.Context, *crosscast.Socket, string) error { return nil }, // every room is open
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	s.http = &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = sockets.Accept(w, r, ws.Client{User: r.FormValue("user")}) // a real one would authenticate
		}),
	}
	go func() {
		defer close(s.stopped)
		_ = s.http.Serve(listener{l, s.network}) // until it is closed
	}()
	return nil
}

// close takes the server out of the cluster.
func (s *server) close(ctx context.Context) error {
	err := errors.Join(s.node.Close(ctx), s.http.Shutdown(ctx), s.rdb.Close())
	<-s.stopped
	return err
}

// kill is what the others see of a process that is killed: all of its connections end, and nobody says goodbye.
func (s *server) kill() {
	s.killed = true
	s.network.cut()
	_ = s.http.Close()
	s.c.dead.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.close(ctx) // in vain: it is cut off
	})
}

// A network is the connections of one server, which can all be cut.
type network struct {
	mu    sync.Mutex // guards what follows
	conns []net.Conn
	down  bool
}

var errCut = errors.New("the network is cut")

func (n *network) add(conn net.Conn) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		_ = conn.Close()
		return nil, errCut
	}
	n.conns = append(n.conns, conn)
	return conn, nil
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for _, conn := range n.conns {
		_ = conn.Close()
	}
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

func (n *network) dialer(dial dialer) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return n.add(conn)
	}
}

type listener struct {
	net.Listener
	n *network
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.n.add(conn)
}

// connect connects a client of a user to a server. It joins the lobby, and again each time it connects.
func (c *cluster) connect(ctx context.Context, user string, server int) error {
	events := client.Events{
		"notice": client.Typed(func(_ context.Context, _ *client.Client, text string) error {
			c.notices <- notice{user, text}
			return nil
		}),
		"ready?": client.TypedAnswer(func(context.Context, *client.Client, any) (string, error) { return user + " is", nil }),
	}
	if user == "mute" {
		delete(events, "ready?")
	}
	conn, err := client.Dial(ctx, "ws://"+c.servers[server].address+"/?user="+user, client.Options{
		Events: events, MaxBackoff: time.Second,
		OnGap: func(_ *client.Client, g client.Gap) {
			if g.Away { // it is in the lobby again
				c.joined <- user
			}
		},
	})
	if err != nil {
		return err
	}
	c.clients = append(c.clients, conn)
	return conn.Join(ctx, "lobby")
}
