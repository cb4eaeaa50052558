package crosscast

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// BenchmarkFanOutCoresQueues emits to sockets over queues whose writers run but are busy, on one core and on all. A
// round makes several deliveries with each, the first ones to bring the memory into the caches.
func BenchmarkFanOutCoresQueues(b *testing.B) {
	ctx := context.Background()
	const round = 4
	for _, members := range []int{8192, 16_384, 32_768, 65_536, 100_000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			n, err := Start(ctx, Options{})
			if err != nil {
				b.Fatal(err)
			}
			queues := make([]*Queue, members)
			for i := range queues {
				queues[i] = NewQueue(func([]byte) error { return nil }, QueueOptions{CloseGrace: -1})
				queues[i].state |= writing // a writer that never gets round to it
			}
			for _, q := range queues {
				if _, err := n.Connect(ctx, q, ConnectOptions{Rooms: []string{"r"}}); err != nil {
					b.Fatal(err)
				}
			}
			defer LargeDelivery(LargeDelivery(0, 0, 0))
			target := n.To("r")
			var times [2][]float64
			for b.Loop() {
				for i, large := range []int{math.MaxInt, members} {
					LargeDelivery(large, 2048, 10*time.Nanosecond)
					for k := range 2 {
						start := time.Now()
						for range round {
							if err := target.Emit(ctx, "e", nil); err != nil {
								b.Fatal(err)
							}
						}
						if k == 1 {
							times[i] = append(times[i], float64(time.Since(start))/float64(round*members))
						}
						for _, q := range queues {
							drain(q)
						}
					}
				}
			}
			ratios := make([]float64, len(times[0]))
			for i := range ratios {
				ratios[i] = times[0][i] / times[1][i]
			}
			slices.Sort(ratios)
			b.ReportMetric(slices.Min(times[0]), "one-ns")
			b.ReportMetric(slices.Min(times[1]), "all-ns")
			b.ReportMetric(ratios[len(ratios)/2], "one/all")
			b.ReportMetric(0, "ns/op")
			for _, q := range queues {
				q.state &^= writing
			}
			n.Close(ctx)
		})
	}
}
