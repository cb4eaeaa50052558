package mpack

import (
	"math"
	"time"
)

// A Cursor parses msgpack in place. Invariants: 0 ≤ pos ≤ len(buf); a length is compared with the bytes that are left
// before it is used, so that every loop over a count is paid for by the input. The first failure sticks: from then
// on nothing is left, every method returns a zero value, and At says where it was. Callers may therefore parse on and
// look at Bad once, as long as their loops end. What methods return aliases the input.
type Cursor struct {
	buf []byte
	pos int
	at  int // where the first failure was
	bad bool
}

// NewCursor returns a cursor at the beginning of buf.
func NewCursor(buf []byte) Cursor { return Cursor{buf: buf} }

// Reset makes c a cursor at the beginning of buf.
func (c *Cursor) Reset(buf []byte) { c.buf, c.pos, c.at, c.bad = buf, 0, 0, false }

// Fail is for callers that do not take what they have read.
func (c *Cursor) Fail() {
	if !c.bad {
		c.bad, c.at = true, c.pos
	}
	c.pos = len(c.buf)
}

// Bad reports whether there was a failure.
func (c *Cursor) Bad() bool { return c.bad }

// At returns where the first failure was, in bytes from the beginning.
func (c *Cursor) At() int { return c.at }

// Pos returns how many bytes were parsed; after a failure, all of them.
func (c *Cursor) Pos() int { return c.pos }

// Left returns how many bytes are left.
func (c *Cursor) Left() int { return len(c.buf) - c.pos }

// AtStr reports whether a string follows.
func (c *Cursor) AtStr() bool {
	tag := c.tag()
	return tag&0xe0 == FixStr || tag >= tagStr8 && tag <= tagStr32
}

// AtBin reports whether bytes follow.
func (c *Cursor) AtBin() bool {
	tag := c.tag()
	return tag >= tagBin8 && tag <= tagBin32
}

// AtArray reports whether an array follows.
func (c *Cursor) AtArray() bool {
	tag := c.tag()
	return tag&0xf0 == FixArray || tag == tagArray16 || tag == tagArray32
}

// AtMap reports whether a map follows.
func (c *Cursor) AtMap() bool {
	tag := c.tag()
	return tag&0xf0 == fixMap || tag == tagMap16 || tag == tagMap32
}

// AtExt reports whether an extension follows.
func (c *Cursor) AtExt() bool {
	tag := c.tag()
	return tag >= tagExt8 && tag <= tagExt32 || tag >= tagFixExt1 && tag <= tagFixExt16
}

// AtNumber reports whether an integer or a float follows.
func (c *Cursor) AtNumber() bool {
	tag := c.tag()
	return tag < fixMap || tag >= 0xe0 || tag >= tagFloat32 && tag <= tagInt64
}

// tag returns the first byte of what follows, or tagNever at the end.
func (c *Cursor) tag() byte {
	if c.pos < len(c.buf) {
		return c.buf[c.pos]
	}
	return tagNever
}

// IsNil consumes a nil if there is one.
func (c *Cursor) IsNil() bool {
	if c.pos < len(c.buf) && c.buf[c.pos] == Nil {
		c.pos++
		return true
	}
	return false
}

// Bool takes a boolean.
func (c *Cursor) Bool() bool {
	if c.pos < len(c.buf) {
		switch c.buf[c.pos] {
		case tagFalse:
			c.pos++
			return false
		case tagTrue:
			c.pos++
			return true
		}
	}
	c.Fail()
	return false
}

// Uint takes any integer that is not negative, in any of its forms.
func (c *Cursor) Uint() uint64 {
	if c.pos < len(c.buf) {
		if b := c.buf[c.pos]; b < 0x80 {
			c.pos++
			return uint64(b)
		}
	}
	return c.wideUint()
}

