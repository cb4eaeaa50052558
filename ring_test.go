package crosscast

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

func TestRingAgainstASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.SampledFrom([]uint32{0, 1<<32 - 3, 1<<32 - 20}).Draw(t, "start")
		r := ring{head: start, tail: start}
		var model []string
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					frame := string(rune('a' + next%26))
					next++
					if r.full() {
						r.grow()
					}
					r.put([]byte(frame))
					model = append(model, frame)
				}
			},
			"pop": func(t *rapid.T) {
				for range min(len(model), rapid.IntRange(1, 30).Draw(t, "n")) {
					if got := string(r.pop()); got != model[0] {
						t.Fatalf("popped %q, want %q", got, model[0])
					}
					model = model[1:]
				}
			},
			"release": func(t *rapid.T) {
				if len(model) == 0 {
					r.release()
				}
			},
			"": func(t *rapid.T) {
				if r.len() != len(model) {
					t.Fatalf("len %d, want %d", r.len(), len(model))
				}
				if len(model) == 0 && len(r.slots) > smallRing {
					t.Fatalf("an empty ring keeps %d places", len(r.slots))
				}
				kept := 0
				for _, s := range r.slots {
					if s.data != nil {
						kept++
					}
				}
				if kept != len(model) {
					t.Fatalf("%d frames are kept alive, want %d", kept, len(model))
				}
			},
		})
	})
}

// Memory is what fan-out costs, so the layout is an invariant.
func TestQueueLayout(t *testing.T) {
	var q Queue
	if end := unsafe.Offsetof(q.ring) + unsafe.Offsetof(q.ring.first); end > 64 {
		t.Errorf("push touches the first %d bytes, want one cache line", end)
	}
	if size := unsafe.Sizeof(q); size > 192 {
		t.Errorf("a queue takes %d bytes, want at most 192", size)
	}
}

func TestIdleQueueHoldsNoRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, burst := range []int{1, 2, smallRing, smallRing + 1, 1000} {
			q := NewQueue(func([]byte) error { time.Sleep(time.Millisecond); return nil }, QueueOptions{})
			for range burst {
				if err := q.SendFrame([]byte("frame")); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if q.ring.slots != nil || q.ring.first[0].data != nil || q.rare != nil {
				t.Errorf("after a burst of %d the idle queue keeps %d places", burst, len(q.ring.slots))
			}
		}
	})
}
