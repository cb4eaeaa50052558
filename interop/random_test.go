package interop

import (
	"math"
	"math/rand/v2"
	"strings"
)

// randomValue returns a value as a payload may have, nested at most depth deep; with bytes inside where they may be.
func randomValue(r *rand.Rand, depth int, bytes bool) any {
	kinds := 8
	if depth > 0 {
		kinds += 4
	}
	switch r.IntN(kinds) {
	case 0:
		return []any{nil, true, false}[r.IntN(3)]
	case 1:
		return float64(r.Int64N(1<<uint(1+r.IntN(53))) - r.Int64N(1<<uint(1+r.IntN(53))))
	case 2:
		return math.Ldexp(r.NormFloat64(), r.IntN(200)-100)
	case 3:
		for {
			if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
				return f
			}
		}
	case 4, 5:
		return randomText(r)
	case 6, 7:
		if !bytes {
			return randomText(r)
		}
		b := make([]byte, randomLength(r))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	case 8: // as long as short forms have it, and longer
		list := make([]any, 14+r.IntN(4))
		for i := range list {
			list[i] = float64(i)
		}
		return list
	case 9:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomValue(r, depth-1, bytes)
		}
		return list
	default:
		object := map[string]any{}
		for range r.IntN(4) {
			object["k"+randomText(r)] = randomValue(r, depth-1, bytes)
		}
		return object
	}
}

// randomLength is near a limit of msgpack's now and then.
func randomLength(r *rand.Rand) int {
	near := []int{15, 31, 255, 65535} // the greatest lengths of msgpack's forms
	if i := r.IntN(100); i < len(near) {
		return near[i] + r.IntN(3)
	}
	return r.IntN(12)
}

func randomText(r *rand.Rand) string {
	var b strings.Builder
	alphabet := []rune("ab\"\\{}[]#*\x00\x1f\x7fü€\u2028日😀\uffff\U0010ffff")
	for n := randomLength(r); b.Len() < n; {
		b.WriteRune(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}
