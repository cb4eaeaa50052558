package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// bare is an adapter that keeps its handler, and does nothing by itself.
type bare struct{ h crosscast.AdapterHandler }

func (b *bare) Start(_ context.Context, s crosscast.AdapterStart) error {
	b.h = s.Handler
	return nil
}

func (b *bare) Publish(context.Context, *crosscast.Instruction) error { return nil }

func (b *bare) Close(context.Context) error { return nil }

func TestStatsHasReasons(t *testing.T) {
	b := &bare{}
	n, err := crosscast.Start(t.Context(), crosscast.Options{Adapter: b})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(t.Context())
	for _, reason := range []crosscast.GapReason{reasons.GapDeaf, reasons.GapHole, reasons.GapDeaf} {
		b.h.Gap(crosscast.Gap{Reason: reason})
	}
	b.h.Loss(crosscast.Loss{Reason: reasons.LossExpired, Err: crosscast.ErrRefused})
	s := n.Stats()
	equal(t, "gaps", s.Gaps, 3)
	equal(t, "deaf", s.GapReasons[reasons.GapDeaf], 2)
	equal(t, "holes", s.GapReasons[reasons.GapHole], 1)
	equal(t, "expired", s.LossReasons[reasons.LossExpired], 1)
	equal(t, "reasons", len(s.GapReasons)+len(s.LossReasons), 3)
}

// TestDropReasons: whatever is dropped counts once, for one of the listed reasons, and is not Delivered as well.
func TestDropReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d})
		var r recorder
		s := connect(t, n.Namespace, &r, "r")
		handle := func(inst crosscast.Instruction) {
			inst.From, inst.Namespace = "aaaaaaaa", "/"
			d.h.Handle(&inst)
			synctest.Wait()
		}
		want := make(map[crosscast.DropReason]uint64)
		dropped := func(reason crosscast.DropReason, delivered uint64) {
			t.Helper()
			want[reason]++
			s := n.Stats()
			equal(t, "dropped", fmt.Sprint(s.Dropped), fmt.Sprint(want))
			equal(t, "delivered", s.Delivered, delivered)
		}
		inRoom := crosscast.Target{Rooms: []string{"r"}}

		r.fail(crosscast.ErrDropped)
		ok(t, n.To("r").Emit(ctx, "e", nil))
		dropped("conn", 0)

		step := make(chan struct{})
		_, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(*crosscast.Subscription, *crosscast.Message) { <-step }, QueueBytes: 2000,
		}, "sub")
		ok(t, err)
		for range 3 { // one is being handled, one waits
			ok(t, n.To("sub").Emit(ctx, "e", make(crosscast.Bytes, 1000)))
			synctest.Wait()
		}
		dropped("subscription", 2)
		close(step)

		handle(crosscast.Instruction{Kind: kind.Emit, Event: "e", Target: crosscast.Target{Rooms: []string{"x"}}})
		dropped("unwanted", 2)
		handle(crosscast.Instruction{Kind: 200})
		dropped("unknown", 2)
		handle(crosscast.Instruction{Kind: kind.Answer, Ref: "gone", Answer: &crosscast.Answer{
			Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("nope")},
		}})
		dropped("answer", 2)
		if err := s.Reply(99, nil); !errors.Is(err, crosscast.ErrDropped) {
			t.Error(err)
		}
		dropped("reply", 2)
		handle(crosscast.Instruction{Kind: kind.Presence})
		dropped("presence", 2)
		handle(crosscast.Instruction{Kind: kind.Emit, Event: "e", Target: inRoom, Ref: "e", Payload: crosscast.Payload{
			Encoding: crosscast.EncodingJSON, Data: []byte("nope"),
		}})
		dropped("invalid", 2)
		handle(crosscast.Instruction{Kind: kind.Emit, Event: "e", Target: inRoom, Payload: crosscast.Payload{
			Encoding: crosscast.EncodingMsgPack + 1, Data: []byte("nope"),
		}})
		dropped("encoding", 2)
		handle(crosscast.Instruction{Kind: kind.Join, Target: inRoom, Rooms: []string{"x"}, Ref: "join",
			TTL: time.Second, Late: time.Minute})
		dropped("expired", 2)

		free := make(chan struct{})
		ok(t, n.OnRequest("e", func(context.Context, *crosscast.Request) (any, error) { <-free; return nil, nil }))
		for i := 0; n.Stats().Dropped["busy"] == 0 && i < 10_000; i++ {
			handle(crosscast.Instruction{Kind: kind.Request, Event: "e", Target: crosscast.Target{Everyone: true}})
		}
		dropped("busy", 2)
		close(free)
		synctest.Wait()

		for _, reason := range crosscast.DropReasons() {
			equal(t, string(reason), want[reason], 1)
			delete(want, reason)
		}
		equal(t, "reasons that are not listed", len(want), 0)
	})
}
