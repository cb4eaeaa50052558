package args_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/mpack"
)

func text(s string) crosscast.Payload {
	return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(s)}
}
func bin(s string) crosscast.Payload {
	return crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte(s)}
}
func list(s string) crosscast.Payload {
	return crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte(s)}
}

func show(p crosscast.Payload) string { return fmt.Sprintf("%d %q", p.Encoding, p.Data) }

// events are arrays of an event and its arguments, their normal form, and the same as JSON with bytes in base64. The
// first ones were captured from Node.js servers.
var events = []struct {
	array   string
	payload crosscast.Payload
	json    string
	// foreign: AppendMsgpack writes the payload otherwise.
	foreign bool
}{
	{"\x94\xa4test\x01\xa12\xc0", list("\x93\x01\xa12\xc0"), `["test",1,"2",null]`, false},
	{"\x92\xa4test\xc4\x02\x03\x04", bin("\x03\x04"), `["test","AwQ="]`, false},
	{"\x95\xa4test\xc0\x81\xa1y\x01\xd6\xff\x00\x00\x00\x00\xcb?\xf8\x00\x00\x00\x00\x00\x00",
		list("\x94\xc0\x81\xa1y\x01\xd6\xff\x00\x00\x00\x00\xcb?\xf8\x00\x00\x00\x00\x00\x00"),
		`["test",null,{"y":1},"1970-01-01T00:00:00.000Z",1.5]`, false},
	{"\x92\xa4test\xa1x", text(`"x"`), `["test","x"]`, false},
	{"\x91\xa4test", crosscast.Payload{}, `["test"]`, false},

	{"\x92\xa4test\xc0", text(`null`), `["test",null]`, false},
	{"\x92\xa4test\x82\xa1b\x92\x01\x02\xa1a\xc3", text(`{"b":[1,2],"a":true}`), `["test",{"b":[1,2],"a":true}]`, false},
	{"\x92\xa4test\x81\xa1b\xc4\x01\x00", list("\x91\x81\xa1b\xc4\x01\x00"), `["test",{"b":"AA=="}]`, false},
	{"\x93\xa4test\xc4\x00\xc4\x00", list("\x92\xc4\x00\xc4\x00"), `["test","",""]`, false},
	{"\xdc\x00\x11\xa4test" + strings.Repeat("\x01", 16), list("\xdc\x00\x10" + strings.Repeat("\x01", 16)),
		`["test",` + strings.Repeat("1,", 15) + `1]`, false},
	{"\x9f\xa4test" + strings.Repeat("\x01", 14), list("\x9e" + strings.Repeat("\x01", 14)),
		`["test",` + strings.Repeat("1,", 13) + `1]`, false},
	// A date alone, undefined and an ArrayBuffer of old writers, arrays that are not in the shortest form.
	{"\x92\xa4test\xd6\xff\x00\x00\x00\x00", text(`"1970-01-01T00:00:00.000Z"`),
		`["test","1970-01-01T00:00:00.000Z"]`, true},
	{"\x92\xa4test\xd4\x00\x00", text(`null`), `["test",null]`, true},
	{"\x92\xa4test\xc7\x02\x00\x03\x04", bin("\x03\x04"), `["test","AwQ="]`, true},
	{"\x92\xa4test\x91\xd4\x00\x00", text(`[null]`), `["test",[null]]`, true},
	{"\xdd\x00\x00\x00\x02\xa4test\xdc\x00\x01\xcc\x01", text(`[1]`), `["test",[1]]`, true},
	{"\x92\xa4test\xd4\x05\x01", list("\x91\xd4\x05\x01"), `["test",[5,"AQ=="]]`, false},
}

