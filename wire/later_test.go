package wire_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// TestPayloadsOfLaterVersions: a node of this version drops a payload with a number that it does not know, alone, and reports
// a gap of its names. A version that did not know extensions there drops what is left of the frame, with a gap of its topic.
// The second payload, a map, is to this version what an extension was to that one.
func TestPayloadsOfLaterVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		var mu sync.Mutex // guards happened
		var happened []string
		add := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			happened = append(happened, fmt.Sprintf(format, args...))
		}
		n, err := crosscast.Start(t.Context(), crosscast.Options{
			Adapter: wire.New(hub.Port("n"), wire.Options{}),
			OnGap: func(_ *crosscast.Node, g crosscast.Gap) {
				add("%s of %s: %v", g.Reason, g.Origin, g.Names)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(t.Context())
		_, err = n.Subscribe(t.Context(), crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			add("%s", m.Event)
		}}, "A", "B")
		if err != nil {
			t.Fatal(err)
		}
		const before, behind = "\x96\x01\xc0\xc0\x92\xc2\x91\xa1A\xa6before\xa11", "\x96\x01\xc0\xc0\x92\xc2\x91\xa1A\xa6behind\xa11"
		for i, row := range []struct {
			payload string
			want    []string
		}{
			{"\xd4\x05x", []string{"before", "behind", "invalid of stranger: [{/ room A} {/ room B}]"}},
			{"\x80", []string{"before", "hole of stranger: [{/ room A}]"}},
		} {
			happened = nil
			frame := wire.AppendFrameHeader(nil, &wire.FrameHeader{Origin: "stranger", Number: uint64(7 + i), Previous: uint64(7 * i)})
			for _, inst := range []string{before, "\x96\x01\xc0\xc0\x92\xc2\x92\xa1A\xa1B\xa5later" + row.payload, behind} {
				frame = append(frame, inst...)
			}
			hub.Port("stranger").Publish(t.Context(), []wire.Frame{{Topic: "cc:r:/:A", Data: frame}})
			synctest.Wait()
			slices.Sort(happened) // hooks and subscriptions have goroutines of their own
			if !slices.Equal(happened, row.want) {
				t.Errorf("%x: got %q, want %q", row.payload, happened, row.want)
			}
		}
		if s := n.Stats(); s.Dropped["encoding"] != 1 || s.Adapter.Dropped["malformed"] != 1 {
			t.Errorf("dropped %v, and by the adapter %v", s.Dropped, s.Adapter.Dropped)
		}
	})
}
