package sse_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

var echo = ws.Events{"echo": ws.Answered(func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) (any, error) {
	return data, nil
})}

func allow(context.Context, *crosscast.Socket, string) error { return nil }

// welcome tells the client that it is in its rooms.
func welcome(ctx context.Context, s *crosscast.Socket) { _ = s.Emit(ctx, "welcome", nil) }

// TestStream: what is emitted arrives, as websockets get it. What the client posts is handled, and answered.
func TestStream(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	left, disconnects := wstest.Disconnects()
	s := newServer(t, n, ws.Options{Events: echo, AllowJoin: allow, OnConnect: welcome, OnDisconnect: left}, sse.Options{})
	url := serve(t, s)
	resp := request(t, "GET", url, "")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	_ = resp.Body.Close()
	if e := wstest.Wait(t, disconnects, "the client to leave"); e.Reason != crosscast.ReasonLeft {
		t.Errorf("it has left because of %q", e.Reason)
	}

	c := open(t, url+"?room=news", "ann")
	c.expect(`{"event":"welcome"}`)
	if parts := strings.Split(c.token, "."); len(parts) != 3 || parts[0] != string(n.ID()) || len(parts[2]) != 22 {
		t.Errorf("the token is %q: want the node, the stream, and 128 bits", c.token)
	}
	emit := func(event string, v any) {
		t.Helper()
		if err := n.To("news").Emit(t.Context(), event, v); err != nil {
			t.Fatal(err)
		}
	}
	emit("headline", map[string]int{"n": 1})
	emit("binary", crosscast.Bytes([]byte{0xff, 0}))
	emit("big", strings.Repeat("x", 100_000))
	c.expect(`{"event":"headline","data":{"n":1}}`, `{"event":"binary","data":"/wA="}`,
		`{"event":"big","data":"`+strings.Repeat("x", 100_000)+`"}`)

	c.send(`{"event":"echo","data":7,"id":1}`)
	c.send(`{"join":"room1","id":2}`, ``, `{"event":"echo","data":"two","id":3}`, `{`)
	c.expect(`{"id":1,"data":7}`, `{"id":2}`, `{"id":3,"data":"two"}`)
	if e := c.next(); !strings.HasPrefix(e.data, `{"event":"error","data":{"message":"malformed message: `) {
		t.Errorf("a malformed message: %+v", e)
	}
	if err := n.To("room1").Emit(t.Context(), "said", "hello"); err != nil {
		t.Fatal(err)
	}
	c.expect(`{"event":"said","data":"hello"}`)

	answers := n.ToUser("ann").EmitAck(t.Context(), "sure?", nil)
	var asked struct{ ID int }
	if err := json.Unmarshal([]byte(c.next().data), &asked); err != nil {
		t.Fatal(err)
	}
	c.send(fmt.Sprintf(`{"id":%d,"data":"yes"}`, asked.ID))
	for r := range answers.All() {
		if string(r.Payload.Data) != `"yes"` {
			t.Errorf("replied %s", r.Payload.Data)
		}
	}
	if err := answers.Err(); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Streams != 1 || st.Posts != 3 || st.Forwarded != 0 || len(st.Refused) != 0 {
		t.Errorf("%+v", st)
	}
	n.ToUser("ann").Disconnect(t.Context(), "closed for a test")
	c.expectClose(`{"code":1000,"reason":"closed for a test"}`)
	for begin := time.Now(); sse.IsRegistered(c.token); {
		if time.Since(begin) > wstest.Patience {
			t.Fatal("the stream is kept")
		}
	}
	if status := c.post(`{"join":"room2"}`); status != http.StatusGone {
		t.Errorf("a POST behind the end: %d", status)
	}
}

// TestBytes: a client that asks for it gets bytes as events of their own, and sends them, too. They are base64 in any case.
func TestBytes(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{OnConnect: welcome, Events: ws.Events{
		"twice": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, b []byte) (any, error) {
			return crosscast.Bytes(append(b, b...)), nil
		}),
	}}, sse.Options{}))
	c := open(t, url, "", "Accept", "text/html, text/event-stream; protocol=crosscast.json.1")
	c.expect(`{"event":"welcome"}`)
	message := []byte("{\"event\":\"twice\",\"id\":1}\x00\n\xff")
	c.send(`{"event":"twice","data":"CP8=","id":2}`, "="+base64.StdEncoding.EncodeToString(message))
	for _, want := range []string{"{\"id\":2}\x00\x08\xff\x08\xff", "{\"id\":1}\x00\n\xff\n\xff"} {
		e := c.next()
		if got, err := base64.StdEncoding.DecodeString(e.data); e.name != "bytes" || string(got) != want || err != nil {
			t.Errorf("got %+v, %q, want %q", e, got, want)
		}
	}
	for _, accept := range []string{"text/event-stream", "text/event-stream; protocol=crosscast.msgpack.1", ";;,"} {
		c := open(t, url, "", "Accept", accept)
		c.expect(`{"event":"welcome"}`)
		c.send(`{"event":"twice","data":"/w==","id":1}`)
		c.expect(`{"id":1,"data":"//8="}`)
	}
}

// TestKeepAlive: an idle stream gets comments. They have the time, from which an absence counts.
func TestKeepAlive(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	const timeout = time.Second
	s := newServer(t, n, ws.Options{PingInterval: 20 * time.Millisecond, PingTimeout: timeout}, sse.Options{})
	c := open(t, serve(t, s), "")
	began := time.Now()
	for ids := 0; ids == 0 || time.Since(began) < 3*timeout/2; {
		e, err := c.read()
		if err != nil || e.comment == "" {
			t.Fatal(e, err)
		}
		if e.id != "" {
			ids++
		}
	}
	if n := s.Stats().Streams; n != 1 {
		t.Errorf("%d streams: comments are answered by those who write them", n)
	}
}

