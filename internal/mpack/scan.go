package mpack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed: the bytes are not msgpack, or a map has a key that is neither a string nor a number.
var ErrMalformed = errors.New("mpack: malformed")

// Scan returns the length of the first value of value, and whether there are bytes anywhere in it. It takes and refuses
// the same values as [AppendJSON]: the error matches [ErrMalformed] or [ErrDepth].
func Scan(value []byte) (n int, hasBytes bool, err error) {
	w := walker{Cursor: NewCursor(value)}
	hasBytes = w.scan(0)
	if err := w.err(); err != nil {
		return 0, false, err
	}
	return w.pos, hasBytes, nil
}

// Scanned takes a value that [Scan] takes, and returns its bytes.
func (c *Cursor) Scanned() []byte {
	from := c.pos
	n, _, err := Scan(c.buf[from:])
	if err != nil {
		c.Fail()
		return nil
	}
	c.pos += n
	return c.buf[from:c.pos:c.pos]
}

// A walker walks through values down to MaxDepth.
type walker struct {
	Cursor
	deep    bool   // it would have gone deeper
	refused string // what has no counterpart in JSON; see Exact
}

func (w *walker) enter(depth int) {
	if depth > MaxDepth && !w.bad {
		w.deep = true
		w.Fail()
	}
}

func (w *walker) err() error {
	switch {
	case w.deep:
		return ErrDepth
	case w.refused != "":
		return fmt.Errorf("%w in JSON: %s, before byte %d", ErrNoCounterpart, w.refused, w.at)
	case w.bad:
		return fmt.Errorf("%w, at byte %d", ErrMalformed, w.at)
	}
	return nil
}

// scan takes a value, and reports whether there are bytes in it.
func (w *walker) scan(depth int) (hasBytes bool) {
	switch {
	case w.AtArray():
		depth++
		w.enter(depth)
		for n := w.Array(); n > 0 && !w.bad; n-- {
			hasBytes = w.scan(depth) || hasBytes
		}
	case w.AtMap():
		depth++
		w.enter(depth)
		for n := w.Map(); n > 0 && !w.bad; n-- {
			if !w.AtStr() && !w.AtNumber() {
				w.Fail()
			}
			w.Skip(1)
			hasBytes = w.scan(depth) || hasBytes
		}
	case w.AtBin():
		w.Bin()
		return true
	case w.AtExt():
		if w.undefined() {
			return false
		}
		if _, ok := w.Buffer(); ok {
			return true
		}
		_, isTime := milliseconds(w.Ext())
		return !isTime
	default:
		w.Skip(1)
	}
	return hasBytes
}

// undefined takes the undefined of Socket.IO's old writers: a byte of type 0.
func (w *walker) undefined() bool {
	if w.Left() < 3 || w.buf[w.pos] != tagFixExt1 || w.buf[w.pos+1] != 0 {
		return false
	}
	w.pos += 3
	return true
}

// milliseconds returns what an extension says of a time, since 1970 and computed as JavaScript does, if it is one: of
// type -1, or 8 bytes of type 0 as old writers of Socket.IO write them.
func milliseconds(kind int8, data []byte) (ms float64, ok bool) {
	seconds, nanoseconds := 0.0, 0.0
	switch {
	case kind == 0 && len(data) == 8:
		return float64(int64(binary.BigEndian.Uint64(data))), true
	case kind != -1:
		return 0, false
	case len(data) == 4:
		seconds = float64(binary.BigEndian.Uint32(data))
	case len(data) == 8:
		v := binary.BigEndian.Uint64(data)
		seconds, nanoseconds = float64(v&(1<<34-1)), float64(v>>34)
	case len(data) == 12:
		nanoseconds = float64(binary.BigEndian.Uint32(data))
		seconds = float64(int64(binary.BigEndian.Uint64(data[4:])))
	default:
		return 0, false
	}
	return seconds*1e3 + nanoseconds/1e6, true
}
