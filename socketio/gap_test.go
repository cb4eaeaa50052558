package socketio_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketio"
)

// A gapAdapter lets a test report gaps and deliver the emissions of a peer.
type gapAdapter struct{ h crosscast.AdapterHandler }

func (a *gapAdapter) Start(_ context.Context, s crosscast.AdapterStart) error {
	a.h = s.Handler
	return nil
}
func (a *gapAdapter) Publish(context.Context, *crosscast.Instruction) error { return nil }
func (a *gapAdapter) Close(context.Context) error                           { return nil }

// outage reports an outage that began some time ago, when it begins or when it has ended.
func (a *gapAdapter) outage(since time.Duration, ended bool) {
	began := time.Now().Add(-since)
	if !ended {
		a.h.Outage(began, reasons.GapLinkLost)
		return
	}
	a.h.Gap(crosscast.Gap{Since: began, Until: time.Now(), Reason: reasons.GapLinkLost})
}

func (a *gapAdapter) emit(namespace, event string) {
	a.h.Handle(&crosscast.Instruction{
		Kind: kind.Emit, Namespace: namespace, From: "aaaaaaaa", Event: event, Target: crosscast.Target{Everyone: true},
	})
}

func (a *gapAdapter) gap(names ...crosscast.Address) {
	a.h.Gap(crosscast.Gap{
		Origin: "aaaaaaaa", Names: names, Reason: "hole",
		Since: time.Now().Add(-4200 * time.Millisecond), Until: time.Now().Add(-300 * time.Millisecond),
	})
}

// TestGapIsTold: an event of the application's choice, in its place, in the namespace concerned.
func TestGapIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, event := range []string{"gap", ""} {
			a := &gapAdapter{}
			n := wstest.StartNode(t, crosscast.Options{Adapter: a})
			rooms := func(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
				return socketio.Client{Rooms: []string{"r"}}, nil
			}
			s := newServer(t, n, socketio.Options{GapEvent: event, Namespaces: map[string]*socketio.Namespace{
				"/": {Authenticate: rooms}, "/chat": {},
			}})
			one, _ := dialInMemory(t, s)
			one.join("/", "/chat")
			other, _ := dialInMemory(t, s)
			other.join("/chat")
			told := func(c *client, packet string) {
				t.Helper()
				if event != "" {
					c.Expect(packet)
				}
			}
			a.gap(crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: "r"})
			a.emit("/", "fence")
			a.emit("/chat", "fence")
			told(one, `42["gap",{"room":"r","ago":[4200,300],"wait":1}]`)
			one.Expect(`42["fence"]`, `42/chat,["fence"]`)
			other.Expect(`42/chat,["fence"]`)
			a.gap()
			told(other, `42/chat,["gap",{"ago":[4200,300],"wait":2}]`)
			a.emit("/chat", "fence")
			other.Expect(`42/chat,["fence"]`)
		}
	})
}

// TestGapOfASlowClient: what its queue drops is a gap in each namespace.
func TestGapOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		c, _ := dialInMemory(t, newServer(t, n, socketio.Options{
			GapEvent: "gap", WriteTimeout: time.Hour, PingTimeout: time.Minute,
			Queue: crosscast.QueueOptions{Limit: 1, BurstTime: -1, Policy: crosscast.QueueDropNewest},
		}))
		c.join("/")
		for i := range 3 {
			_ = n.Emit(t.Context(), "x", i)
			synctest.Wait() // the first is being written, the second waits, the third is dropped
		}
		time.Sleep(5 * time.Second)
		c.Expect(`42["x",0]`, `42["x",1]`)
		var got []string
		for range 2 {
			m, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		for _, want := range []string{`42["gap",{"ago":[5000,0],"wait":1000,"ends":true}]`, `42/chat,["gap",{"ago":[5000,0],"wait":1000,"ends":true}]`} {
			if got[0] != want && got[1] != want {
				t.Errorf("got %q, want %s", got, want)
			}
		}
	})
}

// TestBadGapOptions: a reserved event is refused.
func TestBadGapOptions(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	for says, o := range map[string]socketio.Options{
		"Options.GapEvent": {GapEvent: "disconnect"}, "Options.GapSpread": {GapSpread: 2 * time.Hour},
	} {
		o.Namespaces = namespaces(socketio.Namespace{})
		if _, err := socketio.New(n, o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// TestGapOfAnOutage: clients hear of an outage while it lasts, also those that connect meanwhile, in each namespace.
func TestGapOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, event := range []string{"gap", ""} {
			a := &gapAdapter{}
			s := newServer(t, wstest.StartNode(t, crosscast.Options{Adapter: a}), socketio.Options{GapEvent: event})
			prefixes := map[string]string{"/": "42", "/chat": "42/chat,"}
			// told expects that the client is told in namespaces, which have no order.
			told := func(c *client, what string, namespaces ...string) {
				t.Helper()
				if event == "" || what == "" {
					return
				}
				var got, want []string
				for _, nsp := range namespaces {
					m, err := c.Read()
					if err != nil {
						t.Fatal(err)
					}
					got, want = append(got, m), append(want, prefixes[nsp]+`["gap",`+what+`]`)
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			dial := func(what string) *client {
				c, _ := dialInMemory(t, s)
				for nsp := range prefixes {
					c.join(nsp)
					told(c, what, nsp)
				}
				return c
			}
			early := dial("")
			a.outage(3*time.Second, false)
			told(early, `{"ago":[3000],"wait":1}`, "/", "/chat")
			time.Sleep(time.Second)
			late := dial(`{"ago":[4000],"wait":0}`)
			a.outage(4*time.Second, true)
			for _, c := range []*client{early, late} {
				told(c, `{"ago":[4000,0],"wait":2,"ends":true}`, "/", "/chat")
			}
			later := dial("")
			a.emit("/", "fence")
			for _, c := range []*client{early, late, later} {
				c.Expect(`42["fence"]`)
			}
		}
	})
}
