package natsadapter_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// patience is how long a test waits for what must happen. Only failures take that long.
const patience = 20 * time.Second

// natsServer is a NATS server in this process.
type natsServer struct {
	tb testing.TB
	o  server.Options
	*server.Server
}

// startServer starts a server until the test ends.
func startServer(tb testing.TB, o server.Options) *natsServer {
	tb.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s := &natsServer{tb: tb, o: o}
	tb.Cleanup(s.stop)
	s.start()
	return s
}

func (s *natsServer) start() {
	s.tb.Helper()
	o := s.o
	n, err := server.NewServer(&o)
	if err != nil {
		s.tb.Fatal(err)
	}
	n.Start()
	s.Server = n
	if !n.ReadyForConnections(patience) {
		s.tb.Fatal("the server is not ready")
	}
	s.o.Port = n.Addr().(*net.TCPAddr).Port
	if a := n.ClusterAddr(); a != nil {
		s.o.Cluster.Port = a.Port
	}
}

// stop ends the server.
func (s *natsServer) stop() {
	if s.Server != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// lameDuckShutdown ends the server as for an upgrade.
func (s *natsServer) lameDuckShutdown() {
	s.LameDuckShutdown()
	s.WaitForShutdown()
	s.Server = nil
}

// reload changes the options of the running server.
func (s *natsServer) reload() {
	s.tb.Helper()
	o := s.o
	if err := s.ReloadOptions(&o); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", s.o.Port) }

// client connects a client of nats.go until the test ends.
func (s *natsServer) client(tb testing.TB, o ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(s.url(), o...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// eventually returns once done is true.
func eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // poll
	}
}

// lines are the connections of one node, which can be cut and deafened. It is a nats.CustomDialer.
type lines struct {
	subject string // a connection that subscribes this is a link

	mu   sync.Mutex // guards the fields below
	open []*testLine
	down bool
}

var errCut = errors.New("the line is cut")

func (l *lines) Dial(network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errCut
	}
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	n := &testLine{Conn: c, of: l}
	l.open = append(l.open, n)
	return n, nil
}

func (l *lines) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for _, n := range l.open {
			n.Conn.Close()
		}
		l.open = nil
	}
}

// deafen makes the present links receive nothing more.
func (l *lines) deafen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.open {
		n.deaf.Store(n.subscribes.Load())
	}
}

type testLine struct {
	net.Conn
	of               *lines
	subscribes, deaf atomic.Bool
}

func (n *testLine) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "SUB "+n.of.subject+" ") {
		n.subscribes.Store(true)
	}
	return n.Conn.Write(p)
}

func (n *testLine) Read(p []byte) (int, error) {
	for {
		k, err := n.Conn.Read(p)
		if err != nil || !n.deaf.Load() {
			return k, err
		}
	}
}

// startCluster starts servers that are connected to each other, until the test ends.
func startCluster(tb testing.TB, n int) []*natsServer {
	tb.Helper()
	var all []*natsServer
	var routes []string
	for i := range n {
		s := startServer(tb, server.Options{
			ServerName: fmt.Sprint("s", i), Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: -1},
			Routes:           server.RoutesFromStr(strings.Join(routes, ",")),
			LameDuckDuration: 100 * time.Millisecond, LameDuckGracePeriod: 50 * time.Millisecond,
		})
		routes = append(routes, "nats://"+s.ClusterAddr().String())
		all = append(all, s)
	}
	whole(tb, all)
	return all
}

// whole waits until each server is connected to all others.
func whole(tb testing.TB, all []*natsServer) {
	tb.Helper()
	eventually(tb, "the cluster is whole", func() bool {
		return !slices.ContainsFunc(all, func(s *natsServer) bool { return routed(s) < len(all)-1 })
	})
}

// routed is how many other servers s is connected to.
func routed(s *natsServer) int {
	r, err := s.Routez(nil)
	if err != nil {
		return 0
	}
	remote := map[string]bool{}
	for _, i := range r.Routes {
		remote[i.RemoteID] = true
	}
	return len(remote)
}
