// Package validjson checks JSON that goes to clients as it is: its syntax, and that it is UTF-8, without which a
// websocket client fails its connection. encoding/json's Valid takes any bytes in strings, and is several times slower,
// which shows where a node checks each message that arrives.
package validjson

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf8"
)

// maxDepth is how deep values are nested that are checked here: a bit says whether a level is an object.
const maxDepth = 64

// Valid reports whether text is one JSON value, as encoding/json takes it, in UTF-8. It allocates nothing unless
// values are nested deeper than 64.
func Valid(text []byte) bool {
	var (
		i       int
		depth   int
		objects uint64 // bit 0 is the innermost level
	)
value:
	if i = space(text, i); i == len(text) {
		return false
	}
	switch c := text[i]; c {
	case '"':
		i = str(text, i+1)
	case '{', '[':
		if depth++; depth > maxDepth {
			return json.Valid(text) && utf8.Valid(text)
		}
		objects <<= 1
		i = space(text, i+1)
		if c == '{' {
			objects |= 1
			if i < len(text) && text[i] != '}' {
				goto key
			}
		} else if i < len(text) && text[i] != ']' {
			goto value
		}
		goto next // its end, or that of text
	case 't':
		i = word(text, i, "true")
	case 'f':
		i = word(text, i, "false")
	case 'n':
		i = word(text, i, "null")
	default:
		i = number(text, i)
	}
	if i < 0 {
		return false
	}
next: // behind a value, or at the end of an empty object or array
	i = space(text, i)
	if depth == 0 {
		return i == len(text)
	}
	if i == len(text) {
		return false
	}
	switch c, object := text[i], objects&1 != 0; {
	case c == ',' && object:
		i = space(text, i+1)
		goto key
	case c == ',':
		i++
		goto value
	case c == '}' && object, c == ']' && !object:
		i++
		depth--
		objects >>= 1
		goto next
	}
	return false
key:
	if i == len(text) || text[i] != '"' {
		return false
	}
	if i = str(text, i+1); i < 0 {
		return false
	}
	if i = space(text, i); i == len(text) || text[i] != ':' {
		return false
	}
	i++
	goto value
}

// space returns where something else than white space follows.
func space(text []byte, i int) int {
	if i < len(text) && text[i] > ' ' { // nearly always; inlined
		return i
	}
	return spaces(text, i)
}

func spaces(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// Eight bytes at a time: the highest bit of each byte, and one in each byte.
const (
	tops = 0x8080808080808080
	ones = 0x0101010101010101
)

// marks marks bytes that mean something in a string. The lowest top bit of a byte in it is that of the first byte of w that
// is a quote, a backslash, below ' ' or not ASCII. Higher ones may be wrong, because a subtraction borrows.
func marks(w uint64) uint64 {
	low := (w ^ 2*ones) - ('"'-1)*ones // of a quote, which is ' ' + 2, and of what is below ' '
	return w | low | ((w ^ '\\'*ones) - ones)
}

// longFrom is the number of plain bytes after which a string counts as long.
const longFrom = 32

// skip returns a place, at or behind i, up to which no byte is marked. It looks at 32 bytes at a time.
func skip(text []byte, i int) int {
	for len(text)-i >= 32 {
		b := text[i : i+32]
		m := marks(binary.LittleEndian.Uint64(b)) | marks(binary.LittleEndian.Uint64(b[8:])) |
			marks(binary.LittleEndian.Uint64(b[16:])) | marks(binary.LittleEndian.Uint64(b[24:]))
		if m&tops != 0 {
			break
		}
		i += 32
	}
	return i
}

// str returns where the string ends whose first byte behind the quote is at i; -1: nowhere.
func str(text []byte, i int) int {
	from := i
next:
	for {
		for len(text)-i >= 8 {
			m := marks(binary.LittleEndian.Uint64(text[i:])) & tops
			if m == 0 {
				if i += 8; i-from >= longFrom {
					i = skip(text, i)
					from = i
				}
				continue
			}
			if i += bits.TrailingZeros64(m) / 8; text[i] == '"' {
				return i + 1
			}
			if i = special(text, i); i < 0 {
				return -1
			}
		}
		for i < len(text) { // near its end
			switch c := text[i]; {
			case c == '"':
				return i + 1
			case c < ' ', c == '\\', c >= utf8.RuneSelf:
				if i = special(text, i); i < 0 {
					return -1
				}
				continue next
			}
			i++
		}
		return -1
	}
}

// special returns where what begins at i ends, within a string: an escape, or characters that are not ASCII. -1: it is
// not valid.
func special(text []byte, i int) int {
	switch c := text[i]; {
	case c == '\\':
		return escape(text, i+1)
	case c < ' ':
		return -1
	}
	return characters(text, i)
}

// characters returns where the characters end that are not ASCII and begin at i; -1: one of them is not UTF-8.
func characters(text []byte, i int) int {
	for i < len(text) && text[i] >= utf8.RuneSelf {
		c := text[i]
		if 0xc2 <= c && c < 0xe0 && len(text)-i >= 2 && text[i+1]&0xc0 == 0x80 { // so are most of them
			i += 2
			continue
		}
		more, low, high := 1, byte(0x80), byte(0xbf) // how many bytes follow, and the range of the second
		switch {
		case c < 0xc2 || c > 0xf4:
			return -1
		case c < 0xe0:
		case c < 0xf0:
			more = 2
			if c == 0xe0 {
				low = 0xa0
			} else if c == 0xed {
				high = 0x9f
			}
		default:
			more = 3
			if c == 0xf0 {
				low = 0x90
			} else if c == 0xf4 {
				high = 0x8f
			}
		}
		if len(text)-i <= more || text[i+1] < low || text[i+1] > high {
			return -1
		}
		for _, c := range text[i+2 : i+1+more] {
			if c&0xc0 != 0x80 {
				return -1
			}
		}
		i += 1 + more
	}
	return i
}

// escape returns where an escape ends whose first byte behind the backslash is at i; -1: nowhere.
func escape(text []byte, i int) int {
	if i == len(text) {
		return -1
	}
	switch text[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if len(text)-i < 5 {
			return -1
		}
		for _, c := range text[i+1 : i+5] {
			if lower := c | 0x20; !digit(c) && (lower < 'a' || lower > 'f') {
				return -1
			}
		}
		return i + 5
	}
	return -1
}

// word returns where w ends, which is to be at i; -1: it is not there.
func word(text []byte, i int, w string) int {
	if len(text)-i < len(w) || string(text[i:i+len(w)]) != w {
		return -1
	}
	return i + len(w)
}

// number returns where the number ends that begins at i; -1: there is none.
func number(text []byte, i int) int {
	if text[i] == '-' {
		i++
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else if i = digits(text, i); i < 0 {
		return -1
	}
	if i < len(text) && text[i] == '.' {
		if i = digits(text, i+1); i < 0 {
			return -1
		}
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		return digits(text, i)
	}
	return i
}

// digits returns where the digits end that begin at i; -1: there are none.
func digits(text []byte, i int) int {
	from := i
	for i < len(text) && digit(text[i]) {
		i++
	}
	if i == from {
		return -1
	}
	return i
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
