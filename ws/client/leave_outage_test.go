package client_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// TestLeavingDuringAnOutage: a client that leaves a node during its outage, for another node or for the same one, hears of
// a gap that covers what the node missed while the client was there. A client that connects during the outage does, too.
func TestLeavingDuringAnOutage(t *testing.T) {
	for name, next := range map[string]int32{"another node": 1, "the same node": 0} {
		t.Run(name, func(t *testing.T) {
			c := crosscasttest.NewCluster(t, 2, crosscast.Options{Heartbeat: 100 * time.Millisecond})
			var servers []*ws.Server
			for _, n := range c.Nodes {
				s, err := ws.New(n.Namespace, ws.Options{AllowJoin: allowAll})
				if err != nil {
					t.Fatal(err)
				}
				servers = append(servers, s)
			}
			var to atomic.Int32
			url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { servers[to.Load()].ServeHTTP(w, r) })).URL
			gaps := make(chan client.Gap, 100)
			heard := make(chan string, 100)
			o := client.Options{
				MinBackoff: time.Millisecond, GapMargin: time.Millisecond, PingInterval: -1,
				Events: client.Events{"n": client.Typed(func(_ context.Context, _ *client.Client, id string) error {
					heard <- id
					return nil
				})},
				OnGap: func(_ *client.Client, g client.Gap) { gaps <- g },
			}
			conn := dial(t, url, o)
			if err := conn.Join(t.Context(), "room"); err != nil {
				t.Fatal(err)
			}
			emit := func(from int, id string) time.Time {
				at := time.Now()
				if err := c.Nodes[from].To("room").Emit(t.Context(), "n", id); err != nil {
					t.Fatal(err)
				}
				return at
			}
			emit(1, "before")
			wstest.Wait(t, heard, "before")
			c.Cut(0)
			missed := emit(1, "missed")
			if g := wstest.Wait(t, gaps, "the outage"); !g.Until.IsZero() || g.Since.After(missed) || g.Away {
				t.Fatalf("during the outage: %+v", g)
			}
			begun := time.Now()               // the client has been told
			time.Sleep(10 * time.Millisecond) // lasts longer than GapMargin
			emit(0, "own")
			wstest.Wait(t, heard, "own")
			to.Store(next)
			for _, s := range c.Nodes[0].Members("room") {
				s.Close("moving")
			}
			g := wstest.Wait(t, gaps, "the absence")
			if !g.Away || g.Since.After(missed) || g.Until.Before(begun) {
				t.Errorf("the absence is %+v; missed at %v", g, missed)
			}
			if next == 0 {
				if g := wstest.Wait(t, gaps, "the outage, again"); !g.Until.IsZero() || g.Since.After(missed) {
					t.Errorf("on the new connection: %+v", g)
				}
			}
			c.Heal(0)
			if next == 0 {
				if g := wstest.Wait(t, gaps, "the end"); g.Until.IsZero() || g.Away || g.Since.After(missed) {
					t.Errorf("once the link is back: %+v", g)
				}
			}
			c.Settle(t.Context())
			emit(0, "after")
			for wstest.Wait(t, heard, "after") != "after" { // what node 0 has emitted in the outage comes late
			}
		})
	}
}
