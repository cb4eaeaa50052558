package socketio_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

func TestEventsAreHandledInOrder(t *testing.T) {
	var running atomic.Int32
	c, _ := connect(t, socketio.Options{Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{
		"n": socketio.Typed(func(ctx context.Context, s *crosscast.Socket, n int) error {
			if running.Add(1) != 1 {
				t.Error("two handlers of one socket at once")
			}
			defer running.Add(-1)
			return s.Emit(ctx, "n", n)
		}),
	}})})
	const count = 3000
	go func() {
		for i := range count {
			c.send(fmt.Sprintf(`42["n",%d]`, i))
		}
	}()
	for i := range count {
		c.Expect(fmt.Sprintf(`42["n",%d]`, i))
	}
}

// TestAcknowledgements: an event with an ID is answered once, when its handler has returned. An event without an ID is
// not answered.
func TestAcknowledgements(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7: refused")
	answered := func(v any, err error) socketio.Handler {
		return socketio.Answered(func(context.Context, *crosscast.Socket, socketio.Args) (any, error) { return v, err })
	}
	reports := make(chan string, 10)
	n := wstest.StartNode(t, crosscast.Options{MaxPayload: 1000})
	s := newServer(t, n, socketio.Options{
		OnError: func(_ *crosscast.Socket, event string, err error) { reports <- event + ": " + err.Error() },
		Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{
			"plain": func(context.Context, *crosscast.Socket, socketio.Args) error { return nil },
			"add": socketio.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, n []int) (int, error) {
				return n[0] + n[1], nil
			}),
			"first": socketio.Typed(func(ctx context.Context, s *crosscast.Socket, v *string) error {
				return s.Emit(ctx, "got", v)
			}),
			"emits": socketio.TypedAnswer(func(ctx context.Context, s *crosscast.Socket, n int) (int, error) {
				return n, s.Emit(ctx, "first", n)
			}),
			"wrapped": func(ctx context.Context, s *crosscast.Socket, args socketio.Args) error {
				return answered("inside", nil)(ctx, s, args)
			},
			"relay": socketio.Answered(func(ctx context.Context, s *crosscast.Socket, args socketio.Args) (any, error) {
				return args, s.Emit(ctx, "relayed", args.Rest(1))
			}),
			"nothing": answered(nil, nil),
			"bytes":   answered(crosscast.Bytes{0, 255}, nil),
			"raw":     answered(json.RawMessage(`[1]`), nil),
			"values":  answered(socketio.Values("a", crosscast.Bytes{1}, nil), nil),
			"no":      answered("dropped", socketio.Errorf("not %q", "today")),
			"secret":  answered(nil, secret),
			"channel": answered(make(chan int), nil),
			"large":   answered(make(crosscast.Bytes, 2000), nil),
			"many": socketio.Answered(func(_ context.Context, _ *crosscast.Socket, args socketio.Args) (any, error) {
				b := []any{}
				for range 11 {
					b = append(b, crosscast.Bytes{1})
				}
				return socketio.Values(b...), nil
			}),
		}}),
	})
	c := dial(t, wstest.Serve(t, s).URL)
	c.join("/", "/chat")
	for _, tt := range []struct {
		send   string
		want   []string
		report string
	}{
		{`421["plain",1,2]`, []string{`431[]`}, ""},
		{`420["add",[2,3]]`, []string{`430[5]`}, ""},
		{`421["add","x"]`, []string{
			`431[{"error":"argument: json: cannot unmarshal string into Go value of type []int"}]`}, ""},
		{`42["first"]`, []string{`42["got",null]`}, ""},
		{`42["first","a",2]`, []string{`42["got","a"]`}, ""},
		{`421["emits",4]`, []string{`42["first",4]`, `431[4]`}, ""},
		{`42["emits",4]`, []string{`42["first",4]`}, ""},
		{`42["add",[2,3]]`, nil, ""},
		{`423["wrapped"]`, []string{`433["inside"]`}, ""},
		{`425["relay"]`, []string{`42["relayed"]`, `435[]`}, ""},
		{`425["relay","room",1.0,[2]]`, []string{`42["relayed",1,[2]]`, `435["room",1,[2]]`}, ""},
		{`424["nothing"]`, []string{`434[]`}, ""},
		{`424["bytes"]`, []string{`461-4[{"_placeholder":true,"num":0}]`, "bytes:\x00\xff"}, ""},
		{`424["raw"]`, []string{`434[[1]]`}, ""},
		{`424["values"]`, []string{`461-4["a",{"_placeholder":true,"num":0},null]`, "bytes:\x01"}, ""},
		{`424["no"]`, []string{`434[{"error":"not \"today\""}]`}, ""},
		{`42["no"]`, nil, `no: not "today"`},
		{`424["secret"]`, []string{`434[{"error":"internal error"}]`}, "secret: dial tcp 10.0.0.7: refused"},
		{`42["secret"]`, nil, "secret: dial tcp 10.0.0.7: refused"},
		{`424["channel"]`, []string{`434[{"error":"internal error"}]`},
			"channel: crosscast: payload: json: unsupported type: chan int"},
		{`424["large"]`, []string{`434[{"error":"crosscast: payload of 2000 bytes (at most 1000)"}]`}, ""},
		{`424["many"]`, []string{`434[{"error":"internal error"}]`},
			"many: crosscast/socketio: 11 attachments, at most 10"},
		{`424["shout"]`, []string{`434[{"error":"unknown event \"shout\""}]`}, ""},
		{`42["shout"]`, nil, ""},
		// Acknowledgements of no emission are ignored.
		{`4377[1]`, nil, ""},
		{`431["` + strings.Repeat("x", 1000) + `"]`, nil, ": acknowledgement: crosscast: payload of 1002 bytes (at most 1000)"},
	} {
		c.send(tt.send)
		c.Expect(tt.want...)
		c.send(`421["plain"]`)
		c.Expect(`431[]`)
		if tt.report != "" {
			if got := wstest.Wait(t, reports, "OnError"); got != tt.report {
				t.Errorf("%.40s: OnError: %s", tt.send, got)
			}
		}
		if len(reports) > 0 {
			t.Errorf("%.40s: OnError: %s", tt.send, <-reports)
		}
	}
	if got := s.Stats().Unhandled; got != 2 {
		t.Errorf("%d events counted that have no handler", got)
	}
}

