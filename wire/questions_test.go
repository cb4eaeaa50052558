package wire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/wire"
)

// server is a node on a scripted bus.
type server struct {
	*crosscast.Node
	port *membus.Port
}

// serversInBubble runs f with three nodes on one bus, each step of which takes latency.
func serversInBubble(t *testing.T, latency time.Duration, f func(t *testing.T, s []server)) {
	synctest.Test(t, func(t *testing.T) {
		hub := membus.New()
		var all []server
		for i := range 3 {
			port := hub.Port(fmt.Sprint("port", i))
			port.SetLatency(latency)
			n, err := crosscast.Start(t.Context(), crosscast.Options{
				Name: fmt.Sprint("server", i), Adapter: wire.New(port, wire.Options{}),
			})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, server{n, port})
		}
		f(t, all)
		for _, s := range all {
			s.port.SetFate(nil)
			s.port.Up()
		}
		time.Sleep(3 * time.Second)
		for _, s := range all {
			if err := s.Close(context.Background()); err != nil {
				t.Error("Close:", err)
			}
		}
	})
}

// answering is a conn whose client replies at once, and notes what it got.
type answering struct {
	socket chan *crosscast.Socket
	got    chan string
}

func (c answering) Send(m *crosscast.Message) error {
	c.got <- m.Event
	if ack := m.Ack; ack != 0 {
		s := <-c.socket
		c.socket <- s
		return s.Reply(ack, "ok")
	}
	return nil
}

func (c answering) Close(reason crosscast.Reason) { c.got <- string(reason) }

