package mpack

import "unicode/utf8"

// appendUTF8 appends s with U+FFFD for what is not UTF-8: one for each longest beginning of a character, as browsers
// and Node.js do.
func appendUTF8(dst, s []byte) []byte {
	for len(s) > 0 {
		n := validLen(s)
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) > 0 {
			dst = append(dst, "\ufffd"...)
			s = s[invalidLen(s):]
		}
	}
	return dst
}

// validLen returns how many bytes at the beginning of s are UTF-8.
func validLen(s []byte) (n int) {
	for n < len(s) {
		if s[n] < utf8.RuneSelf {
			n++
			continue
		}
		r, size := utf8.DecodeRune(s[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// invalidLen returns how many bytes at the beginning of s, which is not empty and does not begin with a character,
// begin one.
func invalidLen(s []byte) int {
	low, high := byte(0x80), byte(0xbf) // of the second byte
	more := 1
	switch b := s[0]; {
	case b < 0xc2 || b > 0xf4:
		return 1
	case b < 0xe0:
	case b < 0xf0:
		more = 2
		if b == 0xe0 {
			low = 0xa0
		} else if b == 0xed {
			high = 0x9f
		}
	default:
		more = 3
		if b == 0xf0 {
			low = 0x90
		} else if b == 0xf4 {
			high = 0x8f
		}
	}
	n := 1
	for n <= more && n < len(s) && low <= s[n] && s[n] <= high {
		low, high = 0x80, 0xbf
		n++
	}
	return n
}

// appendValid appends a string, with U+FFFD for what is not UTF-8.
func appendValid(dst, s []byte) []byte {
	at := len(dst)
	return setStrLen(appendUTF8(dst, s), at)
}

// setStrLen makes a string of the bytes from dst[at] on.
func setStrLen(dst []byte, at int) []byte {
	var head [5]byte
	n := len(dst) - at
	h := appendStrLen(head[:0], n)
	dst = insert(dst, at, len(h))
	copy(dst[at:], h)
	return dst
}
