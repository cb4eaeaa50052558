package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/ws"
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

// emit delivers an emission of a peer to a room.
func (a *gapAdapter) emit(room, event string) {
	a.h.Handle(&crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Event: event, Target: crosscast.Target{Rooms: []string{room}},
	})
}

// gap reports a gap that began and ended some time ago. A negative until means that it goes on.
func (a *gapAdapter) gap(since, until time.Duration, names ...crosscast.Address) {
	g := crosscast.Gap{Origin: "aaaaaaaa", Since: time.Now().Add(-since), Names: names, Reason: "hole"}
	if until >= 0 {
		g.Until = time.Now().Add(-until)
	}
	a.h.Gap(g)
}

func roomNames(names ...string) (all []crosscast.Address) {
	for _, name := range names {
		all = append(all, crosscast.Address{Namespace: "/", Space: crosscast.SpaceRoom, Name: name})
	}
	return all
}

// gapServer is a server whose clients are in the rooms of their URL.
type gapServer struct {
	*gapAdapter
	t    *testing.T
	node *crosscast.Node
	ws   *ws.Server
}

func serveGaps(t *testing.T, o ws.Options) *gapServer {
	t.Helper()
	s := &gapServer{gapAdapter: &gapAdapter{}, t: t}
	s.node = wstest.StartNode(t, crosscast.Options{Adapter: s.gapAdapter})
	s.ws = newServer(t, s.node, o)
	return s
}

// client returns a client in rooms.
func (s *gapServer) client(user string, rooms ...string) *client {
	s.t.Helper()
	c, _ := dialInMemory(s.t, accept(s.ws, ws.Client{User: user, Rooms: rooms}))
	return c
}

// TestGapIsTold: the frame of each room goes to its members, in its place, and one without names to those that a gap
// concerns as a whole. Nobody hears the name of a room that it is not in.
func TestGapIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{})
		var many []string
		for i := range 17 {
			many = append(many, fmt.Sprintf("m%02d", i))
		}
		one, both, other := s.client("ann", "r1"), s.client("bob", "r1", "r2"), s.client("", "r3")
		seventeen := s.client("", append(many, "r3")...)
		all := []*client{one, both, other, seventeen}
		const ago = `"ago":[4200,300]`
		expect := func(what string, want ...string) {
			t.Helper()
			for i, c := range all {
				var got []string
				fence := fmt.Sprintf(`{"event":"fence %s"}`, what)
				for {
					m, err := c.Read()
					if err != nil {
						t.Fatal(err)
					}
					if m == fence {
						break
					}
					got = append(got, m)
				}
				slices.Sort(got)
				if text := strings.Join(got, " "); text != want[i] {
					t.Errorf("%s: client %d got %s, want %s", what, i, text, want[i])
				}
			}
		}
		fence := func(what string) {
			if err := s.node.Emit(t.Context(), "fence "+what, nil); err != nil {
				t.Error(err)
			}
		}
		told := func(room string, wait int) string {
			if room != "" {
				room = `"room":"` + room + `",`
			}
			return fmt.Sprintf(`{"gap":{%s%s,"wait":%d}}`, room, ago, wait)
		}
		const since, until = 4200 * time.Millisecond, 300 * time.Millisecond
		for _, v := range []struct {
			what  string
			names []crosscast.Address
			want  []string
		}{
			{"a room", roomNames("r1"), []string{told("r1", 2), told("r1", 2), "", ""}},
			{"rooms", roomNames("r1", "r2", "nobody"), []string{told("r1", 2), told("r1", 2) + " " + told("r2", 2), "", ""}},
			{"a user", []crosscast.Address{{Namespace: "/", Space: crosscast.SpaceUser, Name: "bob"}}, []string{"", told("", 1), "", ""}},
			{"everything", nil, []string{told("", 4), told("", 4), told("", 4), told("", 4)}},
			{"many rooms", roomNames(append(many, "r3")...), []string{"", "", told("r3", 2), told("", 2)}},
			{"another namespace", []crosscast.Address{{Namespace: "x", Space: crosscast.SpaceNamespace}}, []string{"", "", "", ""}},
		} {
			s.gap(since, until, v.names...)
			fence(v.what)
			expect(v.what, v.want...)
		}
		s.emit("r1", "before")
		s.gap(since, -1, roomNames("r1")...)
		s.emit("r1", "between")
		s.gap(since, until, roomNames("r1")...)
		s.emit("r1", "after")
		one.Expect(`{"event":"before"}`, `{"gap":{"room":"r1","ago":[4200],"wait":2}}`, `{"event":"between"}`,
			told("r1", 2), `{"event":"after"}`)
	})
}

