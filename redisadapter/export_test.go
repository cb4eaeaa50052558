package redisadapter

import (
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// NewBus is what New makes an adapter of.
func NewBus(rdb redis.UniversalClient, prefix string) wire.Bus { return newBus(rdb, prefix) }
