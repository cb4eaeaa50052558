package mpack_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
)

// fromJSON is what notepack 3.0.1 writes for what JSON.parse reads.
var fromJSON = []struct{ text, hex string }{
	{`null`, "c0"},
	{`true`, "c3"},
	{` [ false ] `, "91c2"},
	{`0`, "00"},
	{`-0`, "00"},
	{`1.0`, "01"},
	{`1e2`, "64"},
	{`127`, "7f"},
	{`128`, "cc80"},
	{`255`, "ccff"},
	{`256`, "cd0100"},
	{`65535`, "cdffff"},
	{`65536`, "ce00010000"},
	{`4294967295`, "ceffffffff"},
	{`4294967296`, "cf0000000100000000"},
	{`9007199254740991`, "cf001fffffffffffff"},
	{`-1`, "ff"},
	{`-32`, "e0"},
	{`-33`, "d0df"},
	{`-128`, "d080"},
	{`-129`, "d1ff7f"},
	{`-32768`, "d18000"},
	{`-32769`, "d2ffff7fff"},
	{`-2147483648`, "d280000000"},
	{`-2147483649`, "d3ffffffff7fffffff"},
	{`-9007199254740991`, "d3ffe0000000000001"},
	{`0.1`, "cb3fb999999999999a"},
	{`-1.5`, "cbbff8000000000000"},
	{`5e-324`, "cb0000000000000001"},
	{`1e-400`, "00"},
	{`1e400`, "cb7ff0000000000000"},
	{`-1e400`, "cbfff0000000000000"},
	{`1e15`, "cf00038d7ea4c68000"},
	{`9223372036854775808`, "cf8000000000000000"},
	{`1.8446744073709550e19`, "cffffffffffffff800"},
	{`""`, "a0"},
	{`"a\u0000\n\"\\\/"`, "a661000a225c2f"},
	{`"\u00e9\u20ac\ud83d\ude00"`, "a9c3a9e282acf09f9880"},
	{`"é€😀"`, "a9c3a9e282acf09f9880"},
	{`"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"`, "bf78787878787878787878787878787878787878787878787878787878787878"},
	{`"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"`, "d9207878787878787878787878787878787878787878787878787878787878787878"},
	{`"éééééééééééééééé"`, "d920c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9c3a9"},
	{`"\u00e9xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"`, "bfc3a97878787878787878787878787878787878787878787878787878787878"},
	{`"\u00e9xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"`, "d920c3a9787878787878787878787878787878787878787878787878787878787878"},
	{`[]`, "90"},
	{`{}`, "80"},
	{`[[],{}]`, "929080"},
	{`[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14]`, "9f000102030405060708090a0b0c0d0e"},
	{`[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]`, "dc0010000102030405060708090a0b0c0d0e0f"},
	{`{"a":1,"b":[2,{"c":null}],"d":"e"}`, "83a16101a162920281a163c0a164a165"},
	{`{"__proto__":1,"constructor":2}`, "82a95f5f70726f746f5f5f01ab636f6e7374727563746f7202"},
	{`{"a":1,"b":2,"a":"longer than before"}`, "82a161b26c6f6e676572207468616e206265666f7265a16202"},
	{`{"a":"longer than after","b":2,"a":1}`, "82a16101a16202"},
	{`{"":0}`, "81a000"},
	{`{"k\u0065y":1,"key":2}`, "81a36b657902"},
	{`{"a":0,"b":1,"c":2,"d":3,"e":4,"f":5,"g":6,"h":7,"i":8,"j":9,"k":10,"l":11,"m":12,"n":13,"o":14}`,
		"8fa16100a16201a16302a16403a16504a16605a16706a16807a16908a16a09a16b0aa16c0ba16d0ca16e0da16f0e"},
	{`{"a":0,"b":1,"c":2,"d":3,"e":4,"f":5,"g":6,"h":7,"i":8,"j":9,"k":10,"l":11,"m":12,"n":13,"o":14,"p":15,"a":16}`,
		"de0010a16110a16201a16302a16403a16504a16605a16706a16807a16908a16a09a16b0aa16c0ba16d0ca16e0da16f0ea1700f"},

	// Exact, where JavaScript's numbers are not, and where notepack writes what is no number's.
	{`9007199254740993`, "cf0020000000000001"},
	{`-9007199254740993`, "d3ffdfffffffffffff"},
	{`18446744073709551615`, "cfffffffffffffffff"},
	{`-9223372036854775808`, "d38000000000000000"},
	{`18446744073709551616`, "cb43f0000000000000"},
	{`-9223372036854775809`, "d38000000000000000"},
	{`-1e19`, "cbc3e158e460913d00"},
	{`123456789012345680000`, "cb441ac53a7e04bcda"},
	{`1.7976931348623157e308`, "cb7fefffffffffffff"},
	{"\"\\ud800\"", "a3efbfbd"},
	{"\"\\ud800x\"", "a4efbfbd78"},
	{"\"\\udc00\\ud83d\\ude00\"", "a7efbfbdf09f9880"},
	{"\"\\ud83d\\ud83d\\uDE00\"", "a7efbfbdf09f9880"},
	{"\"\xe2\x82(\"", "a4efbfbd28"},
}

