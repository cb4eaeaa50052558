package socketio_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

type point struct {
	X int    `json:"x"`
	B []byte `json:"b"`
}

// TestValues: each list of values has its one form, and comes back as it was.
func TestValues(t *testing.T) {
	for _, tt := range []struct {
		values []any
		want   crosscast.Payload
		json   []string // of each
	}{
		{nil, crosscast.Payload{}, nil},
		{[]any{nil}, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte("null")}, []string{"null"}},
		{[]any{"a"}, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`"a"`)}, []string{`"a"`}},
		{[]any{map[string]any{"b": 1}}, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"b":1}`)},
			[]string{`{"b":1}`}},
		{[]any{crosscast.Bytes{1, 255}}, crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: []byte{1, 255}}, []string{`"Af8="`}},
		{[]any{point{7, []byte{1}}}, crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(`{"x":7,"b":"AQ=="}`)},
			[]string{`{"x":7,"b":"AQ=="}`}},
		{[]any{"a", 1}, crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\xa1a\x01")}, []string{`"a"`, `1`}},
		{[]any{"a", nil}, crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x92\xa1a\xc0")},
			[]string{`"a"`, `null`}},
		{[]any{[]any{1, crosscast.Bytes{2}}}, crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: []byte("\x91\x92\x01\xc4\x01\x02")},
			[]string{`[1,"Ag=="]`}},
		{[]any{map[string]any{"z": 1, "b": []any{[]byte{}}}, point{1, nil}, json.RawMessage(`[1.0]`)},
			crosscast.Payload{Encoding: crosscast.EncodingArgs,
				Data: []byte("\x93\x82\xa1b\x91\xc4\x00\xa1z\x01\x82\xa1x\x01\xa1b\xc0\x91\x01")},
			[]string{`{"b":[""],"z":1}`, `{"x":1,"b":null}`, `[1]`}},
	} {
		if got := socketio.Values(tt.values...); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Values(%v) is %q, want %q", tt.values, got, tt.want)
		}
		args, err := socketio.NewArgs(tt.values...)
		if err != nil || args.Len() != len(tt.values) {
			t.Errorf("NewArgs(%v): %d, %v", tt.values, args.Len(), err)
			continue
		}
		for i, want := range tt.json {
			if got, err := args.JSON(i); err != nil || string(got) != want {
				t.Errorf("argument %d of %v is %s, %v", i, tt.values, got, err)
			}
		}
		if got := args.Payload(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("the payload of %v is %q", tt.values, got)
		}
	}
}

func TestDecode(t *testing.T) {
	args, err := socketio.NewArgs("a", crosscast.Bytes{1, 2}, map[string]any{"x": 3, "b": []byte{4}}, 2.5)
	if err != nil {
		t.Fatal(err)
	}
	var s string
	var b []byte
	var p point
	var f float64
	for i, v := range []any{&s, &b, &p, &f} {
		if err := args.Decode(i, v); err != nil {
			t.Errorf("argument %d: %v", i, err)
		}
	}
	if s != "a" || string(b) != "\x01\x02" || p.X != 3 || string(p.B) != "\x04" || f != 2.5 {
		t.Errorf("%q %v %+v %v", s, b, p, f)
	}
	var v any
	if err := args.Decode(1, &v); err != nil || !reflect.DeepEqual(v, []byte{1, 2}) {
		t.Errorf("bytes in an any: %v, %v", v, err)
	}
	if err := args.Decode(1, &s); err != nil || s != base64.StdEncoding.EncodeToString([]byte{1, 2}) {
		t.Errorf("bytes in a string: %q, %v", s, err)
	}
	b[0] = 9
	if again, ok := args.Bytes(1); !ok || again[0] != 1 {
		t.Error("what is decoded is not the caller's own")
	}
	if _, ok := args.Bytes(0); ok {
		t.Error("a string is bytes")
	}
	for _, i := range []int{-1, 4} {
		if err := args.Decode(i, &v); err == nil {
			t.Errorf("argument %d: no error", i)
		}
	}
	if err := args.Decode(0, &f); err == nil {
		t.Error("a string as a number: no error")
	}
}

// TestBadValues: the error of a value that cannot be encoded comes from each function that takes it.
func TestBadValues(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	loop := map[string]any{}
	loop["loop"] = []any{loop, 1}
	for name, v := range map[string]any{
		"a channel": make(chan int), "no JSON": json.RawMessage("{"), "itself": loop,
		"a channel within": []any{[]byte{1}, make(chan int)}, "args within": []any{socketio.Args{}}, "a bare []byte": []byte("{}"),
	} {
		for _, values := range [][]any{{v}, {v, crosscast.Bytes{1}}} {
			if err := n.To("room").Emit(t.Context(), "e", socketio.Values(values...)); err == nil {
				t.Errorf("%s: no error", name)
			}
			if _, err := socketio.NewArgs(values...); err == nil {
				t.Errorf("%s: no error of NewArgs", name)
			}
		}
	}
	deep := any([]byte{1})
	for range 600 {
		deep = []any{deep}
	}
	if _, err := socketio.NewArgs(deep); err == nil {
		t.Error("deep nesting: no error")
	}
	var failed *json.UnsupportedTypeError
	if err := n.Emit(t.Context(), "e", socketio.Values(1, make(chan int))); !errors.As(err, &failed) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// TestRest: the rest of arguments equals a list of only these arguments, whatever their encoding.
func TestRest(t *testing.T) {
	values := []any{"room", 1, crosscast.Bytes{2, 3}, map[string]any{"b": []byte{4}}, "last"}
	for count := range len(values) + 1 {
		all, err := socketio.NewArgs(values[:count]...)
		if err != nil {
			t.Fatal(err)
		}
		for i := -1; i <= count+1; i++ {
			from := min(max(i, 0), count)
			rest := all.Rest(i)
			want := socketio.Values(values[from:count]...)
			if got := rest.Payload(); !reflect.DeepEqual(got, want) || rest.Len() != count-from {
				t.Errorf("of %d from %d on: %d, %q, want %q", count, i, rest.Len(), got, want)
			}
			// With others, and as they are.
			with := slices.Concat([]any{"u1"}, values[from:count], values[:count])
			if got, want := socketio.Values("u1", rest, all), socketio.Values(with...); !reflect.DeepEqual(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if got := socketio.Values(rest); !reflect.DeepEqual(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

func TestBadPayloads(t *testing.T) {
	for _, p := range []crosscast.Payload{
		{Encoding: crosscast.EncodingJSON, Data: []byte("{")},
		{Encoding: crosscast.EncodingArgs, Data: nil},
		{Encoding: crosscast.EncodingArgs, Data: []byte{1}},
		{Encoding: crosscast.EncodingArgs, Data: []byte{0x92, 1}},
		{Encoding: crosscast.EncodingArgs, Data: []byte{0x91, 1, 1}},
		{Encoding: crosscast.EncodingArgs, Data: []byte{0x91, 0xc1}},
		{Encoding: 9, Data: []byte{1}},
	} {
		if a, err := socketio.ArgsOf(p); err == nil || a.Len() != 0 {
			t.Errorf("%+v: %d arguments, %v", p, a.Len(), err)
		}
	}
}
