package redisbus

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// This file finds the present server of the bus, and stops the use of connections to an old one. Sentinel, the slots of
// a Cluster, or a DNS name might lead to another server while connections to the old one still work.

// askTimeout is the time limit of each query about the topology.
const askTimeout = time.Second

// topology is the state of the server that the bus uses.
type topology struct {
	newest  atomic.Pointer[link]        // the link that was dialled last
	master  atomic.Pointer[string]      // in a Redis Cluster: the address of the last master for publishing
	replica atomic.Bool                 // the server has called itself a replica, and that counted as a move once
	asked   atomic.Pointer[chan string] // gets the server's role with the next batch; nil: there is no query
	left    atomic.Int32                // pooled connections that must not be used again: one of the constants below
}

const (
	leftNothing   int32 = iota
	leftPipelines       // connections of the client's pool for pipelines
	leftAll             // also those of its other pool, which pipelines use if theirs is exhausted
)

// dialled notes a new link. After the first link, it also makes publishing use new connections: the pool might have
// connections to another server, and only missing messages would show that.
func (t *topology) dialled(l *link) {
	if t.newest.Swap(l) != nil {
		t.left.CompareAndSwap(leftNothing, leftPipelines)
	}
}

// Moved implements wire.Mover. The server has changed if one of these holds:
//
//   - a new connection leads to another address;
//   - the anchor's slot has another master;
//   - the server says that it is a replica, if the user may query that. This counts once, because a replica that is
//     used on purpose would be found again. After that, a new connection to a server that is no replica counts.
func (b *bus) Moved(ctx context.Context, l wire.Link) (bool, error) {
	moved, err := b.moved(ctx, l.(*link))
	if moved {
		b.left.Store(leftAll)
	}
	return moved, Discreet(err)
}

func (b *bus) moved(ctx context.Context, l *link) (bool, error) {
	newest := b.newest.Load() == l
	if c, ok := b.rdb.(*redis.ClusterClient); ok {
		moved, err := b.movedMaster(ctx, c, l, newest)
		if moved || err != nil || !newest {
			return moved, err
		}
		return b.demoted(ctx)
	}
	if !newest {
		return b.another(ctx, l.remote(), b.newest.Load().remote()), nil
	}
	far, err := within(ctx, b.whereTo)
	if err == nil && b.another(ctx, l.remote(), far) {
		return true, nil
	}
	demoted, roleErr := b.demoted(ctx)
	if demoted {
		return true, nil
	}
	return false, errors.Join(err, roleErr)
}