func (s server) connect(t *testing.T, user string, rooms ...string) answering {
	t.Helper()
	c := answering{make(chan *crosscast.Socket, 1), make(chan string, 100)}
	o := crosscast.ConnectOptions{User: user, Rooms: rooms, Data: strings.Repeat("d", 300)}
	socket, err := s.Connect(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	c.socket <- socket
	return c
}

func TestQuestionsOverABus(t *testing.T) {
	for _, latency := range []time.Duration{0, 50 * time.Millisecond} {
		serversInBubble(t, latency, func(t *testing.T, s []server) {
			ctx := t.Context()
			var last answering
			for i := range 3000 {
				last = s[i%3].connect(t, fmt.Sprint("u", i/2), "all", fmt.Sprint("r", i%2))
			}
			if n, err := s[0].To("all").Count(ctx); n != 3000 || err != nil {
				t.Error(n, err)
			}
			if n, err := s[1].Everyone().CountUsers(ctx); n != 1500 || err != nil {
				t.Error(n, err)
			}
			seen := map[crosscast.SocketID]bool{}
			sockets := s[2].To("all").Sockets(ctx, crosscast.Fields{})
			for i := range sockets.All() {
				seen[i.ID] = len(i.Rooms) == 2 && len(i.Data) == 302 && i.User != ""
			}
			if len(seen) != 3000 || sockets.Err() != nil {
				t.Error(len(seen), sockets.Err())
			}
			changed, err := s[0].ToUser("u1", "u2").Do(ctx, crosscast.Command{Join: []string{"game"}})
			if changed.Sockets != 4 || len(changed.Nodes) != 3 || err != nil {
				t.Error(changed, err)
			}
			replies := s[1].To("game").EmitAck(ctx, "start", nil)
			got := 0
			for r := range replies.All() {
				got++
				if string(r.Payload.Data) != `"ok"` {
					t.Errorf("%+v", r)
				}
			}
			if got != 4 || replies.Err() != nil {
				t.Error(got, replies.Err())
			}
			s[1].OnRequest("double", func(_ context.Context, r *crosscast.Request) (any, error) {
				return string(r.Payload.Data) + string(r.Payload.Data), nil
			})
			responses := s[0].Servers().Only(s[1].ID()).Ask(ctx, "double", 4)
			for r := range responses.All() {
				if string(r.Payload.Data) != `"44"` {
					t.Errorf("%s", r.Payload.Data)
				}
			}
			if responses.Err() != nil {
				t.Error(responses.Err())
			}
			// Messages before a command arrive before it, whatever topics they go by.
			for len(last.got) > 0 {
				<-last.got
			}
			for _, err := range []error{
				s[0].To("all").Emit(ctx, "1", nil), s[0].ToUser("u1499").Emit(ctx, "2", nil),
				s[0].Emit(ctx, "3", nil), s[0].ToUser("u1499").Disconnect(ctx, "bye"), s[0].Emit(ctx, "4", nil),
			} {
				if err != nil {
					t.Error(err)
				}
			}
			time.Sleep(time.Second)
			for _, want := range []string{"1", "2", "3", "bye"} {
				if got := <-last.got; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if len(last.got) > 0 {
				t.Error("more after the disconnect:", <-last.got)
			}
		})
	}
}

// Answers that the bus loses make the result incomplete, at the deadline or as soon as the missing part shows.
func TestLostAnswers(t *testing.T) {
	serversInBubble(t, 0, func(t *testing.T, s []server) {
		for i := range 30 {
			s[i%3].connect(t, "u", "r")
		}
		s[2].port.SetFate(func(f wire.Frame) membus.Fate {
			return membus.Fate{Lost: strings.Contains(f.Topic, ":n:")}
		})
		began := time.Now()
		n, err := s[0].To("r").Count(t.Context())
		var e *crosscast.IncompleteError
		if n != 20 || !errors.As(err, &e) || len(e.Missing) != 1 || e.Missing[0].ID != s[2].ID() {
			t.Error(n, err)
		}
		if d := time.Since(began); d != 5*time.Second {
			t.Error("took", d)
		}
		s[2].port.SetFate(nil)
		if n, err := s[0].To("r").Count(t.Context()); n != 30 || err != nil {
			t.Error(n, err)
		}
	})
}

// A server whose link is down knows that it does not know: nobody expires for it, and what it asks is incomplete. The
// others expire it, and all is well when the link is back.
func TestQuestionsWhileALinkIsDown(t *testing.T) {
	serversInBubble(t, 0, func(t *testing.T, s []server) {
		for i := range 3 {
			s[i].connect(t, "u", "r")
		}
		s[2].port.Down()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := s[2].To("r").Count(ctx)
		var e *crosscast.IncompleteError
		if n != 1 || !errors.As(err, &e) || len(e.Missing) != 2 {
			t.Error(n, err)
		}
		time.Sleep(20 * time.Second)
		if n := len(s[2].Nodes()); n != 2 {
			t.Errorf("a server without a link knows %d others", n)
		}
		if n, err := s[0].To("r").Count(t.Context()); n != 2 || err != nil {
			t.Error(n, err)
		}
		s[2].port.Up()
		time.Sleep(5 * time.Second)
		if err := s[2].Flush(t.Context()); err != nil {
			t.Error("the query, which waited too long, was reported as a loss:", err)
		}
		for i := range s {
			if n, err := s[i].To("r").Count(t.Context()); n != 3 || err != nil {
				t.Error(i, n, err)
			}
		}
	})
}

// TestStatsOverABus: each peer's Stats arrive as it has them, its adapter's and the state of its link included.
func TestStatsOverABus(t *testing.T) {
	serversInBubble(t, time.Millisecond, func(t *testing.T, s []server) {
		time.Sleep(time.Second)
		got, err := s[0].Servers().Stats(t.Context()).Collect()
		if err != nil || len(got) != 2 {
			t.Fatalf("%d answers, %v", len(got), err)
		}
		for _, st := range got {
			own := s[1].Stats()
			if st.Node == s[2].ID() {
				own = s[2].Stats()
			}
			a := st.Adapter
			if st.Node != own.Node || !st.Connected || a.FramesIn == 0 || a.EchoRoundTrip == 0 || a.Reconnects != 0 ||
				!a.Link.Live() || !a.Link.Publishing.Since.Equal(own.Adapter.Link.Publishing.Since) {
				t.Errorf("got %+v\nown %+v", st, own)
			}
			if times := &a.Times; times.Publish.Counts == nil || times.Echo.Sum == 0 || times.Receive.Counts != nil {
				t.Errorf("times: %+v", times)
			}
		}
	})
}