func TestFromJSON(t *testing.T) {
	for _, c := range fromJSON {
		before := []byte("before")
		got, err := mpack.AppendFromJSON(before, []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if rest, ok := bytes.CutPrefix(got, before); !ok || hex.EncodeToString(rest) != c.hex {
			t.Errorf("%s\n got %x\nwant %s", c.text, rest, c.hex)
		}
	}
}

func TestFromJSONRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", "x", "nul", "nulll", "null null", "tru", "falsey", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1",
		"NaN", "Infinity", "1 2", "\u00a0null", "\ufeffnull",
		`"`, `"\"`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", "\"\x00\"", `'a'`,
		"[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "]", "{]", "[}",
		"{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{1:1}`, `{"a" 1}`, `{"a":1 "b":2}`,
	} {
		dst := []byte("before")
		if got, err := mpack.AppendFromJSON(dst, []byte(text)); err == nil || string(got) != "before" {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func base64JSON(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// toJSON is what JSON.stringify prints of what notepack 3.0.1 reads, with bytes in base64.
var toJSON = []struct{ hex, text string }{
	{"c0", `null`},
	{"c2", `false`},
	{"00", `0`},
	{"e0", `-32`},
	{"ff", `-1`},
	{"cc80", `128`},
	{"cdffff", `65535`},
	{"ceffffffff", `4294967295`},
	{"cf001fffffffffffff", `9007199254740991`},
	{"d080", `-128`},
	{"d18000", `-32768`},
	{"d280000000", `-2147483648`},
	{"d07f", `127`},
	{"d300000000000000ff", `255`},
	{"ca3f800000", `1`},
	{"ca3dcccccd", `0.10000000149011612`},
	{"ca7fc00000", `null`},
	{"cb7ff0000000000000", `null`},
	{"cbfff0000000000000", `null`},
	{"cb8000000000000000", `0`},
	{"cb3fb999999999999a", `0.1`},
	{"cb4415af1d78b58c40", `100000000000000000000`},
	{"cb444b1ae4d6e2ef50", `1e+21`},
	{"cb0000000000000001", `5e-324`},
	{"cb3e7ad7f29abcaf48", `1e-7`},
	{"cb3eb0c6f7a0b5ed8d", `0.000001`},
	{"cb43f0000000000000", `18446744073709552000`},
	{"a161", `"a"`},
	{"a3226c5c", `"\"l\\"`},
	{"a3e280a8", `" "`},
	{"a5010a1f7f08", `"\u0001\n\u001f` + "\x7f" + `\b"`},
	{"a2c328", "\"\ufffd(\""},
	{"a3e282ff", "\"\ufffd\ufffd\""},
	{"a3eda080", "\"\ufffd\ufffd\ufffd\""},
	{"a4f0908080", `"𐀀"`},
	{"d90161", `"a"`},
	{"da000161", `"a"`},
	{"db0000000161", `"a"`},
	{"d6ff6552b1c0", `"2023-11-13T23:31:12.000Z"`},
	{"d7ff2ced3000655b1c01", `"2023-11-20T08:42:41.188Z"`},
	{"d7ff0000000300000000", `"2378-04-22T19:24:48.000Z"`},
	{"c70cff3b9ac9ffffffffffffffffff", `"1970-01-01T00:00:00.000Z"`},
	{"c70cff00000000000007dc00000000", `null`},
	{"c70cff00000000fffffffefffffff0", `"1833-11-24T17:31:28.000Z"`},
	{"c70cff00000000fffffff1886e0900", `"0001-01-01T00:00:00.000Z"`},
	{"c70cff0000000000007dba8218ba00", `null`},
	{"d700ffffffffffffffff", `"1969-12-31T23:59:59.999Z"`},
	{"d7000000018bcfe56800", `"2023-11-14T22:13:20.000Z"`},
	{"d7007fffffffffffffff", `null`},
	{"c70cff00000000fffffff1886e08ff", `"0000-12-31T23:59:59.000Z"`},
	{"d700ffdf0f1d96bb7fff", `null`},
	{"d700001eb208c2dc0000", `"+275760-09-13T00:00:00.000Z"`},
	{"d700001eb208c2dc0001", `null`},
	{"d700ffe14df73d240000", `"-271821-04-20T00:00:00.000Z"`},
	{"d700ffe14df73d23ffff", `null`},
	{"92d4000001", `[null,1]`},
	{"81a161d40000", `{}`},
	{"82a161d40000a16201", `{"b":1}`},
	{"c4020102", `"AQI="`},
	{"c7020001ff", `"Af8="`},
	{"c8000100ff", `"/w=="`},
	{"c9000000010007", `"Bw=="`},
	{"d401ff", `[1,"/w=="]`},
	{"d502ffff", `[2,"//8="]`},
	{"d600ffffffff", `[0,"/////w=="]`},
	{"d8000102030405060708090a0b0c0d0e0f10", `[0,"AQIDBAUGBwgJCgsMDQ4PEA=="]`},
	{"c7030a010203", `[10,"AQID"]`},
	{"8101a162", `{"1":"b"}`},
	{"81cb3ff8000000000000c0", `{"1.5":null}`},
	{"81ffa162", `{"-1":"b"}`},
	{"82cc80c0a161c0", `{"128":null,"a":null}`},
	{"81cb7ff8000000000000c0", `{"NaN":null}`},
	{"81cbfff0000000000000c0", `{"-Infinity":null}`},
	{"8141c3", `{"65":true}`},
	{"81cb444b1ae4d6e2ef5001", `{"1e+21":1}`},
	{"93010203", `[1,2,3]`},
	{"dc000101", `[1]`},
	{"dd0000000101", `[1]`},
	{"de0001a16101", `{"a":1}`},
	{"df00000001a16101", `{"a":1}`},

	// A time is one in whatever form. Integers are exact, and undefined alone is null.
	{"cf0020000000000001", `9007199254740993`},
	{"cfffffffffffffffff", `18446744073709551615`},
	{"d38000000000000000", `-9223372036854775808`},
	{"d3ffdfffffffffffff", `-9007199254740993`},
	{"d40005", `null`},
	{"c8000cff000000000000000000000000", `"1970-01-01T00:00:00.000Z"`},
	{"82a161c0a16101", `{"a":null,"a":1}`},
	{"81a95f5f70726f746f5f5f80", `{"__proto__":{}}`},
}

func TestToJSON(t *testing.T) {
	for _, c := range toJSON {
		value, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		got, n, err := mpack.AppendJSON([]byte("before"), append(value, "behind"...), base64JSON)
		if err != nil {
			t.Errorf("%s: %v", c.hex, err)
			continue
		}
		if rest, ok := strings.CutPrefix(string(got), "before"); !ok || rest != c.text || n != len(value) {
			t.Errorf("%s: length %d\n got %s\nwant %s", c.hex, n, rest, c.text)
		}
		if n, _, err := mpack.Scan(append(value, "behind"...)); err != nil || n != len(value) {
			t.Errorf("%s: Scan says %d, %v", c.hex, n, err)
		}
	}
}

func TestScanFindsBytes(t *testing.T) {
	for text, want := range map[string]bool{
		"c40101": true, "c400": true, "9101": false, "9200c40101": true, "81a16192c0c50000": true, "a161": false,
		"c7020001ff": true, "c70800ffffffffffffffff": true, "c80000ff": true, "d40000": false, "d401ff": true,
		"d502ffff": true, "d6ff00000000": false, "d7ff0000000000000000": false, "d7000000000000000000": false,
		"d600ffffffff": true, "c70cff000000000000000000000000": false, "92c4010190": true,
	} {
		value, _ := hex.DecodeString(text)
		used := false
		_, _, err := mpack.AppendJSON(nil, value, func(dst, b []byte) []byte {
			used = true
			return base64JSON(dst, b)
		})
		n, got, err2 := mpack.Scan(value)
		if err != nil || err2 != nil || n != len(value) || got != want || used != want {
			t.Errorf("%s: Scan says %v (%v), AppendJSON %v (%v)", text, got, err2, used, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, text := range []string{
		"", "c1", "cc", "cd00", "ce000000", "cf00000000000000", "ca000000", "cb00000000000000", "92c0c1",
		"a2c0", "d902c0", "da0002c0", "dbffffffff", "c402c0", "c60000000200", "91", "dc000201", "ddffffffff01",
		"81a161", "8101", "dfffffffffa16101", "de0002a161c0", "81c0c0", "81c2c0", "8190c0", "8180c0", "81c401ffc0",
		"81d40000c0", "d4", "d400", "d8000000", "c7", "c70c", "c70cff00", "c90000000200ff",
	} {
		value, _ := hex.DecodeString(text)
		out, n, err := mpack.AppendJSON([]byte("before"), value, base64JSON)
		if !errors.Is(err, mpack.ErrMalformed) || n != 0 || string(out) != "before" {
			t.Errorf("%s: AppendJSON says %q, %d, %v", text, out, n, err)
		}
		if n, _, err := mpack.Scan(value); !errors.Is(err, mpack.ErrMalformed) || n != 0 {
			t.Errorf("%s: Scan says %d, %v", text, n, err)
		}
	}
}

// TestDepth is that every way in takes what is MaxDepth deep, and refuses what is deeper.
func TestDepth(t *testing.T) {
	for _, c := range []struct{ jsonOpen, jsonEnd, open string }{{"[", "]", "\x91"}, {`{"a":`, "}", "\x81\xa1a"}} {
		for _, depth := range []int{mpack.MaxDepth, mpack.MaxDepth + 1, 100_000} {
			text := strings.Repeat(c.jsonOpen, depth) + "0" + strings.Repeat(c.jsonEnd, depth)
			value := strings.Repeat(c.open, depth) + "\x00"
			got, err := mpack.AppendFromJSON(nil, []byte(text))
			out, _, err2 := mpack.AppendJSON(nil, []byte(value), base64JSON)
			_, _, err3 := mpack.Scan([]byte(value))
			if depth > mpack.MaxDepth {
				for _, err := range []error{err, err2, err3} {
					if !errors.Is(err, mpack.ErrDepth) {
						t.Errorf("depth %d: %v", depth, err)
					}
				}
			} else if err != nil || err2 != nil || err3 != nil || string(got) != value || string(out) != text {
				t.Errorf("depth %d: %v, %v, %v", depth, err, err2, err3)
			}
		}
	}
}

func TestAttachments(t *testing.T) {
	attachments := [][]byte{{1}, {}, {2, 3}}
	for _, c := range []struct {
		texts []string
		hex   string
	}{
		{nil, "90"},
		{[]string{`{"_placeholder":true,"num":0}`}, "91c40101"},
		{[]string{`[{"num":2,"x":[1],"_placeholder":true},{"a":{"_placeholder":true,"num":0.0}}]`, "1"},
			"9292c402020381a161c4010101"},
		{[]string{`{"_placeholder":true,"num":1}`, `{"_placeholder":false,"num":7}`, `[{"_placeholder":1}]`, `{"num":0}`},
			"94c40082ac5f706c616365686f6c646572c2a36e756d079181ac5f706c616365686f6c6465720181a36e756d00"},
		{[]string{`{"_placeholder":true,"num":9,"num":0}`}, "91c40101"},
	} {
		got, err := mpack.AppendArrayFromJSON([]byte("before"), raw(c.texts), attachments)
		if rest, _ := bytes.CutPrefix(got, []byte("before")); err != nil || hex.EncodeToString(rest) != c.hex {
			t.Errorf("%s: %v\n got %x\nwant %s", c.texts, err, rest, c.hex)
		}
	}
	for _, text := range []string{
		`{"_placeholder":true}`, `{"_placeholder":true,"num":3}`, `{"_placeholder":true,"num":-1}`,
		`{"_placeholder":true,"num":0.5}`, `{"_placeholder":true,"num":"0"}`, `{"_placeholder":true,"num":1e300}`,
		`[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`,
	} {
		got, err := mpack.AppendArrayFromJSON([]byte("x"), raw([]string{text}), attachments)
		if !errors.Is(err, mpack.ErrAttachment) || string(got) != "x" {
			t.Errorf("%s: %x, %v", text, got, err)
		}
	}
	twice := raw([]string{`{"_placeholder":true,"num":0}`, `{"_placeholder":true,"num":0}`})
	if got, err := mpack.AppendArrayFromJSON(nil, twice, attachments); !errors.Is(err, mpack.ErrAttachment) {
		t.Errorf("two for one attachment: %x, %v", got, err)
	}
	if got, err := mpack.AppendArrayFromJSON(nil, twice, nil); err != nil || got[1] != 0x82 {
		t.Errorf("without attachments a placeholder is an object as any other: %x, %v", got, err)
	}
}

func raw(texts []string) (all []json.RawMessage) {
	for _, s := range texts {
		all = append(all, json.RawMessage(s))
	}
	return all
}

// TestArrayFromJSONRefuses is that each value is a text of its own, and that the array counts for the depth.
func TestArrayFromJSONRefuses(t *testing.T) {
	deep := strings.Repeat("[", mpack.MaxDepth-1) + strings.Repeat("]", mpack.MaxDepth-1)
	if _, err := mpack.AppendArrayFromJSON(nil, raw([]string{"1", deep}), nil); err != nil {
		t.Error(err)
	}
	for _, texts := range [][]string{{"1", ""}, {"1,2"}, {"[1", "2]"}, {"1", "x", "2"}, {"1", "[" + deep + "]"}} {
		if got, err := mpack.AppendArrayFromJSON([]byte("x"), raw(texts), nil); err == nil || string(got) != "x" {
			t.Errorf("%.40q: %x, %v", texts, got, err)
		}
	}
}