// within calls f. It returns when f does, or after askTimeout, because go-redis does not always obey a context.
func within[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		v, err := f(ctx)
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// whereTo returns the address that a new connection leads to.
func (b *bus) whereTo(ctx context.Context) (string, error) {
	c, ok := b.rdb.(interface{ Options() *redis.Options })
	if !ok {
		return "", nil
	}
	o := c.Options()
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.RemoteAddr().String(), nil
}

// another reports whether two addresses belong to different servers. A name might have several addresses of one server.
// While the old address is one of them, the server is the same.
func (b *bus) another(ctx context.Context, old, now string) bool {
	if old == "" || now == "" || old == now {
		return false
	}
	c, ok := b.rdb.(interface{ Options() *redis.Options })
	if !ok {
		return true
	}
	host, port, err := net.SplitHostPort(c.Options().Addr)
	oldHost, oldPort, oldErr := net.SplitHostPort(old)
	if err != nil || oldErr != nil || port != oldPort {
		return true
	}
	named, _ := within(ctx, func(ctx context.Context) ([]string, error) { return net.DefaultResolver.LookupHost(ctx, host) })
	return !slices.Contains(named, oldHost)
}

// movedMaster reports whether the anchor's slot has another master than the last one that was used for publishing. With
// reload it first loads the cluster's state, and also reports whether the server of l has left the cluster.
func (b *bus) movedMaster(ctx context.Context, c *redis.ClusterClient, l *link, reload bool) (bool, error) {
	var mu sync.Mutex
	var nodes []string
	if reload {
		_, err := within(ctx, func(ctx context.Context) (any, error) {
			return nil, c.ForEachShard(ctx, func(_ context.Context, node *redis.Client) error { // loads the state first
				mu.Lock()
				defer mu.Unlock()
				nodes = append(nodes, node.Options().Addr)
				return nil
			})
		})
		if err != nil {
			return false, err
		}
	}
	master, err := within(ctx, func(ctx context.Context) (*redis.Client, error) { return c.MasterForKey(ctx, b.Anchor) })
	if err != nil {
		return false, err
	}
	if last := b.master.Load(); last != nil && *last != master.Options().Addr {
		return true, nil
	}
	mu.Lock()
	defer mu.Unlock()
	return c.Options().Dialer == nil && l.remote() != "" && areIPs(nodes) && !slices.Contains(nodes, l.remote()), nil
}

// areIPs reports whether addrs is not empty, and each address has an IP. Other addresses cannot be compared.
func areIPs(addrs []string) bool {
	for _, a := range addrs {
		host, _, err := net.SplitHostPort(a)
		if err != nil || net.ParseIP(host) == nil {
			return false
		}
	}
	return len(addrs) > 0
}

// demoted reports whether the server for publishing is a replica.
func (b *bus) demoted(ctx context.Context) (bool, error) {
	role, err := b.role(ctx)
	if role == "master" {
		b.replica.Store(false)
	}
	if role != "slave" {
		return false, err
	}
	if !b.replica.Swap(true) {
		return true, nil
	}
	// The server was a replica before both halves were replaced. A new connection, perhaps through a proxy, might lead
	// to another server now.
	b.left.CompareAndSwap(leftNothing, leftPipelines)
	role, err = b.role(ctx)
	if role == "master" {
		b.replica.Store(false)
		return true, nil
	}
	return false, err
}

// role returns the role of the server for publishing, in Redis's words; empty if the user may not query it. The query
// goes with the next batch, on the same connection. If there is no batch for askTimeout, it uses a connection of the
// pool.
func (b *bus) role(ctx context.Context) (string, error) {
	answer := make(chan string, 1)
	b.asked.Store(&answer)
	timeout := time.NewTimer(askTimeout)
	defer timeout.Stop()
	select {
	case role := <-answer:
		return role, nil
	case <-ctx.Done():
		return "", ctx.Err()
	case <-timeout.C:
	}
	if !b.asked.CompareAndSwap(&answer, nil) {
		return "", errors.New("redis: no answer to ROLE")
	}
	return within(ctx, func(ctx context.Context) (string, error) {
		c, err := b.publisher(ctx)
		if err != nil {
			return "", err
		}
		b.publishesThrough(ctx, c)
		pipe := c.Pipeline()
		cmd := unrepeated{redis.NewSliceCmd(ctx, "role")}
		_ = pipe.Process(ctx, cmd)
		_, err = pipe.Exec(ctx)
		if isReply(err) {
			err = nil
		}
		return roleIn(cmd), err
	})
}

// withRole adds the query for the server's role to a batch, if a caller of role waits. The caller must call sent after
// it has sent the batch.
func (b *bus) withRole(ctx context.Context, pipe redis.Pipeliner) (sent func()) {
	if b.asked.Load() == nil {
		return func() {}
	}
	asked := b.asked.Swap(nil)
	if asked == nil {
		return func() {}
	}
	cmd := unrepeated{redis.NewSliceCmd(ctx, "role")}
	_ = pipe.Process(ctx, cmd)
	return func() {
		if cmd.Err() == nil || isReply(cmd.Err()) {
			*asked <- roleIn(cmd)
		}
	}
}

// roleIn returns the role in an answer to ROLE; empty: there is none.
func roleIn(cmd unrepeated) string {
	reply, _ := cmd.Result()
	if len(reply) == 0 {
		return ""
	}
	role, _ := reply[0].(string)
	return role
}

// publisher returns the client for publishing. For a ClusterClient it is the client of one master, to keep the order of
// messages.
func (b *bus) publisher(ctx context.Context) (redis.UniversalClient, error) {
	if c, ok := b.rdb.(*redis.ClusterClient); ok {
		return c.MasterForKey(ctx, b.Anchor)
	}
	return b.rdb, nil
}

// publishesThrough notes that c is about to be used for publishing. After a move it first closes c's old connections.
func (b *bus) publishesThrough(ctx context.Context, c redis.UniversalClient) {
	if node, ok := c.(*redis.Client); ok && b.rdb != c {
		if last := b.master.Load(); last == nil || *last != node.Options().Addr {
			b.master.Store(&node.Options().Addr)
		}
	}
	if left := b.left.Load(); left != leftNothing && b.left.CompareAndSwap(left, leftNothing) {
		discard(ctx, c, left)
	}
}

// discard makes a client close the idle connections of its pools. The client has no method for that, and must not be
// closed itself. But it closes a connection if a command cannot be encoded, and it uses idle connections before new
// ones. Nothing is sent. Connections that are in use stay.
func discard(ctx context.Context, c redis.UniversalClient, left int32) {
	stats := c.PoolStats()
	pipelines, others := stats.IdleConns, uint32(0)
	if stats.PipelineStats != nil {
		pipelines = stats.PipelineStats.IdleConns
		if left == leftAll {
			others = stats.IdleConns
		}
	}
	command := func() redis.Cmder { return unrepeated{redis.NewSliceCmd(ctx, "ping", unwritable{})} }
	for range pipelines {
		pipe := c.Pipeline()
		_ = pipe.Process(ctx, command())
		_, _ = pipe.Exec(ctx)
	}
	for range others {
		_ = c.Process(ctx, command())
	}
}

// unrepeated is a command that go-redis sends once.
type unrepeated struct{ *redis.SliceCmd }

// NoRetry makes go-redis send the command once.
func (unrepeated) NoRetry() bool { return true }

// unwritable is an argument that cannot be encoded.
type unwritable struct{}

var errLeft = errors.New("crosscast: this connection is closed, because the server may be another one now")

func (unwritable) MarshalBinary() ([]byte, error) { return nil, errLeft }

// String returns the text for tracing hooks.
func (unwritable) String() string { return "<nothing>" }

// Moved implements wire.Mover. It reports whether the present masters differ from those that l is connected to.
func (s *shards) Moved(ctx context.Context, l wire.Link) (bool, error) {
	var mu sync.Mutex
	var masters []string
	_, err := within(ctx, func(ctx context.Context) (any, error) {
		return nil, s.rdb.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error { // loads the state first
			mu.Lock()
			defer mu.Unlock()
			masters = append(masters, s.of(c).name)
			return nil
		})
	})
	if err != nil {
		return false, Discreet(err)
	}
	mu.Lock()
	defer mu.Unlock()
	has := l.(*shardedLink).links
	return len(masters) != len(has) || slices.ContainsFunc(masters, func(m string) bool { return has[m] == nil }), nil
}

var (
	_ wire.Mover = (*bus)(nil)
	_ wire.Mover = (*shards)(nil)
)
