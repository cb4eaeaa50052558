package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// A hearer is a client that keeps what it hears.
type hearer struct {
	mu    sync.Mutex
	heard map[string]bool
	gaps  []client.Gap
}

// covered reports whether a gap of the room covers a time.
func (h *hearer) covered(room string, at time.Time) bool {
	for _, g := range h.gaps {
		if (g.Room == "" || g.Room == room) && !at.Before(g.Since) && (g.Until.IsZero() || !at.After(g.Until)) {
			return true
		}
	}
	return false
}

// TestGapsBalance: for a random schedule of losses and cuts on three nodes, each client has each message, or a gap that
// covers its room and its time. All clients of a node that was cut off hear of a gap.
func TestGapsBalance(t *testing.T) {
	const nodes, rooms, steps = 3, 2, 12
	r := rand.New(rand.NewPCG(1, 2))
	c := crosscasttest.NewCluster(t, nodes, crosscast.Options{Heartbeat: 200 * time.Millisecond})
	hearers := make(map[int][]*hearer) // by node; the i-th is in the i-th room
	room := func(i int) string { return fmt.Sprint("room", i) }
	fences := make(chan struct{}, nodes*rooms)
	for i, n := range c.Nodes {
		s, err := ws.New(n.Namespace, ws.Options{AllowJoin: allowAll})
		if err != nil {
			t.Fatal(err)
		}
		url := wstest.Serve(t, s).URL
		for k := range rooms {
			h := &hearer{heard: make(map[string]bool)}
			conn := dial(t, url, client.Options{
				Events: client.Events{
					"n": client.Typed(func(_ context.Context, _ *client.Client, id string) error {
						h.mu.Lock()
						defer h.mu.Unlock()
						if h.heard[id] {
							t.Errorf("%s came twice", id)
						}
						h.heard[id] = true
						return nil
					}),
					"fence": func(context.Context, *client.Client, json.RawMessage) (any, error) {
						fences <- struct{}{}
						return nil, nil
					},
				},
				OnGap: func(_ *client.Client, g client.Gap) {
					h.mu.Lock()
					defer h.mu.Unlock()
					if g.Away || g.Room != "" && g.Room != room(k) {
						t.Errorf("a client in %s heard of %+v", room(k), g)
					}
					h.gaps = append(h.gaps, g)
				},
			})
			if err := conn.Join(t.Context(), room(k)); err != nil {
				t.Fatal(err)
			}
			hearers[i] = append(hearers[i], h)
		}
	}
	type message struct {
		id   string
		room int
		at   time.Time
	}
	var sent []message
	emit := func(times int) {
		for range times {
			m := message{fmt.Sprint(len(sent)), r.IntN(rooms), time.Now()}
			sent = append(sent, m)
			_ = c.Nodes[r.IntN(nodes)].To(room(m.room)).Emit(t.Context(), "n", m.id) // an error: no peer gets it
		}
	}
	// settle waits until the clients have handled everything.
	settle := func() {
		t.Helper()
		c.Settle(t.Context())
		for _, n := range c.Nodes {
			if err := n.Everyone().Local().Emit(t.Context(), "fence", nil); err != nil {
				t.Fatal(err)
			}
		}
		for range nodes * rooms {
			wstest.Wait(t, fences, "the fence at each client")
		}
	}
	emit(20)
	settle()
	for range steps {
		emit(r.IntN(5))
		if r.IntN(3) > 0 {
			c.Lose(1 + r.IntN(3))
			emit(3 + r.IntN(3))
			settle()
			continue
		}
		cut := r.IntN(nodes)
		c.Cut(cut)
		emit(3 + r.IntN(5))
		c.Heal(cut)
		emit(r.IntN(3))
		settle()
		for _, h := range hearers[cut] {
			h.mu.Lock()
			if len(h.gaps) == 0 {
				t.Error("a client of the node that was cut off has heard of no gap")
			}
			h.mu.Unlock()
		}
	}
	missing := 0
	for i, hs := range hearers {
		for k, h := range hs {
			h.mu.Lock()
			for _, m := range sent {
				if m.room != k || h.heard[m.id] {
					continue
				}
				missing++
				if !h.covered(room(k), m.at) {
					t.Errorf("the client of node %d in %s misses %s without a gap: %+v", i, room(k), m.id, h.gaps)
				}
			}
			h.mu.Unlock()
		}
	}
	t.Logf("%d emissions, of which clients miss %d in all", len(sent), missing)
	if missing == 0 {
		t.Error("nothing was missing")
	}
}
