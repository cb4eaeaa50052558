package faults_test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
)

// A kind is a kind of Redis, or of NATS.
type kind string

const (
	resp2    kind = "Redis, RESP2"
	resp3    kind = "Redis, RESP3"
	withTLS  kind = "Redis, TLS"
	sentinel kind = "Sentinel"
	cluster  kind = "Cluster"
	sharded  kind = "Cluster, sharded"
	shards   kind = "3 Redises"
	natsOne  kind = "NATS"
	natsMany kind = "NATS, 3 servers"
)

// Lists of kinds, the cheapest first.
var (
	kinds  = []kind{resp2, resp3, withTLS, sentinel, cluster, sharded, shards, natsOne, natsMany}
	every  = kinds
	plain  = []kind{resp2, resp3, cluster, sharded, shards, natsOne}          // what goes over one connection does not depend on TLS
	single = []kind{resp2, resp3, withTLS, cluster, sharded, shards, natsOne} // each node has one server, or one of each sort
)

func (k kind) isNATS() bool { return k == natsOne || k == natsMany }

// isPatchy: several servers pass messages on to each other, and might lose some of them. A NATS server is always taken for
// one of several.
func (k kind) isPatchy() bool { return k == cluster || k == sharded || k.isNATS() }

// A siteConfig is how servers are started, if not as usual.
type siteConfig struct {
	redis redistest.Config
	nats  natsConfig
}

// A site is the servers of one run.
type site struct {
	tb      testing.TB
	kind    kind
	servers []server
	redis   []*redistest.Server // the servers, if they are Redises
	nats    []*natsServer       // the servers, if they are of NATS
	routes  []*faultproxy.Proxy // of kind natsMany: between the servers, each before one of them
	pair    *redistest.Pair     // of kind sentinel
	cluster *redistest.Cluster  // of kinds cluster and sharded
	config  siteConfig
	admins  []*redis.Client // see admin
	bus
}

// A server is a process. It keeps its address.
type server interface {
	Addr() string
	Kill()
	Restart()
	Pause()
	Resume()
}

// A bus is what a test does at the servers of a site, as their administrator or as a stranger. Topics are those of Redis.
type bus interface {
	publish(topic string, all [][]byte)            // in order; it returns when they are passed on
	capture(topic string, n int) (frames [][]byte) // that nodes publish
	rooms() int                                    // that are subscribed
	subscribers() (addrs []string)                 // by which the servers know the connections that subscribe
	end(addr string) (ended int)                   // a connection
	endSubscribers()
	endOthers()                                    // the connections of nodes that do not subscribe
	endOthersOf(ports map[string]bool) (ended int) // those of one node
}

// startSite runs servers until the test ends. config is of a single server, or of each.
func startSite(tb testing.TB, k kind, config siteConfig) *site {
	tb.Helper()
	s := &site{tb: tb, kind: k, config: config}
	switch k {
	case sentinel:
		s.pair = redistest.StartPair(tb)
		s.redis = []*redistest.Server{s.pair.Master, s.pair.Replica}
	case cluster, sharded:
		s.cluster = redistest.StartCluster(tb, 3, config.redis.Args...)
		s.redis = s.cluster.Servers
	case shards:
		for range redises {
			s.redis = append(s.redis, redistest.Start(tb, config.redis))
		}
	case natsOne:
		s.nats = []*natsServer{startNATS(tb, config.nats)}
	case natsMany:
		s.nats, s.routes = startNATSCluster(tb, 3, config.nats)
	default:
		config.redis.TLS = k == withTLS
		s.redis = []*redistest.Server{redistest.Start(tb, config.redis)}
	}
	s.list()
	s.bus = redisBus{s}
	if s.nats != nil {
		s.bus = natsBus{s}
	}
	return s
}

// list makes servers of what runs.
func (s *site) list() {
	s.servers = nil
	for _, server := range s.redis {
		s.servers = append(s.servers, server)
	}
	for _, server := range s.nats {
		s.servers = append(s.servers, server)
	}
}

// dial is how the i-th node reaches the site. proxies are dialled instead of the servers, in their order; nil: none.
func (s *site) dial(i int, proxies []*faultproxy.Proxy) dialConfig {
	d := dialConfig{Addrs: []string{s.servers[0].Addr()}, Protocol: 2, Password: s.config.redis.Password}
	switch s.kind {
	case resp3:
		d.Protocol = 3
	case withTLS:
		pem, err := os.ReadFile(s.redis[0].CA())
		if err != nil {
			s.tb.Fatal(err)
		}
		d.CA = string(pem)
	case sentinel:
		d.Master, d.Addrs = s.pair.Options().MasterName, s.pair.Sentinels
	case cluster, sharded, shards:
		d.Cluster, d.Sharded, d.Shards = s.kind != shards, s.kind == sharded, s.kind == shards
		for _, server := range s.servers[1:] {
			d.Addrs = append(d.Addrs, server.Addr())
		}
	case natsOne, natsMany: // its own server first
		d.NATS, d.Addrs = true, nil
		for j := range s.servers {
			d.Addrs = append(d.Addrs, s.servers[(i+j)%len(s.servers)].Addr())
		}
	}
	if proxies != nil {
		d.Instead = map[string]string{}
		for i, p := range proxies {
			d.Instead[s.servers[i].Addr()] = p.Addr()
		}
	}
	return d
}

// redises is how many there are of kind shards.
const redises = 3

// links is how many links a node has, as far as they carry what the rows emit.
func (k kind) links() int {
	switch k {
	case shards:
		return redises
	case sharded: // that of everyone, and that of the room
		return 2
	}
	return 1
}

// admin is a client of each Redis, for the test itself.
func (s *site) admin() []*redis.Client {
	for _, server := range s.redis[len(s.admins):] {
		s.admins = append(s.admins, redistest.Client(s.tb, server.Options()))
	}
	return s.admins
}

func (s *site) kill()    { s.each(server.Kill) }
func (s *site) restart() { s.each(server.Restart) }
func (s *site) pause()   { s.each(server.Pause) }
func (s *site) resume()  { s.each(server.Resume) }

func (s *site) each(f func(server)) {
	for _, server := range s.servers {
		f(server)
	}
}
