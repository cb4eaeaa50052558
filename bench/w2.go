package main

import "fmt"

// W2: a thousand rooms, round robin.
func manyRooms() []workload {
	return []workload{{
		name: "W2", title: "1,000 rooms, round robin, between processes",
		config:      config{Window: 16 << 10, Size: 128, Rooms: 1000},
		metrics:     betweenProcesses,
		contestants: withoutPacking(),
		goals:       []goal{{"rate", "centrifuge", false, 2, ""}, {"cpu", "goredis-pipeline", true, 1, ""}},
		measure:     stream("receiver", "publisher", "receiver"),
	}}
}

// withoutPacking are the best contestants of W1, but for the limit that packs.
func withoutPacking() []contestant {
	var some []contestant
	for _, name := range []string{ownName, "limit-a", "goredis-pipeline", "centrifuge"} {
		some = append(some, *hotRoom()[0].contestant(name))
	}
	return some
}

// payloads are W1 with other payloads: JSON, as a value of Go and as bytes, and larger ones.
func payloads() []workload {
	var all []workload
	for _, c := range []struct {
		name   string
		size   int
		window int
		isJSON bool
	}{
		{"128-json", 128, 16 << 10, true},
		{"1k", 1 << 10, 4 << 10, false}, {"16k", 16 << 10, 512, false}, {"16k-json", 16 << 10, 512, true},
		{"256k", 256 << 10, 64, false}, {"256k-json", 256 << 10, 64, true},
	} {
		w := workload{
			name: "payload-" + c.name, title: fmt.Sprintf("one hot room between processes, %d bytes", c.size),
			config:      config{Window: c.window, Size: c.size, JSON: c.isJSON},
			metrics:     append(betweenProcesses[:2:2], metric{"bytes", "bytes allocated each", 0, true}),
			contestants: withoutPacking(),
			measure:     stream("receiver", "publisher", "receiver"),
		}
		if c.isJSON {
			w.title += " of JSON"
			raw := w.contestants[0]
			raw.name, raw.what = "crosscast-raw", "**crosscast**: `Emit` of a json.RawMessage"
			raw.set = func(c *config) { c.Raw = true }
			marshalled := contestant{name: "marshalled", what: "limit: go-redis by hand, which marshals",
				roles: pair(publishMarshalled, false, receiveGoRedis)}
			w.contestants = append(w.contestants, raw, marshalled)
		}
		if c.size >= 16<<10 {
			w.goals = []goal{{"rate", "goredis-pipeline", false, 0.95, ""}}
			if c.isJSON {
				w.goals = append(beside("marshalled", w.goals...), goal{"rate", "goredis-pipeline", false, 0.95, "crosscast-raw"})
			}
		}
		all = append(all, w)
	}
	return all
}
