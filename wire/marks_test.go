package wire

import (
	"testing"
	"time"
)

// The marks of a long life are few, and exact for the last seconds. Of long ago there is always one that is not later than
// what is asked for, and not much earlier.
func TestMarks(t *testing.T) {
	var ms marks
	began := time.Now()
	const n = 100_000
	for i := 1; i <= n; i++ {
		ms.enter(mark{began.Add(time.Duration(i) * time.Second), uint64(i), i}, time.Second)
		ms.enter(mark{began.Add(time.Duration(i)*time.Second + time.Millisecond), 0, 0}, time.Second) // too early
	}
	if len(ms) > maxMarks {
		t.Errorf("%d marks", len(ms))
	}
	for ago := 1; ago < n; ago = ago*5/4 + 1 {
		at := n - ago
		m := ms.before(began.Add(time.Duration(at)*time.Second + time.Second/2))
		if m.instructions > at || ago <= 8 && m.instructions != at || at-m.instructions > ago/2+1 {
			t.Errorf("%d s ago, at %d: the mark is of %d", ago, at, m.instructions)
		}
	}
	if m := ms.before(began); m != (mark{}) {
		t.Errorf("before everything: %+v", m)
	}
}
