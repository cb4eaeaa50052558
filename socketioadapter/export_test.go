package socketioadapter

import (
	"context"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/wire"
)

// NewDialect returns the dialect that New uses. It counts no servers.
func NewDialect(o Options) wire.Dialect {
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	return newDialect(o, &counter{before: make(map[string]int)})
}

// Watched returns the namespaces whose servers a dialect counts in case of an outage.
func Watched(d wire.Dialect) []string {
	return slices.Sorted(maps.Keys(d.(*dialect).counter.watched()))
}

// Dropped returns how many questions and answers a dialect has dropped, by reason.
func Dropped(d wire.Dialect) map[string]uint64 {
	all := make(map[string]uint64)
	d.(*dialect).addDropped(all)
	return all
}

// Counter counts servers, without an adapter.
type Counter struct{ c *counter }

// NewCounter returns the counter of a node that calls itself uid; link reports whether its link is proven.
func NewCounter(rdb redis.UniversalClient, o Options, uid string, emitter bool, link func() bool) Counter {
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	ch := &channels{key: o.Key, sharded: o.Mode == Sharded, self: uid, emitter: emitter}
	return Counter{&counter{rdb: rdb, channels: ch, proven: link, before: make(map[string]int)}}
}

func (c Counter) Count(ctx context.Context, ns string, again bool) (int, error) {
	return c.c.count(ctx, ns, again)
}
func (c Counter) Run(ctx context.Context)    { c.c.run(ctx) }
func (c Counter) Watch(ns string)            { c.c.watch(ns) }
func (c Counter) Recovered()                 { c.c.recovered() }
func (c Counter) Gather(ctx context.Context) { c.c.gather(ctx) }

// OtherServers returns the client of each server that go-redis does not list, by its address.
func OtherServers(a *Adapter) map[string]*redis.Client {
	c := &a.counter.others
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.at)
}

// Counted returns in how many namespaces peers are counted in case of an outage.
func (a *Adapter) Counted() int { return len(a.counter.watched()) }
