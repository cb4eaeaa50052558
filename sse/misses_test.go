package sse

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestMisses: the misses of a caller are bounded, and so is the memory for all of them.
func TestMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m misses
		m.init()
		for i := range missBurst {
			if wait := m.wait("eve"); wait != 0 {
				t.Fatalf("after %d misses: waits %v", i, wait)
			}
			m.add("eve")
		}
		if wait := m.wait("eve"); wait != time.Second {
			t.Errorf("after %d misses: waits %v", missBurst, wait)
		}
		if wait := m.wait("ann"); wait != 0 {
			t.Errorf("somebody else waits %v", wait)
		}
		time.Sleep(time.Second)
		if wait := m.wait("eve"); wait != 0 {
			t.Errorf("after a second: waits %v", wait)
		}
		for i := range 2 * maxCallers {
			m.add(strconv.Itoa(i))
		}
		if n := len(m.m); n > maxCallers+1 {
			t.Errorf("%d callers are remembered", n)
		}
		if m.wait("one more") == 0 {
			t.Error("a further caller of a flood does not wait")
		}
		time.Sleep(time.Minute)
		m.add("later")
		if n := len(m.m); n != 1 {
			t.Errorf("a minute later: %d callers", n)
		}
	})
}
