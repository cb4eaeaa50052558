package crosscast_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/crosscast/crosscast"
)

func TestSteadyStateAllocatesNothing(t *testing.T) {
	var r crosscast.FrameReader
	meta := benchEmission()
	meta.Meta = []crosscast.KeyValue{{Key: "key"}}
	for name, b := range map[string][]byte{
		"names": manyNames(0, 150), "losses": goldenFrames()[9].frame.bytes(),
		"meta": crosscast.AppendInstruction(bytes.Clone([]byte(hostileHeader)), meta, everyone, 0),
	} {
		drain(t, &r, b, everyone)
		if n := testing.AllocsPerRun(100, func() { drain(t, &r, b, everyone) }); n != 0 {
			t.Errorf("%s: %v allocations to read a frame whose names are known", name, n)
		}
	}
	buf := make([]byte, 0, 1<<16)
	for _, g := range goldenFrames() {
		n := testing.AllocsPerRun(100, func() {
			buf = crosscast.AppendFrameHeader(buf[:0], &g.frame.Header)
			for i := range g.frame.In {
				if err := crosscast.CheckInstruction(&g.frame.In[i]); err != nil {
					t.Fatal(err)
				}
				buf = crosscast.AppendInstruction(buf, &g.frame.In[i], g.frame.Topic, g.frame.Copies[i])
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations to write it", g.name, n)
		}
	}
}

// TestReaderForgets: however many names come, what a reader keeps is bounded.
func TestReaderForgets(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var r crosscast.FrameReader
	before := heap()
	for i := range 200 {
		drain(t, &r, manyNames(1000*i, 1000), everyone)
	}
	after := heap()
	if after > before+1<<20 {
		t.Errorf("a reader keeps %d bytes after 600,000 names", after-before)
	}
	drain(t, &r, manyNames(0, 1), everyone)
}
