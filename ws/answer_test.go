package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// TestReplies: an event with an id is answered once, in its place, with its handler's result or error.
func TestReplies(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7: refused")
	answered := func(v any, err error) ws.Handler {
		return ws.Answered(func(context.Context, *crosscast.Socket, json.RawMessage) (any, error) { return v, err })
	}
	reports := make(chan error, 10)
	c, _ := connect(t, ws.Options{
		Events: ws.Events{
			"plain": func(context.Context, *crosscast.Socket, json.RawMessage) error { return nil },
			"add": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, n []int) (int, error) {
				return n[0] + n[1], nil
			}),
			"emits": ws.TypedAnswer(func(ctx context.Context, s *crosscast.Socket, n int) (int, error) {
				return n, s.Emit(ctx, "first", n)
			}),
			"wrapped": func(ctx context.Context, s *crosscast.Socket, data json.RawMessage) error {
				return answered("inside", nil)(ctx, s, data)
			},
			"nothing": answered(nil, nil),
			"bytes":   answered(crosscast.Bytes{0, 255}, nil),
			"args":    answered(crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\xc4\x02\x00\xff")}, nil),
			"raw":     answered(json.RawMessage(`[1]`), nil),
			"no":      answered("dropped", ws.Errorf("not %q", "today")),
			"secret":  answered(nil, secret),
			"channel": answered(make(chan int), nil),
			"large":   answered(make(crosscast.Bytes, 2<<20), nil),
			"echo":    echo["echo"],
		},
		OnError: func(_ *crosscast.Socket, _ string, err error) { reports <- err },
	})
	for _, tt := range []struct{ send, want string }{
		{`{"event":"plain","id":1}`, `{"id":1}`},
		{`{"event":"add","data":[2,3],"id":9007199254740991}`, `{"id":9007199254740991,"data":5}`},
		{`{"event":"add","data":"x","id":1}`,
			`{"id":1,"error":"data: json: cannot unmarshal string into Go value of type []int"}`},
		{`{"event":"emits","data":4,"id":1}`, `{"event":"first","data":4}` + "\n" + `{"id":1,"data":4}`},
		{`{"event":"emits","data":4}`, `{"event":"first","data":4}`},
		{`{"event":"add","data":[2,3]}`, ""},
		{`{"event":"wrapped","id":3}`, `{"id":3,"data":"inside"}`},
		{`{"event":"nothing","id":4}`, `{"id":4}`},
		{`{"event":"bytes","id":4}`, `{"id":4,"data":"AP8="}`},
		{`{"event":"args","id":4}`, `{"id":4,"data":[1,"AP8="]}`},
		{`{"event":"raw","id":4}`, `{"id":4,"data":[1]}`},
		{`{"event":"no","id":4}`, `{"id":4,"error":"not \"today\""}`},
		{`{"event":"no"}`, errorEvent(`no: not "today"`)},
		{`{"event":"secret","id":4}`, `{"id":4,"error":"internal error"}`},
		{`{"event":"channel","id":4}`, `{"id":4,"error":"internal error"}`},
		{`{"event":"large","id":4}`, `{"id":4,"error":"crosscast: payload of 2097152 bytes (at most 1048576)"}`},
		{`{"event":"shout","id":4}`, `{"id":4,"error":"unknown event \"shout\""}`},
		// An invalid id is reported, and not used.
		{`{"event":"plain","id":0}`, errorEvent("malformed message: id of 0, want 1 to 9007199254740991")},
		{`{"event":"plain","id":9007199254740992}`,
			errorEvent("malformed message: id of 9007199254740992, want 1 to 9007199254740991")},
		{`{"event":"plain","id":-1}`,
			errorEvent("malformed message: json: cannot unmarshal number -1 into Go struct field .id of type uint64")},
		{`{"id":"1","data":2}`,
			errorEvent("malformed message: json: cannot unmarshal string into Go struct field .id of type uint64")},
		{`{"event":"plain","id":null}`, ""},
		// Replies to no question are ignored.
		{`{"id":77,"data":1}`, ""},
		{`{"id":77,"error":"no"}`, ""},
	} {
		c.Write(websocket.MessageText, []byte(tt.send))
		c.send("echo", "still here")
		for want := range strings.SplitSeq(tt.want, "\n") {
			if want != "" {
				c.Expect(want)
			}
		}
		c.Expect(`{"event":"echo","data":"still here"}`)
	}
	if err := wstest.Wait(t, reports, "OnError"); err != secret {
		t.Errorf("OnError: %v", err)
	}
	var unsupported *json.UnsupportedTypeError
	if err := wstest.Wait(t, reports, "OnError"); !errors.As(err, &unsupported) || len(reports) > 0 {
		t.Errorf("OnError: %v, and %d more", err, len(reports))
	}
}

