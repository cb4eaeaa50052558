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
