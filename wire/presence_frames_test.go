package wire_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// TestWatchesFitTheFrame: a room with many members, and very many rooms, are told of whatever the largest frame is.
func TestWatchesFitTheFrame(t *testing.T) {
	for _, o := range []wire.Options{{MaxFrame: 64 << 10}, {MaxFrame: 2 << 10}} {
		synctest.Test(t, func(t *testing.T) {
			hub := membus.New()
			var nodes []*crosscast.Node
			for i := range 2 {
				n, err := crosscast.Start(t.Context(), crosscast.Options{
					Adapter: wire.New(hub.Port(fmt.Sprint("n", i)), o), MaxPayload: 256,
				})
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close(t.Context())
				nodes = append(nodes, n)
			}
			synctest.Wait()
			for i := range 2000 {
				c := crosscast.ConnectOptions{User: fmt.Sprint("user", i), Rooms: []string{"r"}}
				if _, err := nodes[1].Connect(t.Context(), nobody{}, c); err != nil {
					t.Fatal(err)
				}
			}
			w, err := nodes[0].Watch(t.Context(), "r", crosscast.WatchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(w.Members()); got != 2000 || len(w.Missing()) > 0 {
				t.Errorf("%d members, missing %v", got, w.Missing())
			}
			for i := range 1000 {
				w, err := nodes[0].Watch(t.Context(), fmt.Sprint("room", i), crosscast.WatchOptions{})
				if err != nil || len(w.Missing()) > 0 {
					t.Fatal(err, w.Missing())
				}
			}
			late, err := crosscast.Start(t.Context(), crosscast.Options{
				Adapter: wire.New(hub.Port("late"), o), MaxPayload: 256,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer late.Close(t.Context())
			time.Sleep(time.Second)
			if m := w.Missing(); len(m) > 0 {
				t.Error(m)
			}
		})
	}
}
