package mpack_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/crosscast/crosscast/internal/mpack"
)

// FuzzFromJSON is that a text is taken if it is JSON that is not too deep, and what it becomes means the same.
func FuzzFromJSON(f *testing.F) {
	for _, c := range fromJSON {
		f.Add([]byte(c.text))
	}
	for _, text := range jsonTexts()[:100] {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		value, err := mpack.AppendFromJSON(nil, text)
		if errors.Is(err, mpack.ErrDepth) {
			return
		}
		if valid := json.Valid(text); valid != (err == nil) {
			t.Fatalf("valid: %v, %v", valid, err)
		}
		if err != nil {
			return
		}
		if len(value) > 3*len(text) {
			t.Fatalf("%d bytes of %d", len(value), len(text))
		}
		if n, hasBytes, err := mpack.Scan(value); n != len(value) || hasBytes || err != nil {
			t.Fatalf("Scan says %d of %d, %v, %v", n, len(value), hasBytes, err)
		}
		back, _, err := mpack.AppendJSON(nil, value, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if !utf8.Valid(text) || json.Unmarshal(text, &want) != nil {
			return // encoding/json has more of U+FFFD; a number beyond float64 is null
		}
		if err := json.Unmarshal(back, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("%s is not %s", back, text)
		}
	})
}

// FuzzAppendJSON is that bytes that are taken become JSON, of a bounded length, and that Scan says the same of them.
func FuzzAppendJSON(f *testing.F) {
	for _, c := range toJSON {
		value, _ := hex.DecodeString(c.hex)
		f.Add(value)
	}
	for _, c := range fromJSON {
		value, _ := hex.DecodeString(c.hex)
		f.Add(value)
	}
	f.Add(bytes.Repeat([]byte{0x91}, 2000))
	f.Fuzz(func(t *testing.T, value []byte) {
		taken, used := 0, false
		out, n, err := mpack.AppendJSON([]byte("before"), value, func(dst, b []byte) []byte {
			taken, used = taken+len(b), true
			return append(dst, '0')
		})
		m, hasBytes, err2 := mpack.Scan(value)
		if (err == nil) != (err2 == nil) || n != m || n > len(value) {
			t.Fatalf("AppendJSON says %d, %v; Scan %d, %v", n, err, m, err2)
		}
		text, ok := bytes.CutPrefix(out, []byte("before"))
		if !ok {
			t.Fatalf("dst is %q", out)
		}
		if err != nil {
			if len(text) > 0 {
				t.Fatalf("%q beside %v", text, err)
			}
			return
		}
		if used != hasBytes || taken > n || len(text) > 6*n || !json.Valid(text) {
			t.Fatalf("bytes %v, %v; %d of them, %d bytes of text of %d: %q", used, hasBytes, taken, len(text), n, text)
		}
		c := mpack.NewCursor(value)
		if whole := c.Value(); !bytes.Equal(whole, value[:n]) {
			t.Fatalf("Value says %d, not %d", len(whole), n)
		}
		if _, err := mpack.AppendFromJSON(nil, text); err != nil {
			t.Fatal(err)
		}
	})
}
