package ws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// echo answers an event "echo" with its data.
var echo = ws.Events{"echo": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
	return s.Emit(ctx, "echo", data)
}}

func TestEventsAreHandledInOrder(t *testing.T) {
	var running atomic.Int32
	c, _ := connect(t, ws.Options{Events: ws.Events{
		"n": ws.Typed(func(ctx context.Context, s *crosscast.Socket, n int) error {
			if running.Add(1) != 1 {
				t.Error("two handlers of one socket at once")
			}
			defer running.Add(-1)
			return s.Emit(ctx, "n", n)
		}),
	}})
	const count = 5000
	go func() {
		for i := range count {
			c.send("n", i)
		}
	}()
	for i := range count {
		c.Expect(fmt.Sprintf(`{"event":"n","data":%d}`, i))
	}
}

// TestBadMessages: each is answered in its place, with the reason, and the connection goes on.
func TestBadMessages(t *testing.T) {
	events := ws.Events{
		"echo": echo["echo"],
		"typed": ws.Typed(func(context.Context, *crosscast.Socket, struct{ N int }) error {
			return nil
		}),
		"join": ws.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
			return s.Join(ctx, room)
		}),
		"no": func(context.Context, *crosscast.Socket, json.RawMessage) error { return ws.Errorf("not %s", "today") },
		"large": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
			return s.Emit(ctx, "x", make(crosscast.Bytes, 2<<20))
		},
	}
	c, _ := connect(t, ws.Options{Events: events, OnError: func(_ *crosscast.Socket, event string, err error) {
		t.Errorf("OnError(%q, %v): the client's mistakes are not the server's", event, err)
	}})
	for _, tt := range []struct{ send, want string }{
		{`{"event":`, "malformed message: unexpected end of JSON input"},
		{``, "malformed message: unexpected end of JSON input"},
		{`{"event":"echo"}x`, "malformed message: invalid character 'x' after top-level value"},
		{`[]`, "malformed message: json: cannot unmarshal array into Go value of type "},
		{`{}`, `malformed message: want {"event":"…","data":…}`},
		{`{"event":"shout","data":1}`, `unknown event "shout"`},
		{`{"event":"` + strings.Repeat("e", 1000) + `"}`, `unknown event "` + strings.Repeat("e", 64) + `"`},
		{`{"event":"typed","data":{"N":"one"}}`, "typed: data: json: cannot unmarshal string into Go "},
		{`{"event":"join","data":""}`, "join: crosscast: empty room name"},
		{`{"event":"join"}`, "join: crosscast: empty room name"},
		{`{"event":"join","data":"` + strings.Repeat("r", 256) + `"}`,
			"join: crosscast: room name of 256 bytes (at most 255)"},
		{`{"event":"large"}`, "large: crosscast: payload of 2097152 bytes (at most 1048576)"},
		{`{"event":"no"}`, "no: not today"},
		{strings.Repeat("[", 100_000), "malformed message: "},
	} {
		c.Write(websocket.MessageText, []byte(tt.send))
		c.send("echo", "still here")
		got, err := c.Read()
		if want := strings.TrimSuffix(errorEvent(tt.want), `"}}`); err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("%.80s: got %s, %v, want %s", tt.send, got, err, want)
		}
		c.Expect(`{"event":"echo","data":"still here"}`)
	}
}

// TestHandlerErrors: the client learns that there was one; the application learns which.
func TestHandlerErrors(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7: refused")
	type report struct {
		event string
		err   error
	}
	reports := make(chan report, 1)
	c, _ := connect(t, ws.Options{
		Events: ws.Events{
			"work": func(context.Context, *crosscast.Socket, json.RawMessage) error { return secret },
			"echo": echo["echo"],
		},
		OnError: func(_ *crosscast.Socket, event string, err error) { reports <- report{event, err} },
	})
	c.send("work", nil)
	c.Expect(errorEvent("work: internal error"))
	if r := wstest.Wait(t, reports, "OnError"); r.event != "work" || r.err != secret {
		t.Errorf("OnError(%q, %v)", r.event, r.err)
	}
	c.send("echo", 1)
	c.Expect(`{"event":"echo","data":1}`)
}

