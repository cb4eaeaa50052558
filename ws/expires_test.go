package ws_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestExpires: a connection ends with its credential, and a handler may extend it.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		s := newServer(t, n, ws.Options{OnDisconnect: gone, Events: ws.Events{
			"refresh": ws.Typed(func(_ context.Context, s *crosscast.Socket, seconds int) error {
				return s.SetExpires(time.Now().Add(time.Duration(seconds) * time.Second))
			}),
		}})
		c, _ := dialInMemory(t, accept(s, ws.Client{Expires: time.Now().Add(10 * time.Second)}))
		time.Sleep(5 * time.Second)
		c.send("refresh", 10)
		c.ExpectClose(4002, "expired")
		if e := <-ended; e != (wstest.Ending{Reason: crosscast.ReasonExpired, After: 15 * time.Second}) {
			t.Errorf("%+v", e)
		}
		c, _ = dialInMemory(t, accept(s, ws.Client{Expires: time.Now().Add(-time.Second)}))
		c.ExpectClose(4002, "expired")
		if e := <-ended; e.Reason != crosscast.ReasonExpired {
			t.Errorf("%+v", e)
		}
	})
}

// TestExpiredClientSends: whatever an expired client goes on to send is not handled, and it is gone in time.
func TestExpiredClientSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		handled := time.Time{}
		s := newServer(t, n, ws.Options{Events: ws.Events{
			"n": ws.Typed(func(context.Context, *crosscast.Socket, int) error { handled = time.Now(); return nil }),
		}})
		expires := time.Now().Add(10*time.Second + time.Millisecond)
		_, conn := dialInMemory(t, accept(s, ws.Client{Expires: expires}))
		go io.Copy(io.Discard, conn)
		for {
			if _, err := io.WriteString(conn, wstest.Masked(`{"event":"n"}`)); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if late := time.Since(expires); late > 5*time.Second {
			t.Errorf("cut %v after it had expired", late)
		}
		if handled.After(expires) || expires.Sub(handled) > 10*time.Millisecond {
			t.Errorf("handled the last event %v before it had expired", expires.Sub(handled))
		}
		if sockets := n.Stats().Sockets; sockets != 0 {
			t.Errorf("%d sockets", sockets)
		}
	})
}
