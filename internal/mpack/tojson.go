package mpack

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Bytes appends bytes as JSON: there is no one way to.
type Bytes func(dst, b []byte) []byte

// AppendJSON appends the first value of value as JSON, and returns also the value's length: what JSON.stringify prints
// of what Socket.IO's reader of msgpack (notepack) makes of it, with bytes as they are appended by bytes.
//
// Numbers are printed as in JavaScript, but integers exactly; what is not finite is null. A time (an extension of type
// -1, or an old one of type 0) is a string as of toISOString, and null out of that one's range. The undefined of old
// writers is null, and as a value of a map it is left out with its key. An ArrayBuffer of old writers is bytes, and any
// other extension an array of its type and its bytes. Keys may be numbers, printed as property names are. The order of
// keys is that of the map, where JavaScript enumerates those that look like array indices first, and keys that come
// again are written again. What is not UTF-8 is U+FFFD.
//
// The text is at most six times as long as the value, beside what bytes appends. Beside an error, which matches
// [ErrMalformed] or [ErrDepth], AppendJSON returns dst.
func AppendJSON(dst, value []byte, bytes Bytes) (out []byte, n int, err error) {
	w := writer{walker: walker{Cursor: NewCursor(value)}, bytes: bytes}
	out = w.value(dst, 0)
	if err := w.err(); err != nil {
		return dst, 0, err
	}
	return out, w.pos, nil
}

// A writer reads msgpack and appends JSON.
type writer struct {
	walker
	bytes Bytes
	exact bool // see AppendExactJSON
}

func (w *writer) value(dst []byte, depth int) []byte {
	switch tag := w.tag(); {
	case w.AtStr():
		return appendQuoted(dst, w.Str())
	case tag == tagFloat32 || tag == tagFloat64:
		f := w.float()
		if w.exact {
			return appendExactFloat(dst, f)
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return append(dst, "null"...)
		}
		return appendFloat(dst, f)
	case w.AtNumber():
		return w.integer(dst)
	case w.AtMap():
		return w.object(dst, depth+1)
	case w.AtArray():
		return w.array(dst, depth+1)
	case tag == tagFalse || tag == tagTrue:
		return strconv.AppendBool(dst, w.Bool())
	case w.IsNil() || w.undefined():
		return append(dst, "null"...)
	}
	if b, ok := w.Buffer(); ok {
		return w.bytes(dst, b)
	}
	return w.ext(dst)
}

func (w *writer) array(dst []byte, depth int) []byte {
	w.enter(depth)
	dst = append(dst, '[')
	n := w.Array()
	for i := 0; i < n && !w.bad; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = w.value(dst, depth)
	}
	return append(dst, ']')
}

func (w *writer) object(dst []byte, depth int) []byte {
	w.enter(depth)
	dst = append(dst, '{')
	first := len(dst)
	for n := w.Map(); n > 0 && !w.bad; n-- {
		at := len(dst)
		if at > first {
			dst = append(dst, ',')
		}
		dst = append(w.key(dst), ':')
		if w.undefined() {
			dst = dst[:at]
			continue
		}
		dst = w.value(dst, depth)
	}
	return append(dst, '}')
}

// key appends a key as a property name.
func (w *writer) key(dst []byte) []byte {
	if w.AtStr() {
		return appendQuoted(dst, w.Str())
	}
	dst = append(dst, '"')
	switch tag := w.tag(); {
	case tag == tagFloat32 || tag == tagFloat64:
		dst = appendFloat(dst, w.float())
	case w.AtNumber():
		dst = w.integer(dst)
	default:
		w.Fail()
	}
	return append(dst, '"')
}

// ext appends an extension that is not undefined or an ArrayBuffer.
func (w *writer) ext(dst []byte) []byte {
	kind, data := w.Ext()
	if w.exact {
		t, _ := timestamp(kind, data) // others are refused
		return appendExactTime(dst, t)
	}
	if ms, ok := milliseconds(kind, data); ok {
		return appendTime(dst, ms)
	}
	if w.bad {
		return dst
	}
	dst = strconv.AppendInt(append(dst, '['), int64(kind), 10)
	return append(w.bytes(append(dst, ','), data), ']')
}

// appendTime appends a time, in milliseconds since 1970, as JSON.
func appendTime(dst []byte, ms float64) []byte {
	const most = 8.64e15 // of a Date
	if !(math.Abs(ms) <= most) {
		return append(dst, "null"...)
	}
	t := time.UnixMilli(int64(ms)).UTC() // as a Date, without what is below a millisecond
	dst = append(dst, '"')
	layout := "2006-01-02T15:04:05.000Z\""
	if year := t.Year(); year < 0 || year > 9999 {
		sign := byte('+')
		if year < 0 {
			sign, year = '-', -year
		}
		dst = append(dst, sign)
		for digit := 100000; digit > 0; digit /= 10 {
			dst = append(dst, byte('0'+year/digit%10))
		}
		layout = layout[4:]
	}
	return t.AppendFormat(dst, layout)
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends s as a JSON string, as JSON.stringify does.
func AppendQuoted(dst []byte, s string) []byte { return appendQuoted(dst, []byte(s)) }

func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' && b < 0x80 {
			i++
			continue
		}
		if b >= 0x80 {
			if r, n := utf8.DecodeRune(s[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(append(dst, s[from:i]...), "\ufffd"...)
			i += invalidLen(s[i:])
			from = i
			continue
		}
		dst = append(dst, s[from:i]...)
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

// integer appends an integer, exactly.
func (w *writer) integer(dst []byte) []byte {
	switch tag := w.tag(); {
	case tag < fixMap || tag >= 0xe0:
		w.pos++
		return strconv.AppendInt(dst, int64(int8(tag)), 10)
	case tag <= tagUint64:
		return strconv.AppendUint(dst, w.length(1<<(tag-tagUint8)), 10)
	default:
		unused := 64 - 8<<(tag-tagInt8)
		return strconv.AppendInt(dst, int64(w.length(1<<(tag-tagInt8)))<<unused>>unused, 10)
	}
}

// float takes a float.
func (w *walker) float() float64 {
	if w.tag() == tagFloat32 {
		return float64(math.Float32frombits(uint32(w.length(4))))
	}
	return math.Float64frombits(w.length(8))
}

// appendFloat appends a number as JavaScript's Number::toString.
func appendFloat(dst []byte, f float64) []byte {
	switch abs := math.Abs(f); {
	case abs < 1<<53 && f == math.Trunc(f):
		return strconv.AppendInt(dst, int64(f), 10)
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-2] == '0' { // e-07 is e-7
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
