package crosscast

import (
	"testing"
	"unsafe"
)

// Fan-out to many sockets costs what it reads of memory. Sockets of 256 bytes would lie such that the parts which a
// delivery to small groups reads share a quarter of the processor's caches. 192 is a size of the allocator.
func TestSocketLayout(t *testing.T) {
	if size := unsafe.Sizeof(Socket{}); unsafe.Sizeof(0) == 8 && size > 192 {
		t.Errorf("a socket takes %d bytes, want at most 192", size)
	}
}
