//go:build !race

package memtest

// Race is true if the race detector is on, which makes everything larger.
const Race = false
