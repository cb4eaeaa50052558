package crosscast

import (
	"testing"
	"unsafe"
)

// Fan-out to many sockets costs what it reads of memory. Sockets of 256 bytes would lie such that the parts which it
// reads share a quarter of the processor's caches: measured, 100,000 took 1.4 times as long.
func TestSocketLayout(t *testing.T) {
	if size := unsafe.Sizeof(Socket{}); unsafe.Sizeof(0) == 8 && size > 240 {
		t.Errorf("a socket takes %d bytes, want at most 240", size)
	}
}
