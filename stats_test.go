package crosscast_test

import (
	"context"
	"testing"

	"github.com/crosscast/crosscast"
)

// bare is an adapter that keeps its handler, and does nothing by itself.
type bare struct{ h crosscast.Handler }

func (b *bare) Start(_ context.Context, _ crosscast.NodeInfo, h crosscast.Handler) error {
	b.h = h
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
	for _, reason := range []crosscast.GapReason{crosscast.GapDeaf, crosscast.GapHole, crosscast.GapDeaf} {
		b.h.Gap(crosscast.Gap{Reason: reason})
	}
	b.h.Loss(crosscast.Loss{Reason: crosscast.LossExpired, Err: crosscast.ErrRefused})
	s := n.Stats()
	equal(t, "gaps", s.Gaps, 3)
	equal(t, "deaf", s.GapReasons[crosscast.GapDeaf], 2)
	equal(t, "holes", s.GapReasons[crosscast.GapHole], 1)
	equal(t, "expired", s.LossReasons[crosscast.LossExpired], 1)
	equal(t, "reasons", len(s.GapReasons)+len(s.LossReasons), 3)
}