func (c *Cursor) wideUint() uint64 {
	if c.Left() < 2 {
		c.Fail()
		return 0
	}
	tag := c.buf[c.pos]
	if tag < tagUint8 || tag > tagInt64 {
		c.Fail()
		return 0
	}
	width := 1 << ((tag - tagUint8) & 3) // both families are four tags in a row, of 1, 2, 4 and 8 bytes
	if c.Left() <= width {
		c.Fail()
		return 0
	}
	v := bigEndian(c.buf[c.pos+1 : c.pos+1+width])
	if tag >= tagInt8 && v>>(8*width-1) != 0 { // negative
		c.Fail()
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
func (c *Cursor) length(width int) uint64 {
	if c.Left() <= width {
		c.Fail()
		return 0
	}
	v := bigEndian(c.buf[c.pos+1 : c.pos+1+width])
	c.pos += 1 + width
	return v
}

// take returns the next n bytes.
func (c *Cursor) take(n uint64) []byte {
	if n > uint64(c.Left()) {
		c.Fail()
		return nil
	}
	from := c.pos
	c.pos += int(n)
	return c.buf[from:c.pos:c.pos]
}

// Str takes a string and returns its bytes.
func (c *Cursor) Str() []byte {
	if c.pos < len(c.buf) {
		switch tag := c.buf[c.pos]; {
		case tag&0xe0 == FixStr:
			from := c.pos + 1
			if end := from + int(tag&0x1f); end <= len(c.buf) {
				c.pos = end
				return c.buf[from:end:end]
			}
		case tag >= tagStr8 && tag <= tagStr32:
			return c.take(c.length(1 << (tag - tagStr8)))
		}
	}
	c.Fail()
	return nil
}

// StrOf takes a string of so many bytes and returns them.
func (c *Cursor) StrOf(least, most int) []byte {
	s := c.Str()
	if len(s) < least || len(s) > most {
		c.Fail()
		return nil
	}
	return s
}

// Milliseconds takes a duration.
func (c *Cursor) Milliseconds() time.Duration {
	ms := c.Uint()
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		c.Fail()
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// Bin takes bytes.
func (c *Cursor) Bin() []byte {
	if tag := c.tag(); tag >= tagBin8 && tag <= tagBin32 {
		return c.take(c.length(1 << (tag - tagBin8)))
	}
	c.Fail()
	return nil
}

// Buffer takes bytes, or an ArrayBuffer of Socket.IO's old writers: an extension of type 0 and of any length but those
// that have a tag of their own. It takes nothing else, and then returns false.
func (c *Cursor) Buffer() ([]byte, bool) {
	tag := c.tag()
	if tag >= tagBin8 && tag <= tagBin32 {
		return c.Bin(), true
	}
	if tag < tagExt8 || tag > tagExt32 {
		return nil, false
	}
	from := *c
	if kind, b := c.Ext(); kind == 0 && !c.bad {
		return b, true
	}
	*c = from
	return nil, false
}

// Ext takes an extension and returns its type and its bytes.
func (c *Cursor) Ext() (kind int8, data []byte) {
	var n uint64
	switch tag := c.tag(); {
	case tag >= tagExt8 && tag <= tagExt32:
		n = c.length(1 << (tag - tagExt8))
	case tag >= tagFixExt1 && tag <= tagFixExt16:
		n = 1 << (tag - tagFixExt1)
		c.pos++
	default:
		c.Fail()
	}
	if b := c.take(1 + n); len(b) > 0 {
		return int8(b[0]), b[1:]
	}
	return 0, nil
}

// Array takes the beginning of an array and returns the number of its elements, which is never more than the bytes
// that follow.
func (c *Cursor) Array() int {
	if c.pos < len(c.buf) {
		n := uint64(math.MaxUint64)
		switch tag := c.buf[c.pos]; {
		case tag&0xf0 == FixArray:
			n = uint64(tag & 0x0f)
			c.pos++
		case tag == tagArray16:
			n = c.length(2)
		case tag == tagArray32:
			n = c.length(4)
		}
		if n <= uint64(c.Left()) {
			return int(n)
		}
	}
	c.Fail()
	return 0
}

// Map takes the beginning of a map and returns the number of its pairs, which is never more than half of the bytes that
// follow.
func (c *Cursor) Map() int {
	if c.pos < len(c.buf) {
		n := uint64(math.MaxUint64)
		switch tag := c.buf[c.pos]; {
		case tag&0xf0 == fixMap:
			n = uint64(tag & 0x0f)
			c.pos++
		case tag == tagMap16:
			n = c.length(2)
		case tag == tagMap32:
			n = c.length(4)
		}
		if n <= uint64(c.Left())/2 {
			return int(n)
		}
	}
	c.Fail()
	return 0
}

// Value takes one value of whatever type and returns its bytes.
func (c *Cursor) Value() []byte {
	from := c.pos
	c.Skip(1)
	if c.bad {
		return nil
	}
	return c.buf[from:c.pos:c.pos]
}

// Skip moves behind n values of whatever type, without recursion.
func (c *Cursor) Skip(n int) {
	for more := uint64(n); more > 0; more-- {
		if more > uint64(c.Left()) { // a value takes at least a byte
			c.Fail()
			return
		}
		switch tag := c.buf[c.pos]; {
		case tag < fixMap || tag >= 0xe0 || tag == Nil || tag == tagFalse || tag == tagTrue:
			c.pos++
		case tag < FixArray:
			more += 2 * uint64(tag&0x0f)
			c.pos++
		case tag < FixStr:
			more += uint64(tag & 0x0f)
			c.pos++
		case tag < Nil:
			c.take(1 + uint64(tag&0x1f))
		case tag >= tagBin8 && tag <= tagBin32:
			c.take(c.length(1 << (tag - tagBin8)))
		case tag >= tagExt8 && tag <= tagExt32: //: a length, a type, bytes
			c.take(1 + c.length(1<<(tag-tagExt8)))
		case tag == tagFloat32 || tag == tagFloat64:
			c.take(1 + 4<<(tag-tagFloat32))
		case tag >= tagUint8 && tag <= tagInt64:
			c.take(1 + 1<<((tag-tagUint8)&3))
		case tag >= tagFixExt1 && tag <= tagFixExt16: // a type and 1 to 16 bytes
			c.take(2 + 1<<(tag-tagFixExt1))
		case tag >= tagStr8 && tag <= tagStr32:
			c.take(c.length(1 << (tag - tagStr8)))
		case tag == tagArray16 || tag == tagArray32:
			more += c.length(2 << (tag - tagArray16))
		case tag == tagMap16 || tag == tagMap32:
			more += 2 * c.length(2<<(tag-tagMap16))
		default: // tagNever
			c.Fail()
		}
	}
}
