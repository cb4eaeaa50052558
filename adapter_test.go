package crosscast_test

import (
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/redisadapter"
)

// The rules of a driver on the in-process adapter, which has no link to cut.
func TestInProcessAdapter(t *testing.T) {
	adaptertest.Run(t, adaptertest.Harness{New: func(testing.TB) adaptertest.Cluster {
		return adaptertest.Cluster{Adapter: crosscast.NewCluster().Adapter}
	}})
}

// The same with one client for all nodes. What links do when they break is tested in redisadapter.
func TestRedisAdapter(t *testing.T) {
	server := miniredis.RunT(t)
	clusters := 0
	adaptertest.Run(t, adaptertest.Harness{New: func(tb testing.TB) adaptertest.Cluster {
		clusters++
		prefix := fmt.Sprintf("cluster%d", clusters)
		rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, ContextTimeoutEnabled: true})
		tb.Cleanup(func() { _ = rdb.Close() })
		return adaptertest.Cluster{Adapter: func() crosscast.Adapter {
			return redisadapter.New(rdb, redisadapter.Options{Prefix: prefix})
		}}
	}})
}
