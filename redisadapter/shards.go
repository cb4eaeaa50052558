package redisadapter

import (
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// A Shard is one of several Redises that do not know each other.
type Shard struct {
	// Name decides which rooms and users are on the shard: 1 to 32 letters, digits and -_. of ASCII. Keep it when the
	// Redis moves to another address.
	Name string
	// Client is as for [New].
	Client redis.UniversalClient
}

// NewShards returns an adapter for one node over several Redises. Each room and each user is on one of them, by the hash
// of its name. If one is down, the rooms of the others go on. See [wire.NewParts] for what holds, and docs/scale.md for
// when to use it.
//
// All nodes and emitters need the same shards, by their names, in any order: others are reported as a gap (reason
// "routing"). Options are for each shard: each has a queue of QueueBytes, for example. Credentials are an error, as for
// [New], and so is Sharded. With Ingress, programs may publish on any shard.
func NewShards(shards []Shard, o Options) *wire.Parts {
	err := onlyDial(o)
	if o.Sharded {
		err = errors.New("crosscast/redisadapter: Options.Sharded is for a Redis Cluster, and NewShards for several Redises: choose one")
	}
	parts := make([]wire.Part, len(shards))
	for i, s := range shards {
		parts[i] = wire.Part{Name: s.Name, Bus: newBus(s.Client, &o, redisbus.Config{Err: err})}
	}
	return wire.NewParts(parts, o.wire())
}
