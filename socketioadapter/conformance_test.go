package socketioadapter_test

import (
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
		sharded := o.Mode == socketioadapter.Sharded
		adaptertest.Run(t, redistest.Harness(options, sharded, func(rdb *redis.Client, name string) crosscast.Adapter {
			o.Key, o.PublishTimeout = name, redistest.Patience
			return socketioadapter.New(rdb, o)
		}))
	}
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		run(t, o, redistest.Start(t, redistest.Config{}).Options)
	})
	t.Run("miniredis", func(t *testing.T) { run(t, classic, redistest.Mini(t)) })
}
