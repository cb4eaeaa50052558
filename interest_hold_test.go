package crosscast

import (
	"sync/atomic"
	"testing"
)

// Whoever delivers may wait for interests.mu: it gets it long before all the rooms of a large Join have been asked for.
func TestALargeJoinLetsOthersIn(t *testing.T) {
	var x interests
	its := make([]*group, 100_000)
	for i := range its {
		its[i] = new(group)
	}
	for range 100 { // the other one might not be run at all meanwhile, on a machine that does something else
		var done atomic.Int64
		in := make(chan int64, 1)
		x.eachLocked(its, func(*group) {
			if done.Add(1) == 1 {
				go func() {
					x.mu.Lock()
					defer x.mu.Unlock()
					in <- done.Load()
				}()
			}
		})
		if <-in < int64(len(its)) {
			return
		}
	}
	t.Error("it waits for all of them")
}
