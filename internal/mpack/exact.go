package mpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// The functions of this file change nothing silently, other than those that do as JavaScript does. docs/msgpack.md has
// the table.

// ErrNoCounterpart: a value of msgpack that JSON cannot say, or the other way round.
var ErrNoCounterpart = errors.New("no counterpart")

// Exact returns an error unless value is one value of msgpack that JSON can say. It is the walk before any other code
// reads bytes of a stranger: it allocates nothing, goes down to MaxDepth, and every element that a length promises is
// there. The error matches [ErrNoCounterpart], [ErrMalformed] or [ErrDepth].
func Exact(value []byte) error {
	w := walker{Cursor: NewCursor(value)}
	w.exact(0)
	if w.pos < len(value) {
		w.Fail()
	}
	return w.err()
}

// exact takes a value that JSON can say.
func (w *walker) exact(depth int) {
	switch tag := w.tag(); {
	case w.AtStr():
		w.exactStr()
	case tag == tagFloat32 || tag == tagFloat64:
		if f := w.float(); math.IsNaN(f) || math.IsInf(f, 0) {
			w.refuse("a float that is not finite")
		}
	case w.AtMap():
		depth++
		w.enter(depth)
		for n := w.Map(); n > 0 && !w.bad; n-- {
			if !w.AtStr() {
				w.refuse("a key of a map that is no string")
			}
			w.exactStr()
			w.exact(depth)
		}
	case w.AtArray():
		depth++
		w.enter(depth)
		for n := w.Array(); n > 0 && !w.bad; n-- {
			w.exact(depth)
		}
	case w.AtExt():
		kind, data := w.Ext()
		if _, ok := timestamp(kind, data); !ok {
			w.refuse("an extension other than a time of the years 0 to 9999")
		}
	default:
		w.Skip(1)
	}
}

func (w *walker) exactStr() {
	if s := w.Str(); !utf8.Valid(s) {
		w.refuse("a string that is not UTF-8")
	}
}

// refuse is Fail for what has no counterpart, which ends at the present place.
func (w *walker) refuse(what string) {
	if !w.bad {
		w.refused = what
		w.Fail()
	}
}

// AppendExactJSON appends the value of value as JSON, with bytes as they are appended by bytes. Numbers are exact, a time
// is as in RFC 3339 with up to nine digits of a second, in UTC, and a key that comes again comes again. Beside an error of
// [Exact] it returns dst.
func AppendExactJSON(dst, value []byte, bytes Bytes) ([]byte, error) {
	if err := Exact(value); err != nil {
		return dst, err
	}
	w := writer{walker{Cursor: NewCursor(value)}, bytes, true}
	return w.value(dst, 0), nil
}

// AppendExactFromJSON appends one JSON value, with white space around it, as msgpack. A number that is an integer is one,
// in the shortest form, however it is written, and exact from -2^63 to 2^64-1. Any other, and -0, is the nearest float of
// 64 bits. A key that comes again comes again. Beside an error it returns dst: the text is not JSON or not UTF-8; or it
// matches [ErrNoCounterpart] for a number beyond the floats and for half a surrogate pair, or [ErrDepth].
func AppendExactFromJSON(dst, text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return dst, fmt.Errorf("mpack: no JSON in UTF-8")
	}
	p := parsers.Get().(*parser)
	defer p.release()
	p.exact = true
	out := p.whole(dst, text, 0)
	if p.bad {
		return dst, p.why()
	}
	return out, nil
}

// lacks is the error of a part of a JSON text.
func lacks(what string) error { return fmt.Errorf("%w in msgpack: %s", ErrNoCounterpart, what) }

// timestamp returns the time of an extension, if it is one that RFC 3339 can say.
func timestamp(kind int8, data []byte) (t time.Time, ok bool) {
	var seconds, nanoseconds int64
	switch {
	case kind != -1:
		return t, false
	case len(data) == 4:
		seconds = int64(binary.BigEndian.Uint32(data))
	case len(data) == 8:
		v := binary.BigEndian.Uint64(data)
		seconds, nanoseconds = int64(v&(1<<34-1)), int64(v>>34)
	case len(data) == 12:
		nanoseconds = int64(binary.BigEndian.Uint32(data))
		seconds = int64(binary.BigEndian.Uint64(data[4:]))
	default:
		return t, false
	}
	const first, last = -62167219200, 253402300799 // of the years 0 and 9999
	if nanoseconds >= 1e9 || seconds < first || seconds > last {
		return t, false
	}
	return time.Unix(seconds, nanoseconds).UTC(), true
}

// appendExactFloat appends a number as JavaScript does, but -0 with its sign.
func appendExactFloat(dst []byte, f float64) []byte {
	if f == 0 && math.Signbit(f) {
		return append(dst, "-0"...)
	}
	return appendFloat(dst, f)
}

// appendExactTime appends a time as a JSON string.
func appendExactTime(dst []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
}