// TestAbsence: a client that was here before learns first that it might have missed something.
func TestAbsence(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{OnConnect: welcome}, sse.Options{}))
	slower := serve(t, newServer(t, n, ws.Options{OnConnect: welcome}, sse.Options{GapMargin: time.Hour})) // heartbeats
	ago := func(url, id string) (since, until float64) {
		t.Helper()
		c := open(t, url, "", "Last-Event-ID", id)
		var m struct {
			Gap struct {
				Room string
				Ago  []float64
				Wait int
			}
		}
		e := c.next()
		if err := json.Unmarshal([]byte(e.data), &m); err != nil || len(m.Gap.Ago) != 2 || m.Gap.Room != "" || m.Gap.Wait != 1000 {
			t.Fatalf("the second event is %+v (%v)", e, err)
		}
		c.expect(`{"event":"welcome"}`)
		return m.Gap.Ago[0] / 1000, m.Gap.Ago[1] / 1000
	}
	if since, until := ago(url, strconv.FormatInt(time.Now().Add(-time.Minute).UnixMilli(), 10)); since < 66 || since > 90 || until > 20 {
		t.Errorf("from %v to %v seconds ago, want the minute and six seconds", since, until)
	}
	if since, _ := ago(slower, strconv.FormatInt(time.Now().UnixMilli(), 10)); since < 3600 || since > 3630 {
		t.Errorf("from %v seconds ago, want the hour", since)
	}
	for _, id := range []string{"x", "-1", "0", "99999999999999999999", strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)} {
		if since, _ := ago(url, id); since < 1e9 {
			t.Errorf("with the ID %q: from %v seconds ago, want everything", id, since)
		}
	}
	open(t, url, "").expect(`{"event":"welcome"}`)

	ignoring := serve(t, newServer(t, n, ws.Options{Gaps: ws.GapIgnore, OnConnect: welcome}, sse.Options{}))
	open(t, ignoring, "", "Last-Event-ID", "1").expect(`{"event":"welcome"}`)
}

// TestEnds: each end of a stream says its cause, as the closing frame of a websocket does.
func TestEnds(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{MaxUserClients: 1, KickOldest: true, OnConnect: welcome}, sse.Options{})
	url := serve(t, s)
	first := open(t, url, "ann")
	first.expect(`{"event":"welcome"}`)
	second := open(t, url, "ann")
	second.expect(`{"event":"welcome"}`)
	first.expectClose(`{"code":4001,"reason":"replaced"}`)
	if err := n.Drain(t.Context(), crosscast.DrainOptions{Notice: -1, Window: -1}); err != nil {
		t.Fatal(err)
	}
	before := second.expectClose(`{"code":1012,"reason":"server restarting"}`)
	if len(before) != 1 || !strings.HasPrefix(before[0], `{"reconnect":{"wait":`) {
		t.Errorf("before the end: %q", before)
	}
	resp := request(t, "GET", url, "")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("while it drains: %s %v", resp.Status, resp.Header)
	}
	if n := s.Stats().Streams; n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// TestExpires: a stream ends with its credential, and a rejected one at once.
func TestExpires(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{MaxClients: 2}, sse.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("/expires", func(w http.ResponseWriter, r *http.Request) {
		_ = s.Accept(w, r, ws.Client{Expires: time.Now().Add(10 * time.Millisecond)})
	})
	mux.HandleFunc("/reject", func(w http.ResponseWriter, r *http.Request) { _ = s.Reject(w, r, "log in first") })
	web := wstest.Serve(t, mux)
	open(t, web.URL+"/expires", "").expectClose(`{"code":4002,"reason":"expired"}`)
	open(t, web.URL+"/reject", "").expectClose(`{"code":4001,"reason":"log in first"}`)
}

// TestLimits: the limits of the ws.Server are those of streams, with the same answers.
func TestLimits(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{MaxClients: 1}, sse.Options{})
	url := serve(t, s)
	open(t, url, "")
	resp := request(t, "GET", url, "")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s %v", resp.Status, resp.Header)
	}
	resp = request(t, "GET", url, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a websocket too many: %s", resp.Status)
	}
	if resp := request(t, "PUT", url, ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %s", resp.Status)
	}
}

// TestHalfAHandshake: what a proxy leaves of a websocket's handshake is refused, and gets no stream.
func TestHalfAHandshake(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := serve(t, newServer(t, n, ws.Options{}, sse.Options{}))
	resp := request(t, "GET", url, "", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without the header Upgrade: %s", resp.Status)
	}
	open(t, url, "", "Upgrade", "h2c", "Connection", "Upgrade")
}

// TestOptions: what is wrong is an error of New.
func TestOptions(t *testing.T) {
	n, other := wstest.StartNode(t, crosscast.Options{}), wstest.StartNode(t, crosscast.Options{})
	chat, err := ws.New(n.Namespace, ws.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []sse.Options{{PostLimit: -1}, {PostLimit: 1<<30 + 1}, {PostTimeout: -1}, {MaxPosts: -1}, {GapMargin: -1}} {
		if _, err := sse.New(n, chat, o); err == nil || !strings.HasPrefix(err.Error(), "crosscast/sse: Options.") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := sse.New(other, chat, sse.Options{}); err == nil {
		t.Error("a server of another node was accepted")
	}
	if _, err := sse.New(nil, chat, sse.Options{}); err == nil {
		t.Error("no node was accepted")
	}
}
