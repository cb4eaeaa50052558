package mpack_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
)

// runNode gives what is in as JSON to a script, as the variable "all", and returns the strings that the script's last
// expression is an array of.
func runNode(t *testing.T, in any, script string) (out []string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no node here, which CI needs")
		}
		t.Skip("no node here")
	}
	stdin, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "-e",
		`const all = JSON.parse(require("fs").readFileSync(0)); process.stdout.write(JSON.stringify(`+script+`))`)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), os.Stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(stdout, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// jsonTexts are texts that JSON.parse and JSON.stringify make something of. The keys of objects do not look like
// indices of arrays, whose order is JavaScript's own.
func jsonTexts() []string {
	texts := []string{
		`null`, ` true `, "\t[\r\n]", `{}`, `1e21`, `1e20`, `999999999999999900000`, `5e-324`, `0.1`, `-0`, `-0.0`, `0e5`,
		`9007199254740991`, `9007199254740993`, `1e300`, `123456789012345680000`, `1e-7`, `0.000001`, `0.0000015`, `-1e-7`,
		`1E+2`, `1.50`, `1e400`, `-1e400`, `1e-400`, `100`, `-129`, `4294967296`, `1.7976931348623157e308`,
		`2.2250738585072014e-308`, `4.35`, `1.005`, `0.30000000000000004`, `1e22`, `1.2345e21`,
		`18446744073709552000`, `36893488147419103232`, `""`, `"\u0000\u001f\u007f\u0080"`,
		`"\"\\\/\b\f\n\r\t"`, `"\u2028\u2029"`, "\"\u2028\u2029\"", `"\ud83d\ude00"`, `"é€😀"`, `"<>&"`, `"\uFFFD\ufffe"`,
		`{"__proto__":{"a":1},"constructor":null,"toString":0}`, `{"a":1,"b":2,"a":[3]}`, `{"":{"":{}}}`,
		`{"\u0061":1,"a":2}`, `{"b":[1,{"c":[[],{}]}],"a":"x"}`, `[[1,2],[3,[4,[5]]],{"x":null}]`,
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		texts = append(texts, strconv.FormatFloat(math.Float64frombits(r.Uint64()&^(1<<62)), 'e', -1, 64),
			strconv.FormatFloat(r.NormFloat64()*math.Pow(10, float64(r.IntN(50)-25)), 'g', -1, 64),
			strconv.FormatInt(r.Int64N(1<<54)-1<<53, 10)+"e-"+strconv.Itoa(r.IntN(20)))
	}
	big := []byte("[")
	for i := range 70000 {
		big = strconv.AppendInt(append(big, "{\"k"...), int64(i%7), 10)
		big = append(big, "\":1},"...)
	}
	texts = append(texts, string(append(big, "0]"...)))
	object := []byte("{")
	for i := range 1000 {
		object = strconv.AppendInt(append(object, "\"k"...), int64(i%600), 10)
		object = append(strconv.AppendInt(append(object, "\":"...), int64(i*i), 10), ',')
	}
	return append(texts, string(append(object, "\"end\":0}"...)))
}

// TestJSONAsNode is that a text there and back is what JSON.stringify prints of what JSON.parse reads.
func TestJSONAsNode(t *testing.T) {
	texts := jsonTexts()
	for i, want := range runNode(t, texts, `all.map(s => JSON.stringify(JSON.parse(s)))`) {
		value, err := mpack.AppendFromJSON(nil, []byte(texts[i]))
		if err != nil {
			t.Errorf("%.80s: %v", texts[i], err)
			continue
		}
		got, n, err := mpack.AppendJSON(nil, value, nil)
		if err != nil || n != len(value) || string(got) != want && !isLargeInteger(got, want) {
			t.Errorf("%.80s: %v\n got %.200s\nwant %.200s", texts[i], err, got, want)
		}
	}
}

// isLargeInteger reports whether a, as mpack.AppendJSON prints it, and b, as JSON.stringify does, are the same integer,
// which is beyond those that are exact in JavaScript.
func isLargeInteger(a []byte, b string) bool {
	x, errX := strconv.ParseFloat(string(a), 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y && math.Abs(x) >= 1<<53 && math.Abs(x) < 1<<64
}

// TestNumbersAsNode is that a float is printed as JSON.stringify prints it, and as a key as a property name is.
func TestNumbersAsNode(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	numbers := []uint64{0, 1 << 63}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e21, 1e-7, 1e-6, 5e-324, 1 << 53} {
		numbers = append(numbers, math.Float64bits(f))
	}
	for i := range 20000 {
		f := math.Float64frombits(r.Uint64())
		switch i % 4 {
		case 1:
			f = math.Trunc(r.NormFloat64() * math.Pow(10, float64(r.IntN(25))))
		case 2:
			f = r.NormFloat64() * math.Pow(10, float64(r.IntN(30)-15))
		case 3:
			f = float64(math.Float32frombits(r.Uint32()))
		}
		numbers = append(numbers, math.Float64bits(f))
	}
	in := make([]string, len(numbers))
	for i, n := range numbers {
		in[i] = strconv.FormatUint(n, 16)
	}
	const script = `all.map(s => {
		const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt("0x"+s));
		const f = b.readDoubleBE(0); return JSON.stringify(f)+JSON.stringify({[f]:f});
	})`
	for i, want := range runNode(t, in, script) {
		value := binary.BigEndian.AppendUint64([]byte{0xcb}, numbers[i])
		got, _, err := mpack.AppendJSON(nil, value, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err = mpack.AppendJSON(got, slices.Concat([]byte{0x81}, value, value), nil)
		if err != nil || string(got) != want {
			t.Errorf("%x: %v\n got %s\nwant %s", numbers[i], err, got, want)
		}
	}
}

// TestStringsAsNode is that any bytes are the string that Node.js makes of them.
func TestStringsAsNode(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const some = "\x00\x1fa\"\\\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc2\xdf\xe0\xe1\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"
	in := make([][]byte, 20000)
	for i := range in {
		for range r.IntN(8) {
			in[i] = append(in[i], some[r.IntN(len(some))])
		}
	}
	for i, want := range runNode(t, in, `all.map(s => JSON.stringify(Buffer.from(s ?? "", "base64").toString()))`) {
		got, _, err := mpack.AppendJSON(nil, mpack.AppendStr(nil, in[i]), nil)
		if err != nil || string(got) != want {
			t.Errorf("%x: %v\n got %s\nwant %s", in[i], err, got, want)
		}
	}
}

// TestTimesAsNode is that a time is printed as toISOString does.
func TestTimesAsNode(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	in := []float64{
		0, -1, 8.64e15, -8.64e15, 8.64e15 + 1, 253402300799999, 253402300800000, -62167219200000, -62167219200001,
	}
	for range 5000 {
		in = append(in, math.Trunc((r.Float64()-0.5)*math.Pow(10, float64(r.IntN(17)))))
	}
	for i, want := range runNode(t, in, `all.map(ms => JSON.stringify(new Date(ms)))`) {
		value := binary.BigEndian.AppendUint64([]byte{0xd7, 0}, uint64(int64(in[i])))
		if got, _, err := mpack.AppendJSON(nil, value, nil); err != nil || string(got) != want {
			t.Errorf("%v: %v\n got %s\nwant %s", in[i], err, got, want)
		}
	}
}
