package crosscast

import (
	"encoding/binary"
	"math"
)

// The part of msgpack that frames need: appending in the shortest form, and parsing in place. No msgpack library
// touches bytes of the bus: those that exist allocate what a length claims before they look for the bytes, and
// recurse as deep as the input says (https://github.com/msgpack/msgpack/blob/master/spec.md is the format).
const (
	mpNil     = 0xc0
	mpFalse   = 0xc2
	mpTrue    = 0xc3
	mpBin8    = 0xc4
	mpBin16   = 0xc5
	mpBin32   = 0xc6
	mpUint8   = 0xcc
	mpUint16  = 0xcd
	mpUint32  = 0xce
	mpUint64  = 0xcf
	mpInt8    = 0xd0
	mpInt16   = 0xd1
	mpInt32   = 0xd2
	mpInt64   = 0xd3
	mpStr8    = 0xd9
	mpStr16   = 0xda
	mpStr32   = 0xdb
	mpArray16 = 0xdc
	mpArray32 = 0xdd
	mpMap16   = 0xde
	mpMap32   = 0xdf

	mpFixMap   = 0x80 // | length, up to 15 pairs
	mpFixArray = 0x90 // | length, up to 15
	mpFixStr   = 0xa0 // | length, up to 31
)

func appendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, mpUint8, byte(v))
	case v <= math.MaxUint16:
		return append(dst, mpUint16, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, mpUint32), uint32(v))
	}
	return appendUint64(dst, v)
}

// appendUint64 always takes 9 bytes, so that the number can be patched in place.
func appendUint64(dst []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, mpUint64), v)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, mpTrue)
	}
	return append(dst, mpFalse)
}

func appendArrayLen(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, mpFixArray|byte(n))
	}
	if n <= math.MaxUint16 {
		return append(dst, mpArray16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, mpArray32), uint32(n))
}

func appendStr[S ~string | ~[]byte](dst []byte, s S) []byte {
	if len(s) < 32 {
		dst = append(dst, mpFixStr|byte(len(s)))
	} else {
		dst = appendLen(dst, mpStr8, len(s))
	}
	return append(dst, s...)
}

func appendBin(dst, b []byte) []byte {
	return append(appendLen(dst, mpBin8, len(b)), b...)
}

// appendLen writes the shortest of three consecutive tags, with lengths of 8, 16 and 32 bits.
func appendLen(dst []byte, tag8 byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(dst, tag8, byte(n))
	case n <= math.MaxUint16:
		return append(dst, tag8+1, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, tag8+2), uint32(n))
}

// A cursor parses msgpack in place. Invariants: 0 ≤ pos ≤ len(buf); a length is compared with the bytes that are left
// before it is used, so that every loop over a count is paid for by the input. The first failure sticks: from then
// on nothing is left, every method returns a zero value, and at says where it was. Callers may therefore parse on and
// look at bad once, as long as their loops end.
type cursor struct {
	buf []byte
	pos int
	at  int // where the first failure was
	bad bool
}

func (c *cursor) fail() {
	if !c.bad {
		c.bad, c.at = true, c.pos
	}
	c.pos = len(c.buf)
}

func (c *cursor) left() int { return len(c.buf) - c.pos }

// isNil consumes a nil if there is one.
func (c *cursor) isNil() bool {
	if c.pos < len(c.buf) && c.buf[c.pos] == mpNil {
		c.pos++
		return true
	}
	return false
}

func (c *cursor) bool() bool {
	if c.pos < len(c.buf) {
		switch c.buf[c.pos] {
		case mpFalse:
			c.pos++
			return false
		case mpTrue:
			c.pos++
			return true
		}
	}
	c.fail()
	return false
}

// uint takes any integer that is not negative, in any of its forms.
func (c *cursor) uint() uint64 {
	if c.pos < len(c.buf) {
		if b := c.buf[c.pos]; b < 0x80 {
			c.pos++
			return uint64(b)
		}
	}
	return c.wideUint()
}

