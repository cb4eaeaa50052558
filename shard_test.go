package crosscast

import (
	"testing"
	"unsafe"
)

func TestShardFillsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(shard{}); unsafe.Sizeof(0) == 8 && size != 64 {
		t.Errorf("%d bytes", size)
	}
}
