package redisbus_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// TestServersThatLackTheMode: a node on a server, or behind a proxy, without the Pub/Sub that it needs does not start.
// The error names what is lacking. The same holds for a client that is not made for the server.
func TestServersThatLackTheMode(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	lacking := func(reply string, commands ...string) redis.UniversalClient {
		o := s.Options()
		o.Addr = redistest.Lacking(t, s.Addr(), reply, commands...)
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redistest.Patience, redistest.Patience, redistest.Patience
		return redistest.Client(t, o)
	}
	const redisSays = "ERR unknown command '%s', with args beginning with: 'cc:all' "
	c := redistest.StartCluster(t, 3)
	clusterOfOne := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr()}})
	t.Cleanup(func() { _ = clusterOfOne.Close() })
	for name, tt := range map[string]struct {
		rdb     redis.UniversalClient
		sharded bool
		says    []string
	}{
		"no subscribe": {rdb: lacking(redisSays, "subscribe"), says: []string{"lacks Pub/Sub", "'subscribe'"}},
		"no publish":   {rdb: lacking(redisSays, "publish"), says: []string{"lacks Pub/Sub", "'publish'"}},
		"a proxy that says so": {
			rdb:  lacking("ERR unsupported command '%s'", "subscribe", "unsubscribe"),
			says: []string{"lacks Pub/Sub", "'subscribe'"},
		},
		"a proxy that hangs up": {rdb: lacking("", "subscribe"), says: []string{"at the first subscribe", "lack Pub/Sub?"}},
		"no ssubscribe": {
			rdb: lacking(redisSays, "ssubscribe"), sharded: true,
			says: []string{"lacks sharded Pub/Sub, which Redis has since 7.0", "'ssubscribe'"},
		},
		"no spublish": {
			rdb: lacking(redisSays, "spublish"), sharded: true,
			says: []string{"lacks sharded Pub/Sub, which Redis has since 7.0", "'spublish'"},
		},
		"no cluster":          {rdb: clusterOfOne, says: []string{"not part of a Redis Cluster", "give the adapter a redis.Client"}},
		"no cluster, sharded": {rdb: clusterOfOne, sharded: true, says: []string{"not part of a Redis Cluster"}},
		"one server of a cluster, sharded": {
			rdb: redistest.Client(t, c.Servers[0].Options()), sharded: true, says: []string{"MOVED", "needs a redis.ClusterClient"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bus := redisbus.New(tt.rdb, redisbus.Config{Anchor: "cc", Needs: "everything", Sharded: tt.sharded})
			a := wire.New(bus, wire.Options{Prefix: "cc"})
			node, err := crosscast.Start(redistest.Within(t, redistest.Patience), crosscast.Options{Adapter: a})
			if err == nil {
				_ = node.Close(context.Background())
				t.Fatal("it starts")
			}
			mustContain(t, err, append(tt.says, "redis")...)
			if errors.Is(err, context.DeadlineExceeded) { // it is not tried again until then
				t.Error(err)
			}
		})
	}
}

// TestNoHintAtAnotherError: any other error stays as it is.
func TestNoHintAtAnotherError(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	o := s.Options()
	o.Addr = redistest.Lacking(t, s.Addr(), "ERR %s is not today's word", "subscribe")
	l := listen(t, newBus(redistest.Client(t, o)))
	if err := l.link.Subscribe([]string{"cc:a"}); err != nil {
		t.Fatal(err)
	}
	<-l.ended
	if got, want := l.err.Error(), "the link to redis at "+o.Addr+": ERR subscribe is not today's word"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
