package wire_test

import (
	"strings"
	"testing"
	"time"
)

// TestASlowWayIsLogged: once, when it has lasted for some heartbeats; and when it is over. A moment is no line.
func TestASlowWayIsLogged(t *testing.T) {
	watching(t, func(t *testing.T, c *cluster, w *watched) {
		c.beat(5 * time.Second)
		w.port.SetLatency(300 * time.Millisecond)
		c.beat(2 * time.Second)
		w.port.SetLatency(0)
		c.beat(10 * time.Second)
		w.want("slow for a moment")

		w.port.SetLatency(300 * time.Millisecond)
		c.beat(30 * time.Second)
		lines := w.log.take()
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "WARN messages need long to the bus and back: 300ms") {
			t.Errorf("slow: %q", lines)
		}
		w.port.SetLatency(0)
		c.beat(5 * time.Second)
		lines = w.log.take()
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "INFO messages are fast") {
			t.Errorf("fast again: %q", lines)
		}
	})
}
