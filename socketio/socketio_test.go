package socketio_test

import (
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
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestRefusedRequests: each is answered as Engine.IO does on Node.js, and counted.
func TestRefusedRequests(t *testing.T) {
	var log buffer
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := newServer(t, n, socketio.Options{})
	url := wstest.Serve(t, s).URL
	upgrade := http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
	}
	with := func(name, value string) http.Header {
		h := upgrade.Clone()
		h.Set(name, value)
		return h
	}
	for _, tt := range []struct {
		method, query string
		header        http.Header
		status        int
		body, cause   string
	}{
		{"GET", "?EIO=4&transport=polling", nil, 400, `{"code":0,"message":"Transport unknown: `, "transport"},
		{"POST", "?EIO=4&transport=polling&sid=x", nil, 400, `{"code":0,"message":"Transport unknown: `, "transport"},
		{"GET", "", upgrade, 400, `{"code":0,"message":"Transport unknown: `, "transport"},
		{"GET", "?EIO=4&transport=websocket&sid=x", upgrade, 400, `{"code":1,"message":"Session ID unknown: `, "session"},
		{"POST", "?EIO=4&transport=websocket", upgrade, 400, `{"code":2,"message":"Bad handshake method: `, "method"},
		{"GET", "?EIO=4&transport=websocket", nil, 400, `{"code":3,"message":"Bad request: `, "upgrade"},
		{"GET", "?EIO=4&transport=websocket", with("Upgrade", "h2c"), 400, `{"code":3,"message":"Bad request: `, "upgrade"},
		{"GET", "?EIO=3&transport=websocket", upgrade, 400, `{"code":5,"message":"Unsupported protocol version: `, "version"},
		{"GET", "?transport=websocket", upgrade, 400, `{"code":5,"message":"Unsupported protocol version: `, "version"},
		{"GET", "?EIO=4&transport=websocket", with("Origin", "https://elsewhere.example"), 403, "", "websocket"},
		{"GET", "?EIO=4&transport=websocket", with("X-Large", strings.Repeat("x", 17_000)), 431,
			`{"code":3,"message":"Bad request: `, "headers"},
	} {
		before := s.Stats().Refused[tt.cause]
		r, err := http.NewRequestWithContext(t.Context(), tt.method, url+"/socket.io/"+tt.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = tt.header
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || tt.body != "" &&
			(!strings.HasPrefix(string(body), tt.body) || resp.Header.Get("Content-Type") != "application/json") {
			t.Errorf("%s %s: %d %s", tt.method, tt.query, resp.StatusCode, body)
		}
		if got := s.Stats().Refused[tt.cause]; got != before+1 {
			t.Errorf("%s %s: %d counted as %s", tt.method, tt.query, got-before, tt.cause)
		}
		cure := map[string]string{
			"transport": `transports: [\"websocket\"]`, "session": `transports: [\"websocket\"]`, "method": "GET",
			"upgrade": "proxy", "version": "version 3 or 4", "websocket": "Options.Origins",
			"headers": "Options.MaxHeaders",
		}[tt.cause]
		if !strings.Contains(string(body), cure) {
			t.Errorf("%s %s does not say %q: %s", tt.method, tt.query, cure, body)
		}
		if cause, _, _ := strings.Cut(strings.TrimPrefix(cure, "transports: "), `"`); !strings.Contains(log.String(), cause) {
			t.Errorf("%q is not in %s", cure, log.String())
		}
	}
	if lines := strings.Count(log.String(), "level=WARN"); lines != 7 {
		t.Errorf("%d warnings, want one of each cause: %s", lines, log.String())
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestHandshakeOptions(t *testing.T) {
	wstest.TestOptions(t, query, func(t *testing.T, o wstest.Options) (http.Handler, error) {
		return socketio.New(wstest.StartNode(t, crosscast.Options{}), socketio.Options{
			Namespaces: namespaces(socketio.Namespace{}),
			Origins:    o.Origins, Subprotocols: o.Subprotocols, CompressFrom: o.CompressFrom,
		})
	})
}

// TestFirstPacket: the client gets the server's options.
func TestFirstPacket(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := wstest.Serve(t, newServer(t, n, socketio.Options{})).URL
	seen := make(map[string]bool)
	for range 2 {
		conn, _, err := websocket.Dial(t.Context(), url+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		_, b, err := conn.Read(t.Context())
		var open struct{ SID string }
		if err != nil || json.Unmarshal(b[1:], &open) != nil || len(open.SID) != 20 || seen[open.SID] {
			t.Fatalf("%s, %v", b, err)
		}
		seen[open.SID] = true
		want := `0{"sid":"` + open.SID + `","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
		if string(b) != want {
			t.Errorf("got %s", b)
		}
	}
}

// TestNamespaces: one connection carries several, each with a socket, its own rooms, and its own end.
func TestNamespaces(t *testing.T) {
	ended := make(chan string, 10)
	n := wstest.StartNode(t, crosscast.Options{})
	gone := func(_ context.Context, s *crosscast.Socket, r crosscast.Reason) {
		ended <- s.Namespace().Name() + " " + string(r)
	}
	c := dial(t, wstest.Serve(t, newServer(t, n, socketio.Options{Namespaces: map[string]*socketio.Namespace{
		"/": {Events: echo, OnDisconnect: gone}, "/chat": {Events: echo, OnDisconnect: gone},
	}})).URL)
	chat, err := n.Of("/chat")
	if err != nil {
		t.Fatal(err)
	}
	root, other := n.Socket(c.join("/")), chat.Socket(c.join("/chat"))
	if root == nil || other == nil || root == other {
		t.Fatal("the IDs that the client is told are not the sockets'")
	}
	for _, err := range []error{
		other.Join(t.Context(), "room"), chat.To("room").Emit(t.Context(), "hello", 1),
		n.To("room").Emit(t.Context(), "x", nil),
		n.Emit(t.Context(), "all", socketio.Values("a", 2)), other.Emit(t.Context(), "one", nil),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	c.Expect(`42/chat,["hello",1]`, `42["all","a",2]`, `42/chat,["one"]`)
	c.send(`42/chat,7["echo"]`, `427["echo",true]`)
	got := []string{}
	for range 4 { // two namespaces have no order
		m, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	slices.Sort(got)
	if want := []string{`42/chat,["echo"]`, `42["echo",true]`, `43/chat,7[]`, `437[true]`}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}

	c.send(`0`, `41/chat,`) // the first of no meaning
	if r := wstest.Wait(t, ended, "OnDisconnect"); r != "/chat client left" {
		t.Error(r)
	}
	c.send(`421["echo"]`)
	c.Expect(`42["echo"]`, `431[]`)
	if again := c.join("/chat"); again == other.ID() {
		t.Error("the same socket again")
	}
	root.Close("enough")
	c.Expect("41")
	if r := wstest.Wait(t, ended, "OnDisconnect"); r != "/ enough" {
		t.Error(r)
	}
	c.send(`42["echo"]`, `41`, `40`) // late, and dropped; then again
	if m, err := c.Read(); err != nil || !strings.HasPrefix(m, `40{"sid":`) {
		t.Fatalf("%s, %v", m, err)
	}
	c.Conn.Close(websocket.StatusNormalClosure, "")
	left := []string{wstest.Wait(t, ended, "OnDisconnect"), wstest.Wait(t, ended, "OnDisconnect")}
	slices.Sort(left)
	if !slices.Equal(left, []string{"/ client left", "/chat client left"}) {
		t.Errorf("%q", left)
	}
}

// TestAuthenticate: a client's auth makes its socket, or an error that the client gets.
func TestAuthenticate(t *testing.T) {
	reports := make(chan error, 10)
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, socketio.Options{
		OnError: func(s *crosscast.Socket, event string, err error) { reports <- err },
		Namespaces: namespaces(socketio.Namespace{
			Authenticate: func(_ context.Context, h *socketio.Handshake) (socketio.Client, error) {
				var auth struct{ Token string }
				if err := json.Unmarshal(h.Auth, &auth); err != nil {
					return socketio.Client{}, err
				}
				switch auth.Token {
				case "data":
					return socketio.Client{}, &socketio.ConnectError{Message: "no", Data: map[string]int{"code": 7}}
				case "text":
					return socketio.Client{}, socketio.Errorf("unknown token %q", auth.Token)
				case "secret":
					return socketio.Client{}, errors.New("dial tcp 10.0.0.7: refused")
				case "panic":
					panic("oops")
				case "room":
					return socketio.Client{Rooms: []string{""}}, nil
				case "channel":
					return socketio.Client{Data: make(chan int)}, nil
				case "unencodable":
					return socketio.Client{}, &socketio.ConnectError{Message: "no", Data: make(chan int)}
				case "not UTF-8":
					return socketio.Client{}, &socketio.ConnectError{Message: "no", Data: json.RawMessage("\"\xff\"")}
				}
				return socketio.Client{User: auth.Token, Rooms: []string{"lobby", h.Query["room"]}, Data: h.Namespace}, nil
			},
			OnConnect: func(ctx context.Context, s *crosscast.Socket) {
				rooms := s.Rooms()
				slices.Sort(rooms)
				_ = s.Emit(ctx, "you", socketio.Values(s.User(), rooms, s.Data()))
			},
		}),
	})
	h := httptest.NewServer(s)
	defer h.Close()
	conn, _, err := websocket.Dial(t.Context(), h.URL+query+"&room=r", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{&wstest.Client{T: t, Conn: conn}}
	defer conn.CloseNow()
	c.opened()
	for _, tt := range []struct {
		auth, want string
		reports    int
	}{
		{`{"token":"data"}`, `44{"message":"no","data":{"code":7}}`, 0},
		{`{"token":"text"}`, `44{"message":"unknown token \"text\""}`, 0},
		{`{"token":"secret"}`, `44{"message":"internal error"}`, 1},
		{`{"token":"panic"}`, `44{"message":"internal error"}`, 1},
		{`{"token":"room"}`, `44{"message":"crosscast: empty room name"}`, 0},
		{`{"token":"channel"}`, `44{"message":"internal error"}`, 1},
		{`{"token":"unencodable"}`, `44{"message":"no"}`, 1},
		{`{"token":"not UTF-8"}`, `44{"message":"no"}`, 1},
		{`{"token":7}`, `44{"message":"internal error"}`, 1},
	} {
		c.send("40" + tt.auth)
		c.Expect(tt.want)
		if len(reports) != tt.reports {
			t.Errorf("%s: OnError was called %d times", tt.auth, len(reports))
		}
		for range len(reports) {
			<-reports
		}
	}
	c.send(`40/nowhere,`)
	c.Expect(`44/nowhere,{"message":"Invalid namespace"}`)
	if refused := s.Stats().Refused; refused["authenticate"] != 9 || refused["namespace"] != 1 {
		t.Errorf("counted %v", refused)
	}
	c.send(`40{"token":"u1"}`)
	if m, err := c.Read(); err != nil || !strings.HasPrefix(m, `40{"sid":`) {
		t.Fatalf("%s, %v", m, err)
	}
	c.Expect(`42["you","u1",["lobby","r"],"/"]`)
	if err := n.ToUser("u1").Emit(t.Context(), "once", nil); err != nil {
		t.Error(err)
	}
	c.Expect(`42["once"]`)
}

// TestArguments: all arguments of a client come back unchanged, as an event and as an acknowledgement.
func TestArguments(t *testing.T) {
	c, _ := connect(t, socketio.Options{})
	hole := func(i int) string { return fmt.Sprintf(`{"_placeholder":true,"num":%d}`, i) }
	for _, tt := range []struct {
		data        string
		attachments []string
	}{
		{`["echo"]`, nil},
		{`["echo",null]`, nil},
		{`["echo","a",1,{"b":[true,1.5,"é"]}]`, nil},
		{`["echo",{"_placeholder":true,"num":0},1]`, nil},
		{`["echo",` + hole(0) + `]`, []string{""}},
		{`["echo",` + hole(0) + `]`, []string{"\x00\x01"}},
		{`["echo",1,{"a":[` + hole(0) + `],"b":` + hole(1) + `}]`, []string{"a", strings.Repeat("b", 70_000)}},
	} {
		for _, id := range []string{"", "9007199254740991"} {
			head, text := "2", tt.data
			if len(tt.attachments) > 0 {
				head = fmt.Sprintf("5%d-", len(tt.attachments))
			}
			c.send("4" + head + id + text)
			for _, a := range tt.attachments {
				c.Write(websocket.MessageBinary, []byte(a))
			}
			want := []string{"4" + head + text}
			for _, a := range tt.attachments {
				want = append(want, "bytes:"+a)
			}
			if id != "" {
				ackHead := strings.NewReplacer("2", "3", "5", "6").Replace(head[:1]) + head[1:]
				list := "[" + strings.TrimPrefix(strings.TrimPrefix(text, `["echo"`), ",")
				want = append(append(want, "4"+ackHead+id+list), want[1:]...)
			}
			c.Expect(want...)
		}
	}
	// Bytes may come as text in base64, too.
	c.send(`451-["echo",`+hole(0)+`]`, "bAAE=")
	c.Expect(`451-["echo",`+hole(0)+`]`, "bytes:\x00\x01")
}

// TestBase64: a client that accepts no binary messages gets none.
func TestBase64(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	url := wstest.Serve(t, newServer(t, n, socketio.Options{})).URL
	conn, _, err := websocket.Dial(t.Context(), url+query+"&b64=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	c := &client{&wstest.Client{T: t, Conn: conn}}
	c.opened()
	c.join("/")
	if err := n.Emit(t.Context(), "e", crosscast.Bytes{0, 1}); err != nil {
		t.Error(err)
	}
	c.Expect(`451-["e",{"_placeholder":true,"num":0}]`, "bAAE=")
}

// TestMsgPack: a payload of msgpack is one argument, whose bytes are attachments, and the value is exact.
func TestMsgPack(t *testing.T) {
	c, n := connect(t, socketio.Options{})
	for _, v := range []any{
		map[string]any{"b": []byte{0, 255}, "n": int64(1<<53 + 1)}, []byte{7}, []any{1, 2}, time.Unix(1, 5), nil,
	} {
		if err := n.Emit(t.Context(), "e", crosscast.MsgPack(v)); err != nil {
			t.Fatal(err)
		}
	}
	c.Expect(`451-["e",{"b":{"_placeholder":true,"num":0},"n":9007199254740993}]`, "bytes:\x00\xff",
		`451-["e",{"_placeholder":true,"num":0}]`, "bytes:\x07", `42["e",[1,2]]`, `42["e","1970-01-01T00:00:01.000000005Z"]`, `42["e",null]`)

	p, err := n.Encode(crosscast.MsgPack(map[string]any{"x": 7, "b": []byte{1}}))
	if err != nil {
		t.Fatal(err)
	}
	args, err := socketio.ArgsOf(p)
	if err != nil || args.Len() != 1 {
		t.Fatalf("%d arguments, %v", args.Len(), err)
	}
	var got point
	if err := args.Decode(0, &got); err != nil || got.X != 7 || string(got.B) != "\x01" {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if back := args.Payload(); back.Encoding != crosscast.EncodingMsgPack || args.Rest(1).Len() != 0 {
		t.Errorf("the payload is %+v", back)
	}
	if args, err = socketio.ArgsOf(crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte("\xc4\x01\x07")}); err != nil {
		t.Fatal(err)
	}
	if b, ok := args.Bytes(0); !ok || string(b) != "\x07" {
		t.Errorf("bytes are %q, %v", b, ok)
	}
	if _, err := socketio.ArgsOf(crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: []byte("\x91")}); err == nil {
		t.Error("malformed msgpack was taken")
	}
}

// TestUnsendable: a message that would break a client's connection is not sent to it, and is counted.
func TestUnsendable(t *testing.T) {
	c, n := connect(t, socketio.Options{MaxAttachments: 2})
	b := []byte{1}
	for _, event := range []string{"connect", "disconnecting", "newListener"} {
		if err := n.Emit(t.Context(), event, nil); err != nil {
			t.Error(err)
		}
	}
	if err := n.Emit(t.Context(), "many", socketio.Values(crosscast.Bytes(b), crosscast.Bytes(b), crosscast.Bytes(b))); err != nil {
		t.Error(err)
	}
	if err := n.Emit(t.Context(), "some", socketio.Values(crosscast.Bytes(b), crosscast.Bytes(b))); err != nil {
		t.Error(err)
	}
	c.Expect(`452-["some",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "bytes:\x01", "bytes:\x01")
	if dropped := n.Stats().Dropped["conn"]; dropped != 4 {
		t.Errorf("%d dropped, want 4", dropped)
	}
}

func TestBadOptions(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	one := map[string]*socketio.Namespace{"/": {}}
	h := echo["echo"]
	for name, o := range map[string]socketio.Options{
		"no namespace":   {},
		"nil":            {Namespaces: map[string]*socketio.Namespace{"/": nil}},
		"no slash":       {Namespaces: map[string]*socketio.Namespace{"chat": {}}},
		"a comma":        {Namespaces: map[string]*socketio.Namespace{"/a,b": {}}},
		"a long name":    {Namespaces: map[string]*socketio.Namespace{"/" + strings.Repeat("n", 255): {}}},
		"no handler":     {Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{"a": nil}})},
		"empty event":    {Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{"": h}})},
		"reserved event": {Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{"disconnect": h}})},
		"negative":       {Namespaces: one, PingInterval: -1},
		"large":          {Namespaces: one, MaxPayload: 1<<30 + 1},
		"long":           {Namespaces: one, ConnectTimeout: 2 * time.Hour},
		"many":           {Namespaces: one, MaxAttachments: 1001},
		"large queue":    {Namespaces: one, Queue: crosscast.QueueOptions{Limit: 1<<30 + 1}},
	} {
		if _, err := socketio.New(n, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := socketio.New(nil, socketio.Options{Namespaces: one}); err == nil {
		t.Error("no node: no error")
	}
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := socketio.New(n, socketio.Options{Namespaces: one}); !errors.Is(err, crosscast.ErrClosed) {
		t.Errorf("a closed node: %v", err)
	}
}