// TestPanic: a panic costs the one socket; also one in OnConnect and OnDisconnect.
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
			url := wstest.Serve(t, newServer(t, n, ws.Options{
				Events: ws.Events{
					"boom": func(context.Context, *crosscast.Socket, json.RawMessage) error {
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
				OnError: func(_ *crosscast.Socket, _ string, err error) { reports <- err },
			})).URL
			other := dial(t, url, nil)
			other.send("echo", 1)
			other.Expect(`{"event":"echo","data":1}`)

			bad.Store(true)
			c := dial(t, url, nil)
			c.send("boom", nil)
			if where == "disconnect" {
				c.Conn.Close(websocket.StatusNormalClosure, "")
			} else {
				c.ExpectClose(websocket.StatusInternalError, "internal error")
			}
			wstest.Wait(t, ended, "OnDisconnect")
			var p *ws.PanicError
			if err := wstest.Wait(t, reports, "OnError"); !errors.As(err, &p) || p.Value != "oops" ||
				!bytes.Contains(p.Stack, []byte("ws_test")) {
				t.Errorf("OnError got %v", err)
			}
			other.send("echo", 2)
			other.Expect(`{"event":"echo","data":2}`)
			bad.Store(false)
		})
	}
}

func TestReadLimit(t *testing.T) {
	ended := make(chan crosscast.Reason, 1)
	c, _ := connect(t, ws.Options{
		Events: echo, ReadLimit: 1000,
		OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- r },
	})
	message := func(size int) []byte {
		const frame = `{"event":"echo","data":""}`
		return []byte(frame[:len(frame)-2] + strings.Repeat("x", size-len(frame)) + `"}`)
	}
	c.Write(websocket.MessageText, message(1000))
	if got, err := c.Read(); len(got) != 1000 || err != nil {
		t.Fatalf("a message of the limit: %d bytes, %v", len(got), err)
	}
	c.Write(websocket.MessageText, message(1001))
	got, err := c.Read()
	if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Fatalf("got %s, %v, want 1009", got, err)
	}
	if r := wstest.Wait(t, ended, "OnDisconnect"); r != crosscast.ReasonProtocol {
		t.Errorf("reason %q", r)
	}
}

func TestWrongKindsOfMessages(t *testing.T) {
	for _, tt := range []struct {
		name     string
		envelope ws.Envelope
		typ      websocket.MessageType
		message  string
		code     websocket.StatusCode
		reason   string
	}{
		{"binary", nil, websocket.MessageBinary, `{"event":"echo"}`, 1003, "only text messages are understood"},
		{"text", &binary{}, websocket.MessageText, "echo:x", 1003, "only binary messages are understood"},
		{"UTF-8", nil, websocket.MessageText, "{\"event\":\"\xff\"}", 1007, "not UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ended := make(chan crosscast.Reason, 1)
			c, _ := connect(t, ws.Options{
				Events: echo, Envelope: tt.envelope,
				OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- r },
			})
			c.Write(tt.typ, []byte(tt.message))
			c.ExpectClose(tt.code, tt.reason)
			if r := wstest.Wait(t, ended, "OnDisconnect"); r != crosscast.ReasonProtocol {
				t.Errorf("reason %q", r)
			}
		})
	}
}

// TestProtocolViolations: bytes that no websocket client sends.
func TestProtocolViolations(t *testing.T) {
	for name, b := range map[string]string{
		"unmasked":         "\x81\x02{}",
		"reserved opcode":  "\x83\x80\x00\x00\x00\x00",
		"reserved bits":    "\xf1\x80\x00\x00\x00\x00",
		"lone continuance": "\x80\x80\x00\x00\x00\x00",
		"long ping":        "\x89\xfe\x00\x7e\x00\x00\x00\x00",
		"broken close":     "\x88\x81\x00\x00\x00\x00x",
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan crosscast.Reason, 1)
			n := wstest.StartNode(t, crosscast.Options{})
			c, conn := dialInMemory(t, newServer(t, n, ws.Options{
				OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- r },
			}))
			go conn.Write([]byte(b))
			if got, err := c.Read(); websocket.CloseStatus(err) != websocket.StatusProtocolError {
				t.Fatalf("got %s, %v, want 1002", got, err)
			}
			if r := wstest.Wait(t, ended, "OnDisconnect"); r != crosscast.ReasonProtocol {
				t.Errorf("reason %q", r)
			}
		})
	}
}