// TestAcknowledged: the replies of clients on two nodes come back to the emitter. A client that refuses, one that
// leaves and one whose reply is too large are reported at once as silent.
func TestAcknowledged(t *testing.T) {
	cluster := crosscast.NewCluster()
	o := func() crosscast.Options { return crosscast.Options{Adapter: cluster.Adapter(), MaxPayload: 1000} }
	n1, n2 := wstest.StartNode(t, o()), wstest.StartNode(t, o())
	who := ws.Client{Rooms: []string{"room"}}
	a, sa := connectTo(t, n1, who)
	b, sb := connectTo(t, n2, who)
	refuses, s3 := connectTo(t, n2, who)
	leaves, s4 := connectTo(t, n1, who)
	large, s5 := connectTo(t, n1, who)

	ctx, cancel := context.WithTimeout(t.Context(), wstest.Patience)
	defer cancel()
	began := time.Now()
	answers := n1.To("room").EmitAck(ctx, "ask", "what?")
	for _, c := range []*client{a, b, refuses, leaves, large} {
		c.Expect(`{"event":"ask","data":"what?","id":1}`)
	}
	for _, c := range []*client{a, b} { // only the first reply counts
		c.Write(websocket.MessageText, []byte(`{"id":1,"data":{"my":"reply"}}`))
		c.Write(websocket.MessageText, []byte(`{"id":1,"data":"again"}`))
	}
	refuses.Write(websocket.MessageText, []byte(`{"id":1,"error":""}`))
	leaves.Conn.CloseNow()
	large.Write(websocket.MessageText, []byte(`{"id":1,"data":"`+strings.Repeat("x", 1000)+`"}`))
	large.Expect(errorEvent("reply: crosscast: payload of 1002 bytes (at most 1000)"))

	got := make(map[crosscast.SocketID]string)
	for r := range answers.All() {
		got[r.Socket] = string(r.Payload.Data)
	}
	if len(got) != 2 || got[sa.ID()] != `{"my":"reply"}` || got[sb.ID()] != `{"my":"reply"}` {
		t.Errorf("replies %v", got)
	}
	if took := time.Since(began); took > wstest.Patience/2 {
		t.Errorf("complete after %v: somebody was waited for until the deadline", took)
	}
	var incomplete *crosscast.IncompleteError
	if err := answers.Err(); !errors.As(err, &incomplete) || len(incomplete.Missing) > 0 {
		t.Fatalf("error %v", err)
	}
	want := []crosscast.SocketID{s3.ID(), s4.ID(), s5.ID()}
	slices.Sort(want)
	if slices.Sort(incomplete.Silent); !slices.Equal(incomplete.Silent, want) {
		t.Errorf("silent %v, want %v", incomplete.Silent, want)
	}
	for n, c := range map[*crosscast.Node]*client{n1: a, n2: b} {
		c.Write(websocket.MessageText, []byte(`{"event":"fence","id":5}`))
		c.Expect(`{"id":5,"error":"unknown event \"fence\""}`)
		if dropped := n.Stats().Dropped["reply"]; dropped != 1 {
			t.Errorf("%d replies counted that nobody waits for, want 1", dropped)
		}
	}
}

// TestHandlerWaitsForReply: a handler queries its own client, which has sent more events meanwhile.
func TestHandlerWaitsForReply(t *testing.T) {
	c, _ := connect(t, ws.Options{Events: ws.Events{
		"sure": ws.Answered(func(ctx context.Context, s *crosscast.Socket, _ json.RawMessage) (any, error) {
			answers := s.Namespace().ToSocket(s.ID()).EmitAck(ctx, "sure?", nil)
			for r := range answers.All() {
				return r.Payload, nil
			}
			return nil, answers.Err()
		}),
		"echo": echo["echo"],
	}})
	c.Write(websocket.MessageText, []byte(`{"event":"sure","id":1}`))
	c.send("echo", 1)
	c.Expect(`{"event":"sure?","id":1}`)
	c.Write(websocket.MessageText, []byte(`{"id":1,"data":"yes"}`))
	c.Expect(`{"id":1,"data":"yes"}`)
	c.Expect(`{"event":"echo","data":1}`)
}
