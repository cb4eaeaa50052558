package crosscast

import "testing"

// BenchmarkCounters: what counting costs for one message of a peer that one socket gets, without and with histograms. A
// message for more sockets costs the same. What sockets and their queues count costs nothing: see queueTotals.
func BenchmarkCounters(b *testing.B) {
	for name, t := range map[string]*times{"counters": nil, "histograms": new(times)} {
		b.Run(name, func(b *testing.B) {
			var n Node
			n.times = t
			var m Message
			b.ReportAllocs()
			for b.Loop() {
				if t := n.times; t != nil {
					t.timed(&m)
				}
				n.stats.in.Add(1)
				n.stats.delivered.Add(1)
			}
		})
	}
}
