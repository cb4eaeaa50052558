package socketio

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
)

func texts(values ...string) []json.RawMessage {
	var raw []json.RawMessage
	for _, v := range values {
		raw = append(raw, json.RawMessage(v))
	}
	return raw
}

func TestParsePacket(t *testing.T) {
	long := strings.Repeat("[", mpack.MaxDepth-1)
	for _, tt := range []struct {
		text string
		want packet
		err  error
	}{
		{`0`, packet{typ: connect, namespace: "/"}, nil},
		{`0{"token":"x"}`, packet{typ: connect, namespace: "/", auth: json.RawMessage(`{"token":"x"}`)}, nil},
		{`0/chat,`, packet{typ: connect, namespace: "/chat"}, nil},
		{`0/chat`, packet{typ: connect, namespace: "/chat"}, nil},
		{`0/chat,{"a":1}`, packet{typ: connect, namespace: "/chat", auth: json.RawMessage(`{"a":1}`)}, nil},
		{`1/chat,`, packet{typ: disconnect, namespace: "/chat"}, nil},
		{`2["a"]`, packet{typ: emission, namespace: "/", event: "a"}, nil},
		{`2["a",1,{"b":[2,"],["]}]`, packet{typ: emission, namespace: "/", event: "a",
			values: texts("1", `{"b":[2,"],["]}`)}, nil},
		{"2[ \"a\" ,\t1 , [ ] ]\n", packet{typ: emission, namespace: "/", event: "a", values: texts("1", "[ ]")}, nil},
		{`2["\"\\",","]`, packet{typ: emission, namespace: "/", event: `"\`, values: texts(`","`)}, nil},
		{`2[1.0,true]`, packet{typ: emission, namespace: "/", event: "1", values: texts("true")}, nil},
		{`2[1e21]`, packet{typ: emission, namespace: "/", event: "1e+21"}, nil},
		{`20["a"]`, packet{typ: emission, namespace: "/", event: "a", hasID: true}, nil},
		{`2/a,9007199254740991["a"]`, packet{typ: emission, namespace: "/a", event: "a", id: maxID, hasID: true}, nil},
		{`3/a,12["x",null]`, packet{typ: ack, namespace: "/a", id: 12, hasID: true, values: texts(`"x"`, "null")}, nil},
		{`312[]`, packet{typ: ack, namespace: "/", id: 12, hasID: true}, nil},
		{`51-["a",{"_placeholder":true,"num":0}]`, packet{typ: emission, namespace: "/", event: "a", attachments: 1,
			values: texts(`{"_placeholder":true,"num":0}`)}, nil},
		{`510-/a,3["a"]`, packet{typ: emission, namespace: "/a", event: "a", attachments: 10, id: 3, hasID: true}, nil},
		{`62-/a,3[]`, packet{typ: ack, namespace: "/a", attachments: 2, id: 3, hasID: true}, nil},
		{`2["a",` + long + `1` + strings.ReplaceAll(long, "[", "]") + `]`, packet{typ: emission, namespace: "/",
			event: "a", values: texts(long + `1` + strings.ReplaceAll(long, "[", "]"))}, nil},

		{``, packet{}, errType},
		{`7`, packet{}, errType},
		{`a`, packet{}, errType},
		{`4{}`, packet{}, errType},
		{`0[]`, packet{}, errPayload},
		{`0null`, packet{}, errPayload},
		{`0{`, packet{}, errPayload},
		{`0{}x`, packet{}, errPayload},
		{`1[]`, packet{}, errPayload},
		{`2`, packet{}, errPayload},
		{`2null`, packet{}, errPayload},
		{`2{}`, packet{}, errPayload},
		{`2[]`, packet{}, errPayload},
		{`2[null]`, packet{}, errPayload},
		{`2[["a"]]`, packet{}, errPayload},
		{`2["a"`, packet{}, errPayload},
		{`2["a"]]`, packet{}, errPayload},
		{`2["a",]`, packet{}, errPayload},
		{`2["a"]x`, packet{}, errPayload},
		{`2/chat["a"]`, packet{}, errPayload},
		{`2["disconnect"]`, packet{}, errReserved},
		{`2["newListener",1]`, packet{}, errReserved},
		{`2 ["a"]`, packet{}, errPayload},
		{`0 {}`, packet{}, errPayload},
		{`3["x"]`, packet{}, errID},
		{`31`, packet{}, errPayload},
		{`31{}`, packet{}, errPayload},
		{`29007199254740992["a"]`, packet{}, errID},
		{`299999999999999999999999999["a"]`, packet{}, errID},
		{`5["a"]`, packet{}, errAttachments},
		{`50-["a"]`, packet{}, errAttachments},
		{`5-["a"]`, packet{}, errAttachments},
		{`5-1-["a"]`, packet{}, errAttachments},
		{`51`, packet{}, errAttachments},
		{`51.0-["a"]`, packet{}, errAttachments},
		{`511-["a"]`, packet{}, errTooMany},
		{`599999999999999999999-["a"]`, packet{}, errTooMany},
		{`2["a",[` + long + `1` + strings.ReplaceAll(long, "[", "]") + `]]`, packet{}, errPayload},
		{`2["a",` + strings.Repeat("[", 1<<20), packet{}, errPayload},
	} {
		got, err := parsePacket([]byte(tt.text), 10)
		if err != tt.err {
			t.Errorf("%.80s: error %v, want %v", tt.text, err, tt.err)
			continue
		}
		if err == nil && !same(got, tt.want) {
			t.Errorf("%.80s: got %+v, want %+v", tt.text, got, tt.want)
		}
	}
}

func same(a, b packet) bool {
	equal := func(x, y json.RawMessage) bool { return bytes.Equal(x, y) }
	return a.typ == b.typ && a.attachments == b.attachments && a.namespace == b.namespace && a.id == b.id &&
		a.hasID == b.hasID && a.event == b.event && bytes.Equal(a.auth, b.auth) && slices.EqualFunc(a.values, b.values, equal)
}

// FuzzPacket: packets are parsed as by encoding/json, and keep their meaning when they are written again.
func FuzzPacket(f *testing.F) {
	for _, seed := range []string{
		`0{"a":1}`, `0/chat,`, `1`, `2["a",1,{"b":[2,"],["]}]`, `2/a,12["a"]`, `312[]`,
		`51-["a",{"_placeholder":true,"num":0}]`,
		`62-/a,3[1]`, `2[-0.0,"\ud800"]`, `2["\"\\",","]`, "2[ \"a\" ,\t1 ]", `4{}`, `2[]`, `29007199254740992["a"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		given := slices.Clone(text)
		p, err := parsePacket(text, 10)
		if err != nil {
			return
		}
		if !bytes.Equal(given, text) {
			t.Fatal("the text was changed")
		}
		clear(text) // nothing of it may be kept
		if p.attachments < 0 || p.attachments > 10 || p.id > maxID || isReserved(p.event) {
			t.Fatalf("%q: %+v", given, p)
		}
		values := p.values
		if p.typ == emission {
			name, _ := json.Marshal(p.event)
			values = append([]json.RawMessage{name}, values...)
		}
		again := appendHeader(nil, p.typ, p.namespace, p.attachments, p.id, p.hasID)[1:]
		switch p.typ {
		case connect:
			again = append(again, p.auth...)
		case emission, ack:
			list, err := json.Marshal(append(make([]json.RawMessage, 0), values...))
			if err != nil {
				t.Fatalf("%q: %v", given, err)
			}
			var all []json.RawMessage
			if err := json.Unmarshal(given[bytes.IndexByte(given, '['):], &all); strings.HasPrefix(p.namespace, "/") &&
				!strings.Contains(p.namespace, "[") && (err != nil || len(all) != len(values)) {
				t.Fatalf("%q: %d values, encoding/json has %d, %v", given, len(values), len(all), err)
			}
			again = append(again, list...)
		}
		q, err := parsePacket(again, 10)
		if err != nil {
			t.Fatalf("%q, written again %q: %v", given, again, err)
		}
		for _, r := range []*packet{&p, &q} { // encoding/json writes values without white space
			for i, v := range r.values {
				var b bytes.Buffer
				if json.Compact(&b, v) != nil {
					t.Fatalf("%q: value %d is %q", given, i, v)
				}
				r.values[i] = b.Bytes()
			}
		}
		q.event, p.event = strings.ToValidUTF8(q.event, ""), strings.ToValidUTF8(p.event, "")
		if !same(p, q) && !bytes.ContainsAny(given, "<>&\u2028\u2029") {
			t.Fatalf("%q: %+v, written again %q: %+v", given, p, again, q)
		}
	})
}

// TestFrames: a packet and its attachments are frames one right after the other.
func TestFrames(t *testing.T) {
	attachments := [][]byte{{}, bytes.Repeat([]byte{1}, 300), bytes.Repeat([]byte{2}, 70_000)}
	for base64, want := range map[bool]string{
		false: "\x81\x06" + "452-[]" + "\x82\x00" + "\x82\x7e\x01\x2c" + strings.Repeat("\x01", 300) +
			"\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + strings.Repeat("\x02", 70_000),
		true: "\x81\x06" + "452-[]" + "\x81\x01b" + "\x81\x7e\x01\x91b" + strings.Repeat("AQEB", 100) +
			"\x81\x7f\x00\x00\x00\x00\x00\x01\x6c\x99b" + strings.Repeat("AgIC", 23333) + "Ag==",
	} {
		if got := (framer{base64: base64}).join([]byte("452-[]"), attachments); string(got) != want {
			t.Errorf("base64 %v: got %d bytes, want %d", base64, len(got), len(want))
		}
	}
}
