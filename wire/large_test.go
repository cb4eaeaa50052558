package wire_test

import (
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/wire"
)

// What a node does not take because it is too large, though its peer sends it, is a gap of the room. No other frame needs
// to follow, and one that does is nothing out of order.
func TestATooLargeFrameIsAGap(t *testing.T) {
	inBubble(t, 1, wire.Options{}, func(t *testing.T, c *cluster) {
		a, b := c.peers[0], c.add(wire.Options{MaxFrame: 1 << 10})
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
	})
}