// TestAcknowledged: the replies of clients on two nodes come back unchanged to the emitter. A client that leaves its
// namespace and one whose reply is too large are reported at once as silent.
func TestAcknowledged(t *testing.T) {
	cluster := crosscast.NewCluster()
	o := func() crosscast.Options { return crosscast.Options{Adapter: cluster.Adapter(), MaxPayload: 1000} }
	n1, n2 := wstest.StartNode(t, o()), wstest.StartNode(t, o())
	on := func(n *crosscast.Node) (*client, crosscast.SocketID) {
		c := dial(t, wstest.Serve(t, newServer(t, n, socketio.Options{
			OnError: func(*crosscast.Socket, string, error) {},
			Namespaces: map[string]*socketio.Namespace{"/chat": {
				Authenticate: func(context.Context, *socketio.Handshake) (socketio.Client, error) {
					return socketio.Client{Rooms: []string{"room"}}, nil
				},
			}},
		})).URL)
		return c, c.join("/chat")
	}
	chat, err := n1.Of("/chat")
	if err != nil {
		t.Fatal(err)
	}
	a, ida := on(n1)
	b, idb := on(n2)
	none, idNone := on(n2)
	leaves, id4 := on(n1)
	large, id5 := on(n2)

	ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
	defer cancel()
	began := time.Now()
	answers := chat.To("room").EmitAck(ctx, "ask", "what?")
	for _, c := range []*client{a, b, none, leaves, large} {
		c.Expect(`42/chat,1["ask","what?"]`)
	}
	a.send(`43/chat,1["one",2]`, `43/chat,1["again"]`)
	b.send(`461-/chat,1[{"_placeholder":true,"num":0}]`)
	b.Write(websocket.MessageBinary, []byte("bytes"))
	none.send(`43/chat,1[]`)
	leaves.send(`41/chat,`)
	large.send(`43/chat,1["` + strings.Repeat("x", 1000) + `"]`)

	got := make(map[crosscast.SocketID]string)
	for r := range answers.All() {
		args, err := socketio.ArgsOf(r.Payload)
		if err != nil {
			t.Error(err)
		}
		var all []string
		for i := range args.Len() {
			text, _ := args.JSON(i)
			all = append(all, string(text))
		}
		got[r.Socket] = strings.Join(all, " ")
	}
	if len(got) != 3 || got[ida] != `"one" 2` || got[idb] != `"Ynl0ZXM="` || got[idNone] != "" {
		t.Errorf("replies %v", got)
	}
	if took := time.Since(began); took > wstest.Patience/2 {
		t.Errorf("complete after %v: somebody was waited for until the deadline", took)
	}
	var incomplete *crosscast.IncompleteError
	if err := answers.Err(); !errors.As(err, &incomplete) || len(incomplete.Missing) > 0 {
		t.Fatalf("error %v", err)
	}
	want := []crosscast.SocketID{id4, id5}
	slices.Sort(want)
	if slices.Sort(incomplete.Silent); !slices.Equal(incomplete.Silent, want) {
		t.Errorf("silent %v, want %v", incomplete.Silent, want)
	}
}

