package socketioadapter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
)

// eachServer calls f for each server of Redis, concurrently; on one the subscribers of others do not count. Of a Redis
// Cluster these are all that its servers themselves know at that moment: a client may be connected, and others may be
// subscribed, to one that go-redis does not list, because it has no slots, or is not known as a replica yet. One that
// could not be asked is an error, unless the cluster has given it up.
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

// round is one time that every server of a cluster is asked.
type round struct {
	f func(context.Context, redis.UniversalClient) error

	mu      sync.Mutex        // guards what follows
	asked   map[string]bool   // by a server's ID
	listed  map[string]string // addresses, by ID
	options *redis.Options    // of one of the clients
	errs    []error
}

// ask asks a server who is in the cluster, and then calls f, unless that was done already by another address.
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
	r.errs = append(r.errs, fmt.Errorf("redis at %s: %w", rdb.Options().Addr, err))
}

// enter enters what a server says, and reports whether it says so for the first time.
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

// askOthers asks those who are listed and were not asked, and those whom they list, until there are no more.
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

// serverClients are those of the servers that go-redis does not list, one of each. Their methods may be called
// concurrently.
type serverClients struct {
	mu sync.Mutex // guards what follows
	at map[string]*redis.Client
}

// of returns the client of the server at an address, with the options of another's.
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

// keep closes the clients of all servers but those at these addresses; without any, of all.
func (c *serverClients) keep(addresses []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for address, rdb := range c.at {
		if !slices.Contains(addresses, address) {
			_ = rdb.Close() // it has nothing that could be lost
			delete(c.at, address)
		}
	}
}
