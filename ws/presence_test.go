package ws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// as accepts clients of a user in rooms.
func as(s *ws.Server, user string, shows any, rooms ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = s.Accept(w, r, ws.Client{User: user, Rooms: rooms, Presence: shows, Data: "secret"})
	})
}

// TestPresence: a client gets all members and then the changes, gathered, of rooms that it is in and that are open. Others
// are refused and counted. Data stays on the server.
func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, ws.Options{
			AllowJoin:     allowAll,
			PresenceGrace: 5 * time.Second,
			AllowPresence: func(_ context.Context, s *crosscast.Socket, room string) error {
				if room == "secret" {
					return ws.Errorf("nobody sees who is here")
				}
				return map[string]error{"busy": ws.ErrBusy}[room]
			},
		})
		ann, _ := dialInMemory(t, as(s, "ann", map[string]int{"a": 1}, "r", "secret", "busy"))
		ann.text(`{"watch":"other","id":1}`)
		ann.Expect(`{"id":1,"error":"not in the room"}`)
		ann.text(`{"watch":"secret","id":2}`)
		ann.Expect(`{"id":2,"error":"nobody sees who is here"}`)
		ann.text(`{"watch":"busy","id":3}`)
		ann.Expect(`{"id":3,"error":"try again later","retry":true}`)
		ann.text(`{"watch":"","id":3}`)
		ann.Expect(errorEvent("malformed message: empty room name"))
		ann.text(`{"watch":"r","join":"r","id":3}`)
		ann.Expect(errorEvent("malformed message: more than one of event, join, leave, watch and unwatch"))
		if got := s.Stats().Refused["presence"]; got != 3 {
			t.Errorf("%d refusals", got)
		}
		ann.text(`{"watch":"r","id":4}`)
		ann.Expect(`{"presence":{"room":"r","at":1,"count":1,"all":[["ann",{"a":1}]]}}`, `{"id":4}`)
		bob, _ := dialInMemory(t, as(s, "bob", nil, "r"))
		ann.Expect(`{"presence":{"room":"r","at":2,"count":2,"set":[["bob"]]}}`)
		bob.text(`{"watch":"r"}`)
		bob.Expect(`{"presence":{"room":"r","at":2,"count":2,"all":[["ann",{"a":1}],["bob"]]}}`)
		socket := n.Namespace.Members("r")[0]
		if err := socket.SetPresence("<away>"); err != nil {
			t.Error(err)
		}
		change := fmt.Sprintf(`{"presence":{"room":"r","at":3,"count":2,"set":[[%q,"\u003caway\u003e"]]}}`, socket.User())
		ann.Expect(change)
		bob.Expect(change)
		bob.Conn.CloseNow()
		time.Sleep(6 * time.Second)
		ann.Expect(`{"presence":{"room":"r","at":4,"count":1,"left":["bob"]}}`)

		ann.text(`{"watch":"r","id":5}`) // all again
		if got, err := ann.Read(); err != nil || !strings.HasPrefix(got, `{"presence":{"room":"r","at":4,"count":1,"all":[["ann"`) {
			t.Error(got, err)
		}
		ann.Expect(`{"id":5}`)
		ann.text(`{"unwatch":"r","id":6}`)
		ann.Expect(`{"id":6}`)
		ann.text(`{"unwatch":"r","id":7}`)
		ann.Expect(`{"id":7}`)
		dialInMemory(t, as(s, "eve", nil, "r"))
		time.Sleep(3 * time.Second)
		ann.text(`{"watch":"none","id":8}`)
		ann.Expect(`{"id":8,"error":"not in the room"}`) // and nothing about eve
	})
}

// TestPresenceOfLeave: who leaves a room, by itself or not, is told nothing more of it.
func TestPresenceOfLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, ws.Options{AllowJoin: allowAll, AllowPresence: allowAll})
		ann, _ := dialInMemory(t, as(s, "ann", nil))
		ann.text(`{"join":"r"}`)
		ann.text(`{"watch":"r"}`)
		ann.Expect(`{"presence":{"room":"r","at":1,"count":1,"all":[["ann"]]}}`)
		if err := n.ToUser("ann").Leave(t.Context(), "r"); err != nil {
			t.Error(err)
		}
		bob := as(s, "bob", nil, "r")
		dialInMemory(t, bob)
		time.Sleep(3 * time.Second)
		ann.text(`{"join":"r","id":1}`)
		ann.Expect(`{"id":1}`)
		for range 2 { // all members, and ann herself, in one or two
			got, _ := ann.Read()
			if strings.Contains(got, `"count":2`) {
				break
			}
		}
		ann.text(`{"leave":"r","id":2}`)
		ann.Expect(`{"id":2}`)
		time.Sleep(3 * time.Second)
		ann.text(`{"join":"r","id":3}`)
		ann.Expect(`{"id":3}`)
		time.Sleep(3 * time.Second)
		ann.text(`{"join":"r","id":4}`)
		ann.Expect(`{"id":4}`) // and nothing before
	})
}

// TestNoPresence: without the option nobody is told anything, and nothing is watched. Invalid options are refused.
func TestNoPresence(t *testing.T) {
	c, n := connect(t, ws.Options{AllowJoin: allowAll})
	c.text(`{"join":"r"}`)
	before := n.Stats().InstructionsOut
	c.text(`{"watch":"r","id":1}`)
	c.Expect(`{"id":1,"error":"presence is not available"}`)
	c.text(`{"unwatch":"r","id":2}`)
	c.Expect(`{"id":2}`)
	if n.Stats().InstructionsOut != before {
		t.Error("something was asked")
	}
	for _, o := range []ws.Options{{PresenceGather: -1}, {PresenceGrace: -1}, {PresenceMost: -1}, {PresenceGrace: 2 * time.Hour}} {
		if _, err := ws.New(n.Namespace, o); err == nil {
			t.Errorf("%+v is valid", o)
		}
	}
}

