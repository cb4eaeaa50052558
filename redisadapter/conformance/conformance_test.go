// Package conformance_test runs the rules of adaptertest over redisadapter. It is apart from the other tests of redisadapter
// so that it may run beside them.
package conformance_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/wire"
)

// TestConformance runs the rules of a driver, with a client for each node. On real servers, each node's user has exactly
// the permissions in the documentation of redisadapter.
func TestConformance(t *testing.T) {
	redistest.OnEachServer(t, func(t *testing.T, options func() *redis.Options) {
		adaptertest.Run(t, redistest.Harness(options, driver))
	})
}

var driver = redistest.Driver{
	Rules: func(cluster string) string {
		return "resetchannels &" + cluster + ":* +publish +subscribe +unsubscribe +ping +role"
	},
	Adapter: func(rdb *redis.Client, cluster string) crosscast.Adapter {
		return redisadapter.New(rdb, redisadapter.Options{Prefix: cluster, PublishTimeout: redistest.Patience})
	},
}

// TestConformanceOfTopics does the same with rooms that share channels, without the rules about interest; and with a seal.
func TestConformanceOfTopics(t *testing.T) {
	shared := driver
	shared.Adapter = func(rdb *redis.Client, cluster string) crosscast.Adapter {
		return redisadapter.New(rdb, redisadapter.Options{Prefix: cluster, PublishTimeout: redistest.Patience, Topics: 64, Seal: sealed})
	}
	h := redistest.Harness(redistest.Start(t, redistest.Strict).Options, shared)
	h.Lacks = map[adaptertest.Capability]string{
		adaptertest.CapInterest: "a node gets what others with the same channel have members for",
	}
	adaptertest.Run(t, h)
}

var sealed = wire.Seal{Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, Require: true}

// TestConformanceOfOthers does the same on servers of other makes, where they are installed. They are not part of CI.
func TestConformanceOfOthers(t *testing.T) {
	for _, program := range []string{"valkey-server", "keydb-server"} {
		t.Run(program, func(t *testing.T) {
			config := redistest.Strict
			config.Program = program
			adaptertest.Run(t, redistest.Harness(redistest.Start(t, config).Options, driver))
		})
	}
}

// TestConformanceElsewhere does the same on the server of a URL, with the user of the URL for all nodes.
func TestConformanceElsewhere(t *testing.T) {
	url := os.Getenv("CROSSCAST_REDIS")
	if url == "" {
		t.Skip("NOT RUN: CROSSCAST_REDIS is not set")
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	d := driver
	d.Rules = nil
	adaptertest.Run(t, redistest.Harness(func() *redis.Options { o := *options; return &o }, d))
}
