package sse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// forged returns a token with another part.
func forged(token string, part int, value string) string {
	parts := strings.Split(token, ".")
	parts[part] = value
	return strings.Join(parts, ".")
}

// TestForeignSecrets: nobody sends events in the name of another one's stream. Each attempt is refused and counted, too
// many are not even looked at, and no log has a secret.
func TestForeignSecrets(t *testing.T) {
	var log programtest.Output
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	said := make(chan string, 10)
	s := newServer(t, n, ws.Options{Events: ws.Events{
		"say": ws.Typed(func(_ context.Context, s *crosscast.Socket, text string) error {
			said <- s.User() + ": " + text
			return nil
		}),
	}}, sse.Options{})
	url := serve(t, s)
	ann, eve := open(t, url, "ann"), open(t, url, "eve")
	const body = `{"event":"say","data":"I am a fool"}`
	for _, tt := range []struct {
		what, token, user, cause string
		status                   int
	}{
		{"no token", "", "eve", "token", 400},
		{"a token that is none", "x.y.z", "eve", "token", 400},
		{"a long token", ann.token + "x", "eve", "token", 400},
		{"her own secret", forged(ann.token, 2, strings.Split(eve.token, ".")[2]), "eve", "secret", 403},
		{"no secret", forged(ann.token, 2, strings.Repeat("A", 22)), "ann", "secret", 403},
		{"a stolen token", ann.token, "eve", "user", 403},
		{"a stolen token without a login", ann.token, "", "user", 403},
		{"a stream that is none", forged(ann.token, 1, strings.Repeat("A", 12)), "eve", "gone", 410},
		{"a node that is none", forged(ann.token, 0, strings.Repeat("A", 8)), "eve", "gone", 410},
	} {
		before := s.Stats().Refused[tt.cause]
		if status := eve.postTo(url, tt.token, tt.user, body); status != tt.status {
			t.Errorf("%s: status %d, want %d", tt.what, status, tt.status)
		}
		if got := s.Stats().Refused[tt.cause]; got != before+1 {
			t.Errorf("%s: %d refused for %q, want %d", tt.what, got, tt.cause, before+1)
		}
	}
	resp := request(t, "POST", url, body, "Crosscast-Stream", ann.token, "X-User", "ann", "Origin", "https://evil.example")
	if resp.StatusCode != http.StatusForbidden || s.Stats().Refused["origin"] != 1 {
		t.Errorf("a page of another origin: %s, %+v", resp.Status, s.Stats())
	}

	status := 0
	for range 40 {
		if status = eve.postTo(url, forged(ann.token, 2, strings.Repeat("A", 22)), "eve", body); status == http.StatusTooManyRequests {
			break
		}
	}
	if status != http.StatusTooManyRequests || s.Stats().Refused["misses"] == 0 {
		t.Errorf("a flood of foreign secrets: status %d, %+v", status, s.Stats())
	}
	if status := eve.postTo(url, forged(ann.token, 0, strings.Repeat("A", 8)), "eve", body); status != http.StatusTooManyRequests {
		t.Errorf("a POST for another node, after the flood: status %d", status)
	}
	eve.send(`{"event":"say","data":"sorry"}`) // on her own stream
	if got := wstest.Wait(t, said, "eve"); got != "eve: sorry" {
		t.Errorf("said was %q", got)
	}
	ann.send(`{"event":"say","data":"hello"}`)
	if got := wstest.Wait(t, said, "ann"); got != "ann: hello" {
		t.Errorf("said was %q", got)
	}
	for _, c := range []*client{ann, eve} {
		if secret := strings.Split(c.token, ".")[2]; strings.Contains(log.String(), secret) {
			t.Errorf("the log has a secret: %s", log.String())
		}
	}
}

