package ws_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

const (
	jsonBytes = "crosscast.json.1"
	pack      = "crosscast.msgpack.1"
)

// dialForm returns a client that offers subprotocols, in memory.
func dialForm(t testing.TB, h http.Handler, offers ...string) *client {
	t.Helper()
	c, _ := wstest.DialWith(t, "ws://example.com", h, websocket.DialOptions{Subprotocols: offers})
	return &client{&wstest.Client{T: t, Conn: c}}
}

// packed is the message of a client of msgpack.
func packed(t testing.TB, v any) []byte {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type object = map[string]any

// expectPacked expects messages of msgpack, as fmt prints the maps.
func (c *client) expectPacked(want ...string) {
	c.T.Helper()
	for _, want := range want {
		got, err := c.Read()
		if err != nil {
			c.T.Fatal(err)
		}
		b, binary := strings.CutPrefix(got, "bytes:")
		var v object
		if err := msgpack.Unmarshal([]byte(b), &v); err != nil || !binary || fmt.Sprint(v) != want {
			c.T.Fatalf("got %q, %v, %v; want %s", got, v, err, want)
		}
	}
}

// TestForms is what becomes of each kind of payload, for each subprotocol.
func TestForms(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	h := accept(newServer(t, n, ws.Options{}), ws.Client{Rooms: []string{"room"}})
	plain, other, withBytes, asPack := dialForm(t, h), dialForm(t, h, "v7"), dialForm(t, h, jsonBytes), dialForm(t, h, "v7", pack, jsonBytes)
	for c, want := range map[*client]string{plain: "", other: "", withBytes: jsonBytes, asPack: pack} {
		if got := c.Conn.Subprotocol(); got != want {
			t.Errorf("the server chose %q, want %q", got, want)
		}
	}
	room := n.To("room")
	for _, row := range []struct {
		payload            any
		json, bytes, forms string // bytes empty: as json
	}{
		{nil, `{"event":"e"}`, "", "map[event:e]"},
		{object{"a": 1.5}, `{"event":"e","data":{"a":1.5}}`, "", "map[data:map[a:1.5] event:e]"},
		{json.RawMessage(` [1.0,-0,"x"] `), `{"event":"e","data": [1.0,-0,"x"] }`, "", "map[data:[1 -0 x] event:e]"},
		{crosscast.Bytes{0, 255}, `{"event":"e","data":"AP8="}`, "bytes:{\"event\":\"e\"}\x00\x00\xff", "map[data:[0 255] event:e]"},
		{crosscast.Bytes{}, `{"event":"e","data":""}`, "bytes:{\"event\":\"e\"}\x00", "map[data:[] event:e]"},
		{crosscast.MsgPack([]any{1, []byte{7}}), `{"event":"e","data":[1,"Bw=="]}`, "", "map[data:[1 [7]] event:e]"},
		{crosscast.MsgPack([]byte{7}), `{"event":"e","data":"Bw=="}`, "bytes:{\"event\":\"e\"}\x00\x07", "map[data:[7] event:e]"},
		{crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x91\xc4\x01\x07")}, `{"event":"e","data":"Bw=="}`, "",
			"map[data:[7] event:e]"},
		{crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\x01\xa1x")}, `{"event":"e","data":[1,"x"]}`, "",
			"map[data:[1 x] event:e]"},
		{crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\xd4\x00\x00\x81\x07\xc4\x01\x07")}, // undefined, {7: bytes}
			`{"event":"e","data":[null,{"7":"Bw=="}]}`, "", "map[data:[<nil> map[7:Bw==]] event:e]"},
	} {
		if err := room.Emit(t.Context(), "e", row.payload); err != nil {
			t.Fatal(err)
		}
		if row.bytes == "" {
			row.bytes = row.json
		}
		plain.Expect(row.json)
		other.Expect(row.json)
		withBytes.Expect(row.bytes)
		asPack.expectPacked(row.forms)
	}
	if err := room.Emit(t.Context(), "\xff\x00\"", crosscast.Bytes("x")); err != nil { // a name that is no text
		t.Fatal(err)
	}
	plain.Expect(`{"event":"\ufffd\u0000\"","data":"eA=="}`)
	withBytes.Expect("bytes:{\"event\":\"\\ufffd\\u0000\\\"\"}\x00x")
	asPack.expectPacked("map[data:[120] event:\ufffd\x00\"]")
}

// TestFormsOfReplies: bytes go through handlers and replies in both directions, whatever the form.
func TestFormsOfReplies(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	got := make(chan string, 10)
	h := accept(newServer(t, n, ws.Options{
		Events: ws.Events{
			"raw": func(_ context.Context, _ *crosscast.Socket, data json.RawMessage) error {
				got <- string(data)
				return nil
			},
			"twice": ws.TypedAnswer(func(_ context.Context, _ *crosscast.Socket, b []byte) (any, error) {
				return crosscast.Bytes(append(b, b...)), nil
			}),
			"fail": ws.Answered(func(context.Context, *crosscast.Socket, json.RawMessage) (any, error) { return nil, ws.Errorf("no") }),
			"pack": ws.Answered(func(context.Context, *crosscast.Socket, json.RawMessage) (any, error) {
				return crosscast.MsgPack(object{"b": []byte{1}}), nil
			}),
			"nothing": func(context.Context, *crosscast.Socket, json.RawMessage) error { return nil },
		},
		AllowJoin: allowAll,
	}), ws.Client{Rooms: []string{"room"}})

	plain := dialForm(t, h)
	plain.Write(websocket.MessageText, []byte(`{"event":"raw","data":"AP8="}`))
	withBytes := dialForm(t, h, jsonBytes)
	withBytes.Write(websocket.MessageBinary, []byte("{\"event\":\"raw\"}\x00\x00\xff"))
	asPack := dialForm(t, h, pack)
	asPack.Write(websocket.MessageBinary, packed(t, object{"event": "raw", "data": []byte{0, 255}}))
	for range 3 {
		if data := wstest.Wait(t, got, "an event"); data != `"AP8="` {
			t.Errorf("the handler got %s", data)
		}
	}
	asPack.Write(websocket.MessageBinary, packed(t, object{"event": "raw", "data": object{"a": []any{nil, []byte{7}, 1.5}}, "later": object{}}))
	if data := wstest.Wait(t, got, "an event"); data != `{"a":[null,"Bw==",1.5]}` {
		t.Errorf("the handler got %s", data)
	}
	asPack.Write(websocket.MessageBinary, packed(t, object{"event": "raw", "data": nil}))
	if data := wstest.Wait(t, got, "an event"); data != "null" {
		t.Errorf("the handler got %s", data)
	}

	withBytes.Write(websocket.MessageBinary, []byte("{\"event\":\"twice\",\"id\":7}\x00ab"))
	withBytes.Write(websocket.MessageText, []byte(`{"event":"pack","id":8}`))
	withBytes.Expect("bytes:{\"id\":7}\x00abab", `{"id":8,"data":{"b":"AQ=="}}`)
	for event, want := range map[string]string{
		"twice": "map[data:[1 1] id:7]", "pack": "map[data:map[b:[1]] id:7]", "fail": "map[error:no id:7]", "nothing": "map[id:7]",
		"unknown": `map[error:unknown event "unknown" id:7]`,
	} {
		asPack.Write(websocket.MessageBinary, packed(t, object{"event": event, "id": 7, "data": []byte{1}}))
		asPack.expectPacked(want)
	}
	asPack.Write(websocket.MessageBinary, packed(t, object{"join": "other", "id": 9}))
	asPack.expectPacked("map[id:9]")
	asPack.Write(websocket.MessageBinary, packed(t, object{"leave": "room"}))
	asPack.expectPacked(`map[data:map[message:leave "room": this room is the server's to leave] event:error]`)

	ask := func(c *client, reply func(id uint64), want string) {
		t.Helper()
		answers := n.To("room").EmitAck(t.Context(), "ask", nil)
		var asked struct {
			ID uint64 `json:"id"`
		}
		text, err := plain.Read()
		if err := errors.Join(err, json.Unmarshal([]byte(text), &asked)); err != nil {
			t.Fatal(err)
		}
		withBytes.Expect(text)
		asPack.expectPacked(fmt.Sprintf("map[event:ask id:%d]", asked.ID))
		reply(asked.ID)
		refusal := object{"id": asked.ID, "error": "later"}
		for _, other := range []*client{plain, withBytes, asPack} {
			switch {
			case other == c:
			case other == asPack:
				other.Write(websocket.MessageBinary, packed(t, refusal))
			default:
				other.Write(websocket.MessageText, fmt.Appendf(nil, `{"id":%d,"error":"later"}`, asked.ID))
			}
		}
		var got []string
		for r := range answers.All() {
			got = append(got, fmt.Sprintf("%s %x", r.Payload.Encoding, r.Payload.Data))
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	ask(withBytes, func(id uint64) {
		withBytes.Write(websocket.MessageBinary, fmt.Appendf(nil, "{\"id\":%d}\x00\x00\xff", id))
	}, "binary 00ff")
	for want, data := range map[string]any{"binary 00ff": []byte{0, 255}, "msgpack 91c3": []any{true}, "msgpack c0": nil} {
		ask(asPack, func(id uint64) {
			asPack.Write(websocket.MessageBinary, packed(t, object{"id": id, "data": data}))
		}, want)
	}
	ask(asPack, func(id uint64) { asPack.Write(websocket.MessageBinary, packed(t, object{"id": id})) }, "none ")
}

// TestSubprotocolsAreChosen: the application's come first, an Envelope of its own has only what it can say, and a list
// that is no list, or of unknown versions only, is refused and counted.
func TestSubprotocolsAreChosen(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	for _, row := range []struct {
		o              ws.Options
		offered, chose string
		status         int
	}{
		{ws.Options{}, "crosscast.json.1", jsonBytes, 101},
		{ws.Options{}, "crosscast.json.2,CROSSCAST.JSON.1", "CROSSCAST.JSON.1", 101},
		{ws.Options{}, "crosscast.json.1,crosscast.msgpack.1", pack, 101},
		{ws.Options{}, "v1,v2", "", 101},
		{ws.Options{}, "crosscast.json.2", "", 400},
		{ws.Options{}, "v1,Crosscast.msgpack.10", "", 400},
		{ws.Options{}, "v1,,v2", "", 400},
		{ws.Options{}, "v 1", "", 400},
		{ws.Options{}, "crosscast.json.1;q=1", "", 400},
		{ws.Options{}, "\"crosscast.json.1\"", "", 400},
		{ws.Options{}, strings.Repeat("v,", 15) + "crosscast.json.1", jsonBytes, 101},
		{ws.Options{}, strings.Repeat("v,", 16) + "crosscast.json.1", "", 400},
		{ws.Options{}, "crosscast.json.1," + strings.Repeat("v", 1008), "", 400},
		{ws.Options{Subprotocols: []string{"v2"}}, "crosscast.msgpack.1,v2", "v2", 101},
		{ws.Options{Subprotocols: []string{"crosscast.json.1"}}, "crosscast.msgpack.1,crosscast.json.1", jsonBytes, 101},
		{ws.Options{Envelope: &binary{}}, "crosscast.json.1", "", 400},
		{ws.Options{Envelope: plainEnvelope{}}, "crosscast.msgpack.1,crosscast.json.1", jsonBytes, 101},
		{ws.Options{Envelope: plainEnvelope{}}, "crosscast.msgpack.1", "", 400},
	} {
		s := newServer(t, n, row.o)
		c, status := wstest.TryDial(t, "ws://example.com", accept(s, ws.Client{}), strings.Split(row.offered, ",")...)
		got := ""
		if c != nil {
			got = c.Subprotocol()
		}
		if status != row.status || row.status == 101 && got != row.chose {
			t.Errorf("%.60q: status %d, and %q was chosen", row.offered, status, got)
		}
		if refused := s.Stats().Refused["subprotocol"]; (refused == 1) != (row.status == 400) {
			t.Errorf("%.60q: %d refusals were counted", row.offered, refused)
		}
	}
}

// TestHostileForms: a message that promises more than it has, that is deep or of another kind, is answered and counted,
// and the connection goes on.
func TestHostileForms(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := newServer(t, n, ws.Options{})
	h := accept(s, ws.Client{})
	c := dialForm(t, h, pack)
	bad := 0
	for message, why := range map[string]string{
		"\xdf\xff\xff\xff\xff":                             "malformed, at byte",
		"\xdf\xff\xff\xff\xff\xa5event":                    "malformed, at byte",
		"\x81\xa4data\xdd\xff\xff\xff\xff":                 "malformed, at byte",
		"\x81\xa4data\xc6\xff\xff\xff\xffx":                "malformed, at byte",
		"\x81\xa4data\xdb\x7f\xff\xff\xffx":                "malformed, at byte",
		"\x81\xa4data\xc9\xff\xff\xff\xff\x01":             "malformed, at byte",
		"\x81\xa5event\xa1e\xc0":                           "malformed, at byte",
		"":                                                 "malformed, at byte",
		"\xc1":                                             "malformed, at byte",
		"\x81\xa4data" + strings.Repeat("\x91", 1<<19):     "nested too deep",
		"\x81\xa4data" + strings.Repeat("\x81\xa0", 600):   "nested too deep",
		"\x81\xa4data\x81\x91\x01\x02":                     "a key of a map that is no string",
		"\x81\x01\x02":                                     "a key of a map that is no string",
		"\x81\xa4data\xd4\x05x":                            "an extension",
		"\x81\xa4data\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00": "a float that is not finite",
		"\x81\xa5event\xa1\xff":                            "a string that is not UTF-8",
		"\x90":                                             "want {",
		"\xa5event":                                        "want {",
		"\x80":                                             "want {",
		"\x81\xa5event\x01":                                "wrong type",
		"\x82\xa5event\xa1e\xa2id\xa17":                    "wrong type",
		"\x82\xa5event\xa1e\xa2id\xff":                     "wrong type",
		"\x82\xa5event\xa1e\xa2id\x00":                     "id of 0",
		"\x82\xa5event\xa1e\xa2id\xcf\x00\x20\x00\x00\x00\x00\x00\x00": "id of 9007199254740992",
		"\x81\xa4join\xa0":                 "empty room name",
		"\x82\xa4join\xa1r\xa5event\xa1e":  "more than one of",
		"\x82\xa4join\xa1r\xa5leave\xa1r":  "more than one of",
		"\x82\xa4join\x91\xa1r\xa2id\x01":  "wrong type",
		"\x82\xa5error\xc3\xa2id\x01":      "wrong type",
		"\x82\xa5leave\xc4\x01r\xa2id\x01": "wrong type",
	} {
		c.Write(websocket.MessageBinary, []byte(message))
		bad++
		got, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Event string `msgpack:"event"`
			Data  struct {
				Message string `msgpack:"message"`
			} `msgpack:"data"`
		}
		if err := msgpack.Unmarshal([]byte(strings.TrimPrefix(got, "bytes:")), &v); err != nil || v.Event != "error" ||
			!strings.Contains(v.Data.Message, why) {
			t.Errorf("%.20q: got %+v, %v; want %s", message, v, err, why)
		}
	}
	d := dialForm(t, h, jsonBytes)
	for _, message := range []string{
		"", "\x00", "x\x00", "{\"event\":\"e\"}", "{\"event\":\"e\",\"data\":null}\x00x", "{\"join\":\"r\",\"id\":1}\x00x",
		"{\"leave\":\"r\"}\x00x", "{\"id\":1,\"error\":\"no\"}\x00x", "{\"event\":\"\xff\"}\x00x", "{\"event\":\"" + strings.Repeat("e", 4096) + "\"}\x00x",
		strings.Repeat(" ", 1<<19) + "{\"event\":\"e\"}\x00", "{\"event\":7}\x00x", "{}\x00x",
	} {
		d.Write(websocket.MessageBinary, []byte(message))
		bad++
		if got, err := d.Read(); err != nil || !strings.Contains(got, "malformed message") || len(got) > 300 {
			t.Errorf("%.20q: got %s, %v", message, got, err)
		}
	}
	if got := s.Stats().Refused["malformed"]; got != uint64(bad) {
		t.Errorf("%d of %d were counted", got, bad)
	}
	c.Write(websocket.MessageText, []byte(`{"event":"e"}`))
	c.ExpectClose(1003, "only binary messages are understood")
	d.Write(websocket.MessageText, []byte("\"\xff\""))
	d.ExpectClose(1007, "not UTF-8")
}

// TestJSONWithoutMsgPackIsAGap: clients of msgpack that cannot get a message are told of a gap, in its place.
func TestJSONWithoutMsgPackIsAGap(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	told := accept(newServer(t, n, ws.Options{}), ws.Client{Rooms: []string{"room"}})
	plain, asPack := dialForm(t, told), dialForm(t, told, pack)
	silent := dialForm(t, accept(newServer(t, n, ws.Options{Gaps: ws.GapIgnore}), ws.Client{Rooms: []string{"room"}}), pack)
	for _, text := range []string{`1e400`, `"\ud800"`, strings.Repeat("[", 513) + strings.Repeat("]", 513)} {
		for _, payload := range []string{text, `1`} {
			if err := n.To("room").Emit(t.Context(), "e", json.RawMessage(payload)); err != nil {
				t.Fatal(err)
			}
		}
		plain.Expect(`{"event":"e","data":`+text+`}`, `{"event":"e","data":1}`)
		if got, err := asPack.Read(); err != nil || !strings.HasPrefix(got, "bytes:\x81\xa3gap\x82\xa3ago\x92") {
			t.Errorf("got %q, %v", got, err)
		}
		asPack.expectPacked("map[data:1 event:e]")
		silent.expectPacked("map[data:1 event:e]")
	}
	if got := n.Stats().Dropped["conn"]; got != 6 {
		t.Errorf("%d drops were counted", got)
	}
}

// TestNoticesInForms: what the server says by itself is in the form of the connection, too.
func TestNoticesInForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		h := accept(newServer(t, n, ws.Options{Queue: crosscast.QueueOptions{
			Limit: 1000, Burst: 1000, Policy: crosscast.QueueDropNewest,
			DropNotice: func(crosscast.QueueDrop) []byte { return []byte(`{"event":"dropped"}`) },
		}}), ws.Client{Rooms: []string{"room"}})
		asPack := dialForm(t, h, pack)
		for i := range 100 { // more than the pipe and the queue hold
			_ = n.To("room").Emit(t.Context(), "e", crosscast.Bytes(fmt.Appendf(nil, "%0500d", i)))
		}
		dropped := 0
		for dropped == 0 {
			got, err := asPack.Read()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(got, "dropped") {
				dropped++
				var v object
				if err := msgpack.Unmarshal([]byte(strings.TrimPrefix(got, "bytes:")), &v); err != nil || fmt.Sprint(v) != "map[event:dropped]" {
					t.Errorf("got %q, %v", got, err)
				}
			}
		}
		go n.Drain(context.Background(), crosscast.DrainOptions{})
		got, err := asPack.Read()
		for err == nil && !strings.Contains(got, "reconnect") {
			got, err = asPack.Read()
		}
		var v struct{ Reconnect struct{ Wait int } }
		if e := msgpack.Unmarshal([]byte(strings.TrimPrefix(got, "bytes:")), &v); err != nil || e != nil {
			t.Errorf("got %q, %v, %v", got, err, e)
		}
		asPack.ExpectClose(1012, "server restarting")
	})
}