// TestHandlerWaitsForReply: a handler queries its own client, which has sent more events meanwhile.
func TestHandlerWaitsForReply(t *testing.T) {
	c, _ := connect(t, socketio.Options{Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{
		"sure": socketio.Answered(func(ctx context.Context, s *crosscast.Socket, _ socketio.Args) (any, error) {
			answers := s.Namespace().ToSocket(s.ID()).EmitAck(ctx, "sure?", nil)
			for r := range answers.All() {
				return r.Payload, nil
			}
			return nil, answers.Err()
		}),
		"echo": echo["echo"],
	}})})
	c.send(`421["sure"]`, `42["echo",1]`)
	c.Expect(`421["sure?"]`)
	c.send(`431["yes"]`)
	c.Expect(`431["yes"]`, `42["echo",1]`)
}

// TestPanic: a panic costs the one connection; also one in OnConnect and OnDisconnect.
func TestPanic(t *testing.T) {
	for _, where := range []string{"event", "connect", "disconnect"} {
		t.Run(where, func(t *testing.T) {
			reports := make(chan error, 1)
			ended := make(chan crosscast.Reason, 2)
			var bad atomic.Bool
			check := func(here string) {
				if bad.Load() && here == where {
					panic("oops")
				}
			}
			n := wstest.StartNode(t, crosscast.Options{})
			url := wstest.Serve(t, newServer(t, n, socketio.Options{
				OnError: func(_ *crosscast.Socket, _ string, err error) { reports <- err },
				Namespaces: namespaces(socketio.Namespace{
					Events: socketio.Events{
						"boom": func(context.Context, *crosscast.Socket, socketio.Args) error {
							check("event")
							return nil
						},
						"echo": echo["echo"],
					},
					OnConnect: func(context.Context, *crosscast.Socket) { check("connect") },
					OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) {
						ended <- r
						check("disconnect")
					},
				}),
			})).URL
			other := dial(t, url)
			other.join("/")
			other.send(`42["echo",1]`)
			other.Expect(`42["echo",1]`)

			bad.Store(true)
			c := dial(t, url)
			c.join("/chat", "/")
			if where == "disconnect" {
				c.send("41")
			} else {
				if where == "event" {
					c.send(`42["boom"]`)
				}
				c.ExpectClose(websocket.StatusInternalError, "internal error")
			}
			wstest.Wait(t, ended, "OnDisconnect")
			var p *socketio.PanicError
			if err := wstest.Wait(t, reports, "OnError"); !errors.As(err, &p) || p.Value != "oops" ||
				!strings.Contains(string(p.Stack), "socketio_test") {
				t.Errorf("OnError got %v", err)
			}
			other.send(`42["echo",2]`)
			other.Expect(`42["echo",2]`)
			bad.Store(false)
		})
	}
}
