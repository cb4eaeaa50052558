package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// stuckPeer starts three nodes; the second is stuck in the delivery of "stuck" until step is used, and its queue has no
// room for 1,000 bytes.
func stuckPeer(t *testing.T, heartbeat time.Duration) (a, b, c *crosscast.Node, got *log, step chan struct{}) {
	t.Helper()
	cluster := crosscast.NewCluster()
	cluster.QueueBytes = 5000
	options := func() crosscast.Options {
		return crosscast.Options{Adapter: cluster.Adapter(), Heartbeat: heartbeat}
	}
	got, step = new(log), make(chan struct{})
	a = start(t, options())
	o := options()
	o.OnGap = func(_ *crosscast.Node, g crosscast.Gap) {
		if g.Origin != a.ID() || g.Since.IsZero() || g.Until.Before(g.Since) {
			t.Errorf("gap %+v", g)
		}
		got.add("%s of %s", g.Reason, sorted(addressTexts(g.Names)))
	}
	b, c = start(t, o), start(t, options())
	connect(t, b.Namespace, &stuckConn{got, step}, "r", "s")
	for _, event := range []string{"stuck", "1", "2", "3"} {
		ok(t, a.To("r").Emit(ctx, event, make(crosscast.Bytes, 900)))
		synctest.Wait()
	}
	return a, b, c, got, step
}

// stuckConn breaks the rule that Send does not block.
type stuckConn struct {
	got  *log
	step chan struct{}
}

func (c *stuckConn) Send(m *crosscast.Message) error { c.got.add("%s", m.Event); <-c.step; return nil }
func (c *stuckConn) Close(crosscast.Reason)          {}

func TestLocalPublishWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, c, got, step := stuckPeer(t, time.Second)
		sent := make(chan error, 1)
		go func() { sent <- a.To("s").Emit(ctx, "4", make(crosscast.Bytes, 900)) }()
		synctest.Wait()
		equal(t, "sent while the queue is full", len(sent), 0)
		ok(t, a.To("s").Volatile().Emit(ctx, "volatile", make(crosscast.Bytes, 900))) // does not wait
		before := c.Stats().InstructionsIn
		time.Sleep(10500 * time.Millisecond)                    // between heartbeats, which would take the room made below
		if got := c.Stats().InstructionsIn - before; got < 18 { // nor do heartbeats
			t.Errorf("%d heartbeats of two peers in 10 s", got)
		}
		step <- struct{}{}
		ok(t, <-sent)
		close(step)
		synctest.Wait()
		equal(t, "got", got.take(), "stuck; 1; 2; 3; 4")
	})
}

func TestLocalOverflowIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, got, step := stuckPeer(t, time.Minute)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for _, room := range []string{"s", "r"} { // one gap for both
			err := a.To(room, "elsewhere").Emit(short, "lost", make(crosscast.Bytes, 900))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Emit: %v", err)
			}
		}
		step <- struct{}{}
		synctest.Wait()
		ok(t, a.To("r").Emit(ctx, "4", nil))
		close(step)
		synctest.Wait()
		equal(t, "got", got.take(), "stuck; 1; 2; 3; overflow of elsewhere r s; 4")
		equal(t, "overflow", b.Stats().Adapter.Dropped["overflow"], 2)
		equal(t, "gaps", b.Stats().Gaps, 1)
	})
}

func TestLocalOverflowOfEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _, got, step := stuckPeer(t, time.Minute)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		a.To("r").Emit(ended, "lost", make(crosscast.Bytes, 900))
		a.Emit(ended, "lost", make(crosscast.Bytes, 900))
		close(step)
		synctest.Wait()
		equal(t, "got", got.take(), "stuck; 1; 2; 3; overflow of ") // of all
	})
}

func TestLocalCloseEndsWaiting(t *testing.T) {
	for _, v := range []struct {
		who  string
		want error
	}{{"publisher", crosscast.ErrClosed}, {"peer", nil}} {
		synctest.Test(t, func(t *testing.T) {
			a, b, _, _, step := stuckPeer(t, time.Minute)
			sent := make(chan error, 1)
			go func() { sent <- a.To("s").Emit(ctx, "4", make(crosscast.Bytes, 900)) }()
			synctest.Wait()
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if v.who == "peer" {
				b.Close(short) // which is stuck, so ctx ends
			} else {
				a.Close(short) // goodbye waits for room, too
			}
			if err := <-sent; !errors.Is(err, v.want) {
				t.Errorf("Emit while the %s closes: %v", v.who, err)
			}
			close(step)
		})
	}
}

// An instruction larger than a queue gets in alone.
func TestLocalLargeInstruction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := crosscast.NewCluster()
		cluster.QueueBytes = 1000
		a := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		var r recorder
		connect(t, start(t, crosscast.Options{Adapter: cluster.Adapter()}).Namespace, &r, "r")
		for i := range 5 {
			ok(t, a.To("r").Emit(ctx, fmt.Sprint(i), make(crosscast.Bytes, 5000)))
		}
		want(t, "0 1 2 3 4", &r)
	})
}

// What is queued does not change with what the caller does to its slices afterwards.
func TestLocalKeepsNothingOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := three(t)
		var got []string
		_, err := b.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			got = append(got, string(m.Payload.Data)+m.Meta[0].Value)
		}}, "r")
		ok(t, err)
		data := []byte("0")
		for i := range 20 {
			data[0] = byte('a' + i)
			kv := []crosscast.KeyValue{{Key: "k", Value: fmt.Sprint(i)}}
			ok(t, a.To("r").Meta(kv...).Emit(ctx, "e", crosscast.Bytes(data)))
			kv[0].Value, data[0] = "changed", '!'
		}
		synctest.Wait()
		equal(t, "messages", len(got), 20)
		if s := strings.Join(got, ""); strings.ContainsAny(s, "!") || strings.Contains(s, "changed") {
			t.Errorf("got %q", got)
		}
	})
}
