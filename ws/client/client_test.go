package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	"github.com/crosscast/crosscast/ws/client"
)

type pair struct {
	A int `json:"a"`
	B int `json:"b"`
}

// events are of a server that adds, refuses, waits, and closes.
func events(started chan<- *crosscast.Socket) ws.Events {
	return ws.Events{
		"add": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, p pair) (int, error) { return p.A + p.B, nil }),
		"no":  ws.Typed(func(context.Context, *crosscast.Socket, any) error { return ws.Errorf("not today") }),
		"wait": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
			started <- s
			<-ctx.Done()
			return nil
		},
		"join": ws.Typed(func(ctx context.Context, s *crosscast.Socket, room string) error { return s.Join(ctx, room) }),
		"echo": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
			return s.Emit(ctx, "echo", data)
		},
	}
}

func TestRequest(t *testing.T) {
	c := dial(t, serve(t, ws.Options{Events: events(nil)}).url, client.Options{WriteLimit: 1000})
	ctx := t.Context()
	var sum int
	if err := c.Request(ctx, "add", pair{2, 3}, &sum); err != nil || sum != 5 {
		t.Errorf("%d, %v", sum, err)
	}
	if err := c.Request(ctx, "add", nil, nil); err != nil {
		t.Errorf("without data and result: %v", err)
	}
	for event, want := range map[string]client.RemoteError{"no": "not today", "shout": `unknown event "shout"`} {
		if err := c.Request(ctx, event, nil, nil); err != want {
			t.Errorf("%s: %v, want %s", event, err, want)
		}
	}
	var wrong *json.UnmarshalTypeError
	if err := c.Request(ctx, "add", pair{}, new(string)); !errors.As(err, &wrong) {
		t.Errorf("a reply of another type: %v", err)
	}
	if err := c.Emit(ctx, "add", strings.Repeat("x", 1000)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := c.Emit(ctx, "add", json.RawMessage("\"\xff\"")); err == nil {
		t.Error("not UTF-8: no error")
	}
	var unsupported *json.UnsupportedTypeError
	if err := c.Request(ctx, "add", make(chan int), nil); !errors.As(err, &unsupported) {
		t.Errorf("no JSON: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Request(ended, "add", nil, nil); err != context.Canceled {
		t.Errorf("ctx has ended: %v", err)
	}
	// Many at once, each with its own reply.
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			var sum int
			if err := c.Request(ctx, "add", pair{i, i}, &sum); err != nil || sum != 2*i {
				t.Errorf("%d and %d is %d, %v", i, i, sum, err)
			}
		})
	}
	wg.Wait()
}

// TestRequestIsGivenUp: at its deadline, when the connection is lost, and at Close.
func TestRequestIsGivenUp(t *testing.T) {
	started := make(chan *crosscast.Socket, 1)
	s := serve(t, ws.Options{Events: events(started)})
	for name, tt := range map[string]struct {
		giveUp func(*client.Client, *crosscast.Socket, context.CancelFunc)
		want   error
	}{
		"deadline": {func(_ *client.Client, _ *crosscast.Socket, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"lost": {func(_ *client.Client, s *crosscast.Socket, _ context.CancelFunc) {
			s.Close(crosscast.ReasonServer)
		}, client.ErrUncertain},
		"close": {func(c *client.Client, _ *crosscast.Socket, _ context.CancelFunc) { closeClient(t, c) }, client.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.url, client.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- c.Request(ctx, "wait", nil, nil) }()
			socket := wstest.Wait(t, started, "the request")
			tt.giveUp(c, socket, cancel)
			if err := wstest.Wait(t, result, "the result"); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			socket.Close(crosscast.ReasonServer)
		})
	}
	c := dial(t, s.url, client.Options{RequestTimeout: time.Millisecond})
	if err := c.Request(t.Context(), "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("default deadline: %v", err)
	}
}

