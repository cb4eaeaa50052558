package crosscast

import (
	"sync/atomic"
	"testing"
)

// BenchmarkCounters: what counting costs for one message of a peer that one socket gets, without and with histograms. A
// message for more sockets costs the same. What sockets and their queues count costs nothing: see queueTotals.
//
// The limits are as many bare atomic additions, and one. The best of 180 runs of 3 ms each: the counters 4.3 ns, two
// additions 4.3, one 2.0, the loop 0.5; with histograms 7.2. So nothing is left to gain but an addition less, which would
// need a lock or a goroutine that owns the counters.
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
	b.Run("limit=two", func(b *testing.B) {
		var in, delivered atomic.Uint64
		for b.Loop() {
			in.Add(1)
			delivered.Add(1)
		}
	})
	b.Run("limit=one", func(b *testing.B) {
		var in atomic.Uint64
		for b.Loop() {
			in.Add(1)
		}
	})
	b.Run("limit=none", func(b *testing.B) {
		for b.Loop() {
		}
	})
}