// TestGapOptions: the window, servers that ignore gaps, and others that do not hear of them.
func TestGapOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, v := range []struct {
			o    ws.Options
			want string // empty: nothing
		}{
			{ws.Options{}, `{"gap":{"room":"r","ago":[1000,0],"wait":1}}`},
			{ws.Options{GapSpread: 10 * time.Second}, `{"gap":{"room":"r","ago":[1000,0],"wait":10}}`},
			{ws.Options{GapSpread: -1}, `{"gap":{"room":"r","ago":[1000,0],"wait":0}}`},
			{ws.Options{Gaps: ws.GapIgnore}, ""},
			{ws.Options{Envelope: declining{}}, ""},
		} {
			s := serveGaps(t, v.o)
			c := s.client("", "r")
			s.gap(time.Second, 0, roomNames("r")...)
			s.emit("r", "fence")
			if v.want != "" {
				c.Expect(v.want)
			}
			c.Expect(`{"event":"fence"}`)
		}
	})
	n := wstest.StartNode(t, crosscast.Options{})
	for says, o := range map[string]ws.Options{
		"Options.Gaps is 9: it must be": {Gaps: 9}, "Options.GapSpread is 2h0m0s": {GapSpread: 2 * time.Hour},
	} {
		if _, err := ws.New(n.Namespace, o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	closed, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close(t.Context())
	if _, err := ws.New(closed.Namespace, ws.Options{}); !errors.Is(err, crosscast.ErrClosed) {
		t.Error(err)
	}
}

// declining is an Envelope that knows no gaps.
type declining struct{ ws.JSON }

func (d declining) Control(c ws.Control) ([]byte, error) {
	if c.Kind == ws.ControlGap {
		return nil, nil
	}
	return d.JSON.Control(c)
}

// failing is an Envelope that fails for gaps, and counts.
type failing struct {
	ws.JSON
	calls *atomic.Int32
}

func (f failing) Control(c ws.Control) ([]byte, error) {
	if c.Kind == ws.ControlGap {
		f.calls.Add(1)
		panic("no luck")
	}
	return f.JSON.Control(c)
}

// TestGapIsMadeOnce: the Envelope is called once for each room of a gap, however many clients there are; a panic is
// reported and costs no client its connection.
func TestGapIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, reports := new(atomic.Int32), 0
		s := serveGaps(t, ws.Options{Envelope: failing{calls: calls}, OnError: func(_ *crosscast.Socket, event string, err error) {
			if event != "" || !errors.As(err, new(*ws.PanicError)) {
				t.Errorf("%q %v", event, err)
			}
			reports++
		}})
		var clients []*client
		for range 20 {
			clients = append(clients, s.client("", "r1", "r2"))
		}
		s.gap(time.Second, 0, roomNames("r1", "r2")...)
		s.emit("r1", "fence")
		for _, c := range clients {
			c.Expect(`{"event":"fence"}`)
		}
		if calls.Load() != 2 || reports != 2 {
			t.Errorf("%d calls, %d reports", calls.Load(), reports)
		}
	})
}

// TestSlowClientIsToldOfGaps: what a client's own queue drops is a gap, and so is what it is told while it does not keep
// up.
func TestSlowClientIsToldOfGaps(t *testing.T) {
	for _, policy := range []crosscast.QueuePolicy{crosscast.QueueDropNewest, crosscast.QueueDropOldest} {
		synctest.Test(t, func(t *testing.T) {
			s := serveGaps(t, ws.Options{
				Queue: crosscast.QueueOptions{Limit: 10_000, BurstTime: -1, Policy: policy}, WriteTimeout: time.Hour, PingInterval: -1,
			})
			c := s.client("", "r")
			big := func() {
				payload, _ := json.Marshal(strings.Repeat("x", 3000))
				s.h.Handle(&crosscast.Instruction{
					Kind: kind.Emit, Namespace: "/", From: "aaaaaaaa", Event: "big", Target: crosscast.Target{Rooms: []string{"r"}},
					Payload: crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: payload},
				})
				synctest.Wait()
			}
			for range 5 { // more than there is room for, as the client does not read
				big()
			}
			time.Sleep(5 * time.Second)
			big()
			s.gap(60*time.Second, 50*time.Second, roomNames("r")...)
			time.Sleep(5 * time.Second)
			want := []string{`{"gap":{"ago":[65000,0],"wait":1000,"ends":true}}`}
			if policy == crosscast.QueueDropOldest { // the place of what was dropped is earlier
				want = []string{`{"gap":{"ago":[10000,0],"wait":1000,"ends":true}}`, want[0]}
			}
			var told []string
			for len(told) < len(want) {
				m, err := c.Read()
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(m, `{"gap"`) {
					told = append(told, m)
				}
			}
			if !slices.Equal(told, want) {
				t.Errorf("%v: told %q, want %q", policy, told, want)
			}
		})
	}
}

// TestStormOfGaps: any number of gaps costs a client that does not read a bounded amount, and it is told of all.
func TestStormOfGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveGaps(t, ws.Options{WriteTimeout: time.Hour, PingInterval: -1})
		c := s.client("", "r")
		for i := range 100_000 {
			s.gap(time.Duration(i)*time.Millisecond, 0, roomNames("r")...)
		}
		s.emit("r", "fence")
		told, first := 0, ""
		for {
			m, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			if m == `{"event":"fence"}` {
				break
			}
			told++
			first = m
		}
		if told > 3000 {
			t.Errorf("%d messages", told)
		}
		if want := `{"gap":{"ago":[99999,0],"wait":1000,"ends":true}}`; first != want {
			t.Errorf("the last one is %s, want %s", first, want)
		}
	})
}
