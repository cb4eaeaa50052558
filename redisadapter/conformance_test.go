package redisadapter_test

import (
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
		adaptertest.Run(t, redistest.Harness(options, false, func(rdb *redis.Client, name string) crosscast.Adapter {
			return redisadapter.New(rdb, redisadapter.Options{Prefix: name, PublishTimeout: redistest.Patience})
		}))
	})
}
