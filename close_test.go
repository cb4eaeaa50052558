package crosscast_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
)

// doneConn is a conn whose handlers outlive Close.
type doneConn struct {
	recorder
	done chan struct{}
}

func (c *doneConn) Done() <-chan struct{} { return c.done }

// allClosed fails unless every entry point says that it is closed.
func allClosed(t *testing.T, n *crosscast.Node, s *crosscast.Socket) {
	t.Helper()
	_, connect := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{})
	_, subscribe := n.Subscribe(ctx, crosscast.Receiver{OnMessage: ignore}, "r")
	_, deliver := n.To("r").Deliver(ctx, "e", nil)
	for what, err := range map[string]error{
		"Connect": connect, "Subscribe": subscribe, "Deliver": deliver,
		"Emit": n.Emit(ctx, "e", nil), "Flush": n.Flush(ctx), "Local": n.Everyone().Local().Emit(ctx, "e", nil),
		"Socket.Emit": s.Emit(ctx, "e", nil), "Socket.To": s.To("r").Emit(ctx, "e", nil),
		"Join": s.Join(ctx, "r"), "Leave": s.Leave("r"),
	} {
		if !errors.Is(err, crosscast.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

func TestCloseInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var n *crosscast.Node
		n = start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute,
			OnRoom: func(_ *crosscast.Node, e crosscast.RoomEvent) {
				if e.Kind == crosscast.RoomDeleted {
					time.Sleep(time.Second) // a slow hook is waited for
					if err := n.To("r").Local().Emit(ctx, "from hook", nil); err != nil {
						t.Error(err)
					}
				}
			}})
		conn := &doneConn{done: make(chan struct{})}
		s, err := n.Connect(ctx, conn, crosscast.ConnectOptions{
			User: "u", Rooms: []string{"r"}, OnClose: func(s *crosscast.Socket, reason crosscast.Reason) {
				d.log.add("OnClose: %s, was in %s", reason, sorted(s.Rooms()))
				if err := n.To(s.Rooms()...).Emit(ctx, "left", nil); err != nil {
					t.Error(err)
				}
				if _, err := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{}); !errors.Is(err, crosscast.ErrClosed) {
					t.Errorf("Connect while closing: %v", err)
				}
			},
		})
		ok(t, err)
		var l log
		_, err = n.Subscribe(ctx, crosscast.Receiver{OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) {
			time.Sleep(time.Second) // and so is a slow subscription
			l.add("%s", m.Event)
		}}, "r")
		ok(t, err)
		synctest.Wait()
		d.log.take()

		var wg sync.WaitGroup
		for range 3 { // all wait, and return the same
			wg.Go(func() {
				if err := n.Close(ctx); err != nil {
					t.Error(err)
				}
				d.log.add("closed")
			})
		}
		synctest.Wait()
		equal(t, "before the conn is done", d.log.take(), "OnClose: server shutting down, was in r; left")
		equal(t, "reason", conn.reasons(), "server shutting down")
		ok(t, n.Emit(ctx, "still open", nil))
		d.log.take()
		close(conn.done)
		wg.Wait()
		equal(t, "then", d.log.take(), "goodbye; close; closed; closed; closed")
		equal(t, "subscription", sorted(strings.Split(l.take(), "; ")), "from hook left")
		ok(t, n.Close(ctx))
		equal(t, "calls of a later Close", d.log.take(), "")
		allClosed(t, n, s)
		if err := s.Emit(ctx, "e", nil); !errors.Is(err, crosscast.ErrClosed) {
			t.Errorf("Socket.Emit: %v", err)
		}
	})
}

func TestCloseOfASingleServer(t *testing.T) {
	n := start(t, crosscast.Options{})
	var r recorder
	s := connect(t, n.Namespace, &r, "r")
	ok(t, n.Flush(ctx))
	ok(t, n.Close(ctx))
	ok(t, n.Close(ctx))
	equal(t, "reason", r.reasons(), "server shutting down")
	allClosed(t, n, s)
}

// TestNodeOnClose: Close waits for what bindings have registered, which may still emit.
func TestNodeOnClose(t *testing.T) {
	n := start(t, crosscast.Options{})
	var r recorder
	connect(t, n.Namespace, &r)
	called, may := make(chan error), make(chan struct{})
	ok(t, n.OnClose(func() {
		called <- n.Emit(ctx, "from OnClose", nil)
		<-may
	}))
	closed := make(chan error, 1)
	go func() { closed <- n.Close(ctx) }()
	ok(t, <-called)
	if err := n.OnClose(func() { t.Error("called") }); !errors.Is(err, crosscast.ErrClosed) {
		t.Errorf("OnClose while closing: %v", err)
	}
	if len(closed) > 0 {
		t.Error("Close does not wait")
	}
	close(may)
	ok(t, <-closed)
	equal(t, "reason", r.reasons(), "server shutting down")
}

