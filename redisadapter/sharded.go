package redisadapter

import (
	"cmp"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/bounds"
	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// newSharded returns the adapter of Options.Sharded. Its parts are the groups of channels that package redisbus makes, and
// one of plain Pub/Sub for everything else.
func newSharded(rdb redis.UniversalClient, o Options, c redisbus.Config) *wire.Parts {
	home, groups := redisbus.Groups(rdb, o.bus(c, "+spublish +ssubscribe +sunsubscribe "))
	parts := []wire.Part{{Name: "sharded", Bus: home, Home: true}}
	for i, g := range groups {
		parts = append(parts, wire.Part{Name: fmt.Sprintf("group%02d", i), Bus: g})
	}
	p := o.wire()
	const least = 4 << 10
	if q := cmp.Or(o.QueueBytes, 32<<20); least <= q && q <= bounds.MaxSize { // other values are wire's to refuse
		p.QueueBytes = max(q/4, least)
	}
	return wire.NewParts(parts, p)
}
