package socketio_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

// TestBadMessages: each ends the connection, is counted, and is nobody else's trouble. "…" stands for bytes.
func TestBadMessages(t *testing.T) {
	const protocol, tooBig = websocket.StatusProtocolError, websocket.StatusMessageTooBig
	hole := `{"_placeholder":true,"num":`
	for name, tt := range map[string]struct {
		send   []string
		code   websocket.StatusCode
		reason string
	}{
		"empty":                   {[]string{""}, protocol, "unknown packet type"},
		"ping":                    {[]string{"2"}, protocol, "unknown packet type"},
		"unknown type":            {[]string{"x"}, protocol, "unknown packet type"},
		"no packet":               {[]string{"4"}, protocol, "unknown packet type"},
		"unknown packet":          {[]string{"49"}, protocol, "unknown packet type"},
		"malformed":               {[]string{`42["a"`}, protocol, "invalid payload"},
		"trailing":                {[]string{`42["a"]]`}, protocol, "invalid payload"},
		"deep":                    {[]string{`42["a",` + strings.Repeat("[", 100_000)}, protocol, "invalid payload"},
		"no event":                {[]string{`42[{}]`}, protocol, "invalid payload"},
		"auth":                    {[]string{`40/chat,[]`}, protocol, "invalid payload"},
		"reserved":                {[]string{`42["disconnect"]`}, protocol, "reserved event"},
		"huge id":                 {[]string{`49007199254740992["a"]`}, protocol, "unknown packet type"},
		"huge event id":           {[]string{`429007199254740992["a"]`}, protocol, "illegal packet id"},
		"connect error":           {[]string{`44{"message":"no"}`}, protocol, "unknown packet type"},
		"not connected":           {[]string{`42/chat,["a"]`}, protocol, "packet for a namespace in another state"},
		"not connected, leaves":   {[]string{`41/chat,`}, protocol, "packet for a namespace in another state"},
		"no namespace":            {[]string{`42/nowhere,["a"]`}, protocol, "packet for a namespace in another state"},
		"has left":                {[]string{`41`, `42["a"]`}, protocol, "packet for a namespace in another state"},
		"too many":                {[]string{`4511-["a"]`}, protocol, "too many attachments"},
		"attachments":             {[]string{`45["a"]`}, protocol, "illegal attachments"},
		"attachment of nothing":   {[]string{"…"}, protocol, "illegal attachments"},
		"attachment missing":      {[]string{`451-["a",` + hole + `0}]`, `42["a"]`}, protocol, "illegal attachments"},
		"wrong placeholder":       {[]string{`451-["a",` + hole + `1}]`, "…"}, protocol, ""},
		"negative placeholder":    {[]string{`451-["a",` + hole + `-1}]`, "…"}, protocol, ""},
		"placeholder of text":     {[]string{`451-["a",` + hole + `"0"}]`, "…"}, protocol, ""},
		"placeholders of the one": {[]string{`451-["a",` + hole + `0},` + hole + `0}]`, "…"}, protocol, ""},
		"base64":                  {[]string{`451-["a",` + hole + `0}]`, "b!"}, protocol, ""},
		"UTF-8":                   {[]string{"42[\"\xff\"]"}, websocket.StatusInvalidFramePayloadData, "not UTF-8"},
		"giant":                   {[]string{`42["a","` + strings.Repeat("x", 2000) + `"]`}, tooBig, ""},
		"giant attachment":        {[]string{`451-["a"]`, "…giant"}, tooBig, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{})
			ended := make(chan crosscast.Reason, 1)
			limit := 1000
			if name == "deep" {
				limit = 1_000_000
			}
			s := newServer(t, n, socketio.Options{MaxPayload: limit, Namespaces: namespaces(socketio.Namespace{
				Events: echo,
				OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) {
					ended <- r
				},
			})})
			url := wstest.Serve(t, s).URL
			c, other := dial(t, url), dial(t, url)
			c.join("/")
			other.join("/chat")
			for _, m := range tt.send {
				typ, b := websocket.MessageText, []byte(m)
				if rest, ok := strings.CutPrefix(m, "…"); ok {
					typ, b = websocket.MessageBinary, []byte{1}
					if rest != "" {
						b = bytes.Repeat(b, 2000)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
				_ = c.Conn.Write(ctx, typ, b) // the first may have ended the connection
				cancel()
			}
			for {
				_, err := c.Read()
				var ce websocket.CloseError
				if err == nil {
					continue
				}
				if !errors.As(err, &ce) || ce.Code != tt.code || tt.reason != "" && ce.Reason != tt.reason {
					t.Errorf("closed with %v, want %d %q", err, tt.code, tt.reason)
				}
				break
			}
			want := crosscast.ReasonProtocol
			if name == "has left" {
				want = crosscast.ReasonLeft
			}
			if r := wstest.Wait(t, ended, "OnDisconnect"); r != want {
				t.Errorf("reason %q", r)
			}
			other.send(`42/chat,["echo"]`)
			other.Expect(`42/chat,["echo"]`)
			if got := s.Stats().Malformed; got != 1 {
				t.Errorf("%d counted as malformed", got)
			}
		})
	}
}

// TestProtocolViolations: bytes that no websocket client sends.
func TestProtocolViolations(t *testing.T) {
	for name, b := range map[string]string{
		"unmasked": "\x81\x01\x34", "reserved opcode": "\x83\x80\x00\x00\x00\x00",
		"long ping": "\x89\xfe\x00\x7e\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{})
			s := newServer(t, n, socketio.Options{})
			c, conn := dialInMemory(t, s)
			c.join("/")
			go conn.Write([]byte(b))
			if got, err := c.Read(); websocket.CloseStatus(err) != websocket.StatusProtocolError {
				t.Fatalf("got %s, %v, want 1002", got, err)
			}
		})
	}
}

// TestClosePacket: a client may end the connection in Engine.IO's way.
func TestClosePacket(t *testing.T) {
	ended := make(chan crosscast.Reason, 1)
	c, _ := connect(t, socketio.Options{Namespaces: namespaces(socketio.Namespace{
		OnDisconnect: func(_ context.Context, _ *crosscast.Socket, r crosscast.Reason) { ended <- r },
	})})
	c.send("1")
	c.ExpectClose(websocket.StatusNormalClosure, "client left")
	if r := wstest.Wait(t, ended, "OnDisconnect"); r != crosscast.ReasonLeft {
		t.Errorf("reason %q", r)
	}
}

// FuzzConnection: after any input of a client the server goes on, and keeps nothing.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		"40|42[\"echo\",1]|421[\"echo\",2]", "40/chat,|41/chat,|40/chat,{}|41/chat,",
		"40|451-[\"echo\",{\"_placeholder\":true,\"num\":0}]|…a",
		"40|431[1]|3|1", "40|40", "40|bAA==", "2", "40|462-1[]|…|…", "0|5|6|40/chat",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{OnError: func(_ *crosscast.Socket, _ string, err error) {
			var p *socketio.PanicError
			if errors.As(err, &p) {
				t.Errorf("%v\n%s", err, p.Stack)
			}
		}})
		conn, _ := wstest.Dial(t, "ws://example.com"+query, s)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if _, _, err := conn.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		for m := range strings.SplitSeq(script, "|") {
			typ := websocket.MessageText
			if rest, ok := strings.CutPrefix(m, "…"); ok {
				typ, m = websocket.MessageBinary, rest
			}
			if conn.Write(t.Context(), typ, []byte(m)) != nil {
				break
			}
		}
		conn.CloseNow()
		<-ended
	})
}
