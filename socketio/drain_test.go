package socketio_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestDrain: a connection ends with all its sockets as by a lost transport, so that clients come back by themselves: a
// client that was sent a disconnect packet does not. New ones get status 503.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {}, "/chat": {}}})
		c, _ := dialInMemory(t, s)
		c.join("/", "/chat")
		drained := make(chan error, 1)
		go func() {
			drained <- n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: 10 * time.Second})
		}()
		synctest.Wait()
		refused(t, s, http.StatusServiceUnavailable, `{"code":4,"message":"server restarting"}`)
		if st := s.Stats(); st.Refused["draining"] != 1 {
			t.Errorf("%+v", st)
		}
		if packets := c.ExpectClose(websocket.StatusServiceRestart, "server restarting"); len(packets) > 0 {
			t.Errorf("packets before the end: %q", packets)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}
