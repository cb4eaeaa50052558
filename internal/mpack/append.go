// Package mpack has the part of msgpack that frames and the formats of other systems need: appending in the shortest
// form, and parsing in place. No msgpack library touches bytes of the bus: those that exist allocate what a length
// claims before they look for the bytes, and recurse as deep as the input says
// (https://github.com/msgpack/msgpack/blob/master/spec.md is the format).
package mpack

import (
	"encoding/binary"
	"math"
)

// Tags: the first byte of a value, or a part of it. The exported ones are for writers of what they know beforehand.
const (
	Nil         = 0xc0
	tagNever    = 0xc1 // begins no value
	tagFalse    = 0xc2
	tagTrue     = 0xc3
	tagBin8     = 0xc4
	tagBin16    = 0xc5
	tagBin32    = 0xc6
	tagExt8     = 0xc7
	tagExt32    = 0xc9
	tagFloat32  = 0xca
	tagFloat64  = 0xcb
	tagUint8    = 0xcc
	tagUint16   = 0xcd
	tagUint32   = 0xce
	tagUint64   = 0xcf
	tagInt8     = 0xd0
	tagInt16    = 0xd1
	tagInt32    = 0xd2
	tagInt64    = 0xd3
	tagFixExt1  = 0xd4
	tagFixExt16 = 0xd8
	tagStr8     = 0xd9
	tagStr16    = 0xda
	tagStr32    = 0xdb
	tagArray16  = 0xdc
	tagArray32  = 0xdd
	tagMap16    = 0xde
	tagMap32    = 0xdf

	fixMap   = 0x80 // | length, up to 15 pairs
	FixArray = 0x90 // | length, up to 15
	FixStr   = 0xa0 // | length, up to 31
)

// AppendUint appends v in the shortest form.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, tagUint8, byte(v))
	case v <= math.MaxUint16:
		return append(dst, tagUint16, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, tagUint32), uint32(v))
	}
	return AppendUint64(dst, v)
}

// AppendUint64 appends v, and always takes 9 bytes, so that the number can be patched in place.
func AppendUint64(dst []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, tagUint64), v)
}

// AppendInt appends v in the shortest form.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(dst, uint64(v))
	case v >= -32:
		return append(dst, byte(v))
	case v >= math.MinInt8:
		return append(dst, tagInt8, byte(v))
	case v >= math.MinInt16:
		return append(dst, tagInt16, byte(v>>8), byte(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, tagInt32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, tagInt64), uint64(v))
}

// AppendNumber appends f as JavaScript's writers of msgpack do, which know no other numbers: as an integer in the
// shortest form if it is one and within 64 bits, else in 9 bytes.
func AppendNumber(dst []byte, f float64) []byte {
	if f == math.Trunc(f) {
		if f >= 0 && f < 1<<64 {
			return AppendUint(dst, uint64(f))
		}
		if f < 0 && f >= -1<<63 {
			return AppendInt(dst, int64(f))
		}
	}
	return binary.BigEndian.AppendUint64(append(dst, tagFloat64), math.Float64bits(f))
}

// AppendBool appends true or false.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, tagTrue)
	}
	return append(dst, tagFalse)
}

// AppendArrayLen begins an array of n elements, which are to follow.
func AppendArrayLen(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, FixArray|byte(n))
	}
	if n <= math.MaxUint16 {
		return append(dst, tagArray16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, tagArray32), uint32(n))
}

// AppendMapLen begins a map of n pairs, which are to follow: key, value, key, value, …
func AppendMapLen(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, fixMap|byte(n))
	}
	if n <= math.MaxUint16 {
		return append(dst, tagMap16, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, tagMap32), uint32(n))
}

// AppendStr appends a string.
func AppendStr[S ~string | ~[]byte](dst []byte, s S) []byte {
	return append(appendStrLen(dst, len(s)), s...)
}

func appendStrLen(dst []byte, n int) []byte {
	if n < 32 {
		return append(dst, FixStr|byte(n))
	}
	return appendLen(dst, tagStr8, n)
}

// AppendBin appends bytes.
func AppendBin(dst, b []byte) []byte { return append(AppendBinLen(dst, len(b)), b...) }

// AppendBinLen begins n bytes, which are to follow.
func AppendBinLen(dst []byte, n int) []byte { return appendLen(dst, tagBin8, n) }

// AppendExt appends an extension.
func AppendExt[S ~string | ~[]byte](dst []byte, kind int8, data S) []byte {
	switch n := len(data); n {
	case 1, 2, 4, 8, 16:
		for tag := byte(tagFixExt1); ; tag++ {
			if n >>= 1; n == 0 {
				dst = append(dst, tag)
				break
			}
		}
	default:
		dst = appendLen(dst, tagExt8, n)
	}
	return append(append(dst, byte(kind)), data...)
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
