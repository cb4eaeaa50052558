package wire_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// What a node does not take because it is too large, though its peer sends it, is a gap of the room. No other frame needs
// to follow, and one that does is nothing out of order.
func TestATooLargeFrameIsAGap(t *testing.T) {
	keys := [][]byte{sealKey(1)}
	for name, seal := range map[string]wire.Seal{"plain": {}, "sealed": {Keys: keys, Require: true}, "signed": {Keys: keys, SignOnly: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1, wire.Options{Seal: seal}, func(t *testing.T, c *cluster) {
				a, b := c.peers[0], c.add(wire.Options{MaxFrame: 1 << 10, Seal: seal})
				tooLargeIsAGap(t, a, b)
			})
		})
	}
}

// tooLargeIsAGap: a sends more than b takes.
func tooLargeIsAGap(t *testing.T, a, b *peer) {
	subscribe(t, b, "A")
	large := emitTo("A")
	large.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, 1<<20)}
	if err := a.a.Publish(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	g := b.seen()
	if len(g) != 1 || g[0].Origin != a.id || !g[0].Covers(room("A")) || len(g[0].Names) != 1 {
		t.Errorf("gaps: %+v", g)
	}
	if n := b.a.AdapterStats().Dropped["too large"]; n != 1 {
		t.Errorf("%d dropped for being too large", n)
	}
	a.a.Publish(t.Context(), emitTo("A"))
	synctest.Wait()
	if len(b.got()) != 1 || len(b.seen()) != 1 {
		t.Errorf("after it: delivered %v, gaps %+v", b.got(), b.seen())
	}
}

// payloads keeps the payloads that arrive.
type payloads struct {
	receiver
	got [][]byte
}

func (p *payloads) Handle(inst *crosscast.Instruction) {
	p.got = append(p.got, slices.Clone(inst.Payload.Data))
}

// Large payloads arrive unchanged and in order, with small ones between them and buffers reused, and allocate nothing
// of their size.
func TestLargePayloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		h := &payloads{}
		a, b := wire.New(hub.Port("a"), wire.Options{QueueBytes: 1 << 20}), wire.New(hub.Port("b"), wire.Options{})
		for _, p := range []struct {
			id crosscast.NodeID
			a  *wire.Adapter
			h  crosscast.AdapterHandler
		}{{"sender00", a, &receiver{}}, {"receiver", b, h}} {
			if err := p.a.Start(t.Context(), starting(crosscast.NodeInfo{ID: p.id}, p.h)); err != nil {
				t.Fatal(err)
			}
			defer p.a.Close(context.Background())
		}
		if err := b.Subscribe(t.Context(), room("A")); err != nil {
			t.Fatal(err)
		}
		sizes := []int{1, 15 << 10, 16 << 10, 20 << 10, 63 << 10, 64 << 10, 72 << 10, 100 << 10, 256 << 10, 700 << 10, 2}
		var want [][]byte
		for i := range 66 {
			inst := emitTo("A")
			inst.Payload = crosscast.Payload{
				Encoding: crosscast.EncodingBinary, Data: bytes.Repeat([]byte{byte(i)}, sizes[i*i%len(sizes)]),
			}
			if err := a.Publish(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
			want = append(want, inst.Payload.Data)
		}
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !slices.EqualFunc(h.got, want, bytes.Equal) {
			t.Error("other payloads arrived than were published, or in another order")
		}
	})
}

func TestLargePayloadsReuseBuffers(t *testing.T) {
	a := wire.New(struct{ wire.Bus }{&ready{confirm: make(chan wire.Event, 16), frames: make(chan int), ended: make(chan struct{})}}, wire.Options{})
	if err := a.Start(t.Context(), starting(crosscast.NodeInfo{ID: "sender00"}, &receiver{}, true)); err != nil {
		t.Fatal(err)
	}
	defer a.Close(context.Background())
	for _, size := range []int{16 << 10, 256 << 10, 1 << 20, 20 << 10} {
		inst := emitTo("A")
		inst.Payload = crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: make([]byte, size)}
		publish := func(n int) {
			for i := range n {
				if err := a.Publish(t.Context(), inst); err != nil {
					t.Fatal(err)
				}
				if i%4 == 3 { // so many are under way
					if err := a.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		publish(200) // the buffers come to have this size
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		publish(200)
		runtime.ReadMemStats(&after)
		got := int(after.TotalAlloc - before.TotalAlloc)
		if got > 200<<10+4*size { // the first time, fewer than four might have been under way
			t.Errorf("%d bytes are allocated for 200 payloads of %d", got, size)
		}
	}
}
