// Package memtest measures memory, for tests.
package memtest

import "runtime"

// Heap returns how many bytes are in use once everything is collected that can be.
func Heap() int {
	for range 3 { // what pools keep goes with the second, and what finalizers and cleanups do with the third
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