func base64JSON(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

func TestEvents(t *testing.T) {
	for _, c := range events {
		event, p, n, err := args.ParseMsgpack([]byte(c.array + "\xc1behind"))
		if err != nil || event != "test" || show(p) != show(c.payload) || n != len(c.array) {
			t.Errorf("%q: read %q, %s, %d, %v; want %s", c.array, event, show(p), n, err, show(c.payload))
			continue
		}
		array, err := args.AppendMsgpack([]byte("before"), event, p)
		if rest, _ := bytes.CutPrefix(array, []byte("before")); err != nil || string(rest) != c.array && !c.foreign {
			t.Errorf("%q: written as %q, %v", c.array, rest, err)
		} else if _, again, _, err := args.ParseMsgpack(rest); err != nil || show(again) != show(p) {
			t.Errorf("%q: %s, written and read again, is %s, %v", c.array, show(p), show(again), err)
		}
		values, n, err := args.AppendMsgpackValues([]byte("before"), p)
		head := mpack.AppendStr(mpack.AppendArrayLen(nil, 1+n), "test")
		if err != nil || string(append(head, values[len("before"):]...)) != string(array[len("before"):]) {
			t.Errorf("%q: values %q, %d, %v", c.array, values, n, err)
		}
		out, err := args.AppendJSON([]byte("before"), event, p, base64JSON)
		if err != nil || string(out) != "before"+c.json {
			t.Errorf("%q: JSON %s, %v; want %s", c.array, out, err, c.json)
		}
	}
}

// TestFromMsgpackValue is that a value alone is what it is as the only argument of an event.
func TestFromMsgpackValue(t *testing.T) {
	for _, c := range events {
		value, ok := strings.CutPrefix(c.array, "\x92\xa4test")
		if !ok {
			continue
		}
		p, n, err := args.FromMsgpackValue([]byte(value + "\xc1"))
		if err != nil || show(p) != show(c.payload) || n != len(value) {
			t.Errorf("%q: %s, %d, %v; want %s", value, show(p), n, err, show(c.payload))
		}
	}
}

// TestAliases is that bytes that are the only argument are not copied, and that nothing else is an alias.
func TestAliases(t *testing.T) {
	for _, c := range events {
		array := []byte(c.array)
		_, p, _, err := args.ParseMsgpack(array)
		if err != nil {
			t.Fatal(err)
		}
		clear(array)
		if cleared := len(p.Data) > 0 && len(bytes.Trim(p.Data, "\x00")) == 0; cleared != (p.Encoding == crosscast.EncodingBinary) {
			t.Errorf("%q: %s", c.array, show(p))
		}
	}
}

func TestNumericEvents(t *testing.T) {
	for array, want := range map[string]string{
		"\x91\x07": "7", "\x91\xff": "-1", "\x91\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00": "1.5",
		"\x91\xcb\x44\x4b\x1a\xe4\xd6\xe2\xef\x50": "1e+21", "\x91\xcd\x01\x00": "256", "\x91\xa0": "",
	} {
		if event, p, n, err := args.ParseMsgpack([]byte(array)); event != want || n != len(array) || err != nil ||
			p.Encoding != crosscast.EncodingNone {
			t.Errorf("%q: %q, %v", array, event, err)
		}
	}
	out, err := args.AppendJSON(nil, "a\"\n\xff\u2028", text("1"), nil)
	if want := "[\"a\\\"\\n\ufffd\u2028\",1]"; err != nil || string(out) != want {
		t.Errorf("%s, %v; want %s", out, err, want)
	}
}

func TestMalformedArrays(t *testing.T) {
	deep := strings.Repeat("\x91", mpack.MaxDepth+1) + "\x01"
	for _, array := range []string{
		"", "\x90", "\xc0", "\xa1x", "\x81\xa1x\x01", "\x91", "\x92\xa1x", "\x93\xa1x\x01", "\x91\xc0", "\x91\xc4\x01x",
		"\x91\x91\xa1x", "\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "\x91\xa2x", "\x92\xa1x\xc1", "\x93\xa1x\x01\xc1",
		"\x92\xa1x\x81\xc0\x01", "\x93\xa1x\x01\x81\xc0\x01", "\x92\xa1x\x92\xc4\x01x", "\xdd\xff\xff\xff\xff\xa1x",
		"\xdd\x00\xff\xff\xff\xa1x\x01\x01",
		"\x92\xa1x" + deep, "\x93\xa1x\x01" + deep, "\x92\xa1x" + deep[1:len(deep)-1] + "\xc4\x00",
	} {
		if event, p, n, err := args.ParseMsgpack([]byte(array)); err == nil || n != 0 || event != "" || p.Data != nil {
			t.Errorf("%.40q: %q, %s", array, event, show(p))
		}
	}
}

// TestRefusedPayloads is that what is not what its encoding says is written nowhere.
func TestRefusedPayloads(t *testing.T) {
	for _, p := range []crosscast.Payload{
		list(""), list("\x01"), list("\x81\xa1a\x01"), list("\x91"), list("\x90\x01"), list("\x91\xc1"),
		list("\x91\x81\xc0\x01"), {Encoding: 77}, text("{"), text(""),
	} {
		dst := []byte("before")
		if out, err := args.AppendMsgpack(dst, "e", p); err == nil || string(out) != "before" {
			t.Errorf("%s: AppendMsgpack says %q, %v", show(p), out, err)
		}
		if out, n, err := args.AppendMsgpackValues(dst, p); err == nil || n != 0 || string(out) != "before" {
			t.Errorf("%s: AppendMsgpackValues says %q, %v", show(p), out, err)
		}
		if p.Encoding == crosscast.EncodingJSON {
			continue
		}
		if out, err := args.AppendJSON(dst, "e", p, base64JSON); err == nil || string(out) != "before" {
			t.Errorf("%s: AppendJSON says %q, %v", show(p), out, err)
		}
		if out, err := args.AppendJSONValues(dst, p, base64JSON); err == nil || string(out) != "before" {
			t.Errorf("%s: AppendJSONValues says %q, %v", show(p), out, err)
		}
	}
	for _, p := range []crosscast.Payload{{}, list("\x90")} {
		if out, err := args.AppendJSON(nil, "e", p, nil); err != nil || string(out) != `["e"]` {
			t.Errorf("%s: %s, %v", show(p), out, err)
		}
	}
	if out, err := args.AppendJSONValues(nil, list("\x93\x01\xc4\x01a\xa1b"), args.BufferJSON); err != nil ||
		string(out) != `1,{"type":"Buffer","data":[97]},"b"` {
		t.Errorf("%s, %v", out, err)
	}
}

// TestFromJSON is the normal form of JSON arguments. What looks like a Buffer of Node.js is JSON all the same.
func TestFromJSON(t *testing.T) {
	attachments := [][]byte{{1, 2}, {}}
	const zero, one = `{"_placeholder":true,"num":0}`, `{"num":1,"_placeholder":true}`
	for _, c := range []struct {
		array       string
		attachments [][]byte
		want        crosscast.Payload
	}{
		{`[]`, nil, crosscast.Payload{}},
		{`[]`, attachments, crosscast.Payload{}},
		{`[ {"b":1, "a":1.0} ]`, nil, text(`{"b":1, "a":1.0}`)},
		{`[1,"2",{"a":null}]`, nil, list("\x93\x01\xa12\x81\xa1a\xc0")},
		{`[` + zero + `]`, nil, text(zero)},
		{`[` + zero + `]`, attachments, bin("\x01\x02")},
		{`[` + one + `]`, attachments, bin("")},
		{`["x"]`, attachments, text(`"x"`)},
		{`[{"a":[` + zero + `]}]`, attachments, list("\x91\x81\xa1a\x91\xc4\x02\x01\x02")},
		{`[` + one + `,2,` + zero + `]`, attachments, list("\x93\xc4\x00\x02\xc4\x02\x01\x02")},
		{`[{"type":"Buffer","data":[1,2]}]`, nil, text(`{"type":"Buffer","data":[1,2]}`)},
	} {
		var elements []json.RawMessage
		if err := json.Unmarshal([]byte(c.array), &elements); err != nil {
			t.Fatal(err)
		}
		if p, err := args.FromJSON(elements, c.attachments); err != nil || show(p) != show(c.want) {
			t.Errorf("%s: %s, %v; want %s", c.array, show(p), err, show(c.want))
		}
	}
	for _, elements := range [][]json.RawMessage{
		{[]byte(`{"_placeholder":true,"num":2}`)}, {[]byte(zero), []byte(zero)},
		{[]byte(`1`), []byte(`{"_placeholder":true}`)},
	} {
		if p, err := args.FromJSON(elements, attachments); !errors.Is(err, mpack.ErrAttachment) || p.Data != nil {
			t.Errorf("%s: %s, %v", elements, show(p), err)
		}
	}
}

// FuzzParseMsgpack is that what is read is in normal form, and is read again from what is written of it, in both
// encodings.
func FuzzParseMsgpack(f *testing.F) {
	for _, c := range events {
		f.Add([]byte(c.array))
	}
	f.Fuzz(func(t *testing.T, array []byte) {
		event, p, n, err := args.ParseMsgpack(array)
		if err != nil {
			return
		}
		if n > len(array) || len(p.Data) > 6*n+16 {
			t.Fatalf("%d of %d, and %d bytes", n, len(array), len(p.Data))
		}
		checkNormal(t, p)
		again, err := args.AppendMsgpack(nil, event, p)
		if err != nil {
			t.Fatal(err)
		}
		event2, p2, _, err := args.ParseMsgpack(again)
		if err != nil || event2 != event || p2.Encoding != p.Encoding || p.Encoding != crosscast.EncodingJSON && show(p2) != show(p) {
			t.Fatalf("%q %s, written and read again, is %q %s, %v", event, show(p), event2, show(p2), err)
		}

		var attachments [][]byte
		packet, err := args.AppendJSON(nil, event, p, func(dst, b []byte) []byte {
			attachments = append(attachments, b)
			return fmt.Appendf(dst, `{"_placeholder":true,"num":%d}`, len(attachments)-1)
		})
		if err != nil {
			t.Fatal(err)
		}
		var elements []json.RawMessage
		if err := json.Unmarshal(packet, &elements); err != nil {
			t.Fatalf("%s: %v", packet, err)
		}
		back, err := args.FromJSON(elements[1:], attachments)
		if errors.Is(err, mpack.ErrAttachment) || errors.Is(err, mpack.ErrDepth) {
			return // a map that looks like a placeholder; an unknown extension is a level deeper as JSON
		}
		if err != nil {
			t.Fatal(err)
		}
		checkNormal(t, back)
		if back.Encoding != p.Encoding && p.Encoding != crosscast.EncodingArgs { // whose bytes a key that comes again may hide
			t.Fatalf("%s is %s behind %s", show(p), show(back), packet)
		}
	})
}

func checkNormal(t *testing.T, p crosscast.Payload) {
	t.Helper()
	switch p.Encoding {
	case crosscast.EncodingNone:
		if len(p.Data) > 0 {
			t.Fatal("data of no arguments")
		}
	case crosscast.EncodingJSON:
		if !json.Valid(p.Data) {
			t.Fatalf("no JSON: %q", p.Data)
		}
	case crosscast.EncodingArgs:
		n, hasBytes, err := mpack.Scan(p.Data)
		c := mpack.NewCursor(p.Data)
		count := c.Array()
		if err != nil || n != len(p.Data) || count == 0 || count == 1 && (!hasBytes || c.AtBin()) {
			t.Fatalf("%s is not normal: %v", show(p), err)
		}
	}
}
