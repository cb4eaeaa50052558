package socketio_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestBurstOfQuestions: a handler that queries its own client runs although the replies come behind more events, those
// of another namespace, too. Package ws has more tests of this.
func TestBurstOfQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 1500
		n := wstest.StartNode(t, crosscast.Options{})
		done := make(chan struct{})
		handled := 0
		all := namespaces(socketio.Namespace{Events: socketio.Events{
			"n": func(context.Context, *crosscast.Socket, socketio.Args) error { <-done; return nil },
		}})
		all["/chat"] = &socketio.Namespace{Events: socketio.Events{
			"n": func(ctx context.Context, s *crosscast.Socket, _ socketio.Args) error {
				replies := s.Namespace().ToSocket(s.ID()).EmitAck(ctx, "ask", nil)
				for range replies.All() {
					handled++
				}
				if err := replies.Err(); err != nil {
					t.Error(err)
				}
				if handled == count {
					close(done)
				}
				return nil
			},
		}}
		client, _ := dialInMemory(t, newServer(t, n, socketio.Options{Namespaces: all}))
		write := func(packet string) {
			if err := client.Conn.Write(t.Context(), websocket.MessageText, []byte(packet)); err != nil {
				t.Error(err)
			}
		}
		connected := make(chan struct{}, 2)
		go func() {
			for {
				_, b, err := client.Conn.Read(context.Background())
				if err != nil {
					return
				}
				if strings.HasPrefix(string(b), "40") {
					connected <- struct{}{}
				} else if id, ok := strings.CutPrefix(string(b), "42/chat,"); ok {
					write("43/chat," + strings.TrimSuffix(id, `["ask"]`) + "[42]")
				}
			}
		}()
		write("40")
		write("40/chat,")
		<-connected
		<-connected
		start := time.Now()
		go func() {
			for range count {
				write(`42/chat,["n"]`)
				write(`42["n"]`)
			}
		}()
		<-done
		if took := time.Since(start); took > 0 {
			t.Errorf("%d events took %v", count, took)
		}
	})
}
