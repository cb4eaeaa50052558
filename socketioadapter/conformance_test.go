package socketioadapter_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/adaptertest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestConformance runs the rules of a driver in each mode, with a client for each node. On real servers, each node's user
// has exactly the permissions in this package's documentation. miniredis has no sharded Pub/Sub.
func TestConformance(t *testing.T) {
	run := func(t *testing.T, o socketioadapter.Options, options func() *redis.Options) {
		d := redistest.Driver{
			Rules: func(cluster string) string {
				return "resetchannels &" + cluster + "* +publish +subscribe +unsubscribe +ping +pubsub +role"
			},
			Adapter: func(rdb *redis.Client, cluster string) crosscast.Adapter {
				o.Key, o.PublishTimeout = cluster, redistest.Patience
				return socketioadapter.New(rdb, o)
			},
		}
		if o.Mode == socketioadapter.Sharded {
			d.Sharded = true
			d.Rules = func(cluster string) string {
				return "resetchannels &" + cluster + "#* +spublish +ssubscribe +sunsubscribe +ping +pubsub +role"
			}
		}
		h := redistest.Harness(options, d)
		h.Lacks = lacks(o)
		adaptertest.Run(t, h)
	}
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		s := redistest.Start(t, redistest.Strict)
		run(t, o, func() *redis.Options {
			options := s.Options()
			options.ConnMaxIdleTime = 400 * time.Millisecond // less than the server's time-out, because nothing is sent twice
			return options
		})
	})
	t.Run("miniredis", func(t *testing.T) { run(t, classic, redistest.Mini(t)) })
}

// lacks are the capabilities that Socket.IO cannot have; doc.go lists them for users.
func lacks(o socketioadapter.Options) map[adaptertest.Capability]string {
	all := map[adaptertest.Capability]string{
		adaptertest.CapExactJSON:      "values travel as msgpack, or are written as JavaScript does",
		adaptertest.CapMsgPack:        "all values travel as msgpack, and arrive as JSON",
		adaptertest.CapSeparateSpaces: "Socket.IO has one space of names, in which a socket and a user are rooms",
		adaptertest.CapMeta:           "messages of Socket.IO have no place for it",
		adaptertest.CapOneNode:        "what is for one server goes to all",
		adaptertest.CapNodes:          "servers do not introduce themselves",
		adaptertest.CapReasons:        "servers only tell whether the connection is to be closed, too",
		adaptertest.CapPresence:       "servers do not tell who comes and goes",
		adaptertest.CapHoles:          "messages of Socket.IO have no numbers",
	}
	if o.Mode == socketioadapter.Sharded && o.Subscription != socketioadapter.DynamicPrivate {
		all[adaptertest.CapSocketInterest] = "a socket has no channel of its own, in this subscription mode"
		if o.Subscription == socketioadapter.Static {
			all[adaptertest.CapInterest] = "a room has no channel of its own, in this subscription mode"
		}
	}
	return all
}
