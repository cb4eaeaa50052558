package wire_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/wire"
)

// ready is a bus whose link, when told, has frames ready for as long as they are wanted.
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
	crosscast.PatchFrameNumbers(r.data, r.number, r.number-1)
	return wire.Event{Kind: wire.Message, Topic: "cc:r:/:A", Data: r.data}, nil
}

// receiver counts what it is handed.
type receiver struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (r *receiver) Handle(*crosscast.Instruction) {
	if r.n.Add(1) == r.want {
		close(r.done)
	}
}
func (*receiver) Gap(crosscast.Gap)         {}
func (*receiver) Loss(crosscast.Loss)       {}
func (*receiver) Link(crosscast.LinkStatus) {}

// BenchmarkReceive is one frame of one instruction, from the link to the handler.
func BenchmarkReceive(b *testing.B) {
	bus := &ready{confirm: make(chan wire.Event, 16), frames: make(chan int), ended: make(chan struct{})}
	bus.data = crosscast.AppendFrameHeader(nil, &crosscast.FrameHeader{Origin: "sender00"})
	bus.data = crosscast.AppendInstruction(bus.data, emitTo("A"), room("A"), 0)
	a := wire.New(bus, wire.Options{})
	r := &receiver{want: int64(b.N), done: make(chan struct{})}
	if err := a.Start(b.Context(), crosscast.NodeInfo{ID: "receiver"}, r); err != nil {
		b.Fatal(err)
	}
	if err := a.Subscribe(b.Context(), room("A")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	bus.frames <- b.N
	<-r.done
	b.StopTimer()
	if err := a.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
