package main

// W1: one hot room across nodes. A publisher process, Redis, and a receiver process with one member.
func hotRoom() []workload {
	return []workload{{
		name: "W1", title: "one hot room between processes", quick: true,
		config:  config{Window: 16 << 10, Size: 128},
		metrics: betweenProcesses,
		contestants: []contestant{
			{name: ownName, what: "**crosscast**: `Emit`, to a conn that counts", roles: pair(publishOwn, false, receiveOwn)},
			{name: "sealed", what: "crosscast with a seal, whose cost it shows", slow: true,
				set: func(c *config) { c.Sealed = true }, roles: pair(publishOwn, false, receiveOwn)},
			{name: "limit-a", what: "limit A: plain connections, a PUBLISH a message", roles: pair(publishPlain(1), false, receivePlain(1))},
			{name: "limit-b", what: "limit B: plain connections, 32 messages a PUBLISH",
				roles: pair(publishPlain(packed), false, receivePlain(packed))},
			{name: "goredis-pipeline", what: "go-redis by hand: `Pipeline` of 250, `Receive`", roles: pair(publishPipeline, false, receiveGoRedis)},
			{name: "goredis-64", what: "go-redis, naive: `Publish` from 64 goroutines", slow: true,
				roles: pair(publishNaive(64), true, receiveGoRedis)},
			{name: "centrifuge", what: "centrifuge's Redis broker, 512 goroutines", set: withinBuffer, roles: pair(publishCentrifuge(512), true, receiveCentrifuge)},
			{name: "centrifuge-64", what: "centrifuge's Redis broker, 64 goroutines", slow: true, set: withinBuffer,
				roles: pair(publishCentrifuge(64), true, receiveCentrifuge)},
		},
		goals: []goal{
			{"rate", "limit-a", false, 1.6, ""}, {"rate", "limit-b", false, 0.5, ""}, {"rate", "centrifuge", false, 4, ""},
		},
		measure: stream("receiver", "publisher", "receiver"),
	}}
}

var betweenProcesses = []metric{
	{"rate", "messages/s", 0, false}, {"cpu", "µs of CPU each, both processes", 2, true}, {"allocs", "allocations each", 2, true},
}

// pair are the roles of a contestant between two processes. unordered: its messages may overtake each other.
func pair(open func(p *proc) (sender, error), unordered bool, listen func(p *proc, got func(payload []byte, k int)) error) map[string]role {
	return map[string]role{"publisher": publish(open), "receiver": receive(unordered, listen)}
}
