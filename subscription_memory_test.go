package crosscast_test

import (
	"fmt"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
)

// TestSubscriptionBytesAreWhatIsHeld: what waits for a receiver that stands still takes as much memory as its bound says.
func TestSubscriptionBytesAreWhatIsHeld(t *testing.T) {
	pairs := make([]crosscast.KeyValue, 8)
	for i := range pairs {
		pairs[i] = crosscast.KeyValue{Key: fmt.Sprintf("%0255d", i), Value: fmt.Sprintf("%0255d", i)}
	}
	for name, to := range map[string]func(crosscast.BoundTarget) crosscast.BoundTarget{
		"small": func(to crosscast.BoundTarget) crosscast.BoundTarget { return to },
		"many names": func(to crosscast.BoundTarget) crosscast.BoundTarget {
			return to.To(numbered(1000)...)
		},
		"meta": func(to crosscast.BoundTarget) crosscast.BoundTarget { return to.Meta(pairs...) },
	} {
		t.Run(name, func(t *testing.T) {
			const limit = 4 << 20
			n := start(t, crosscast.Options{})
			held, entered := make(chan struct{}), make(chan struct{}, 1)
			defer close(held)
			_, err := n.Subscribe(ctx, crosscast.Receiver{QueueBytes: limit,
				OnMessage: func(*crosscast.Subscription, *crosscast.Message) {
					select {
					case entered <- struct{}{}:
					default:
					}
					<-held
				}}, "r")
			ok(t, err)
			target := to(n.To("r"))
			ok(t, target.Emit(ctx, "first", nil))
			<-entered
			before := memtest.Heap()
			for n.Stats().Dropped["subscription"] == 0 {
				ok(t, target.Emit(ctx, "e", nil))
			}
			if got := memtest.Heap() - before; got > limit*5/4 {
				t.Errorf("a queue of %d bytes holds %d", limit, got)
			} else {
				t.Logf("%d of %d", got, limit)
			}
		})
	}
}

func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("room", i))
	}
	return names
}
