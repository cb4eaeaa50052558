package ws_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/ws"
)

// TestGapReconnect: clients that a gap concerns are told of it, and then closed evenly over the window.
func TestGapReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, window = 200, 10 * time.Second
		reasons := make(chan crosscast.Reason, clients)
		s := serveGaps(t, ws.Options{
			Gaps: ws.GapReconnect, GapSpread: window * 1000 / clients,
			OnDisconnect: func(_ context.Context, _ *crosscast.Socket, reason crosscast.Reason) { reasons <- reason },
		})
		other := s.client("", "other")
		began := time.Now()
		closed := make(chan time.Duration, clients)
		for range clients {
			c := s.client("", "room")
			go func() {
				messages := c.ExpectClose(websocket.StatusServiceRestart, "server restarting")
				closed <- time.Since(began)
				if len(messages) != 3 || !strings.HasPrefix(messages[0], `{"gap":{"room":"room"`) || messages[1] != messages[0] ||
					!strings.HasPrefix(messages[2], `{"reconnect":{"wait":`) {
					t.Errorf("a client got %q", messages)
				}
			}()
		}
		for range 2 {
			s.gap(time.Second, 0, roomNames("room")...)
		}
		halves := [2]int{}
		for range clients {
			after := <-closed
			if after > window {
				t.Fatalf("a client was closed after %v", after)
			}
			halves[min(after/(window/2), 1)]++
			if reason := <-reasons; reason != crosscast.ReasonDrained {
				t.Errorf("OnDisconnect got %q", reason)
			}
		}
		if halves[0] < clients/4 || halves[1] < clients/4 {
			t.Errorf("%d clients were closed in the halves of the window", halves)
		}
		s.emit("other", "fence")
		other.Expect(`{"event":"fence"}`)
	})
}
