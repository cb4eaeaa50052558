package mpack_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
)

// TestCursor is that a cursor takes what was appended, value by value, and says what follows.
func TestCursor(t *testing.T) {
	buf := mpack.AppendStr(nil, "name")
	buf = mpack.AppendBin(buf, []byte{1, 2})
	buf = mpack.AppendArrayLen(buf, 2)
	buf = mpack.AppendBool(append(buf, mpack.Nil), true)
	buf = mpack.AppendMapLen(buf, 1)
	buf = mpack.AppendNumber(mpack.AppendInt(buf, -7), 0.5)
	buf = append(buf, 0xc7, 2, 0, 8, 9) // an ArrayBuffer
	buf = append(buf, 0xd5, 5, 8, 9)
	buf = mpack.AppendUint(buf, 300)

	c := mpack.NewCursor(buf)
	check := func(what string, ok bool) {
		t.Helper()
		if !ok || c.Bad() {
			t.Fatalf("%s, at byte %d", what, c.Pos())
		}
	}
	check("string", c.AtStr() && !c.AtBin() && string(c.Str()) == "name")
	check("bytes", c.AtBin() && !c.AtStr() && bytes.Equal(c.Bin(), []byte{1, 2}))
	check("array", c.AtArray() && !c.AtMap() && c.Array() == 2)
	check("nil", !c.AtNumber() && c.IsNil() && !c.IsNil())
	check("true", c.Bool())
	check("map", c.AtMap() && !c.AtArray() && c.Map() == 1)
	check("number", c.AtNumber() && bytes.Equal(c.Value(), []byte{0xf9}))
	check("float", c.AtNumber() && len(c.Value()) == 9)
	b, ok := c.Buffer()
	check("ArrayBuffer", ok && bytes.Equal(b, []byte{8, 9}))
	_, ok = c.Buffer()
	kind, b := c.Ext()
	check("extension", !ok && kind == 5 && bytes.Equal(b, []byte{8, 9}))
	check("unsigned", c.Uint() == 300 && c.Left() == 0 && c.Pos() == len(buf))
	if c.Value(); !c.Bad() || c.At() != len(buf) || c.AtStr() || c.AtNumber() {
		t.Fatal("nothing follows the end")
	}
}

// TestLengths is that the number of elements is in the shortest form, at each limit of one.
func TestLengths(t *testing.T) {
	for n, size := range map[int]int{0: 1, 15: 1, 16: 3, math.MaxUint16: 3, math.MaxUint16 + 1: 5} {
		array, pairs := mpack.AppendArrayLen(nil, n), mpack.AppendMapLen(nil, n)
		if len(array) != size || len(pairs) != size {
			t.Errorf("%d elements: %x, %x", n, array, pairs)
		}
		c := mpack.NewCursor(append(array, make([]byte, n)...))
		if got := c.Array(); got != n || c.Bad() {
			t.Errorf("array of %d, want %d", got, n)
		}
		c = mpack.NewCursor(append(pairs, make([]byte, 2*n)...))
		if got := c.Map(); got != n || c.Bad() {
			t.Errorf("map of %d, want %d", got, n)
		}
		if n > 0 {
			c = mpack.NewCursor(append(mpack.AppendMapLen(nil, n), make([]byte, 2*n-1)...))
			if c.Map(); !c.Bad() {
				t.Errorf("a map of %d pairs has an odd number of bytes", n)
			}
		}
	}
}
