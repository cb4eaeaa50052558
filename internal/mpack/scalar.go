package mpack

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// number parses a number.
func (p *parser) number(dst []byte) []byte {
	from := p.pos
	negative := p.pos < len(p.text) && p.text[p.pos] == '-'
	if negative {
		p.pos++
	}
	first := p.pos
	var u uint64
	for ; p.pos < len(p.text) && isDigit(p.text[p.pos]); p.pos++ {
		u = 10*u + uint64(p.text[p.pos]-'0')
	}
	n := p.pos - first
	if n == 0 || n > 1 && p.text[first] == '0' {
		p.fail(nil)
		return dst
	}
	if b := p.peek(); b == '.' || b|0x20 == 'e' {
		return p.float(dst, from)
	}
	if n > 19 { // it may be too large for u
		var err error
		if u, err = strconv.ParseUint(string(p.text[first:p.pos]), 10, 64); err != nil {
			return p.float(dst, from)
		}
	}
	if !negative {
		return AppendUint(dst, u)
	}
	if u > 1<<63 || u == 0 {
		return p.float(dst, from)
	}
	return AppendInt(dst, -int64(u))
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func (p *parser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// float parses the rest of a number whose integer is behind, and which began at from.
func (p *parser) float(dst []byte, from int) []byte {
	if p.peek() == '.' {
		p.pos++
		p.digits()
	}
	if p.peek()|0x20 == 'e' {
		p.pos++
		if b := p.peek(); b == '+' || b == '-' {
			p.pos++
		}
		p.digits()
	}
	if p.bad {
		return dst
	}
	f, _ := strconv.ParseFloat(string(p.text[from:p.pos]), 64) // what is out of range is infinite, as in JavaScript
	if p.exact {
		switch {
		case math.IsInf(f, 0):
			p.fail(lacks("a number that is no float of 64 bits"))
			return dst
		case f == 0 && math.Signbit(f):
			return binary.BigEndian.AppendUint64(append(dst, tagFloat64), math.Float64bits(f))
		}
	}
	return AppendNumber(dst, f)
}

// digits moves behind at least one digit.
func (p *parser) digits() {
	if !isDigit(p.peek()) {
		p.fail(nil)
	}
	for isDigit(p.peek()) {
		p.pos++
	}
}

// str parses a string.
func (p *parser) str(dst []byte) []byte {
	p.pos++
	from, ascii := p.pos, true
	for i := from; i < len(p.text); i++ {
		switch b := p.text[i]; {
		case b == '"':
			s := p.text[from:i]
			p.pos = i + 1
			if ascii || utf8.Valid(s) {
				return AppendStr(dst, s)
			}
			return appendValid(dst, s)
		case b == '\\':
			return p.escaped(dst)
		case b < ' ':
			p.pos = i
			p.fail(nil)
			return dst
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	p.fail(nil)
	return dst
}

// escaped parses the rest of a string with an escape in it, from its beginning.
func (p *parser) escaped(dst []byte) []byte {
	at := len(dst)
	for {
		from := p.pos
		for p.pos < len(p.text) && p.text[p.pos] != '"' && p.text[p.pos] != '\\' && p.text[p.pos] >= ' ' {
			p.pos++
		}
		dst = appendUTF8(dst, p.text[from:p.pos])
		switch p.peek() {
		case '"':
			p.pos++
			return setStrLen(dst, at)
		case '\\':
			p.pos++
			dst = p.escape(dst)
		default:
			p.fail(nil)
			return dst
		}
	}
}

// escape appends what an escape stands for.
func (p *parser) escape(dst []byte) []byte {
	b := p.peek()
	p.pos++
	switch b {
	case '"', '\\', '/':
		return append(dst, b)
	case 'b':
		return append(dst, '\b')
	case 'f':
		return append(dst, '\f')
	case 'n':
		return append(dst, '\n')
	case 'r':
		return append(dst, '\r')
	case 't':
		return append(dst, '\t')
	case 'u':
		r := p.hex4(p.pos)
		if r < 0 {
			break
		}
		p.pos += 4
		half := utf16.IsSurrogate(r)
		if half && bytes.HasPrefix(p.text[p.pos:], []byte(`\u`)) {
			if r = utf16.DecodeRune(r, p.hex4(p.pos+2)); r != utf8.RuneError {
				p.pos += 6
				half = false
			}
		}
		if half && p.exact {
			p.fail(lacks("half a surrogate pair"))
			return dst
		}
		return utf8.AppendRune(dst, r) // half a pair is U+FFFD
	}
	p.fail(nil)
	return dst
}

// hex4 returns the number in the four hexadecimal digits at i; -1: there are none.
func (p *parser) hex4(i int) (r rune) {
	if i+4 > len(p.text) {
		return -1
	}
	for _, b := range p.text[i : i+4] {
		r <<= 4
		switch lower := b | 0x20; {
		case isDigit(b):
			r |= rune(b - '0')
		case 'a' <= lower && lower <= 'f':
			r |= rune(lower - 'a' + 10)
		default:
			return -1
		}
	}
	return r
}