func (c *cursor) wideUint() uint64 {
	if c.left() < 2 {
		c.fail()
		return 0
	}
	tag := c.buf[c.pos]
	if tag < mpUint8 || tag > mpInt64 {
		c.fail()
		return 0
	}
	width := 1 << ((tag - mpUint8) & 3) // both families are four tags in a row, of 1, 2, 4 and 8 bytes
	if c.left() <= width {
		c.fail()
		return 0
	}
	v := bigEndian(c.buf[c.pos+1 : c.pos+1+width])
	if tag >= mpInt8 && v>>(8*width-1) != 0 { // negative
		c.fail()
		return 0
	}
	c.pos += 1 + width
	return v
}

func bigEndian(b []byte) (v uint64) {
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}

// length returns the length that follows a tag in width bytes, and moves behind it.
func (c *cursor) length(width int) uint64 {
	if c.left() <= width {
		c.fail()
		return 0
	}
	v := bigEndian(c.buf[c.pos+1 : c.pos+1+width])
	c.pos += 1 + width
	return v
}

// take returns the next n bytes, which alias the input.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(c.left()) {
		c.fail()
		return nil
	}
	from := c.pos
	c.pos += int(n)
	return c.buf[from:c.pos:c.pos]
}

// str returns the bytes of a string, which alias the input.
func (c *cursor) str() []byte {
	if c.pos < len(c.buf) {
		switch tag := c.buf[c.pos]; {
		case tag&0xe0 == mpFixStr:
			from := c.pos + 1
			if end := from + int(tag&0x1f); end <= len(c.buf) {
				c.pos = end
				return c.buf[from:end:end]
			}
		case tag >= mpStr8 && tag <= mpStr32:
			return c.take(c.length(1 << (tag - mpStr8)))
		}
	}
	c.fail()
	return nil
}

// payload returns a string as JSON, and bytes as Binary.
func (c *cursor) payload() Payload {
	if c.pos < len(c.buf) {
		if tag := c.buf[c.pos]; tag >= mpBin8 && tag <= mpBin32 {
			return Payload{Binary, c.take(c.length(1 << (tag - mpBin8)))}
		}
	}
	return Payload{JSON, c.str()}
}

// array returns the number of elements of an array, which is never more than the bytes that follow.
func (c *cursor) array() int {
	if c.pos < len(c.buf) {
		n := uint64(math.MaxUint64)
		switch tag := c.buf[c.pos]; {
		case tag&0xf0 == mpFixArray:
			n = uint64(tag & 0x0f)
			c.pos++
		case tag == mpArray16:
			n = c.length(2)
		case tag == mpArray32:
			n = c.length(4)
		}
		if n <= uint64(c.left()) {
			return int(n)
		}
	}
	c.fail()
	return 0
}

// skip moves behind n values of whatever type, without recursion.
func (c *cursor) skip(n int) {
	for more := uint64(n); more > 0; more-- {
		if more > uint64(c.left()) { // a value takes at least a byte
			c.fail()
			return
		}
		switch tag := c.buf[c.pos]; {
		case tag < mpFixMap || tag >= 0xe0 || tag == mpNil || tag == mpFalse || tag == mpTrue:
			c.pos++
		case tag < mpFixArray:
			more += 2 * uint64(tag&0x0f)
			c.pos++
		case tag < mpFixStr:
			more += uint64(tag & 0x0f)
			c.pos++
		case tag < mpNil:
			c.take(1 + uint64(tag&0x1f))
		case tag >= mpBin8 && tag <= mpBin32:
			c.take(c.length(1 << (tag - mpBin8)))
		case tag >= 0xc7 && tag <= 0xc9: // ext: a length, a type, bytes
			c.take(1 + c.length(1<<(tag-0xc7)))
		case tag == 0xca || tag == 0xcb: // float
			c.take(1 + 4<<(tag-0xca))
		case tag >= mpUint8 && tag <= mpInt64:
			c.take(1 + 1<<((tag-mpUint8)&3))
		case tag >= 0xd4 && tag <= 0xd8: // fixext: a type and 1 to 16 bytes
			c.take(2 + 1<<(tag-0xd4))
		case tag >= mpStr8 && tag <= mpStr32:
			c.take(c.length(1 << (tag - mpStr8)))
		case tag == mpArray16 || tag == mpArray32:
			more += c.length(2 << (tag - mpArray16))
		case tag == mpMap16 || tag == mpMap32:
			more += 2 * c.length(2<<(tag-mpMap16))
		default: // 0xc1 is no msgpack
			c.fail()
		}
	}
}