// TestClosingFrameArrives: a client whose message is refused gets the closing frame, even if it sends on. If the server
// did not read that, the connection would end with a reset, at which many systems throw away unread bytes.
func TestClosingFrameArrives(t *testing.T) {
	s := wstest.Serve(t, newServer(t, wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)}), ws.Options{ReadLimit: 1000}))
	more := strings.Repeat(wstest.Masked(strings.Repeat("x", 100)), 1000)
	for sends, want := range map[string]string{
		"\x83\x80\x00\x00\x00\x00":               "\x03\xeaunknown opcode",
		wstest.Masked(strings.Repeat("x", 2000)): "\x03\xf1message too large",
		"\x82\x80\x00\x00\x00\x00":               "\x03\xebonly text messages are understood",
	} {
		for range 20 {
			conn := upgrade(t, s.URL)
			if _, err := io.WriteString(conn, sends+more); err != nil {
				t.Fatal(err)
			}
			op, payload, err := readFrame(conn)
			if err != nil || op != 8 || string(payload) != want {
				t.Fatalf("got %d %q, %v, want %q", op, payload, err, want)
			}
			_, _ = io.WriteString(conn, "\x88\x80\x00\x00\x00\x00")
			if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after the closing frame: %d bytes, %v", n, err) // such as a reset
			}
		}
	}
}

// TestClientLeaves: the client's events are handled, then OnDisconnect, which still emits to the former rooms.
func TestClientLeaves(t *testing.T) {
	for _, how := range []string{"handshake", "broken"} {
		t.Run(how, func(t *testing.T) {
			const count = 500
			var handled atomic.Int32
			begin := make(chan struct{})
			last := make(chan error, 1)
			n := wstest.StartNode(t, crosscast.Options{})
			s := newServer(t, n, ws.Options{
				Events: ws.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
					<-begin
					handled.Add(1)
					return errors.Join(ctx.Err(), s.Join(ctx, "more"))
				}},
				OnDisconnect: func(ctx context.Context, s *crosscast.Socket, r crosscast.Reason) {
					if r != crosscast.ReasonLeft || handled.Load() != count || ctx.Err() != nil {
						last <- fmt.Errorf("reason %q after %d events, ctx %v", r, handled.Load(), ctx.Err())
					}
					last <- n.To(s.Rooms()...).Emit(ctx, "left", s.User())
				},
				OnError: func(_ *crosscast.Socket, _ string, err error) { t.Error(err) },
			})
			url := wstest.Serve(t, accept(s, ws.Client{User: "u1", Rooms: []string{"lobby"}})).URL
			other, _ := connectTo(t, n, ws.Client{Rooms: []string{"lobby"}})
			c := dial(t, url, nil)
			for i := range count {
				c.send("n", i)
			}
			if how == "handshake" {
				go c.Conn.Close(websocket.StatusNormalClosure, "bye")
			} else {
				c.Conn.CloseNow()
			}
			close(begin)
			if err := wstest.Wait(t, last, "OnDisconnect"); err != nil {
				t.Fatal(err)
			}
			other.Expect(`{"event":"left","data":"u1"}`)
			if n.Members("lobby")[0].User() != "" || len(n.Members("lobby")) != 1 {
				t.Error("still a member")
			}
		})
	}
}

// accept is a handler that accepts everybody as the same client.
func accept(s *ws.Server, c ws.Client) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Accept(w, r, c) })
}

// connectTo connects a client to a node through a server of its own.
func connectTo(t testing.TB, n *crosscast.Node, who ws.Client) (*client, *crosscast.Socket) {
	t.Helper()
	sockets := make(chan *crosscast.Socket, 1)
	s := newServer(t, n, ws.Options{})
	url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := s.Accept(w, r, who)
		if err != nil {
			t.Error(err)
		}
		sockets <- socket
	})).URL
	return dial(t, url, nil), wstest.Wait(t, sockets, "the socket")
}