// TestAcknowledge: a client replies to an acknowledged emission with its handler's result. It refuses if the handler
// fails, is missing, or returns a value that cannot be JSON, and nobody waits for it.
func TestAcknowledge(t *testing.T) {
	s := serve(t, ws.Options{})
	errs := newRecord()
	replies := map[string]client.Handler{
		"value":   client.TypedAnswer(func(_ context.Context, _ *client.Client, n int) (int, error) { return n + 1, nil }),
		"nothing": client.Typed(func(context.Context, *client.Client, int) error { return nil }),
		"fails":   client.TypedAnswer(func(context.Context, *client.Client, int) (int, error) { return 7, errors.New("cannot") }),
		"chan":    client.TypedAnswer(func(context.Context, *client.Client, int) (any, error) { return make(chan int), nil }),
		"typed":   client.Typed(func(context.Context, *client.Client, string) error { return nil }),
	}
	c := dial(t, s.url, client.Options{Events: replies, OnError: func(_ *client.Client, event string, err error) { errs.add("%s", event) }})
	socket := wstest.Wait(t, s.sockets, "the socket")
	for _, tt := range []struct {
		event, want string
		silent      bool
	}{{"value", "42", false}, {"nothing", "", false}, {"fails", "", true}, {"none", "", true}, {"chan", "", true}, {"typed", "", true}} {
		ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
		defer cancel()
		began := time.Now()
		answers := s.ToSocket(socket.ID()).EmitAck(ctx, tt.event, 41)
		got := "no reply"
		for r := range answers.All() {
			got = string(r.Payload.Data)
		}
		var incomplete *crosscast.IncompleteError
		switch err := answers.Err(); {
		case tt.silent && (!errors.As(err, &incomplete) || len(incomplete.Silent) != 1 || got != "no reply"):
			t.Errorf("%s: %s, %v", tt.event, got, err)
		case !tt.silent && (err != nil || got != tt.want):
			t.Errorf("%s: %s, %v, want %s", tt.event, got, err, tt.want)
		}
		if took := time.Since(began); took > wstest.Patience/2 {
			t.Errorf("%s: complete after %v", tt.event, took)
		}
	}
	errs.expect(t, "fails", "chan", "typed")
	if !c.Connected() {
		t.Error("not connected any more")
	}
}

