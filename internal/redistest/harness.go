package redistest

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
)

// Harness makes clusters for package adaptertest, which share the server of options. adapter makes the adapter of one
// node over a client of its own; name is the cluster's. sharded is whether it uses sharded Pub/Sub.
func Harness(
	options func() *redis.Options, sharded bool, adapter func(rdb *redis.Client, name string) crosscast.Adapter,
) adaptertest.Harness {
	var clusters atomic.Int64
	return adaptertest.Harness{New: func(tb testing.TB) adaptertest.Cluster {
		name := fmt.Sprintf("cluster%d", clusters.Add(1))
		var all []*Lines
		published := new(Publications)
		stranger := Client(tb, options())
		publish := stranger.Publish
		if sharded {
			publish = stranger.SPublish
		}
		return adaptertest.Cluster{
			Adapter: func() crosscast.Adapter {
				o, l := options(), new(Lines)
				o.Dialer = l.Dial
				all = append(all, l)
				rdb := Client(tb, o)
				rdb.AddHook(published)
				return adapter(rdb, name)
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
				if err := publish(Within(tb, Patience), p.Topic, p.Data).Err(); err != nil {
					tb.Errorf("publishing as a stranger: %v", err)
				}
			},
		}
	}}
}