// TestHostilePresences: a client that asks for the presence of very many rooms, and of one very often, is bounded and
// counted, and harms nobody.
func TestHostilePresences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, ws.Options{AllowJoin: allowAll, AllowPresence: allowAll})
		bad, _ := dialInMemory(t, as(s, "bad", nil))
		replies := func(send func(i int) string, count int) (failed int) {
			go func() {
				for i := range count {
					bad.text(send(i))
				}
			}()
			for left := count; left > 0; {
				got, err := bad.Read()
				if err != nil {
					t.Fatal(err)
				}
				var m struct {
					ID    int
					Error string
				}
				_ = json.Unmarshal([]byte(got), &m)
				if m.ID != 0 {
					left--
				}
				if m.Error != "" {
					failed++
				}
			}
			return failed
		}
		join := func(i int) string { return fmt.Sprintf(`{"join":"r%d","id":%d}`, i, i+1) }
		if failed := replies(join, 1100); failed != 0 {
			t.Error("failed joins:", failed)
		}
		watch := func(i int) string { return fmt.Sprintf(`{"watch":"r%d","id":%d}`, i, i+1) }
		if failed := replies(watch, 1100); failed != 100 || s.Stats().Refused["presence"] != 100 {
			t.Error("refused:", failed, s.Stats().Refused)
		}
		again := func(i int) string { return fmt.Sprintf(`{"%s":"r0","id":%d}`, []string{"watch", "unwatch"}[i%2], i+1) }
		if failed := replies(again, 1001); failed != 0 {
			t.Error("failed:", failed)
		}
		foreign := func(i int) string { return fmt.Sprintf(`{"watch":%q,"id":%d}`, strings.Repeat("x", i), i+1) }
		if failed := replies(func(i int) string { return foreign(i + 1) }, 300); failed != 300 || s.Stats().Refused["presence"] != 400 {
			t.Error("refused:", failed, s.Stats().Refused)
		}
		bad.Conn.CloseNow()
	})
}

// TestPresenceAsMsgPack: clients of msgpack ask and are told, too.
func TestPresenceAsMsgPack(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{AllowPresence: allowAll})
	c := dial(t, wstest.Serve(t, as(s, "ann", 7, "r")).URL, &websocket.DialOptions{Subprotocols: []string{"crosscast.msgpack.1"}})
	c.Write(websocket.MessageBinary, []byte("\x82\xa5watch\xa1r\xa2id\x01"))
	c.Expect("bytes:\x81\xa8presence\x84\xa4room\xa1r\xa2at\x01\xa5count\x01\xa3all\x91\x92\xa3ann\x07", "bytes:\x81\xa2id\x01")
	c.Write(websocket.MessageBinary, []byte("\x82\xa7unwatch\xa1r\xa2id\x02"))
	c.Expect("bytes:\x81\xa2id\x02")
}

// TestPresenceThatMsgPackCannotSay: no member keeps clients of msgpack from learning about the others. What a socket may
// show is as deep as possible.
func TestPresenceThatMsgPackCannotSay(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{AllowPresence: allowAll})
	shown := 0
	for i, shows := range []string{`"\ud800"`, "1e999", deep(512), deep(508), deep(504)} {
		_, err := n.Connect(t.Context(), silent{}, crosscast.ConnectOptions{
			User: fmt.Sprint("eve", i), Rooms: []string{"r"}, Presence: json.RawMessage(shows),
		})
		if err == nil {
			shown++
		}
	}
	if shown != 1 {
		t.Errorf("%d members, want that with the least depth", shown)
	}
	c := dial(t, wstest.Serve(t, as(s, "ann", 7, "r")).URL, &websocket.DialOptions{Subprotocols: []string{"crosscast.msgpack.1"}})
	c.Write(websocket.MessageBinary, []byte("\x82\xa5watch\xa1r\xa2id\x01"))
	if got, err := c.Read(); err != nil || !strings.Contains(got, "\xa8presence") || !strings.Contains(got, "ann\x07") {
		t.Errorf("%.100q %v", got, err)
	}
}

func deep(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

// silent is a conn that takes everything.
type silent struct{}

func (silent) Send(*crosscast.Message) error { return nil }
func (silent) Close(crosscast.Reason)        {}

// TestPresenceThatIsClosed: who asks again, and is refused then, is told nothing more.
func TestPresenceThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		open := true
		s := newServer(t, n, ws.Options{AllowPresence: func(context.Context, *crosscast.Socket, string) error {
			if !open {
				return ws.Errorf("closed")
			}
			return nil
		}})
		ann, _ := dialInMemory(t, as(s, "ann", nil, "r"))
		ann.text(`{"watch":"r","id":1}`)
		ann.Expect(`{"presence":{"room":"r","at":1,"count":1,"all":[["ann"]]}}`, `{"id":1}`)
		open = false
		ann.text(`{"watch":"r","id":2}`)
		ann.Expect(`{"id":2,"error":"closed"}`)
		dialInMemory(t, as(s, "bob", nil, "r"))
		time.Sleep(3 * time.Second)
		ann.text(`{"unwatch":"r","id":3}`)
		ann.Expect(`{"id":3}`) // and nothing about bob
	})
}
