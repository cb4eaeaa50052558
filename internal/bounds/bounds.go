// Package bounds checks options. A mistake in one is an error that names the option, its value and its bounds.
package bounds

import (
	"fmt"
	"time"
)

// MaxSize is the largest size of anything, in bytes: 1 GiB.
const MaxSize = 1 << 30

// MaxTime is the longest time of anything but a heartbeat.
const MaxTime = time.Hour

// What a heartbeat may be.
const (
	MinHeartbeat = 10 * time.Millisecond
	MaxHeartbeat = time.Minute
)

// Numbers of missing heartbeats after which a peer is suspected, and then expired.
const (
	SuspectAfter = 3
	ExpireAfter  = 6
)

// Heartbeat checks the interval between heartbeats.
func Heartbeat(option string, v time.Duration) error {
	return check(option, v, MinHeartbeat, MaxHeartbeat, "")
}

// Time checks any other time: it is above 0.
func Time(option string, v time.Duration) error {
	if v > 0 && v <= MaxTime {
		return nil
	}
	return fmt.Errorf("%s is %v: it must be above 0, and at most %v", option, v, MaxTime)
}

// Size checks a size in bytes, of which smallest is the least that works.
func Size(option string, v, smallest int) error { return check(option, v, smallest, MaxSize, " bytes") }

// Count checks a number of things, of which there is at least one.
func Count(option string, v, most int) error { return check(option, v, 1, most, "") }

func check[T int | time.Duration](option string, v, least, most T, unit string) error {
	if least <= v && v <= most {
		return nil
	}
	return fmt.Errorf("%s is %v%s: it must be at least %v, and at most %v", option, v, unit, least, most)
}