// What does not end within ctx is not waited for, and the rest is done all the same.
func TestCloseWithinItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		n := start(t, crosscast.Options{Adapter: d, Heartbeat: time.Minute})
		release := make(chan struct{})
		for range 100 {
			_, err := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{
				OnClose: func(*crosscast.Socket, crosscast.Reason) { <-release },
			})
			ok(t, err)
		}
		connect(t, n.Namespace, &doneConn{done: release})
		sub, err := n.Subscribe(ctx, crosscast.Receiver{
			OnMessage: func(*crosscast.Subscription, *crosscast.Message) { <-release },
		}, "r")
		ok(t, err)
		defer sub.Close()
		ok(t, n.To("r").Emit(ctx, "e", nil))
		d.log.take()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		begin := time.Now()
		if err := n.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		equal(t, "waited", time.Since(begin), time.Second)
		equal(t, "calls", d.log.take(), "goodbye; close")
		close(release) // or the bubble would not end: what was running ends by itself
	})
}

func TestCloseWhileEverythingGoesOn(t *testing.T) {
	for range 20 {
		cluster := crosscast.NewCluster()
		n := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		peer := start(t, crosscast.Options{Adapter: cluster.Adapter()})
		var wg sync.WaitGroup
		var mu sync.Mutex
		opened, closed := 0, 0
		enough := make(chan struct{}) // closed when many sockets were opened
		for i := range 16 {
			wg.Go(func() {
				for {
					s, err := n.Connect(ctx, &recorder{}, crosscast.ConnectOptions{
						Rooms: []string{"r", fmt.Sprint(i)},
						OnClose: func(*crosscast.Socket, crosscast.Reason) {
							mu.Lock()
							closed++
							mu.Unlock()
						},
					})
					if s == nil {
						if !errors.Is(err, crosscast.ErrClosed) {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					if opened++; opened == 200 {
						close(enough)
					}
					mu.Unlock()
					s.To("r").Emit(ctx, "e", nil)
					peer.To("r").Emit(ctx, "e", nil)
					if i%2 == 0 {
						s.Close(crosscast.ReasonLeft)
					}
				}
			})
		}
		<-enough
		ok(t, n.Close(ctx))
		mu.Lock()
		atClose := closed
		mu.Unlock()
		wg.Wait()
		equal(t, "sockets", n.Stats().Sockets, 0)
		equal(t, "OnClose calls when Close returned", atClose, opened)
		equal(t, "OnClose calls", closed, opened)
		ok(t, peer.Close(ctx))
	}
}

func TestSocketClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, crosscast.Options{})
		var r, other recorder
		var l log
		connect(t, n.Namespace, &other, "r")
		s, err := n.Connect(ctx, &r, crosscast.ConnectOptions{
			User: "u", Rooms: []string{"r"}, OnClose: func(s *crosscast.Socket, reason crosscast.Reason) {
				l.add("%s", reason)
				s.Close(crosscast.ReasonServer) // does nothing
				if s.Rooms()[0] != "r" || len(n.Members("r")) != 1 || n.Socket(s.ID()) != nil {
					t.Error("memberships had not ended")
				}
				if err := s.To("r").Emit(ctx, "left", nil); err != nil {
					t.Error(err)
				}
			},
		})
		ok(t, err)
		s.Close("kicked")
		s.Close(crosscast.ReasonServer)
		equal(t, "OnClose", l.take(), "kicked")
		equal(t, "conn", r.reasons(), "kicked")
		equal(t, "the others", other.take(), "left")
		equal(t, "closed", s.Closed(), true)
		ok(t, n.ToUser("u").Emit(ctx, "e", nil))
		equal(t, "after Close", r.take(), "")
	})
}

// endError is an error of a conn that says why the connection has ended.
type endError crosscast.Reason

func (e endError) Error() string            { return string(e) }
func (e endError) Reason() crosscast.Reason { return crosscast.Reason(e) }

// What a conn returns decides what becomes of the socket.
func TestConnErrors(t *testing.T) {
	for _, v := range []struct {
		err    error
		reason string // "": the socket stays
	}{
		{crosscast.ErrDropped, ""},
		{fmt.Errorf("wrapped: %w", crosscast.ErrDropped), ""},
		{crosscast.ErrClosed, ""}, // whoever closed it closes the socket, too
		{crosscast.ErrSlow, "too slow"},
		{errors.New("broken pipe"), "client left"},
		{fmt.Errorf("wrapped: %w", endError("timed out")), "timed out"},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := start(t, crosscast.Options{})
			var bad, good recorder
			s := connect(t, n.Namespace, &bad, "r")
			connect(t, n.Namespace, &good, "r")
			bad.fail(v.err)
			for range 3 {
				got, err := n.To("r").Deliver(ctx, "e", nil)
				ok(t, err)
				equal(t, "took it", got.Sockets, 1)
			}
			synctest.Wait()
			equal(t, v.err.Error(), bad.reasons(), v.reason)
			equal(t, "closed", s.Closed(), v.reason != "")
			equal(t, "the other", good.take(), "e e e")
			if v.reason == "" {
				if err := s.Emit(ctx, "e", nil); !errors.Is(err, v.err) {
					t.Errorf("Socket.Emit: %v", err)
				}
			}
		})
	}
}
