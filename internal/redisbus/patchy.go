package redisbus

import (
	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// Patchy implements wire.Patchy. The masters of a Redis Cluster pass messages on over their own connections. If one of
// these breaks, the messages on it are lost, and this is not reported.
func (b *bus) Patchy() bool {
	_, cluster := b.rdb.(*redis.ClusterClient)
	return cluster
}

// Patchy implements wire.Patchy. An echo comes back from one master, and proves nothing about the others.
func (s *shards) Patchy() bool { return true }

var (
	_ wire.Patchy = (*bus)(nil)
	_ wire.Patchy = (*shards)(nil)
)
