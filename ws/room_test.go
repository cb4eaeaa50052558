package ws_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestRoomOfThousand: a thousand sockets in one room get a broadcast once each, in another envelope, framed once.
func TestRoomOfThousand(t *testing.T) {
	const sockets = 1000
	n := wstest.StartNode(t, crosscast.Options{})
	envelope := &binary{}
	s := newServer(t, n, ws.Options{Envelope: envelope, Events: ws.Events{
		"say": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
			return n.To("room").Emit(ctx, "said", crosscast.Bytes(data))
		},
	}})
	h := accept(s, ws.Client{Rooms: []string{"room"}})
	clients := make([]*client, sockets)
	for i := range clients {
		clients[i], _ = dialInMemory(t, h)
	}
	clients[0].Write(websocket.MessageBinary, []byte("say:one"))
	clients[0].Expect("bytes:said:one")
	clients[0].Write(websocket.MessageBinary, []byte("say:two\xff"))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			if i > 0 {
				c.Expect("bytes:said:one")
			}
			c.Expect("bytes:said:two\xff")
		})
	}
	wg.Wait()
	if got := envelope.frames.Load(); got != 2 {
		t.Errorf("%d frames for 2 broadcasts", got)
	}
}
