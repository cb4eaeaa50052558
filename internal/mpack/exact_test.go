package mpack_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/validjson"
)

// TestExactFromJSON is where the exact conversion differs from the one of JavaScript, and where it does not.
func TestExactFromJSON(t *testing.T) {
	for text, want := range map[string]string{
		`-0`: "cb8000000000000000", `-0.0`: "cb8000000000000000", `0.0`: "00", `1.0`: "01", `1e2`: "64", `-1e2`: "d09c",
		`9007199254740993`: "cf0020000000000001", `18446744073709551615`: "cfffffffffffffffff",
		`-9223372036854775808`: "d38000000000000000", `18446744073709551616`: "cb43f0000000000000", `0.1`: "cb3fb999999999999a",
		`1e-400`: "00", `{"a":1,"a":2}`: "82a16101a16102", `"\ud83d\ude00"`: "a4f09f9880", `"\ufffd"`: "a3efbfbd",
		` [ null , true ] `: "92c0c3",
	} {
		got, err := mpack.AppendExactFromJSON([]byte("x"), []byte(text))
		if err != nil || string(got[:1]) != "x" || hex.EncodeToString(got[1:]) != want {
			t.Errorf("%s is %x, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		`1e400`: mpack.ErrNoCounterpart, `[-1e400]`: mpack.ErrNoCounterpart, `"\ud800"`: mpack.ErrNoCounterpart,
		`{"\udc00x":1}`: mpack.ErrNoCounterpart, `"\ud800\u0041"`: mpack.ErrNoCounterpart,
		strings.Repeat("[", 513) + strings.Repeat("]", 513): mpack.ErrDepth, "\"\xff\"": nil, `{`: nil, ``: nil, `1 2`: nil,
	} {
		got, err := mpack.AppendExactFromJSON([]byte("x"), []byte(text))
		if err == nil || want != nil && !errors.Is(err, want) || string(got) != "x" {
			t.Errorf("%.20s: got %q, %v", text, got, err)
		}
	}
}

// TestExactIsModest is that the walk of hostile bytes allocates nothing but its error.
func TestExactIsModest(t *testing.T) {
	for what, value := range map[string]string{
		"an array": "\xdd\xff\xff\xff\xff", "a map": "\xdf\xff\xff\xff\xff\xa1x", "a string": "\xdb\xff\xff\xff\xff",
		"bytes": "\xc6\xff\xff\xff\xff", "an extension": "\xc9\xff\xff\xff\xff\xff", "nested": strings.Repeat("\xdc\xff\xff", 1000),
		"depth": strings.Repeat("\x91", 6<<20), "maps": strings.Repeat("\x81\xa0", 1<<20), "times": strings.Repeat("\xd6\xff", 1000),
	} {
		b := []byte(value)
		if n := allocated(func() {
			if mpack.Exact(b) == nil {
				t.Errorf("%s was taken", what)
			}
		}); n > 4<<10 {
			t.Errorf("%s: %d bytes", what, n)
		}
	}
}

// FuzzExact is that what the walk takes is safe for everybody behind it: another library decodes it without a panic and
// with memory that the bytes pay for, and it becomes JSON that becomes the same JSON again.
func FuzzExact(f *testing.F) {
	for _, c := range toJSON {
		value, _ := hex.DecodeString(c.hex)
		f.Add(value)
	}
	for _, c := range fromJSON {
		value, _ := hex.DecodeString(c.hex)
		f.Add(value)
	}
	for _, value := range []string{
		"\xdf\xff\xff\xff\xff", "\xdd\x04\x00\x00\x00", "\xc6\xff\xff\xff\xff", strings.Repeat("\xdc\xff\xff", 500),
		strings.Repeat("\x91", 600), "\x81\x91\x01\x02", "\x82\xa1a\x01\xa1a\x02", "\xd6\xff\x00\x00\x00\x01",
		"\xc7\x0c\xff\x3b\x9a\xc9\xff\xff\xff\xff\xf1\x88\x6e\x09\x00", "\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "\xc4\x02ab",
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		base64 := func(dst, b []byte) []byte { return append(append(append(dst, '"'), hex.EncodeToString(b)...), '"') }
		text, err := mpack.AppendExactJSON([]byte("before"), value, base64)
		if (err == nil) != (mpack.Exact(value) == nil) {
			t.Fatalf("AppendExactJSON says %v", err)
		}
		if err != nil {
			if string(text) != "before" {
				t.Fatalf("%q beside %v", text, err)
			}
			return
		}
		text = bytes.TrimPrefix(text, []byte("before"))
		if !validjson.Valid(text) || !utf8.Valid(text) || len(text) > 20*len(value)+40 {
			t.Fatalf("%x is %s", value, text)
		}
		var decoded any
		if n := allocated(func() { err = msgpack.Unmarshal(value, &decoded) }); err != nil || n > 200*uint64(len(value))+16<<10 {
			t.Fatalf("another library allocates %d bytes for %d, %v", n, len(value), err)
		}
		again, err := mpack.AppendExactFromJSON(nil, text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		back, err := mpack.AppendExactJSON(nil, again, base64)
		if err != nil || !bytes.Equal(back, text) {
			t.Fatalf("%s became %s, %v", text, back, err)
		}
		var a any
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatal(err)
		}
	})
}