// TestServerCloses: the handler's context ends, the waiting events are dropped, and the client gets the reason.
func TestServerCloses(t *testing.T) {
	var handled atomic.Int32
	reason := crosscast.Reason(strings.Repeat("é", 61) + "x" + "é and more than fits")
	began, ended := make(chan *crosscast.Socket, 1), make(chan crosscast.Reason, 1)
	c, _ := connect(t, ws.Options{
		Events: ws.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
			handled.Add(1)
			began <- s
			<-ctx.Done()
			return nil
		}},
		OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- r },
	})
	for i := range 100 {
		c.send("n", i)
	}
	s := wstest.Wait(t, began, "the handler")
	s.Close(reason)
	c.ExpectClose(websocket.StatusNormalClosure, strings.Repeat("é", 61)+"x")
	if r := wstest.Wait(t, ended, "OnDisconnect"); r != reason || handled.Load() != 1 {
		t.Errorf("reason %q after %d events", r, handled.Load())
	}
}

// TestCloseText: a reason that is cut within a character, and one that is not UTF-8, are sent anyway.
func TestCloseText(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	for reason, want := range map[crosscast.Reason]string{
		crosscast.Reason(strings.Repeat("é", 100)): strings.Repeat("é", 61),
		"a\xffb":             "ab",
		"closed":             "closed",
		crosscast.ReasonSlow: "too slow",
	} {
		c, s := connectTo(t, n, ws.Client{})
		s.Close(reason)
		code := websocket.StatusNormalClosure
		if reason == crosscast.ReasonSlow {
			code = websocket.StatusPolicyViolation
		}
		c.ExpectClose(code, want)
	}
}

// TestNodeClose: clients get code 1001. Close waits for handlers and OnDisconnect, which may still emit.
func TestNodeClose(t *testing.T) {
	n, err := crosscast.Start(t.Context(), crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	var steps []string // by the one worker, and read after Close
	s := newServer(t, n, ws.Options{
		Events: ws.Events{"n": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
			close(began)
			<-ctx.Done()
			steps = append(steps, "handler")
			return nil
		}},
		OnDisconnect: func(ctx context.Context, _ *crosscast.Socket, r crosscast.Reason) {
			steps = append(steps, string(r), fmt.Sprint(n.Emit(ctx, "left", nil)))
		},
	})
	server := wstest.Serve(t, s)
	c := dial(t, server.URL, nil)
	c.send("n", nil)
	wstest.Wait(t, began, "the handler")
	closed := make(chan error, 1)
	go func() { closed <- n.Close(t.Context()) }()
	c.ExpectClose(websocket.StatusGoingAway, "server shutting down")
	if err := wstest.Wait(t, closed, "Node.Close"); err != nil {
		t.Error(err)
	}
	if want := []string{"handler", "server shutting down", "<nil>"}; !slices.Equal(steps, want) {
		t.Errorf("%q, want %q", steps, want)
	}

	// A client that comes too late is sent to another server.
	expectRefused(t, s, http.StatusServiceUnavailable)
	if st := s.Stats(); st.Refused["draining"] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestCloseDuringAccept: a node that closes while clients connect forgets none; OnDisconnect follows each OnConnect.
func TestCloseDuringAccept(t *testing.T) {
	for range 20 {
		n, err := crosscast.Start(t.Context(), crosscast.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var open atomic.Int32
		s := newServer(t, n, ws.Options{
			OnConnect:    func(context.Context, *crosscast.Socket) { open.Add(1) },
			OnDisconnect: func(context.Context, *crosscast.Socket, crosscast.Reason) { open.Add(-1) },
		})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				conn, status := wstest.TryDial(t, "ws://example.com", s)
				if conn == nil {
					if status != http.StatusServiceUnavailable {
						t.Errorf("refused with status %d", status)
					}
					return
				}
				(&wstest.Client{T: t, Conn: conn}).ExpectClose(websocket.StatusGoingAway, "server shutting down")
			})
		}
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if open.Load() != 0 {
			t.Errorf("%d sockets connected and did not disconnect", open.Load())
		}
		wg.Wait()
	}
}

