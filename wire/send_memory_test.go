package wire_test

import (
	"context"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/wire"
)

// A stepped bus accepts a batch when it is told to, once holds is set.
type stepped struct {
	*ready
	holds  bool          // changes while nothing is published
	held   chan int      // gets the number of a batch's frames
	accept chan struct{} // ends the batch
}

func (s *stepped) Publish(_ context.Context, frames []wire.Frame) {
	if s.holds {
		s.held <- len(frames)
		<-s.accept
	}
}

// TestAllocationsOfABatch holds what sending allocates, with fixed packing: each batch is one frame of so many
// instructions. The context with the batch's time limit is most of it.
func TestAllocationsOfABatch(t *testing.T) {
	if memtest.Race {
		t.Skip("the race detector makes sync.Pool forget at random")
	}
	for _, instructions := range []int{1, 64, 1024} {
		bus := &stepped{
			ready: &ready{confirm: make(chan wire.Event, 16), frames: make(chan int), ended: make(chan struct{})},
			held:  make(chan int), accept: make(chan struct{}),
		}
		a := wire.New(struct{ wire.Bus }{bus}, wire.Options{})
		if err := a.Start(t.Context(), starting(crosscast.NodeInfo{ID: "sender00"}, &receiver{})); err != nil {
			t.Fatal(err)
		}
		bus.holds = true
		inst := emitTo("A")
		publish := func() {
			if err := a.Publish(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
		}
		publish()
		<-bus.held
		step := func() {
			for range instructions {
				publish()
			}
			bus.accept <- struct{}{}
			if n := <-bus.held; n != 1 {
				t.Fatalf("a batch of %d frames", n)
			}
		}
		for range 10 {
			step() // buffers come to have the size that is wanted
		}
		if n := testing.AllocsPerRun(50, step); n > 5 {
			t.Errorf("%v allocations for a frame of %d instructions", n, instructions)
		}
		bus.holds = false // before the sender goes on
		bus.accept <- struct{}{}
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