func TestEventsAreHandledInOrder(t *testing.T) {
	const count = 3000
	s := serve(t, ws.Options{Queue: crosscast.QueueOptions{Limit: 16 << 20}})
	got := make([]int, 0, count)
	done := make(chan struct{})
	release := make(chan struct{})
	dial(t, s.url, client.Options{
		EventBytes: 4 << 10, // reading pauses, and goes on
		Events: client.Events{"n": client.Typed(func(_ context.Context, _ *client.Client, n int) error {
			<-release
			if got = append(got, n); len(got) == count {
				close(done)
			}
			return nil
		})},
	})
	socket := wstest.Wait(t, s.sockets, "the socket")
	for i := range count {
		if err := socket.Emit(t.Context(), "n", i); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	wstest.Wait(t, done, "all events")
	if !slices.IsSorted(got) {
		t.Error("out of order")
	}
}

// TestReconnect: rejoining, the gap and later events come in this order, and nothing is sent in between.
func TestReconnect(t *testing.T) {
	happened := newRecord()
	s := serve(t, ws.Options{Events: events(nil)})
	began := time.Now()
	offline := make(chan error, 1)
	dial(t, s.url, client.Options{
		Events: client.Events{"n": client.Typed(func(_ context.Context, _ *client.Client, n int) error {
			happened.add("event %d", n)
			return nil
		})},
		OnConnect: func(ctx context.Context, c *client.Client) error {
			happened.add("connect")
			return c.Request(ctx, "join", "room", nil)
		},
		OnDisconnect: func(c *client.Client, err error) {
			var closed *client.CloseError
			if !errors.As(err, &closed) || closed.Reason != string(crosscast.ReasonServer) ||
				errors.As(err, new(websocket.CloseError)) {
				t.Errorf("OnDisconnect with %v", err)
				return
			}
			happened.add("disconnect %d", closed.Code)
			offline <- c.Emit(t.Context(), "echo", nil)
		},
		OnGap: func(_ *client.Client, g client.Gap) {
			happened.add("gap")
			if g.Since.Before(began) || g.Until.Before(g.Since) || g.Until.After(time.Now()) {
				t.Errorf("%+v", g)
			}
			if !g.Away || g.Room != "" || g.Wait < 0 || g.Wait > time.Second {
				t.Errorf("%+v", g)
			}
		},
	})
	emit := func(n int) {
		t.Helper()
		if err := s.To("room").Emit(t.Context(), "n", n); err != nil {
			t.Fatal(err)
		}
	}
	emit(0)
	happened.expect(t, "connect", "event 0")
	for i := range 3 {
		emit(1)
		wstest.Wait(t, s.sockets, "the socket").Close(crosscast.ReasonServer)
		if err := wstest.Wait(t, offline, "Emit while offline"); err != client.ErrNotConnected {
			t.Errorf("Emit while offline: %v", err)
		}
		happened.expect(t, "event 1", "disconnect 1000", "connect", "gap")
		emit(2 + i)
		happened.expect(t, fmt.Sprintf("event %d", 2+i))
	}
}

// TestRejoinFails: the connection is closed, and the next attempt made; also while reading pauses.
func TestRejoinFails(t *testing.T) {
	s := serve(t, ws.Options{Events: ws.Events{
		"flood": func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
			return errors.Join(s.Emit(ctx, "x", nil), s.Emit(ctx, "x", nil), s.Emit(ctx, "x", nil))
		},
	}})
	attempts := 0
	refused := errors.New("refused")
	retries := make(chan error, 2)
	dial(t, s.url, client.Options{
		EventBytes: 1,
		OnConnect: func(ctx context.Context, c *client.Client) error {
			if attempts++; attempts > 2 {
				return nil
			}
			if err := c.Request(ctx, "flood", nil, nil); err == nil { // no: two events wait before the reply
				t.Error("a reply behind events that do not fit")
			}
			return refused
		},
		RequestTimeout: 50 * time.Millisecond,
		OnDisconnect:   func(_ *client.Client, err error) { t.Errorf("OnDisconnect(%v)", err) },
		OnRetry:        func(_ *client.Client, err error, _ time.Duration) { retries <- err },
	})
	for range 2 {
		if err := wstest.Wait(t, retries, "OnRetry"); err != refused {
			t.Errorf("OnRetry(%v)", err)
		}
	}
}