// TestBodies: the body of a POST is bounded, and must be text.
func TestBodies(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{Events: echo}, sse.Options{PostLimit: 1000, PostTimeout: 100 * time.Millisecond})
	url := serve(t, s)
	c := open(t, url, "")
	for _, tt := range []struct {
		body, cause string
		status      int
	}{
		{strings.Repeat("x", 1001), "size", http.StatusRequestEntityTooLarge},
		{"", "body", http.StatusBadRequest}, {" \n\n", "body", http.StatusBadRequest}, {"\"\xff\"", "body", http.StatusBadRequest},
	} {
		if status := c.post(tt.body); status != tt.status || s.Stats().Refused[tt.cause] == 0 {
			t.Errorf("%.10q: %d, %v", tt.body, status, s.Stats().Refused)
		}
	}
	// A body that does not come holds a place only for a time.
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nCrosscast-Stream: %s\r\n\r\n{", c.token)
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("a body that does not come: %q", answer)
	}
	c.send(`{"event":"echo","data":1,"id":1}`)
	c.expect(`{"id":1,"data":1}`)
}

// TestToldLimit: a client is told what a message may have: PostLimit, or less with a smaller ReadLimit of package ws, above
// which the stream ends.
func TestToldLimit(t *testing.T) {
	for _, tt := range []struct{ post, read, want int }{{0, 0, 64 << 10}, {500, 0, 500}, {500, 300, 300}} {
		n := wstest.StartNode(t, crosscast.Options{})
		url := serve(t, newServer(t, n, ws.Options{Events: echo, ReadLimit: tt.read}, sse.Options{PostLimit: tt.post}))
		c := open(t, url, "")
		if c.limit != tt.want {
			t.Fatalf("%+v: told %d", tt, c.limit)
		}
		const head, end = `{"event":"echo","data":"`, `","id":1}`
		text := strings.Repeat("x", c.limit-len(head+end))
		c.send(head + text + end)
		c.expect(`{"id":1,"data":"` + text + `"}`)
		if tt.read > 0 {
			c.send(head + text + "x" + end)
			c.expectClose(`{"code":1009,"reason":"message too large"}`)
		}
	}
}

// TestFlood: a client that sends more than is handled is told to wait. What waits is bounded, and nothing is lost.
func TestFlood(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	begin, handled := make(chan struct{}), make(chan struct{}, 10_000)
	s := newServer(t, n, ws.Options{EventBytes: 1000, Events: ws.Events{
		"work": func(ctx context.Context, _ *crosscast.Socket, _ json.RawMessage) error {
			<-begin
			handled <- struct{}{}
			return nil
		},
	}}, sse.Options{PostLimit: 4000})
	url := serve(t, s)
	c := open(t, url, "")
	taken, message := 0, `{"event":"work","data":"`+strings.Repeat("x", 900)+`"}`
	for c.post(message, message) == http.StatusNoContent {
		if taken += 2; taken > 1000 {
			t.Fatal("the server takes everything")
		}
	}
	resp := request(t, "POST", url, message, "Crosscast-Stream", c.token)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" || s.Stats().Refused["busy"] != 2 {
		t.Errorf("%s %v, %v", resp.Status, resp.Header, s.Stats().Refused)
	}
	close(begin)
	for range taken {
		wstest.Wait(t, handled, "an event that was taken")
	}
	c.send(message)
	wstest.Wait(t, handled, "an event after the flood")
}

// TestTooManyPosts: bodies that come slowly take no more than MaxPosts places.
func TestTooManyPosts(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{Events: echo}, sse.Options{MaxPosts: 1})
	url := serve(t, s)
	c := open(t, url, "")
	body, write := io.Pipe()
	r, _ := http.NewRequestWithContext(t.Context(), "POST", url, body)
	r.Header.Set("Crosscast-Stream", c.token)
	slow := make(chan int)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			slow <- 0
			return
		}
		_ = resp.Body.Close()
		slow <- resp.StatusCode
	}()
	_, _ = write.Write([]byte(`{"event":"echo",`)) // it has the place, or soon
	for begin := time.Now(); ; {
		if status := c.post(`{"event":"echo"}`); status == http.StatusServiceUnavailable {
			break
		} else if time.Since(begin) > wstest.Patience {
			t.Fatal("one more POST always has a place")
		}
	}
	_, _ = write.Write([]byte(`"id":1}`))
	_ = write.Close()
	if status := wstest.Wait(t, slow, "the slow POST"); status != http.StatusNoContent || s.Stats().Refused["posts"] == 0 {
		t.Errorf("the slow POST: %d, %v", status, s.Stats().Refused)
	}
	c.expect(`{"id":1}`)
}

