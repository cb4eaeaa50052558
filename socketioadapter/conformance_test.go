package socketioadapter_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestConformance runs the rules of a driver in each mode, with a client for each node. miniredis has no sharded
// Pub/Sub.
func TestConformance(t *testing.T) {
	run := func(t *testing.T, o socketioadapter.Options, options func() *redis.Options) {
		adaptertest.Run(t, adaptertest.Harness{New: newCluster(o, options)})
	}
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		run(t, o, redistest.Start(t, redistest.Config{}).Options)
	})
	t.Run("miniredis", func(t *testing.T) { run(t, classic, redistest.Mini(t)) })
}

// newCluster makes clusters for adaptertest, which share a server.
func newCluster(o socketioadapter.Options, options func() *redis.Options) func(testing.TB) adaptertest.Cluster {
	var clusters atomic.Int64
	return func(tb testing.TB) adaptertest.Cluster {
		o := o
		o.Key = fmt.Sprintf("cluster%d", clusters.Add(1))
		var all []*redistest.Lines
		published := new(redistest.Publications)
		stranger := redistest.Client(tb, options())
		return adaptertest.Cluster{
			Adapter: func() crosscast.Adapter {
				ro, l := options(), new(redistest.Lines)
				ro.Dialer = l.Dial
				all = append(all, l)
				rdb := redistest.Client(tb, ro)
				rdb.AddHook(published)
				return socketioadapter.New(rdb, o)
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
				publish := stranger.Publish
				if o.Mode == socketioadapter.Sharded {
					publish = stranger.SPublish
				}
				if err := publish(redistest.Within(tb, redistest.Patience), p.Topic, p.Data).Err(); err != nil {
					tb.Errorf("publishing as a stranger: %v", err)
				}
			},
		}
	}
}
