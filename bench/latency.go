package main

import (
	"context"
	"fmt"
)

// W0-latency: from publishing to the last of 100 websocket clients, at a part of the highest rate, which is what frames by
// hand reach. W3: the same between processes, one message at a time.
func latency() []workload {
	metrics := []metric{{"p50", "µs, median", 0, true}, {"p99", "µs, 99th percentile", 0, true}}
	goals := func(against string) []goal {
		return []goal{{"p50", against, true, 1.1, ""}, {"p99", against, true, 1.1, ""}}
	}
	queued := contestant{name: "queued", what: "limit: frames by hand, `Publish` by a goroutine", slow: true,
		roles: map[string]role{"publisher": publish(publishQueued), "server": serve(serveByHand), "clients": clients}}
	var all []workload
	for _, percent := range []int{1, 10} {
		all = append(all, workload{
			name:        fmt.Sprintf("W0-latency-%d", percent),
			title:       fmt.Sprintf("latency to the last of 100 websocket clients, at %d %% of the highest rate", percent),
			config:      config{Window: 2048, Size: 128, JSON: true, Clients: 100, Stamp: true},
			metrics:     metrics,
			contestants: append(websocketServers(), queued), goals: beside("queued", goals("by-hand")...),
			prepare: func(ctx context.Context, b *bench, c *config) error {
				highest, err := b.highestRate(ctx)
				c.Rate = highest * float64(percent) / 100
				return err
			},
			measure: stream("clients", "server"),
		})
	}
	return append(all, workload{
		name: "W3", title: "latency of one message between processes, 900 a second", quick: true,
		config:  config{Window: 2048, Size: 128, Rate: 900, Stamp: true},
		metrics: metrics,
		contestants: []contestant{
			{name: ownName, what: "**crosscast**: `Emit`, to a conn that counts", roles: pair(publishOwn, false, receiveOwn)},
			{name: "limit", what: "limit: plain connections", roles: pair(publishPlain(1), false, receivePlain(1))},
			{name: "goredis", what: "go-redis: `Publish`, `Receive`", roles: pair(publishNaive(1), false, receiveGoRedis)},
			{name: "queued", what: "limit: go-redis, `Publish` by a goroutine", slow: true, roles: pair(publishQueued, false, receiveGoRedis)},
			{name: "centrifuge", what: "centrifuge's Redis broker", roles: pair(publishCentrifuge(1), false, receiveCentrifuge)},
			{name: "nodejs", what: "Socket.IO on Node.js, classic Redis adapter", slow: true, command: nodeJS,
				set: func(c *config) { c.JSON = true }},
		},
		goals:   beside("queued", goals("goredis")...),
		measure: stream("receiver", "publisher", "receiver"),
	})
}

// highestRate is how many messages a second frames by hand bring to 100 clients. It is measured once.
func (b *bench) highestRate(ctx context.Context) (float64, error) {
	if b.highest == 0 {
		w := named("W0-100")
		v, err := b.one(ctx, w, w.contestant("by-hand"), w.config)
		if err != nil {
			return 0, err
		}
		b.highest = v["rate"] / float64(w.config.Clients)
	}
	return b.highest, nil
}

// stalledClient: one client more, which reads nothing, must not harm the others.
func stalledClient() []workload {
	own := websocketServers()[0]
	stalled, alone := own, own
	stalled.what = "**crosscast**, beside a client that reads nothing"
	stalled.set = func(c *config) { c.Clients++; c.Stalled = 1 }
	alone.name = "all-read"
	return []workload{{
		name: "W0-stalled", title: "one hot room, 100 websocket clients, and one that reads nothing",
		config: config{Window: 2048, Size: 128, JSON: true, Clients: 100, Stamp: true},
		metrics: []metric{
			{"rate", "deliveries/s", 0, false}, {"p50", "µs, median", 0, true}, {"p99", "µs, 99th percentile", 0, true},
		},
		contestants: []contestant{stalled, alone},
		goals:       []goal{{"rate", "all-read", false, 0.9, ""}, {"p99", "all-read", true, 1.1, ""}},
		measure:     stream("clients", "server"),
	}}
}
