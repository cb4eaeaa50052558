package crosscast_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// BenchmarkFanOutCores emits to sockets in no order of memory, on one core and on all, with conns that count and with
// queues whose writers are busy. It reports the shortest ns a member, and the median of one core's time as a multiple of
// all cores' time.
func BenchmarkFanOutCores(b *testing.B) {
	if runtime.GOMAXPROCS(0) == 1 {
		b.Skip("one core")
	}
	for _, members := range []int{32_768, 49_152, 65_536, 100_000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			n := start(b, crosscast.Options{})
			connectShuffled(b, n, members)
			emit := emitTo(b, n.To("r"))
			var c contest
			for _, cores := range []struct {
				name  string
				large int
			}{{"one", math.MaxInt}, {"all", members}} {
				c.add(cores.name, func() {
					crosscast.LargeDelivery(cores.large, 2048, 10*time.Nanosecond)
					emit()
				})
			}
			defer crosscast.LargeDelivery(crosscast.LargeDelivery(0, 0, 0))
			b.ReportAllocs()
			for b.Loop() {
				c.round(200_000 / members)
			}
			for _, name := range c.names {
				b.ReportMetric(c.least(name)/float64(members), name+"-ns")
			}
			b.ReportMetric(c.ratio("one", "all"), "one/all")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkBesideLargeDeliveries emits to a small room while another goroutine emits to 100,000 sockets again and again,
// on one core and on all. It reports the 99th percentile of the time from the moment at which an emission is due until
// it has returned, and the median of the paired ratios.
func BenchmarkBesideLargeDeliveries(b *testing.B) {
	n := start(b, crosscast.Options{})
	connectShuffled(b, n, 100_000)
	for range 10 {
		connect(b, n.Namespace, new(lineConn), "small")
	}
	large, small := emitTo(b, n.To("r")), emitTo(b, n.To("small"))
	defer crosscast.LargeDelivery(crosscast.LargeDelivery(0, 0, 0))
	window := func(size int) float64 {
		crosscast.LargeDelivery(size, 2048, 10*time.Nanosecond)
		quit := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
					large()
				}
			}
		})
		var times []time.Duration
		for range 1000 {
			due := time.Now().Add(200 * time.Microsecond)
			time.Sleep(200 * time.Microsecond) // lasts
			small()
			times = append(times, time.Since(due))
		}
		close(quit)
		wg.Wait()
		slices.Sort(times)
		return float64(times[len(times)*99/100])
	}
	var one, all, ratios []float64
	for b.Loop() {
		one, all = append(one, window(math.MaxInt)), append(all, window(100_000))
		ratios = append(ratios, all[len(all)-1]/one[len(one)-1])
	}
	for _, list := range [][]float64{one, all, ratios} {
		slices.Sort(list)
	}
	b.ReportMetric(one[len(one)/2], "one-p99-ns")
	b.ReportMetric(all[len(all)/2], "all-p99-ns")
	b.ReportMetric(ratios[len(ratios)/2], "all/one")
	b.ReportMetric(0, "ns/op")
}
