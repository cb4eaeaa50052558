package socketioadapter

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// NewDialect is what New makes an adapter of. It counts no servers.
func NewDialect(o Options) wire.Dialect {
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	return newDialect(o, &census{before: make(map[string]int)})
}

// Dropped returns how many questions and answers a dialect has dropped, by reason.
func Dropped(d wire.Dialect) map[string]uint64 {
	all := make(map[string]uint64)
	d.(*dialect).addDropped(all)
	return all
}

// Census counts servers, without an adapter.
type Census struct{ c *census }

// NewCensus returns the census of a node that calls itself uid; link reports whether its link is proven.
func NewCensus(rdb redis.UniversalClient, o Options, uid string, emitter bool, link func() bool) Census {
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	ch := &channels{key: o.Key, sharded: o.Mode == Sharded, self: uid, emitter: emitter}
	return Census{&census{rdb: rdb, channels: ch, proven: link, before: make(map[string]int)}}
}

func (c Census) Count(ctx context.Context, ns string, again bool) (int, error) {
	return c.c.count(ctx, ns, again)
}
func (c Census) Run(ctx context.Context)    { c.c.run(ctx) }
func (c Census) Watch(ns string)            { c.c.watch(ns) }
func (c Census) Recovered()                 { c.c.recovered() }
func (c Census) Gather(ctx context.Context) { c.c.gather(ctx) }
