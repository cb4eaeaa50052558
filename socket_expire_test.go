package crosscast_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// TestSetExpires: a socket is closed at the last time that was set, once, and not before.
func TestSetExpires(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, s *crosscast.Socket)
		want time.Duration // after which it is closed; 0: never
	}{
		"never":     {func(*testing.T, *crosscast.Socket) {}, 0},
		"once":      {func(t *testing.T, s *crosscast.Socket) { ok(t, s.SetExpires(time.Now().Add(10*time.Second))) }, 10 * time.Second},
		"wall time": {func(t *testing.T, s *crosscast.Socket) { ok(t, s.SetExpires(time.Unix(time.Now().Unix()+10, 0))) }, 10 * time.Second},
		"extended": {func(t *testing.T, s *crosscast.Socket) {
			for range 5 {
				ok(t, s.SetExpires(time.Now().Add(10*time.Second)))
				time.Sleep(9 * time.Second)
			}
		}, 46 * time.Second},
		"shortened": {func(t *testing.T, s *crosscast.Socket) {
			ok(t, s.SetExpires(time.Now().Add(time.Hour)))
			ok(t, s.SetExpires(time.Now().Add(time.Second)))
		}, time.Second},
		"lifted": {func(t *testing.T, s *crosscast.Socket) {
			ok(t, s.SetExpires(time.Now().Add(10*time.Second)))
			ok(t, s.SetExpires(time.Time{}))
		}, 0},
		"lifted and set again": {func(t *testing.T, s *crosscast.Socket) {
			ok(t, s.SetExpires(time.Now().Add(10*time.Second)))
			ok(t, s.SetExpires(time.Time{}))
			ok(t, s.SetExpires(time.Now().Add(20*time.Second)))
		}, 20 * time.Second},
		"past": {func(t *testing.T, s *crosscast.Socket) {
			time.Sleep(time.Second)
			ok(t, s.SetExpires(time.Now().Add(-time.Hour)))
			equal(t, "closed", s.Closed(), true)
		}, time.Second},
		"far away": {func(t *testing.T, s *crosscast.Socket) { ok(t, s.SetExpires(time.Now().AddDate(9000, 0, 0))) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, crosscast.Options{})
				began, after, calls := time.Now(), time.Duration(0), 0
				conn := new(recorder)
				s, err := n.Connect(ctx, conn, crosscast.ConnectOptions{Rooms: []string{"r"}, OnClose: func(_ *crosscast.Socket, why crosscast.Reason) {
					if why == crosscast.ReasonExpired {
						after = time.Since(began)
						calls++
					}
				}})
				ok(t, err)
				c.do(t, s)
				time.Sleep(10 * time.Hour)
				synctest.Wait()
				equal(t, "closed after", after, c.want)
				if c.want == 0 {
					equal(t, "closed", s.Closed(), false)
					return
				}
				equal(t, "calls of OnClose", calls, 1)
				equal(t, "reasons", len(conn.closed), 1)
				equal(t, "members", len(n.Members("r")), 0)
				if err := s.SetExpires(time.Now().Add(time.Hour)); err != crosscast.ErrClosed {
					t.Errorf("SetExpires of a closed socket: %v", err)
				}
			})
		})
	}
}

// TestSetExpiresRace: an extension that comes at the very moment either holds or says that it was too late.
func TestSetExpiresRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		const sockets = 500
		moment := time.Now().Add(10 * time.Second)
		var extended, late atomic.Int32
		var all sync.WaitGroup
		for range sockets {
			s := connect(t, n.Namespace, new(recorder))
			ok(t, s.SetExpires(moment))
			all.Go(func() {
				time.Sleep(time.Until(moment))
				switch err := s.SetExpires(moment.Add(time.Hour)); {
				case err == nil:
					extended.Add(1)
					time.Sleep(time.Hour - 1)
					if s.Closed() {
						t.Error("closed before its extended time")
					}
				case errors.Is(err, crosscast.ErrClosed):
					late.Add(1)
					time.Sleep(time.Second)
					if !s.Closed() {
						t.Error("open, though its time was not extended")
					}
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Minute)
		equal(t, "sockets that are left", n.Stats().Sockets, 0)
		t.Logf("%d extended, %d too late", extended.Load(), late.Load())
	})
}

// TestSetExpiresAndClose: closing a socket ends its timer, whoever comes first.
func TestSetExpiresAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var all sync.WaitGroup
		var closed atomic.Int32
		for i := range 500 {
			s, err := n.Connect(ctx, new(recorder), crosscast.ConnectOptions{OnClose: func(*crosscast.Socket, crosscast.Reason) { closed.Add(1) }})
			ok(t, err)
			all.Go(func() { s.SetExpires(time.Now().Add(time.Duration(i%2) * time.Second)) })
			all.Go(func() { s.Close("enough") })
		}
		all.Wait()
		time.Sleep(time.Minute)
		equal(t, "calls of OnClose", closed.Load(), 500)
	})
}
