// Package pace limits how often something may happen: a token bucket whose state takes eight bytes.
package pace

import (
	"fmt"
	"math"
	"time"
)

// A Pace allows a number of things a second, and some at once. Many buckets share it. It does not change.
type Pace struct {
	began time.Time     // when the times of buckets begin
	each  time.Duration // for which one thing fills a bucket
	slack time.Duration // for which a bucket may be full, and take one more
}

// A Bucket is when it will be empty, as the time since the beginning of its pace. The zero value is empty. Its owner
// guards it.
type Bucket time.Duration

// New returns a pace of rate things a second, and burst at once. A burst of 0 is as many as in a second. Without a rate,
// New returns nil: no limit.
func New(rate float64, burst int) *Pace {
	if rate == 0 {
		return nil
	}
	if burst == 0 {
		burst = int(math.Ceil(rate))
	}
	each := time.Duration(float64(time.Second) / rate)
	return &Pace{time.Now(), each, time.Duration(burst-1) * each}
}

// Take takes one thing into b, and returns 0; or returns how long the bucket is too full for it.
func (p *Pace) Take(b *Bucket) (wait time.Duration) {
	now := time.Since(p.began)
	empty := max(time.Duration(*b), now)
	if wait := empty - now - p.slack; wait > 0 {
		return wait
	}
	*b = Bucket(empty + p.each)
	return 0
}

// Empty reports whether b is empty by now.
func (p *Pace) Empty(b *Bucket) bool { return time.Duration(*b) <= time.Since(p.began) }

const (
	minRate  = 1e-3
	maxRate  = 1e6
	maxBurst = 1e6
)

// Check checks two options: a rate, and a burst.
func Check(rateOption string, rate float64, burstOption string, burst int) error {
	if rate != 0 && !(minRate <= rate && rate <= maxRate) {
		return fmt.Errorf("%s is %v: it must be at least %v a second, and at most %.0f; 0 means no limit",
			rateOption, rate, minRate, float64(maxRate))
	}
	if burst < 0 || burst > maxBurst {
		return fmt.Errorf("%s is %d: it must be at least 1, and at most %.0f", burstOption, burst, float64(maxBurst))
	}
	if burst > 0 && rate == 0 {
		return fmt.Errorf("%s is %d, but there is no limit without %s", burstOption, burst, rateOption)
	}
	return nil
}
