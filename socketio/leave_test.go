package socketio_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestLeaveTimeout: the events of a client that has left are handled until the timeout. If reading pauses, the timeout
// begins at the next ping.
func TestLeaveTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		eventBytes int
		last       string // the client's last message; empty: the connection ends
		after      time.Duration
	}{
		"connection": {0, "", 10 * time.Second},
		"namespace":  {0, "41", 10 * time.Second},
		"again":      {0, "40", 10 * time.Second},
		"pause":      {1, "", 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := wstest.StartNode(t, crosscast.Options{})
				start, ended, handled := time.Now(), make(chan time.Duration, 10), 0
				cl, conn := dialInMemory(t, newServer(t, n, socketio.Options{
					LeaveTimeout: 10 * time.Second, EventBytes: c.eventBytes, PingInterval: time.Second,
					Namespaces: namespaces(socketio.Namespace{
						OnDisconnect: func(context.Context, *crosscast.Socket, crosscast.Reason) { ended <- time.Since(start) },
						Events: socketio.Events{"n": func(ctx context.Context, _ *crosscast.Socket, _ socketio.Args) error {
							select {
							case <-time.After(4 * time.Second):
								handled++
							case <-ctx.Done():
							}
							return nil
						}},
					}),
				}))
				cl.join("/")
				go func() {
					events := strings.Repeat(wstest.Masked(`42["n"]`), 100)
					if c.last != "" {
						events += wstest.Masked(c.last)
					}
					_, _ = io.WriteString(conn, events)
				}()
				synctest.Wait()
				if c.last == "" {
					conn.Close()
				} else {
					go cl.Conn.CloseRead(context.Background())
				}
				if after := <-ended; after > c.after || handled != 2 {
					t.Errorf("ended after %v and %d events", after, handled)
				}
			})
		})
	}
}
