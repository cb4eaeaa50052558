package conformance_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestConformanceOfShards runs the rules of a driver over three Redises, without order between names.
func TestConformanceOfShards(t *testing.T) {
	servers := []*redistest.Server{redistest.Start(t, redistest.Strict), redistest.Start(t, redistest.Strict), redistest.Start(t, redistest.Strict)}
	var clusters atomic.Int64
	adaptertest.Run(t, adaptertest.Harness{
		Patience: 3 * redistest.Patience / 2,
		Lacks:    map[adaptertest.Capability]string{adaptertest.CapOrder: "Redises do not know each other"},
		Exceptions: map[string]string{
			"driver-heard":      "it is the latest time of the shards, which note theirs at different moments",
			"outage-of-another": "links break one after the other, and what a node could not publish on one may be a loss that its peers report",
		},
		New: func(tb testing.TB) adaptertest.Cluster {
			name := fmt.Sprint("cluster", clusters.Add(1))
			var all [][]*redistest.Lines
			each := func(i int, f func(*redistest.Lines)) {
				for _, l := range all[i] {
					f(l)
				}
			}
			return adaptertest.Cluster{ // without Deafen: each shard's link would be replaced at a moment of its own
				Adapter: func() crosscast.Adapter {
					var shards []redisadapter.Shard
					var lines []*redistest.Lines
					for i, server := range servers {
						o := server.Options()
						l := &redistest.Lines{TLS: o.TLSConfig}
						o.Dialer, o.ReadTimeout, o.WriteTimeout = l.Dial, redistest.Patience, redistest.Patience
						lines = append(lines, l)
						shards = append(shards, redisadapter.Shard{Name: fmt.Sprint("redis", i), Client: redistest.Client(tb, o)})
					}
					all = append(all, lines)
					return redisadapter.NewShards(shards, redisadapter.Options{Prefix: name, PublishTimeout: redistest.Patience})
				},
				Cut:     func(i int) { each(i, func(l *redistest.Lines) { l.Cut(true) }) },
				Restore: func(i int) { each(i, func(l *redistest.Lines) { l.Cut(false) }) },
			}
		},
	})
}

// TestConformanceOfSharded runs the rules of a driver over the sharded Pub/Sub of three masters, without order between
// names; with CROSSCAST_SHARDED=all, all of them.
func TestConformanceOfSharded(t *testing.T) {
	c := redistest.StartCluster(t, 3)
	exceptions := map[string]string{
		"driver-heard":      "it is the latest time of the parts, which note theirs at different moments",
		"outage-of-another": "links break one after the other, and what a node could not publish on one may be a loss that its peers report",
	}
	for name := range adaptertest.Rules() {
		kind, _, _ := strings.Cut(name, "-")
		if !slices.Contains([]string{"driver", "start", "commands", "order", "once"}, kind) && os.Getenv("CROSSCAST_SHARDED") != "all" {
			exceptions[name] = "TestConformance checks it; with CROSSCAST_SHARDED=all so does this"
		}
	}
	var clusters atomic.Int64
	adaptertest.Run(t, adaptertest.Harness{
		Patience:   3 * redistest.Patience / 2,
		Lacks:      map[adaptertest.Capability]string{adaptertest.CapOrder: "rooms are on several masters"},
		Exceptions: exceptions,
		New: func(tb testing.TB) adaptertest.Cluster {
			name := fmt.Sprint("cluster", clusters.Add(1))
			var all []*redistest.Lines
			return adaptertest.Cluster{ // without Deafen: each part's link would be replaced at a moment of its own
				Adapter: func() crosscast.Adapter {
					l := &redistest.Lines{}
					all = append(all, l)
					o := c.Servers[0].Options()
					rdb := redis.NewClusterClient(&redis.ClusterOptions{
						Addrs: []string{o.Addr}, Protocol: o.Protocol, ContextTimeoutEnabled: true, DialerRetries: 1, Dialer: l.Dial, PoolSize: 1000,
						ReadTimeout: redistest.Patience, WriteTimeout: redistest.Patience, MaintNotificationsConfig: o.MaintNotificationsConfig,
					})
					tb.Cleanup(func() { _ = rdb.Close() })
					return redisadapter.New(rdb, redisadapter.Options{Prefix: name, PublishTimeout: redistest.Patience, Sharded: true})
				},
				Cut:     func(i int) { all[i].Cut(true) },
				Restore: func(i int) { all[i].Cut(false) },
			}
		},
	})
}
