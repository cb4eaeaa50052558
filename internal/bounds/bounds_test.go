package bounds_test

import (
	"testing"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string // empty: no error
	}{
		{bounds.Heartbeat("H", 10*time.Millisecond), ""},
		{bounds.Heartbeat("H", time.Minute), ""},
		{bounds.Heartbeat("H", 5), "H is 5ns: it must be at least 10ms, and at most 1m0s"},
		{bounds.Heartbeat("H", time.Minute+1), "H is 1m0.000000001s: it must be at least 10ms, and at most 1m0s"},
		{bounds.Time("T", 1), ""},
		{bounds.Time("T", time.Hour), ""},
		{bounds.Time("T", 0), "T is 0s: it must be above 0, and at most 1h0m0s"},
		{bounds.Time("T", -time.Second), "T is -1s: it must be above 0, and at most 1h0m0s"},
		{bounds.Time("T", time.Hour+1), "T is 1h0m0.000000001s: it must be above 0, and at most 1h0m0s"},
		{bounds.Size("S", 4096, 4096), ""},
		{bounds.Size("S", 1<<30, 1), ""},
		{bounds.Size("S", 4095, 4096), "S is 4095 bytes: it must be at least 4096, and at most 1073741824"},
		{bounds.Size("S", 1<<30+1, 1), "S is 1073741825 bytes: it must be at least 1, and at most 1073741824"},
		{bounds.Count("C", 1, 2), ""},
		{bounds.Count("C", 3, 2), "C is 3: it must be at least 1, and at most 2"},
	} {
		got := ""
		if c.err != nil {
			got = c.err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
