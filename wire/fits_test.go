package wire_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// countingConn counts its messages.
type countingConn struct{ n atomic.Int32 }

func (c *countingConn) Send(*crosscast.Message) error { c.n.Add(1); return nil }
func (c *countingConn) Close(crosscast.Reason)        {}

// An instruction that is too large for the adapter is refused before anybody gets it, even this node's own sockets.
func TestTooLargeMeansNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frame = 32 << 10
		ctx := t.Context()
		port := membus.New().Port("a")
		o := crosscast.Options{Adapter: wire.New(port, wire.Options{MaxFrame: frame}), MaxPayload: frame}
		if _, err := crosscast.Start(ctx, o); err == nil || !strings.Contains(err.Error(), "MaxPayload") {
			t.Fatalf("a node that may emit more than its adapter takes: %v", err)
		}
		a := wire.New(port, wire.Options{MaxFrame: frame})
		o.Adapter, o.MaxPayload = a, a.MaxPayload()
		n, err := crosscast.Start(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(ctx)
		c := &countingConn{}
		s, err := n.Connect(ctx, c, crosscast.ConnectOptions{Rooms: []string{"r"}})
		if err != nil {
			t.Fatal(err)
		}
		longest := strings.Repeat("n", limit.Name)
		target := n.To("r")
		if err := target.Emit(ctx, longest, make(crosscast.Bytes, o.MaxPayload)); err != nil {
			t.Error("the largest payload:", err)
		}
		if got := c.n.Swap(0); got != 1 {
			t.Errorf("delivered %d times", got)
		}
		traced := target
		for range limit.Meta {
			traced = traced.Meta(crosscast.KeyValue{Key: longest, Value: longest})
		}
		for range 1000 {
			target = target.Except(longest)
		}
		_, deliver := target.Deliver(ctx, "e", nil)
		answers := target.EmitAck(ctx, "e", nil)
		for range answers.All() {
		}
		_, do := target.Do(ctx, crosscast.Command{Join: []string{"x"}})
		for what, err := range map[string]error{
			"Emit": target.Emit(ctx, "e", nil), "Meta": traced.Emit(ctx, "e", make(crosscast.Bytes, o.MaxPayload)), "Deliver": deliver, "EmitAck": answers.Err(), "Do": do,
			"Join": target.Join(ctx, "x"), "Disconnect": target.Disconnect(ctx, crosscast.ReasonServer),
		} {
			if !errors.Is(err, crosscast.ErrTooLarge) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got := c.n.Load(); got != 0 || s.Closed() || len(s.Rooms()) != 1 {
			t.Errorf("the socket got %d messages, is closed: %v, and in %v", got, s.Closed(), s.Rooms())
		}
		if err := target.Local().Emit(ctx, "e", nil); err != nil || c.n.Load() != 1 {
			t.Errorf("what stays on this node has no frame: %v", err)
		}
	})
}
