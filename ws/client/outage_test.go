package client_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/wire"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// TestOutage: while a node's link is down, clients connect and join at once, and receive the emissions of their node's
// clients. Once the link is back, they receive all.
func TestOutage(t *testing.T) {
	hub := membus.New()
	port := hub.Port("here")
	gap := make(chan crosscast.Gap, 10)
	start := func(p *membus.Port, o crosscast.Options) *crosscast.Node {
		o.Adapter, o.Heartbeat = wire.New(p, wire.Options{}), 100*time.Millisecond
		n, err := crosscast.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), wstest.Patience)
			defer cancel()
			_ = n.Close(ctx)
		})
		return n
	}
	n := start(port, crosscast.Options{OnGap: func(_ *crosscast.Node, g crosscast.Gap) { gap <- g }})
	there := start(hub.Port("there"), crosscast.Options{})
	s, err := ws.New(n.Namespace, ws.Options{AllowJoin: allowAll})
	if err != nil {
		t.Fatal(err)
	}
	url := wstest.Serve(t, s).URL

	port.Down()
	for deadline := time.Now().Add(wstest.Patience); n.Stats().Connected; {
		if time.Now().After(deadline) {
			t.Fatal("the node has not noticed that its link is down")
		}
		time.Sleep(time.Millisecond) // poll
	}
	heard := make(chan string, 10)
	for range 7 {
		c, err := client.Dial(t.Context(), url, client.Options{
			Events: client.Events{"said": client.Typed(func(_ context.Context, _ *client.Client, text string) error {
				heard <- text
				return nil
			})},
			OnRetry: func(_ *client.Client, err error, _ time.Duration) { t.Errorf("a join that failed: %v", err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Join(t.Context(), "room1"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), wstest.Patience)
			defer cancel()
			_ = c.Close(ctx)
		})
	}
	say := func(from *crosscast.Node, text string) {
		if err := from.To("room1").Emit(t.Context(), "said", text); err != nil {
			t.Fatal(err)
		}
		for range 7 {
			if got := wstest.Wait(t, heard, text); got != text {
				t.Errorf("got %q, want %q", got, text)
			}
		}
	}
	say(n, "here")
	members := n.Members("room1")
	port.Up()
	ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
	defer cancel()
	for _, s := range members {
		if err := s.Synced(ctx); err != nil {
			t.Error(err)
		}
	}
	if g := wstest.Wait(t, gap, "the gap of the outage"); !g.Covers(crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "room1"}) {
		text, _ := json.Marshal(g)
		t.Errorf("the gap %s does not cover the room", text)
	}
	say(there, "there")
}