// TestClose: the handler's context ends, the waiting events are dropped, and no hooks are called.
func TestClose(t *testing.T) {
	s := serve(t, ws.Options{})
	started := make(chan struct{}, 10)
	c := dial(t, s.url, client.Options{
		Events: client.Events{"x": client.Typed(func(ctx context.Context, _ *client.Client, _ any) error {
			started <- struct{}{}
			<-ctx.Done()
			return nil
		})},
		OnDisconnect: func(_ *client.Client, err error) { t.Errorf("OnDisconnect(%v)", err) },
		OnRetry:      func(_ *client.Client, err error, _ time.Duration) { t.Errorf("OnRetry(%v)", err) },
	})
	socket := wstest.Wait(t, s.sockets, "the socket")
	for range 10 {
		if err := socket.Emit(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	wstest.Wait(t, started, "the handler")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Close(ended); err != nil && err != context.Canceled {
		t.Errorf("Close with a context that has ended: %v", err)
	}
	closeClient(t, c)
	if len(started) > 0 {
		t.Error("an event was handled after Close")
	}
	if c.Connected() || c.Emit(t.Context(), "x", nil) != client.ErrClosed ||
		c.Request(t.Context(), "x", nil, nil) != client.ErrClosed {
		t.Error("not closed")
	}
}

// TestDialFails: an error at once if Dial can never work; otherwise the last attempt's error at the end of ctx.
func TestDialFails(t *testing.T) {
	h := client.Typed(func(context.Context, *client.Client, int) error { return nil })
	for _, url := range []string{"", "example.com", "ftp://example.com", "ws://", "ws://[::1"} {
		if _, err := client.Dial(t.Context(), url, client.Options{}); err == nil {
			t.Errorf("%s: no error", url)
		}
	}
	for name, o := range map[string]client.Options{
		"negative":   {ReadLimit: -1},
		"large":      {WriteLimit: 1<<30 + 1},
		"long":       {MaxBackoff: 2 * time.Hour},
		"no handler": {Events: client.Events{"x": nil}},
		"no name":    {Events: client.Events{"": h}},
	} {
		if _, err := client.Dial(t.Context(), "ws://localhost:1", o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	url := wstest.Serve(t, http.NotFoundHandler()).URL
	ctx, cancel := context.WithCancel(t.Context())
	attempts := 0
	o := client.Options{MinBackoff: time.Millisecond, OnRetry: func(_ *client.Client, err error, _ time.Duration) {
		if attempts++; attempts == 3 {
			cancel()
		}
	}}
	_, err := client.Dial(ctx, url, o)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "404") || attempts != 3 {
		t.Errorf("%v, after %d attempts", err, attempts)
	}
}

// TestHooksBeforeDial: handlers and hooks get the client, also those that run before Dial has returned it.
func TestHooksBeforeDial(t *testing.T) {
	s := serve(t, ws.Options{Events: events(nil)})
	var first *client.Client
	hooks := make(chan string, 10)
	note := func(c *client.Client, hook string) {
		if c == nil || c != first {
			t.Errorf("%s got %p, OnConnect %p", hook, c, first)
		}
		hooks <- hook
	}
	refuse := true
	c := dial(t, s.url, client.Options{
		Events: client.Events{"n": func(_ context.Context, c *client.Client, _ json.RawMessage) (any, error) {
			note(c, "event")
			return nil, errors.New("failed")
		}},
		OnConnect: func(_ context.Context, c *client.Client) error {
			first = c
			if refuse {
				refuse = false
				return errors.New("not yet")
			}
			return nil
		},
		OnRetry:      func(c *client.Client, _ error, _ time.Duration) { note(c, "OnRetry") },
		OnDisconnect: func(c *client.Client, _ error) { note(c, "OnDisconnect") },
		OnGap:        func(c *client.Client, _ client.Gap) { note(c, "OnGap") },
		OnError:      func(c *client.Client, _ string, _ error) { note(c, "OnError") },
	})
	if c != first {
		t.Error("Dial returned another client")
	}
	_ = wstest.Wait(t, s.sockets, "the socket that was refused")
	socket := wstest.Wait(t, s.sockets, "the socket")
	if err := socket.Emit(t.Context(), "n", nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"OnRetry", "event", "OnError"} {
		if got := wstest.Wait(t, hooks, want); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	socket.Close(crosscast.ReasonServer)
	for _, want := range []string{"OnDisconnect", "OnGap"} {
		if got := wstest.Wait(t, hooks, want); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestDialOptions: the client offers subprotocols and compression, and connects through the HTTP client.
func TestDialOptions(t *testing.T) {
	for _, tt := range []struct {
		from       int
		extensions string
		first      byte // of the frame of the message
	}{
		{0, "", 0x81},
		{20, "permessage-deflate; client_no_context_takeover; server_no_context_takeover", 0xc1},
		{2000, "permessage-deflate; client_no_context_takeover; server_no_context_takeover", 0x81},
	} {
		header, got := make(chan http.Header, 1), make(chan string, 1)
		url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			header <- r.Header
			conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
				CompressionMode: websocket.CompressionContextTakeover, Subprotocols: []string{"v1"},
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.CloseNow()
			_, b, _ := conn.Read(t.Context())
			got <- string(b)
			_, _, _ = conn.Read(t.Context())
		})).URL
		end := new(recordingConn)
		dialer := &http.Transport{DialContext: func(ctx context.Context, network, address string) (_ net.Conn, err error) {
			end.Conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return end, err
		}}
		c := dial(t, url, client.Options{
			CompressFrom: tt.from, Subprotocols: []string{"v2", "v1"}, HTTPClient: &http.Client{Transport: dialer},
		})
		h := wstest.Wait(t, header, "the request")
		if e, p := h.Get("Sec-Websocket-Extensions"), h.Get("Sec-Websocket-Protocol"); e != tt.extensions || p != "v2,v1" {
			t.Errorf("offered extensions %q, protocols %q", e, p)
		}
		if err := c.Emit(t.Context(), "long", strings.Repeat("x", 100)); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"event":"long","data":%q}`, strings.Repeat("x", 100)); wstest.Wait(t, got, "the message") != want {
			t.Error("another message came")
		}
		if first := end.last.Load(); byte(first) != tt.first {
			t.Errorf("CompressFrom %d: the frame begins with %x, want %x", tt.from, first, tt.first)
		}
	}
	if _, err := client.Dial(t.Context(), "ws://example.com", client.Options{CompressFrom: -1}); err == nil {
		t.Error("a CompressFrom below 0")
	}
}

// A recordingConn keeps the first byte of the last write.
type recordingConn struct {
	net.Conn
	last atomic.Uint32
}

func (c *recordingConn) Write(p []byte) (int, error) {
	c.last.Store(uint32(p[0]))
	return c.Conn.Write(p)
}

// TestAuthorize: each attempt has a header of its own.
func TestAuthorize(t *testing.T) {
	tokens := make(chan []string, 10)
	s := serve(t, ws.Options{})
	url := wstest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens <- r.Header["X-Token"]
		http.Redirect(w, r, s.url, http.StatusTemporaryRedirect)
	})).URL
	attempts := 0
	dial(t, url, client.Options{
		Header: http.Header{"X-Token": {"fixed"}},
		Authorize: func(_ context.Context, h http.Header) error {
			if attempts++; attempts == 1 {
				return errors.New("no token yet")
			}
			h.Add("X-Token", fmt.Sprint(attempts))
			return nil
		},
	})
	for i := 2; i < 4; i++ {
		if got := wstest.Wait(t, tokens, "an attempt"); fmt.Sprint(got) != fmt.Sprintf("[fixed %d]", i) {
			t.Errorf("attempt %d: %v", i, got)
		}
		wstest.Wait(t, s.sockets, "the socket").Close(crosscast.ReasonServer)
	}
}

// TestBadServers: invalid messages of a server are reported, or end the connection, and have no other effect.
func TestBadServers(t *testing.T) {
	for _, tt := range []struct {
		name, message string
		typ           websocket.MessageType
		fatal         bool
	}{
		{"no JSON", `{"event":`, websocket.MessageText, false},
		{"bad id", `{"event":"x","id":-1}`, websocket.MessageText, false},
		{"deep", strings.Repeat("[", 100_000), websocket.MessageText, false},
		{"nothing", `{}`, websocket.MessageText, false},
		{"stranger", `{"id":99,"data":1}`, websocket.MessageText, false},
		{"binary", `{"event":"x"}`, websocket.MessageBinary, true},
		{"large", `"` + strings.Repeat("x", 200_000) + `"`, websocket.MessageText, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ended, reported := make(chan error, 10), make(chan error, 10)
			fence := make(chan struct{}, 10)
			url := serveRaw(t, func(conn *websocket.Conn) {
				_ = conn.Write(t.Context(), tt.typ, []byte(tt.message))
				_ = conn.Write(t.Context(), websocket.MessageText, []byte(`{"event":"fence"}`))
				_, _, _ = conn.Read(context.Background())
			})
			dial(t, url, client.Options{
				ReadLimit: 150_000,
				Events: client.Events{"fence": client.Typed(func(context.Context, *client.Client, any) error {
					fence <- struct{}{}
					return nil
				})},
				OnDisconnect: func(_ *client.Client, err error) { ended <- err },
				OnError:      func(_ *client.Client, _ string, err error) { reported <- err },
				MinBackoff:   time.Hour,
			})
			if tt.fatal {
				wstest.Wait(t, ended, "OnDisconnect")
				return
			}
			wstest.Wait(t, fence, "the next event")
			quiet := tt.name == "nothing" || tt.name == "stranger"
			if quiet == (len(reported) > 0) || len(ended) > 0 {
				t.Errorf("%d reports, %d ends", len(reported), len(ended))
			}
		})
	}
}
