// Package histogram counts durations in buckets of fixed bounds, without a lock and without allocating.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is the number of buckets. Bucket i has the durations of at most 1 µs << i that are in no earlier bucket. The
// last one has all longer ones, above 33 s.
const Buckets = 27

// A Histogram counts durations. The zero value is ready. Its methods may be called concurrently. A nil Histogram counts
// nothing.
type Histogram struct {
	counts [Buckets]atomic.Uint64
	sum    atomic.Int64
}

// Observe counts d. A negative d counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	if h == nil {
		return
	}
	d = max(d, 0)
	h.counts[bucket(d)].Add(1)
	h.sum.Add(int64(d))
}

func bucket(d time.Duration) int {
	micros := uint64(d+time.Microsecond-1) / uint64(time.Microsecond)
	if micros <= 1 {
		return 0
	}
	return min(bits.Len64(micros-1), Buckets-1)
}

// Snapshot returns the numbers of durations by bucket, and the sum of the durations. It returns nil if h is nil.
func (h *Histogram) Snapshot() (counts []uint64, sum time.Duration) {
	if h == nil {
		return nil, 0
	}
	counts = make([]uint64, Buckets)
	for i := range counts {
		counts[i] = h.counts[i].Load()
	}
	return counts, time.Duration(h.sum.Load())
}

// A Sampler says which of many events are measured: one of Every. The zero value is ready. Its method may be called
// concurrently.
type Sampler struct{ n atomic.Uint32 }

// Every is how many events there are for one that is measured.
const Every = 64

// Due reports whether this event is measured.
func (s *Sampler) Due() bool { return s.n.Add(1)%Every == 0 }
