package wire_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// ready is a bus whose link, when told, has frames ready for as long as they are wanted. It is its own link, whose Close is
// not for the bus.
type ready struct {
	confirm chan wire.Event
	frames  chan int // how many are wanted
	left    int
	number  uint64
	data    []byte
	ended   chan struct{}
}

func (r *ready) Publish(_ context.Context, frames []wire.Frame) {}
func (r *ready) Dial(context.Context) (wire.Link, error)        { return r, nil }
func (r *ready) Unsubscribe([]string) error                     { return nil }
func (r *ready) Ping(string) error                              { return nil }
func (r *ready) Heard() time.Time                               { return time.Time{} }
func (r *ready) Close() error                                   { close(r.ended); return nil }
func (r *ready) Subscribe(topics []string) error {
	for _, t := range topics {
		r.confirm <- wire.Event{Kind: wire.Subscribed, Topic: t}
	}
	return nil
}

func (r *ready) Receive() (wire.Event, error) {
	for r.left == 0 {
		select {
		case ev := <-r.confirm:
			return ev, nil
		case r.left = <-r.frames:
		case <-r.ended:
			return wire.Event{}, errors.New("closed")
		}
	}
	r.left--
	r.number++
	wire.PatchNumbers(r.data, r.number, r.number-1)
	return wire.Event{Kind: wire.Message, Topic: "cc:r:/:A", Data: r.data}, nil
}

// receiver counts its instructions.
type receiver struct {
	n    int
	want int
	done chan struct{} // signals that n has reached want
}

func (r *receiver) Handle(*crosscast.Instruction) {
	if r.n++; r.n == r.want {
		r.done <- struct{}{}
	}
}
func (*receiver) Gap(crosscast.Gap)         {}
func (*receiver) Loss(crosscast.Loss)       {}
func (*receiver) Awaits(string) bool        { return true }
func (*receiver) Link(crosscast.LinkStatus) {}

func (*receiver) Outage(time.Time, crosscast.GapReason) {}

// receiving starts an adapter. The function that it returns makes n frames of one instruction come from the link, and
// waits until the handler has had them.
func receiving(tb testing.TB) (receive func(n int)) {
	bus := &ready{confirm: make(chan wire.Event, 16), frames: make(chan int), ended: make(chan struct{})}
	bus.data = wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "sender00"})
	bus.data = wire.AppendItem(bus.data, emitTo("A"), room("A"), 0)
	a := wire.New(struct{ wire.Bus }{bus}, wire.Options{})
	r := &receiver{done: make(chan struct{})}
	if err := a.Start(tb.Context(), starting(crosscast.NodeInfo{ID: "receiver"}, r)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	if err := a.Subscribe(tb.Context(), room("A")); err != nil {
		tb.Fatal(err)
	}
	return func(n int) {
		r.want += n
		bus.frames <- n
		<-r.done
	}
}

// BenchmarkReceive is one frame of one instruction, from the link to the handler.
func BenchmarkReceive(b *testing.B) {
	receive := receiving(b)
	b.ReportAllocs()
	b.ResetTimer()
	receive(b.N)
}

func TestReceivingAllocatesNothing(t *testing.T) {
	receive := receiving(t)
	receive(1) // what is made once
	if n := testing.AllocsPerRun(5, func() { receive(1000) }); n > 100 {
		t.Errorf("%v allocations for 1000 frames", n)
	}
}

// BenchmarkPublishInTurn is what an emission costs, from Publish to the bus's outcome, when one goroutine changes between
// a room and a user after so many of them, which no frame may span; and when two goroutines have one of them each.
func BenchmarkPublishInTurn(b *testing.B) {
	toRoom, toUser := emitTo("room"), &crosscast.Instruction{Kind: kind.Emit, Namespace: "/", Event: "e"}
	toUser.Target.Users = []string{"user"}
	for _, load := range []struct {
		name    string
		publish []func(i int) *crosscast.Instruction // one for each goroutine
	}{
		{"room", []func(int) *crosscast.Instruction{func(int) *crosscast.Instruction { return toRoom }}},
		{"10to1", []func(int) *crosscast.Instruction{func(i int) *crosscast.Instruction {
			if i%11 == 10 {
				return toUser
			}
			return toRoom
		}}},
		{"1to1", []func(int) *crosscast.Instruction{func(i int) *crosscast.Instruction {
			if i%2 == 1 {
				return toUser
			}
			return toRoom
		}}},
		{"two", []func(int) *crosscast.Instruction{
			func(int) *crosscast.Instruction { return toRoom }, func(int) *crosscast.Instruction { return toUser },
		}},
	} {
		b.Run(load.name, func(b *testing.B) {
			p := &peer{id: "node0000", port: membus.New().Port("a")}
			p.a = wire.New(p.port, wire.Options{})
			if err := p.a.Start(context.Background(), starting(crosscast.NodeInfo{ID: p.id, Heartbeat: time.Minute}, p)); err != nil {
				b.Fatal(err)
			}
			defer p.a.Close(context.Background())
			b.ReportAllocs()
			b.ResetTimer()
			var publishing sync.WaitGroup
			for _, next := range load.publish {
				publishing.Go(func() {
					for i := range b.N / len(load.publish) {
						if err := p.a.Publish(context.Background(), next(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			publishing.Wait()
			if err := p.a.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