// counting counts the frames of an envelope of text.
type counting struct {
	ws.JSON
	frames atomic.Int32
}

func (c *counting) Frame(m *crosscast.Message) ([]byte, error) {
	c.frames.Add(1)
	return c.JSON.Frame(m)
}

// TestOneFrameForEachForm: clients of a form share the frame, and a form that nobody uses has none.
func TestOneFrameForEachForm(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	envelope := &counting{}
	h := accept(newServer(t, n, ws.Options{Envelope: envelope}), ws.Client{Rooms: []string{"room"}})
	var clients []*client
	for i, want := range []int32{1, 1, 2, 2} {
		clients = append(clients, dialForm(t, h, [][]string{nil, nil, {jsonBytes}, {jsonBytes}}[i]...))
		envelope.frames.Store(0)
		if err := n.To("room").Emit(t.Context(), "e", crosscast.MsgPack(1)); err != nil {
			t.Fatal(err)
		}
		for _, c := range clients {
			c.Expect(`{"event":"e","data":1}`)
		}
		if got := envelope.frames.Load(); got != want {
			t.Errorf("%d clients: %d frames, want %d", len(clients), got, want)
		}
	}
}

// TestCompressedForms: binary messages are compressed, too.
func TestCompressedForms(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	h := accept(newServer(t, n, ws.Options{CompressFrom: 100}), ws.Client{Rooms: []string{"room"}})
	for _, form := range []string{jsonBytes, pack} {
		conn, _ := wstest.DialWith(t, "ws://example.com", h, websocket.DialOptions{
			Subprotocols: []string{form}, CompressionMode: websocket.CompressionContextTakeover,
		})
		c := &client{&wstest.Client{T: t, Conn: conn}}
		data := strings.Repeat("x", 1000)
		if err := n.To("room").Emit(t.Context(), "e", crosscast.Bytes(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(); err != nil || !strings.HasPrefix(got, "bytes:") || !strings.Contains(got, data) {
			t.Errorf("%s: got %.40q, %v", form, got, err)
		}
	}
}

// TestMsgPackOfAClientIsTyped: a handler gets the client's values as its type.
func TestMsgPackOfAClientIsTyped(t *testing.T) {
	type picture struct {
		Name string `json:"name"`
		Data []byte `json:"data"`
		Size int64  `json:"size"`
	}
	n := wstest.StartNode(t, crosscast.Options{})
	got := make(chan picture, 1)
	h := accept(newServer(t, n, ws.Options{Events: ws.Events{
		"picture": ws.Typed(func(_ context.Context, _ *crosscast.Socket, p picture) error { got <- p; return nil }),
	}}), ws.Client{})
	c := dialForm(t, h, pack)
	c.Write(websocket.MessageBinary, packed(t, object{"event": "picture", "data": object{
		"name": "x", "data": []byte{1, 2}, "size": int64(math.MaxInt64),
	}}))
	if p := wstest.Wait(t, got, "a picture"); p.Name != "x" || base64.StdEncoding.EncodeToString(p.Data) != "AQI=" || p.Size != math.MaxInt64 {
		t.Errorf("got %+v", p)
	}
}
