package pace

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: a burst at once, then exactly the rate, and no more than a burst after any time.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(10, 5)
		var b Bucket
		took := func() (n int) {
			for p.Take(&b) == 0 {
				n++
			}
			return n
		}
		if n := took(); n != 5 {
			t.Errorf("%d at once", n)
		}
		for range 100 {
			wait := p.Take(&b)
			if wait != 100*time.Millisecond {
				t.Fatalf("waits %v", wait)
			}
			time.Sleep(wait - 1)
			if wait := p.Take(&b); wait != 1 {
				t.Fatalf("a nanosecond too early it waits %v", wait)
			}
			time.Sleep(time.Nanosecond)
			if n := took(); n != 1 {
				t.Fatalf("%d after the wait", n)
			}
		}
		time.Sleep(time.Hour)
		if n := took(); n != 5 {
			t.Errorf("%d after an hour", n)
		}
		time.Sleep(250 * time.Millisecond)
		if n := took(); n != 2 {
			t.Errorf("%d after a quarter of a second", n)
		}
	})
}

func TestDefaultBurst(t *testing.T) {
	for rate, want := range map[float64]int{0.5: 1, 1: 1, 2.5: 3, 1000: 1000} {
		p, n := New(rate, 0), 0
		synctest.Test(t, func(t *testing.T) {
			p = New(rate, 0)
			for b := Bucket(0); p.Take(&b) == 0; {
				n++
			}
		})
		if n != want {
			t.Errorf("a rate of %v: %d at once, want %d", rate, n, want)
		}
	}
	if New(0, 0) != nil {
		t.Error("a pace without a rate")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		burst int
		want  string
	}{
		{0, 0, ""}, {0.001, 1, ""}, {1e6, 1e6, ""}, {20, 0, ""},
		{-1, 0, "R is -1"}, {1e-9, 0, "R is 1e-09"}, {1e7, 0, "R is 1e+07"}, {math.NaN(), 0, "R is NaN"}, {math.Inf(1), 0, "R is +Inf"},
		{1, -1, "B is -1"}, {1, 1e6 + 1, "B is 1000001"}, {0, 5, "B is 5, but"},
	} {
		err := Check("R", c.rate, "B", c.burst)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%v, %d: %v, want %q", c.rate, c.burst, err, c.want)
		}
	}
}
