package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
	"github.com/crosscast/crosscast/ws/client"
)

// TestBytes: bytes go through events, requests and replies in both directions, whatever the subprotocol, and the other
// values are the same.
func TestBytes(t *testing.T) {
	for _, offers := range [][]string{nil, {client.SubprotocolJSON}, {client.SubprotocolMsgPack}, {}, {"v1"}} {
		t.Run(fmt.Sprintf("%q", offers), func(t *testing.T) {
			received := newRecord()
			s := serve(t, ws.Options{
				AllowJoin: func(context.Context, *crosscast.Socket, string) error { return nil },
				Events: ws.Events{
					"say": ws.Typed(func(_ context.Context, _ *crosscast.Socket, b []byte) error {
						received.add("say %x", b)
						return nil
					}),
					"twice": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, b []byte) (any, error) {
						return crosscast.Bytes(append(b, b...)), nil
					}),
					"same": ws.Answered(func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) (any, error) { return data, nil }),
				},
			})
			c := dial(t, s.url, client.Options{
				Subprotocols: offers,
				Events: client.Events{
					"bytes": client.Typed(func(_ context.Context, _ *client.Client, b []byte) error {
						received.add("bytes %x", b)
						return nil
					}),
					"any": func(_ context.Context, _ *client.Client, data json.RawMessage) (any, error) {
						received.add("any %s", data)
						return nil, nil
					},
					"ask": client.TypedAnswer(func(_ context.Context, _ *client.Client, b []byte) ([]byte, error) { return append(b, 7), nil }),
				},
			})
			if err := c.Join(t.Context(), "room"); err != nil {
				t.Fatal(err)
			}
			room := s.To("room")
			for _, e := range []struct {
				event   string
				payload any
				want    string
			}{
				{"bytes", crosscast.Bytes{0, 255}, "bytes 00ff"},
				{"bytes", crosscast.MsgPack([]byte{0, 255}), "bytes 00ff"},
				{"bytes", crosscast.Bytes{}, "bytes "},
				{"any", crosscast.Bytes{0, 255}, `any "AP8="`},
				{"any", crosscast.MsgPack(map[string]any{"b": []byte{7}, "n": int64(1<<53 + 1)}), `any {"b":"Bw==","n":9007199254740993}`},
				{"any", map[string]any{"a": 1.5}, `any {"a":1.5}`},
				{"any", nil, "any "},
			} {
				if err := room.Emit(t.Context(), e.event, e.payload); err != nil {
					t.Fatal(err)
				}
				received.expect(t, e.want)
			}

			if err := c.Emit(t.Context(), "say", []byte{0, 255}); err != nil {
				t.Fatal(err)
			}
			received.expect(t, "say 00ff")
			var b []byte
			if err := c.Request(t.Context(), "twice", []byte{0, 255}, &b); err != nil || fmt.Sprintf("%x", b) != "00ff00ff" {
				t.Errorf("got %x, %v", b, err)
			}
			for _, v := range []any{nil, []byte(nil), []byte{}, []byte{0, 255}, "text", map[string]any{"a": []any{1.0, nil}}, []byte("\x00")} {
				var got any
				err := c.Request(t.Context(), "same", v, &got)
				var want any
				text, _ := json.Marshal(v)
				_ = json.Unmarshal(text, &want)
				if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%v became %v, %v", v, got, err)
				}
			}
			want := `json "AAc="`
			if offers == nil || len(offers) > 0 && offers[0] != "v1" {
				want = "binary \x00\x07"
			}
			for r := range room.EmitAck(t.Context(), "ask", crosscast.Bytes{0}).All() {
				if got := fmt.Sprintf("%s %s", r.Payload.Encoding, r.Payload.Data); got != want {
					t.Errorf("the reply is %q, want %q", got, want)
				}
			}
			for r := range room.EmitAck(t.Context(), "unknown", nil).All() {
				t.Errorf("got %v", r)
			}
			var remote client.RemoteError
			if err := c.Request(t.Context(), "nobody", []byte{1}, nil); err == nil || !strings.Contains(err.Error(), "unknown event") {
				t.Errorf("got %v, %v", err, remote)
			}
		})
	}
}

// TestServerThatBreaksTheForm: a message that is none goes to OnError, and one of another type ends the connection.
func TestServerThatBreaksTheForm(t *testing.T) {
	for offer, bad := range map[string]struct {
		messages []string
		end      websocket.MessageType
	}{
		client.SubprotocolMsgPack: {[]string{
			"\xdf\xff\xff\xff\xff", "\x81\xa4data\xdd\xff\xff\xff\xff", strings.Repeat("\x91", 1<<20), "\xc1", "", "\x81\xa5event\x01", "\xd4\x05x",
		}, websocket.MessageText},
		client.SubprotocolJSON: {[]string{"", "{\"event\":\"x\"}", "x\x00x", "\x00", "{\"event\":7}\x00"}, 0},
	} {
		url := wstest.Serve(t, acceptAs(t, offer, func(conn *websocket.Conn) {
			for _, m := range bad.messages {
				_ = conn.Write(t.Context(), websocket.MessageBinary, []byte(m))
			}
			if bad.end != 0 {
				_ = conn.Write(t.Context(), bad.end, []byte(`{"event":"x"}`))
			}
			_, _, _ = conn.Read(t.Context())
		})).URL
		happened := newRecord()
		dial(t, url, client.Options{
			Subprotocols: []string{offer},
			OnError:      func(_ *client.Client, event string, _ error) { happened.add("error of %q", event) },
			OnDisconnect: func(_ *client.Client, err error) { happened.add("%v", err) },
			GiveUp:       func(error) bool { return true },
		})
		var want []string
		for range bad.messages {
			want = append(want, `error of ""`)
		}
		if bad.end != 0 {
			want = append(want, "crosscast/client: the server sends messages of another type than was agreed upon")
		}
		happened.expect(t, want...)
	}
}
