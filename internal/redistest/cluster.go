package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of masters that share the slots evenly.
type Cluster struct {
	Servers []*Server
}

// StartCluster runs a cluster of n masters until the test ends. args are more arguments of each, as [Config].Args. It returns
// when every one of them sees it as whole, and hears what is published on the others: between masters there are connections
// of their own, which come up later.
func StartCluster(tb testing.TB, n int, args ...string) *Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := &Cluster{}
	clients := make([]*redis.Client, n)
	for i := range n {
		s := Start(tb, Config{Cluster: true, Args: args})
		c.Servers = append(c.Servers, s)
		clients[i] = s.Client()
		from, to := i*16384/n, (i+1)*16384/n-1
		if err := clients[i].ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		meet := []any{"cluster", "meet", "127.0.0.1", c.Servers[0].port, c.Servers[0].bus}
		if err := clients[i].Do(ctx, meet...).Err(); i > 0 && err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
	}
	whole(ctx, tb, clients)
	return c
}

// whole returns when every one of the servers sees all of them, and hears what is published on the others.
func whole(ctx context.Context, tb testing.TB, clients []*redis.Client) {
	tb.Helper()
	for _, rdb := range clients {
		for {
			info, err := rdb.ClusterInfo(ctx).Result()
			if err != nil {
				tb.Fatalf("redistest: cluster: %v", err)
			}
			if strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(clients))+"\r\n") {
				break
			}
			time.Sleep(20 * time.Millisecond) // there is nothing to wait for but the state itself
		}
	}
	for _, rdb := range clients {
		hearsAll(ctx, tb, rdb, clients)
	}
}

// Add runs n more servers, which have no slots, until the test ends. It returns when all know them.
func (c *Cluster) Add(tb testing.TB, n int) []*Server {
	tb.Helper()
	ctx := Within(tb, 30*time.Second)
	var added []*Server
	for range n {
		s := Start(tb, Config{Cluster: true})
		for _, known := range c.Servers {
			if err := s.Client().Do(ctx, "cluster", "meet", "127.0.0.1", known.port, known.bus).Err(); err != nil {
				tb.Fatalf("redistest: cluster: %v", err)
			}
		}
		c.Servers, added = append(c.Servers, s), append(added, s)
	}
	var clients []*redis.Client
	for _, s := range c.Servers {
		clients = append(clients, Client(tb, s.Options()))
	}
	whole(ctx, tb, clients)
	return added
}

// Replicate makes a server without slots the replica of a master, and returns when that lists it.
func (c *Cluster) Replicate(tb testing.TB, replica, master *Server) {
	tb.Helper()
	ctx := Within(tb, 30*time.Second)
	id, err := master.Client().Do(ctx, "cluster", "myid").Text()
	if err != nil {
		tb.Fatalf("redistest: cluster: %v", err)
	}
	if err := replica.Client().ClusterReplicate(ctx, id).Err(); err != nil {
		tb.Fatalf("redistest: cluster: %v", err)
	}
	rdb := master.Client()
	for {
		slots, err := rdb.Do(ctx, "cluster", "slots").Result()
		if err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		if strings.Contains(fmt.Sprint(slots), " "+strconv.Itoa(replica.port)+" ") {
			return
		}
		time.Sleep(20 * time.Millisecond) // there is nothing to wait for but the state itself
	}
}

// hearsAll returns when what is published on any of the others arrives at rdb's server.
func hearsAll(ctx context.Context, tb testing.TB, rdb *redis.Client, others []*redis.Client) {
	tb.Helper()
	const channel = "redistest"
	ps := rdb.Subscribe(ctx, channel)
	defer ps.Close()
	if _, err := ps.Receive(ctx); err != nil { // the confirmation
		tb.Fatalf("redistest: cluster: %v", err)
	}
	messages := ps.Channel()
	for i, other := range others {
		for heard := false; !heard; {
			if err := other.Publish(ctx, channel, i).Err(); err != nil {
				tb.Fatalf("redistest: cluster: %v", err)
			}
			select {
			case m := <-messages:
				heard = m.Payload == strconv.Itoa(i)
			case <-time.After(20 * time.Millisecond): // it was lost: again
			}
		}
	}
}

// Client is a client of the cluster with the settings that package redisadapter recommends, closed when the test ends.
func (c *Cluster) Client() *redis.ClusterClient { return c.ClientOf(c.Servers...) }

// ClientOf is a [Cluster.Client] that is told of some of the servers.
func (c *Cluster) ClientOf(seeds ...*Server) *redis.ClusterClient {
	o := c.Servers[0].Options()
	addrs := make([]string, len(seeds))
	for i, s := range seeds {
		addrs[i] = s.Addr()
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, Protocol: o.Protocol, DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries,
		ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, ContextTimeoutEnabled: true,
		PoolSize:                   1000, // after as many failures go-redis leaves a goroutine for a second
		ClusterStateReloadInterval: 2 * time.Second, MaintNotificationsConfig: o.MaintNotificationsConfig,
	})
	c.Servers[0].tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// MoveSlots gives the slots from first to last to another master, while clients go on. from is their master.
func (c *Cluster) MoveSlots(tb testing.TB, first, last int, from, to *Server) {
	tb.Helper()
	ctx := Within(tb, 30*time.Second)
	id := func(s *Server) string {
		id, err := s.Client().Do(ctx, "cluster", "myid").Text()
		if err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		return id
	}
	fromID, toID := id(from), id(to)
	set := func(s *Server, args ...any) {
		pipe := s.Client().Pipeline()
		for slot := first; slot <= last; slot++ {
			pipe.Do(ctx, append([]any{"cluster", "setslot", slot}, args...)...)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
	}
	set(to, "importing", fromID)
	set(from, "migrating", toID)
	for _, s := range append([]*Server{to, from}, c.Servers...) {
		set(s, "node", toID)
	}
}

// CutBus closes the connections over which the servers pass messages on to each other; they make new ones.
func (c *Cluster) CutBus(tb testing.TB) {
	tb.Helper()
	clients, ids := make([]*redis.Client, len(c.Servers)), make([]string, len(c.Servers))
	for i, s := range c.Servers {
		clients[i] = Client(tb, s.Options())
		id, err := clients[i].Do(tb.Context(), "cluster", "myid").Text()
		if err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		ids[i] = id
	}
	for i, rdb := range clients {
		for k, id := range ids {
			if i == k { // a server has no connection to itself, and this one's answer is to crash
				continue
			}
			if err := rdb.Do(tb.Context(), "debug", "clusterlink", "kill", "to", id).Err(); err != nil {
				tb.Fatalf("redistest: cluster: %v", err)
			}
		}
	}
}