func TestHandshakeOptions(t *testing.T) {
	wstest.TestOptions(t, "/", func(t *testing.T, o wstest.Options) (http.Handler, error) {
		return ws.New(wstest.StartNode(t, crosscast.Options{}).Namespace, ws.Options{
			Origins: o.Origins, Subprotocols: o.Subprotocols, CompressFrom: o.CompressFrom,
			OnConnect: func(ctx context.Context, s *crosscast.Socket) { _ = s.Emit(ctx, "long", strings.Repeat("x", 100)) },
		})
	})
}

// TestBadRequests: requests that are not for a websocket, and invalid names, are answered over HTTP.
func TestBadRequests(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{})
	long := strings.Repeat("n", 256)
	for _, tt := range []struct {
		client ws.Client
		status int
		err    error
	}{
		{ws.Client{}, http.StatusUpgradeRequired, nil},
		{ws.Client{User: long}, http.StatusBadRequest, crosscast.ErrInvalidName},
		{ws.Client{Rooms: []string{"a", ""}}, http.StatusBadRequest, crosscast.ErrInvalidName},
		{ws.Client{Rooms: []string{long}}, http.StatusBadRequest, crosscast.ErrInvalidName},
	} {
		w := httptest.NewRecorder()
		socket, err := s.Accept(w, httptest.NewRequest("GET", "/", nil), tt.client)
		if socket != nil || err == nil || w.Code != tt.status || tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%+v: %v, %v, status %d", tt.client, socket, err, w.Code)
		}
	}
	// Data that is no JSON is the application's mistake, found after the upgrade.
	c := dial(t, wstest.Serve(t, accept(s, ws.Client{Data: make(chan int)})).URL, nil)
	c.ExpectClose(websocket.StatusInternalError, "internal error")
}

func TestBadOptions(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	h := echo["echo"]
	for name, o := range map[string]ws.Options{
		"no handler":    {Events: ws.Events{"a": nil}},
		"empty event":   {Events: ws.Events{"": h}},
		"long event":    {Events: ws.Events{strings.Repeat("e", 256): h}},
		"negative":      {ReadLimit: -1},
		"large":         {EventBytes: 1<<30 + 1},
		"long":          {PingTimeout: 2 * time.Hour},
		"large queue":   {Queue: crosscast.QueueOptions{Limit: 1<<30 + 1}},
		"policy":        {Queue: crosscast.QueueOptions{Policy: 9}},
		"no comparable": {Envelope: uncomparable{}},
		"with a slice":  {Envelope: uncomparableValue{v: []int{1}}},
	} {
		if _, err := ws.New(n.Namespace, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ws.New(nil, ws.Options{}); err == nil {
		t.Error("no namespace: no error")
	}
}

type uncomparableValue struct {
	ws.JSON
	v any
}

type uncomparable struct {
	ws.JSON
	_ []int
}

// TestWhoIsWho: user, rooms and data of a request are the socket's, and OnConnect comes before the first event.
func TestWhoIsWho(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	space, err := n.Of("/games")
	if err != nil {
		t.Fatal(err)
	}
	type key struct{}
	s, err := ws.New(space, ws.Options{
		OnConnect: func(ctx context.Context, s *crosscast.Socket) {
			all := []any{s.User(), s.Rooms(), s.Data(), s.Namespace().Name(), ctx.Value(key{})}
			if err := s.Emit(ctx, "hello", all); err != nil {
				t.Error(err)
			}
		},
		Events: echo,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := accept(s, ws.Client{User: "u1", Rooms: []string{"lobby"}, Data: 7})
	c := dial(t, wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "value")))
	})).URL, nil)
	c.send("echo", 1)
	c.Expect(`{"event":"hello","data":["u1",["lobby"],7,"/games","value"]}`)
	c.Expect(`{"event":"echo","data":1}`)
	if err := space.ToUser("u1").To("lobby").Emit(t.Context(), "once", nil); err != nil {
		t.Fatal(err)
	}
	c.Expect(`{"event":"once"}`)
}
