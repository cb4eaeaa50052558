package client_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// TestDrain: one of three nodes drains. Its 500 clients come to the others evenly, each after at most the window and two
// seconds, and each has every message of its room, or a gap that covers the message.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, window = 500, 3 * time.Second
		hub := membus.New()
		var nodes []*crosscast.Node
		var servers []*ws.Server
		for i := range 3 {
			name := fmt.Sprint("node", i)
			n, err := crosscast.Start(t.Context(), crosscast.Options{Name: name, Adapter: wire.New(hub.Port(name), wire.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close(context.Background())
			s, err := ws.New(n.Namespace, ws.Options{AllowJoin: allowAll})
			if err != nil {
				t.Fatal(err)
			}
			nodes, servers = append(nodes, n), append(servers, s)
		}

		var mu sync.Mutex
		var came []time.Time
		balancer := transport(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			came = append(came, time.Now())
			to := len(came)%2 + 1
			mu.Unlock()
			if nodes[0].Ready() == nil {
				to = 0
			}
			servers[to].ServeHTTP(w, r)
		})
		hearers := make([]*hearer, clients)
		for i := range hearers {
			h := &hearer{heard: make(map[string]bool)}
			hearers[i] = h
			c, err := client.Dial(t.Context(), "ws://balancer/", client.Options{
				HTTPClient: balancer,
				Events: client.Events{"n": client.Typed(func(_ context.Context, _ *client.Client, id string) error {
					h.mu.Lock()
					defer h.mu.Unlock()
					h.heard[id] = true
					return nil
				})},
				OnGap: func(_ *client.Client, g client.Gap) {
					h.mu.Lock()
					defer h.mu.Unlock()
					h.gaps = append(h.gaps, g)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(context.Background())
			if err := c.Join(t.Context(), "room"); err != nil {
				t.Fatal(err)
			}
		}
		came = nil

		began := time.Now()
		drained := make(chan error, 1)
		go func() {
			drained <- nodes[0].Drain(context.Background(), crosscast.DrainOptions{Notice: -1, Window: window})
		}()
		var sent []time.Time
		for time.Since(began) < window+3*time.Second {
			sent = append(sent, time.Now())
			if err := nodes[1].To("room").Emit(t.Context(), "n", fmt.Sprint(len(sent)-1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // each emission costs 500 writes
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		synctest.Wait()

		if len(came) != clients {
			t.Errorf("%d clients came", len(came))
		}
		if last := slices.MaxFunc(came, time.Time.Compare).Sub(began); last > window+2*time.Second {
			t.Errorf("the last client came after %v", last)
		}
		for unit, factor := range map[time.Duration]float64{time.Second: 1.3, 100 * time.Millisecond: 2.5} {
			most := float64(clients) * float64(unit) / float64(window) * factor
			counts := make(map[time.Duration]int)
			for _, at := range came {
				counts[at.Sub(began)/unit]++
			}
			for i, n := range counts {
				if float64(n) > most {
					t.Errorf("%d clients came in the %v after %v, more than %.0f", n, unit, i*unit, most)
				}
			}
		}
		missing := 0
		for i, h := range hearers {
			for id, at := range sent {
				if h.heard[fmt.Sprint(id)] {
					continue
				}
				missing++
				if !h.covered("room", at) {
					t.Errorf("client %d misses a message of %v without a gap: %+v", i, at, h.gaps)
				}
			}
		}
		if missing == 0 {
			t.Error("nothing was missing, so no gap was looked at")
		}
	})
}
