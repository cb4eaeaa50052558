package redisbus

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// Remote is the address of the server that a link is connected to.
func Remote(l wire.Link) string { return l.(*link).remote() }

// SubscriberOptions are those of the client that a link of b would have.
func SubscriberOptions(ctx context.Context, b wire.Bus) (*redis.Options, error) {
	c, err := b.(*bus).subscriber(ctx, new(line))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Options(), nil
}

// Join makes one link of a link to each master.
func Join(rdb *redis.ClusterClient, links map[string]wire.Link) wire.Link {
	return (&shards{Config: Config{Sharded: true}, rdb: rdb}).join(links)
}
