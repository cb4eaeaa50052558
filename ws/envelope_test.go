package ws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// binary is an envelope of another kind: event, colon, data, in binary messages. It counts its frames.
type binary struct{ frames atomic.Int32 }

func (b *binary) Frame(m *crosscast.Message) ([]byte, error) {
	b.frames.Add(1)
	return slices.Concat([]byte(m.Event), []byte{':'}, m.Payload.Data), nil
}

func (b *binary) Control(c ws.Control) ([]byte, error) {
	if c.Kind != ws.ControlReply {
		return nil, nil
	}
	return fmt.Appendf(nil, "%d:%s%s", c.ID, c.Data.Data, c.Failure), nil
}

// Parse takes event:data, or #id:data for a reply, or #id?event:data for an event that wants one.
func (b *binary) Parse(message []byte) (ws.Incoming, error) {
	event, data, ok := bytes.Cut(message, []byte{':'})
	if !ok {
		return ws.Incoming{}, errors.New("no colon")
	}
	in := ws.Incoming{Event: string(event), Data: slices.Clone(data)}
	if id, numbered := strings.CutPrefix(in.Event, "#"); numbered {
		id, in.Event, _ = strings.Cut(id, "?")
		in.ID, _ = strconv.ParseUint(id, 10, 64)
	}
	return in, nil
}

func (b *binary) Binary() bool { return true }

// TestBinaryReplies: another envelope carries replies, too, and an acknowledged emission is framed once.
func TestBinaryReplies(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	envelope := &binary{}
	h := accept(newServer(t, n, ws.Options{Envelope: envelope, Events: ws.Events{
		"twice": ws.Answered(func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) (any, error) {
			return crosscast.Bytes(append(data, data...)), nil
		}),
	}}), ws.Client{Rooms: []string{"room"}})
	clients := make([]*client, 10)
	for i := range clients {
		clients[i], _ = dialInMemory(t, h)
	}
	clients[0].Write(websocket.MessageBinary, []byte("unknown:")) // the envelope sends nothing for unknown events
	clients[0].Write(websocket.MessageBinary, []byte("#7?twice:\"x\""))
	clients[0].Expect(`bytes:7:"x""x"`)
	answers := n.To("room").EmitAck(t.Context(), "ask", nil)
	for _, c := range clients {
		c.Expect("bytes:ask:")
		c.Write(websocket.MessageBinary, []byte("#1:\xff"))
	}
	count := 0
	for r := range answers.All() {
		count++
		if r.Payload.Encoding != crosscast.EncodingBinary || string(r.Payload.Data) != "\xff" {
			t.Errorf("%+v", r)
		}
	}
	if err := answers.Err(); err != nil || count != len(clients) || envelope.frames.Load() != 1 {
		t.Errorf("%d replies, %v; framed %d times", count, err, envelope.frames.Load())
	}
}