// emitUntilSlow emits to the room r until a client that does not read has ended as too slow. c gets all of it meanwhile.
func emitUntilSlow(t *testing.T, n *crosscast.Node, c *client, disconnects <-chan wstest.Ending) {
	t.Helper()
	text := strings.Repeat("x", 100_000)
	for {
		if err := n.To("r").Emit(t.Context(), "said", text); err != nil {
			t.Fatal(err)
		}
		c.expect(`{"event":"said","data":"` + text + `"}`)
		select {
		case e := <-disconnects:
			if e.Reason != crosscast.ReasonSlow {
				t.Errorf("it ended because of %q", e.Reason)
			}
			return
		default:
		}
	}
}

// TestNeverRead: a stream that nobody reads ends, and holds up nobody else.
func TestNeverRead(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	left, disconnects := wstest.Disconnects()
	s := newServer(t, n, ws.Options{
		WriteTimeout: 200 * time.Millisecond, Queue: crosscast.QueueOptions{Limit: 1 << 20, BurstTime: -1},
		OnConnect: welcome, OnDisconnect: left,
	}, sse.Options{})
	listen(t, serve(t, s), "welcome")
	// Whoever reads is at another server of the node: on a busy machine, reading might take longer than a short WriteTimeout.
	c := open(t, serve(t, newServer(t, n, ws.Options{OnConnect: welcome}, sse.Options{}))+"?room=r", "")
	c.expect(`{"event":"welcome"}`)
	emitUntilSlow(t, n, c, disconnects)
	for begin := time.Now(); s.Stats().Streams != 0; {
		if time.Since(begin) > wstest.Patience {
			t.Fatalf("%d streams, want none", s.Stats().Streams)
		}
	}
}

// TestSlowReader: with a policy that drops, a stream that is read too slowly goes on. Its client learns that it has missed
// something.
func TestSlowReader(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{
		OnConnect: welcome, Queue: crosscast.QueueOptions{Limit: 300_000, BurstTime: -1, Policy: crosscast.QueueDropOldest},
	}, sse.Options{}))
	c := open(t, url+"?room=r", "")
	c.expect(`{"event":"welcome"}`)
	text := strings.Repeat("x", 100_000)
	for n.Stats().Queues.Dropped == 0 {
		if err := n.To("r").Emit(t.Context(), "said", text); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.To("r").Emit(t.Context(), "end", nil); err != nil {
		t.Fatal(err)
	}
	gap := false
	for {
		e := c.next()
		if gap = gap || strings.HasPrefix(e.data, `{"gap":{"ago":`); e.data == `{"event":"end"}` {
			break
		}
	}
	if !gap {
		t.Error("the client was not told what it has missed")
	}
}

