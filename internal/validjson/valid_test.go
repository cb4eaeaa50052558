package validjson

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

var texts = []string{
	``, ` `, `{}`, `[]`, `{`, `[`, `{}}`, `[]]`, `{]`, `[}`, `[,]`, `[1,]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`,
	` { "a" : [ 1 , { "b" : null } ] } `, `{"a":{"b":[[],{}]},"c":[]}`, `{1:2}`, `[1 2]`, `[{]}`, `[{}`, `1 2`, "\x00",
	`true`, `false`, `null`, `tru`, `nul`, `falsey`, `True`, `"`, `"a`, `"a"`, `"\`, `"\"`, `"\""`, `"\x"`, `"\u12"`, `"\u12aF"`,
	`"\u12g4"`, `"\ud800"`, `"\/\b\f\n\r\t\\"`, "\"\n\"", "\"\t\"", "\"\x7f\"", `"é"`, `"日本"`, `"😀"`,
	"\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xc0\xaf\"", "\"\xf4\x90\x80\x80\"", "{\"\xff\":1}", "\"a\\n\xff\"", "\xff", "1\xff",
	"\ufeff1", `0`, `-0`, `-`, `01`, `1.`, `1.5`, `.5`, `1e`, `1e5`, `1E+5`, `1e-`, `-1.5e-10`, `+1`, `1a`, `--1`, `0x1`, `1e5.5`, `NaN`,
	"\u00a01", "1\v", "[1,\r\n\t2]",
	strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65),
	strings.Repeat(`{"a":[`, 32) + strings.Repeat("]}", 32), strings.Repeat(`{"a":[`, 33) + strings.Repeat("]}", 33),
	strings.Repeat("[", 65) + "\"\xff\"" + strings.Repeat("]", 65), strings.Repeat("[", 64) + strings.Repeat("]", 63),
	strings.Repeat("[", 10001) + strings.Repeat("]", 10001),
}

func FuzzValid(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := Valid(text), json.Valid(text) && utf8.Valid(text); got != want {
			t.Errorf("%.100q: got %v, want %v", text, got, want)
		}
	})
}

// Strings are read eight bytes at a time, and long ones 32. What matters is found at every place, with anything behind it.
func TestPlacesInStrings(t *testing.T) {
	for _, what := range []string{
		`"`, `\"`, `\\`, `\u00e9`, `\x`, "\x00", "\x1f", " ", "\x7f", "é", "日", "😀", "\x80", "\xff", "\xc3", "\xc3(", "\xe0\x80\x80",
		"\xe0\xa0", "\xed\xa0\x80", "\xf0\x8f\x80\x80", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "!", "#", "[", "]", "éé\xff", "日\"",
	} {
		for before := range 75 {
			for behind := range 18 {
				for _, fill := range []string{"a", "\"", "!", "\x7f", "é"} {
					text := []byte(`"` + strings.Repeat("a", before) + what + strings.Repeat(fill, behind) + `"`)
					if got, want := Valid(text), json.Valid(text) && utf8.Valid(text); got != want {
						t.Errorf("%q: got %v, want %v", text, got, want)
					}
				}
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	text := []byte(strings.Repeat(`[{"a":`, 32) + `"é"` + strings.Repeat("}]", 32))
	if n := testing.AllocsPerRun(100, func() { Valid(text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkValid(b *testing.B) {
	small := []byte(`{"text":"hello, how are you?","from":"u123","at":1700000000,"tags":["a","b"]}`)
	large, _ := json.Marshal(strings.Repeat("héllo wörld ", 1000))
	long, _ := json.Marshal(strings.Repeat("hello world ", 20_000))
	for name, text := range map[string][]byte{"small": small, "rows": bytes.Join([][]byte{
		[]byte("["), bytes.Repeat(append(small, ','), 200), []byte("1]")}, nil), "text": large, "long": long, "message": []byte(`{"text":"` + strings.Repeat("hello ", 19) + `"}`)} {
		for how, valid := range map[string]func([]byte) bool{
			"here": Valid, "encoding_json": func(b []byte) bool { return json.Valid(b) && utf8.Valid(b) },
		} {
			b.Run(name+"/"+how, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if !valid(text) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}
