package socketio_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestClosedIsGone: a connection that the server closes is gone after 5 seconds, whatever the client does. Package ws
// has more tests of these connections.
func TestClosedIsGone(t *testing.T) {
	const head = "\x81\xfe\x40\x00\x00\x00\x00\x00" + `42["` // of a frame of which more is to come
	for name, refused := range map[string]string{
		"refused": "\x81\x81\x00\x00\x00\x009", "not UTF-8": "\x81\x81\x00\x00\x00\x00\xff", "kick": "",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := wstest.StartNode(t, crosscast.Options{})
				_, conn := dialInMemory(t, newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{})}))
				gone := make(chan time.Time, 1)
				go func() {
					_, _ = io.Copy(io.Discard, conn)
					gone <- time.Now()
				}()
				if _, err := io.WriteString(conn, "\x81\x82\x00\x00\x00\x0040"+refused+head); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				start := time.Now()
				if refused == "" {
					if err := n.Everyone().Disconnect(context.Background(), socketio.ReasonForced); err != nil {
						t.Error(err)
					}
				}
				if after := (<-gone).Sub(start); after > 5*time.Second {
					t.Errorf("the connection was gone after %v", after)
				}
			})
		})
	}
}
