package histogram

import (
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want int
	}{
		{-time.Second, 0}, {0, 0}, {1, 0}, {time.Microsecond, 0}, {time.Microsecond + 1, 1}, {2 * time.Microsecond, 1},
		{3 * time.Microsecond, 2}, {time.Millisecond, 10}, {1024 * time.Microsecond, 10}, {1025 * time.Microsecond, 11},
		{33 * time.Second, 25}, {34 * time.Second, 26}, {1 << 62, 26},
	} {
		var h Histogram
		h.Observe(test.d)
		counts, sum := h.Snapshot()
		for i, n := range counts {
			if want := uint64(b(i == test.want)); n != want {
				t.Errorf("%v: bucket %d has %d, want %d", test.d, i, n, want)
			}
		}
		if sum != max(test.d, 0) {
			t.Errorf("%v: the sum is %v", test.d, sum)
		}
	}
}

func b(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func TestNil(t *testing.T) {
	var h *Histogram
	h.Observe(1)
	if counts, _ := h.Snapshot(); counts != nil {
		t.Error(counts)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSampler(t *testing.T) {
	var s Sampler
	due := 0
	for range 10 * Every {
		if s.Due() {
			due++
		}
	}
	if due != 10 {
		t.Errorf("%d of %d", due, 10*Every)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(123 * time.Microsecond)
	}
}
