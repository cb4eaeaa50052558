// Package validjson checks JSON that goes to clients as it is: its syntax, and that it is UTF-8, without which a
// websocket client fails its connection. encoding/json's Valid takes any bytes in strings, and is several times slower,
// which shows where a node checks each message that arrives.
package validjson

import (
	"encoding/json"
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
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// str returns where the string ends whose first byte behind the quote is at i; -1: nowhere.
func str(text []byte, i int) int {
	from, ascii := i, true
	for i < len(text) {
		switch c := text[i]; {
		case c == '"':
			if !ascii && !utf8.Valid(text[from:i]) {
				return -1
			}
			return i + 1
		case c == '\\':
			if i = escape(text, i+1); i < 0 {
				return -1
			}
			continue
		case c < ' ':
			return -1
		case c >= utf8.RuneSelf:
			ascii = false
		}
		i++
	}
	return -1
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
