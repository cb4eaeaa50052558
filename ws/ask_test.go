package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestBurstOfQuestions: a handler that queries its own client runs although the replies come behind more events, also
// when reading pauses already. A client whose replies are too far behind counts as silent at once.
func TestBurstOfQuestions(t *testing.T) {
	for _, c := range []struct {
		name      string
		count     int
		before    time.Duration // the handler queries the client
		allAnswer bool
	}{
		{"few", 1500, 0, true}, {"few, late", 1500, time.Millisecond, true}, {"many", 10_000, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := wstest.StartNode(t, crosscast.Options{})
				done := make(chan struct{})
				handled, silent := 0, 0
				client, _ := dialInMemory(t, newServer(t, n, ws.Options{Events: ws.Events{
					"n": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
						time.Sleep(c.before)
						replies := s.Namespace().ToSocket(s.ID()).EmitAck(ctx, "ask", nil)
						for r := range replies.All() {
							if got := string(r.Payload.Data); got != "42" {
								t.Errorf("reply %q", got)
							}
						}
						var incomplete *crosscast.IncompleteError
						if err := replies.Err(); errors.As(err, &incomplete) && slices.Equal(incomplete.Silent, []crosscast.SocketID{s.ID()}) {
							silent++
						} else if err != nil {
							t.Error(err)
						}
						if handled++; handled == c.count {
							close(done)
						}
						return nil
					},
				}}))
				start := time.Now()
				go func() {
					for range c.count {
						if err := client.Conn.Write(t.Context(), websocket.MessageText, []byte(`{"event":"n","data":1}`)); err != nil {
							t.Error(err)
						}
					}
				}()
				go func() {
					for {
						_, b, err := client.Conn.Read(context.Background())
						if err != nil {
							return
						}
						if id, ok := strings.CutPrefix(string(b), `{"event":"ask","id":`); ok {
							_ = client.Conn.Write(t.Context(), websocket.MessageText, []byte(`{"id":`+strings.TrimSuffix(id, "}")+`,"data":42}`))
						} else {
							t.Errorf("received %s", b)
						}
					}
				}()
				<-done
				if took := time.Since(start); took > time.Duration(c.count)*c.before {
					t.Errorf("%d events took %v", c.count, took)
				}
				if (silent == 0) != c.allAnswer || silent == c.count {
					t.Errorf("the client counted as silent %d times of %d", silent, c.count)
				}
			})
		})
	}
}
