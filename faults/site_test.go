package faults_test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
)

// A kind is a kind of Redis.
type kind string

const (
	resp2    kind = "Redis, RESP2"
	resp3    kind = "Redis, RESP3"
	withTLS  kind = "Redis, TLS"
	sentinel kind = "Sentinel"
	cluster  kind = "Cluster"
)

// Lists of kinds, the cheapest first.
var (
	single = []kind{resp2, resp3, withTLS}
	every  = []kind{resp2, resp3, withTLS, sentinel, cluster}
)

// A site is the Redis of one run.
type site struct {
	tb      testing.TB
	kind    kind
	servers []*redistest.Server
	pair    *redistest.Pair    // of kind sentinel
	cluster *redistest.Cluster // of kind cluster
	config  redistest.Config
}

// startSite runs a Redis until the test ends. config is of a single server.
func startSite(tb testing.TB, k kind, config redistest.Config) *site {
	tb.Helper()
	s := &site{tb: tb, kind: k, config: config}
	switch k {
	case sentinel:
		s.pair = redistest.StartPair(tb)
		s.servers = []*redistest.Server{s.pair.Master, s.pair.Replica}
	case cluster:
		s.cluster = redistest.StartCluster(tb, 3)
		s.servers = s.cluster.Servers
	default:
		config.TLS = k == withTLS
		s.servers = []*redistest.Server{redistest.Start(tb, config)}
	}
	return s
}

// dial is how nodes reach the site. proxies are dialled instead of the servers, in their order; nil: none.
func (s *site) dial(proxies []*faultproxy.Proxy) dialConfig {
	d := dialConfig{Addrs: []string{s.servers[0].Addr()}, Protocol: 2, Password: s.config.Password}
	switch s.kind {
	case resp3:
		d.Protocol = 3
	case withTLS:
		pem, err := os.ReadFile(s.servers[0].CA())
		if err != nil {
			s.tb.Fatal(err)
		}
		d.CA = string(pem)
	case sentinel:
		d.Master, d.Addrs = s.pair.Options().MasterName, s.pair.Sentinels
	case cluster:
		d.Cluster = true
		for _, server := range s.servers[1:] {
			d.Addrs = append(d.Addrs, server.Addr())
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

// admin is a client of each server, for the test itself.
func (s *site) admin() (all []*redis.Client) {
	for _, server := range s.servers {
		all = append(all, redistest.Client(s.tb, server.Options()))
	}
	return all
}

func (s *site) kill()    { s.each((*redistest.Server).Kill) }
func (s *site) restart() { s.each((*redistest.Server).Restart) }
func (s *site) pause()   { s.each((*redistest.Server).Pause) }
func (s *site) resume()  { s.each((*redistest.Server).Resume) }

func (s *site) each(f func(*redistest.Server)) {
	for _, server := range s.servers {
		f(server)
	}
}
