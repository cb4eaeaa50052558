package socketio_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// inRoom has the clients of a namespace in the room that their auth names.
func inRoom(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
	return socketio.Client{Rooms: []string{strings.Trim(string(h.Auth), `{"}:1`)}}, nil
}

// TestGapReconnect: clients that a gap concerns are told of it, if there is an event for that, and then closed evenly
// over the window, each once and with all its sockets.
func TestGapReconnect(t *testing.T) {
	for _, event := range []string{"gap", ""} {
		synctest.Test(t, func(t *testing.T) {
			const clients, window = 200, 10 * time.Second
			a := &gapAdapter{}
			reasons := make(chan crosscast.Reason, clients)
			s := newServer(t, wstest.StartNode(t, crosscast.Options{Adapter: a}), socketio.Options{
				GapEvent: event, Gaps: socketio.GapReconnect, GapSpread: window * 1000 / clients, PingTimeout: time.Minute,
				Namespaces: map[string]*socketio.Namespace{
					"/": {Authenticate: inRoom},
					"/chat": {OnDisconnect: func(_ context.Context, _ *crosscast.Socket, reason crosscast.Reason) {
						reasons <- reason
					}},
				},
			})
			connect := func(room string) *client {
				c, _ := dialInMemory(t, s)
				c.join("/chat")
				c.send(`40{"` + room + `":1}`)
				if got, err := c.Read(); err != nil || !strings.HasPrefix(got, `40{"sid":`) {
					t.Fatalf("%s, %v", got, err)
				}
				return c
			}
			other := connect("other")
			began := time.Now()
			closed := make(chan time.Duration, clients)
			for range clients {
				c := connect("r")
				go func() {
					packets := c.ExpectClose(websocket.StatusServiceRestart, "server restarting")
					closed <- time.Since(began)
					want := slices.Repeat([]string{`42["gap",{"room":"r","ago":[4200,300],"wait":10000}]`}, 2)
					if event == "" {
						want = nil
					}
					if !slices.Equal(packets, want) {
						t.Errorf("a client got %q", packets)
					}
				}()
			}
			for range 2 {
				a.gap(crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"})
			}
			halves := [2]int{}
			for range clients {
				after := <-closed
				if after > window {
					t.Fatalf("a client was closed after %v", after)
				}
				halves[min(after/(window/2), 1)]++
				if reason := <-reasons; reason != crosscast.ReasonDrained {
					t.Errorf("OnDisconnect got %q", reason)
				}
			}
			if halves[0] < clients/4 || halves[1] < clients/4 {
				t.Errorf("%d clients were closed in the halves of the window", halves)
			}
			a.emit("/", "fence")
			other.Expect(`42["fence"]`)
		})
	}
}

// TestOutageReconnect: nobody is sent away while an outage lasts. Without an event, clients that connect meanwhile are
// told nothing.
func TestOutageReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &gapAdapter{}
		s := newServer(t, wstest.StartNode(t, crosscast.Options{Adapter: a}), socketio.Options{
			Gaps: socketio.GapReconnect, PingInterval: time.Hour, PingTimeout: time.Hour,
		})
		early, _ := dialInMemory(t, s)
		early.join("/")
		a.outage(time.Second, false)
		late, _ := dialInMemory(t, s)
		late.join("/")
		time.Sleep(10 * time.Minute)
		a.emit("/", "x")
		for _, c := range []*client{early, late} {
			c.Expect(`42["x"]`)
		}
		a.outage(10*time.Minute, true)
		for _, c := range []*client{early, late} {
			if packets := c.ExpectClose(websocket.StatusServiceRestart, "server restarting"); len(packets) > 0 {
				t.Errorf("packets before the end: %q", packets)
			}
		}
	})
}

// TestGapIgnore: nobody is told, and nobody is sent away.
func TestGapIgnore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &gapAdapter{}
		n := wstest.StartNode(t, crosscast.Options{Adapter: a})
		s := newServer(t, n, socketio.Options{
			GapEvent: "gap", Gaps: socketio.GapIgnore, WriteTimeout: time.Hour, PingTimeout: time.Minute,
			Queue: crosscast.QueueOptions{Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest},
		})
		c, _ := dialInMemory(t, s)
		c.join("/")
		a.gap()
		for range 3 {
			a.emit("/", "x")
			synctest.Wait() // the first is being written, the second waits, the third is dropped
		}
		c.Expect(`42["x"]`, `42["x"]`)
		a.emit("/", "fence")
		c.Expect(`42["fence"]`)
	})
	if _, err := socketio.New(wstest.StartNode(t, crosscast.Options{}), socketio.Options{
		Namespaces: namespaces(socketio.Namespace{}), Gaps: socketio.GapIgnore + 1,
	}); err == nil || !strings.Contains(err.Error(), "Options.Gaps is 3") {
		t.Error("New:", err)
	}
}
