package redisadapter_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
)

// TestConformance runs the rules of a driver, with a client for each node.
func TestConformance(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		var clusters atomic.Int64
		adaptertest.Run(t, adaptertest.Harness{New: func(tb testing.TB) adaptertest.Cluster {
			prefix := fmt.Sprintf("cluster%d", clusters.Add(1))
			var all []*redistest.Lines
			published := new(redistest.Publications)
			stranger := redistest.Client(tb, options())
			return adaptertest.Cluster{
				Adapter: func() crosscast.Adapter {
					o, l := options(), new(redistest.Lines)
					o.Dialer = l.Dial
					all = append(all, l)
					rdb := redistest.Client(tb, o)
					rdb.AddHook(published)
					return redisadapter.New(rdb, redisadapter.Options{Prefix: prefix})
				},
				Cut:     func(i int) { all[i].Cut(true) },
				Restore: func(i int) { all[i].Cut(false) },
				Deafen:  func(i int) { all[i].Deafen() },
				Peek: func() (packets []adaptertest.Packet) {
					for _, p := range published.Seen() {
						packets = append(packets, adaptertest.Packet{Topic: p.Channel, Data: p.Data})
					}
					return packets
				},
				Inject: func(p adaptertest.Packet) {
					if err := stranger.Publish(redistest.Within(tb, redistest.Patience), p.Topic, p.Data).Err(); err != nil {
						tb.Errorf("publishing as a stranger: %v", err)
					}
				},
			}
		}})
	})
}
