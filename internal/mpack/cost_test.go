package mpack_test

import (
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestCost is that what is converted allocates a small multiple of its length, whatever it is.
func TestCost(t *testing.T) {
	nested := func(open, inside, end string) string {
		return strings.Repeat(open, mpack.MaxDepth) + inside + strings.Repeat(end, mpack.MaxDepth)
	}
	long := `"` + strings.Repeat("x", 1<<20) + `"`
	var keys strings.Builder
	for i := range 1 << 16 {
		keys.WriteString(`"` + hex.EncodeToString([]byte{byte(i >> 8), byte(i)}) + `":0,`)
	}
	for what, text := range map[string]string{
		"keys that come again, nested": nested(`{"a":1,"a":`, long, `}`),
		"a key that comes again":       `{"a":` + long + strings.Repeat(`,"a":1`, 1<<16) + `}`,
		"different keys":               `{` + keys.String() + `"":0}`,
		"different keys, twice":        `{` + keys.String() + keys.String() + `"":0}`,
		"long arrays, nested":          nested(`[`+strings.Repeat("1,", 16), long, `]`),
		"floats":                       `[` + strings.Repeat("1.5,", 1<<18) + `1.5]`,
		"digits":                       strings.Repeat("1", 1<<20),
		"escapes":                      `"` + strings.Repeat(`\n`, 1<<19) + `"`,
		"no UTF-8":                     `"` + strings.Repeat("\xff", 1<<20) + `"`,
		"members cut off":              `{` + keys.String(),
	} {
		n := allocated(func() { _, _ = mpack.AppendFromJSON(nil, []byte(text)) })
		if factor := float64(n) / float64(len(text)); factor > 32 {
			t.Errorf("%s: %.1f times %d bytes", what, factor, len(text))
		}
	}
	for what, value := range map[string]string{
		"length of an array": "\xdd\xff\xff\xff\xff", "length of a map": "\xdf\xff\xff\xff\xff\xa1x",
		"length of a string": "\xdb\xff\xff\xff\xff", "length of bytes": "\xc6\xff\xff\xff\xff",
		"length of an extension": "\xc9\xff\xff\xff\xff\x01", "nested arrays": strings.Repeat("\xdd\x00\x00\x00\x02", 1000),
		"depth": strings.Repeat("\x91", 1<<20),
	} {
		n := allocated(func() {
			_, _, _ = mpack.AppendJSON(nil, []byte(value), base64JSON)
			_, _, _ = mpack.Scan([]byte(value))
		})
		if limit := 8*uint64(len(value)) + 4<<10; n > limit {
			t.Errorf("%s: %d bytes for %d", what, n, len(value))
		}
	}
}
