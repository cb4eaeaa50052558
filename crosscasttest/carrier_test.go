package crosscasttest

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// TestLoseAtOnce: emissions are lost one after the other. One that waits for the time of a bubble is not held up by those
// that wait for it.
func TestLoseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(t, 2)
		c.carriers[0].port.SetLatency(time.Second)
		c.Lose(2)
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if err := c.Nodes[0].To("r").Emit(t.Context(), "lost", nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := c.carriers[0].publishLost(short, &crosscast.Instruction{}); err != context.DeadlineExceeded {
			t.Errorf("behind the others: %v", err)
		}
		all.Wait()
		if n := c.bus.lose.Load(); n != 0 {
			t.Errorf("%d emissions are still to be lost", n)
		}
	})
}
