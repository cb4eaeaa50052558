//go:build !race

package crosscast_test

const raceEnabled = false