// TestTricks: line breaks in names, texts and headers make no events and no fields.
func TestTricks(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{
		Events: echo, OnConnect: welcome, CompressFrom: 1,
		CatchAll: func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) error {
			return s.Emit(ctx, ws.EventName(ctx), nil)
		},
	}, sse.Options{}))
	c := open(t, url+"?room=r", "")
	c.expect(`{"event":"welcome"}`)
	for _, m := range []struct {
		event string
		data  any
		want  string
	}{
		{"a\r\n\r\nevent: close\ndata: {}\r\n\r\n", 1, `{"event":"a\r\n\r\nevent: close\ndata: {}\r\n\r\n","data":1}`},
		{"e", json.RawMessage("{\n\"a\":\r1,\r\n\n\"b\": 2}"), "{\"event\":\"e\",\"data\":{\n\"a\":\n1,\n\n\"b\": 2}}"},
		{"e", "\u2028\u0085\x00\n:", `{"event":"e","data":"\u2028` + "\u0085" + `\u0000\n:"}`},
	} {
		if err := n.To("r").Emit(t.Context(), m.event, m.data); err != nil {
			t.Fatal(err)
		}
		if e := c.next(); e.name != "" || e.data != m.want {
			t.Errorf("got %+v, want %s", e, m.want)
		}
	}
	c.send(`{"event":"x\r\n\r\nevent: close"}`)
	c.expect(`{"event":"x\r\n\r\nevent: close"}`)
	c.send("{\"event\":\"echo\",\"data\":\"a\u2028b\",\"id\":1}\r\n\r\n")
	c.expect("{\"id\":1,\"data\":\"a\u2028b\"}")
	open(t, url, "", "Last-Event-ID", "1\tdata: x").next()
	// No header of a websocket changes the form of a stream.
	c = open(t, url, "", "Sec-WebSocket-Protocol", "crosscast.msgpack.1", "Sec-WebSocket-Extensions", "permessage-deflate",
		"Sec-WebSocket-Version", "1", "Connection", "x")
	c.expect(`{"event":"welcome"}`)
}

// TestMiddleware: a response that cannot be flushed, or has no deadlines, is refused with the cure.
func TestMiddleware(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{OnConnect: welcome}, sse.Options{})
	type plain struct{ http.ResponseWriter }
	mux := http.NewServeMux()
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(plain{w}, r) })
	mux.HandleFunc("/unwraps", func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(unwraps{plain{w}, w}, r) })
	web := wstest.Serve(t, mux)
	t.Cleanup(web.CloseClientConnections)
	mux.HandleFunc("/unflushed", func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(unflushed{plain{w}}, r) })
	for i, path := range []string{"/plain", "/unflushed"} {
		resp := request(t, "GET", web.URL+path, "")
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(string(text), "Unwrap") || s.Stats().Refused["response"] != uint64(i+1) {
			t.Errorf("%s: %s: %s, %v", path, resp.Status, text, s.Stats().Refused)
		}
	}
	open(t, web.URL+"/unwraps", "").expect(`{"event":"welcome"}`)
}

type unwraps struct {
	http.ResponseWriter
	below http.ResponseWriter
}

type unflushed struct{ http.ResponseWriter }

func (unflushed) SetWriteDeadline(time.Time) error { return nil }

func (u unwraps) Unwrap() http.ResponseWriter { return u.below }

// TestOrigins: a page that Options.Origins allows may read and post, with credentials. The browser asks before.
func TestOrigins(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{Origins: []string{"https://*.Example.com"}}, sse.Options{}))
	for origin, ok := range map[string]bool{
		"https://www.example.com": true, "https://WWW.EXAMPLE.COM": true, "http://www.example.com": false,
		"https://example.com": false, "null": false, "https://www.example.com.evil.example": false, url: true, "%": false,
	} {
		for _, method := range []string{"OPTIONS", "GET"} {
			h := request(t, method, url, "", "Origin", origin)
			allowed := h.Header.Get("Access-Control-Allow-Origin")
			if ok != (allowed == origin) || ok != (h.StatusCode/100 == 2) {
				t.Errorf("%s from %s: %s, allowed is %q", method, origin, h.Status, allowed)
			}
			if ok && (h.Header.Get("Access-Control-Allow-Credentials") != "true" || h.Header.Get("Vary") != "Origin" ||
				method == "OPTIONS" && !strings.Contains(h.Header.Get("Access-Control-Allow-Headers"), "Crosscast-Stream")) {
				t.Errorf("%s from %s: %v", method, origin, h.Header)
			}
		}
	}
	if h := request(t, "GET", url, ""); h.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an origin: %v", h.Header)
	}
}
