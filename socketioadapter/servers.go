package socketioadapter

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/redisbus"
)

// eachServer calls f for each server of Redis, concurrently, because one server does not count the subscribers of
// others. In a Redis Cluster it calls f for all servers that the cluster's servers know at that moment: go-redis does
// not list a server that has no slots, or is not known as a replica yet, but others might be subscribed there. A server
// that could not be queried is an error, unless the cluster has given it up.
func (s *counter) eachServer(ctx context.Context, f func(context.Context, redis.UniversalClient) error) error {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return f(ctx, s.rdb)
	}
	r := round{f: f, asked: make(map[string]bool), listed: make(map[string]string)}
	err := cluster.ForEachShard(ctx, func(ctx context.Context, rdb *redis.Client) error {
		r.ask(ctx, rdb)
		return nil
	})
	r.askOthers(ctx, &s.others)
	return errors.Join(append(r.errs, err)...)
}

// round is one query of every server of a cluster.
type round struct {
	f func(context.Context, redis.UniversalClient) error

	mu      sync.Mutex        // guards the fields below
	asked   map[string]bool   // by a server's ID
	listed  map[string]string // addresses, by ID
	options *redis.Options    // of one of the clients
	errs    []error
}

// ask queries a server for the members of the cluster. Then it calls f, unless that was done by another address
// already.
func (r *round) ask(ctx context.Context, rdb *redis.Client) {
	text, err := rdb.ClusterNodes(ctx).Result()
	if err != nil {
		r.fail(rdb, err)
		return
	}
	if r.enter(rdb, text) {
		if err := r.f(ctx, rdb); err != nil {
			r.fail(rdb, err)
		}
	}
}

func (r *round) fail(rdb *redis.Client, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, errtext.Errorf("redis at %s: %w", rdb.Options().Addr, err))
}

// enter records a server's answer, and reports whether it is the server's first one.
func (r *round) enter(rdb *redis.Client, nodes string) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.options = rdb.Options()
	for line := range strings.Lines(nodes) {
		// <id> <ip:port@cport[,hostname]> <flags> …
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		id, flags := fields[0], strings.Split(fields[2], ",")
		if slices.Contains(flags, "myself") {
			first = !r.asked[id]
			r.asked[id] = true
			continue
		}
		given := func(flag string) bool { return flag == "fail" || flag == "noaddr" || flag == "handshake" }
		address, _, _ := strings.Cut(fields[1], "@")
		if i := strings.LastIndexByte(address, ':'); i > 0 && !slices.ContainsFunc(flags, given) {
			r.listed[id] = net.JoinHostPort(address[:i], address[i+1:])
		}
	}
	return first
}

// askOthers queries the listed servers that were not queried yet, and the servers that these list, until there are no
// more.
func (r *round) askOthers(ctx context.Context, known *serverClients) {
	tried := make(map[string]bool)
	for {
		others := make(map[string]string)
		r.mu.Lock()
		for id, address := range r.listed {
			if !r.asked[id] && !tried[id] {
				others[id] = address
			}
		}
		options := r.options
		r.mu.Unlock()
		if len(others) == 0 {
			known.keep(slices.Collect(maps.Values(r.listed)))
			return
		}
		var wg sync.WaitGroup
		for id, address := range others {
			tried[id] = true
			wg.Go(func() { r.ask(ctx, known.of(address, options)) })
		}
		wg.Wait()
	}
}

// serverClients has a client for each server that go-redis does not list. Its methods may be called concurrently.
type serverClients struct {
	mu sync.Mutex // guards the field below
	at map[string]*redis.Client
}

// of returns the client of the server at an address. A new one gets options, those of another server.
func (c *serverClients) of(address string, options *redis.Options) *redis.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	rdb := c.at[address]
	if rdb == nil {
		o := redisbus.OptionsOf(options)
		o.Addr, o.MinIdleConns = address, 0
		rdb = redis.NewClient(&o)
		if c.at == nil {
			c.at = make(map[string]*redis.Client)
		}
		c.at[address] = rdb
	}
	return rdb
}

// keep closes the clients of all servers except those at these addresses.
func (c *serverClients) keep(addresses []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for address, rdb := range c.at {
		if !slices.Contains(addresses, address) {
			_ = rdb.Close() // nothing can be lost in it
			delete(c.at, address)
		}
	}
}
