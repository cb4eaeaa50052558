package socketio_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestExpires: the whole connection ends with the credential of one namespace, without a disconnect, so that the client
// comes back by itself. A handler may extend it.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		lasts := 10 * time.Second
		s := newServer(t, n, socketio.Options{Namespaces: namespaces(socketio.Namespace{
			Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
				return socketio.Client{Expires: time.Now().Add(lasts)}, nil
			},
			OnDisconnect: gone,
			Events: socketio.Events{"refresh": socketio.Typed(func(_ context.Context, s *crosscast.Socket, seconds int) error {
				return s.SetExpires(time.Now().Add(time.Duration(seconds) * time.Second))
			})},
		})})
		c, _ := dialInMemory(t, s)
		c.join("/")
		time.Sleep(5 * time.Second)
		c.send(`42["refresh",15]`)
		if got := c.ExpectClose(4002, "expired"); len(got) != 0 {
			t.Errorf("received %q", got)
		}
		if e := <-ended; e != (wstest.Ending{Reason: crosscast.ReasonExpired, After: 20 * time.Second}) {
			t.Errorf("%+v", e)
		}
		lasts = -time.Second
		c, _ = dialInMemory(t, s)
		c.send("40")
		c.ExpectClose(4002, "expired")
		if e := <-ended; e.Reason != crosscast.ReasonExpired {
			t.Errorf("%+v", e)
		}
	})
}
