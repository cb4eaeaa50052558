package mpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"sync"
)

// MaxDepth is how deep arrays and maps may be nested in what this package converts. Node.js is the reason: its parsers
// of msgpack are recursive, and a process that gets a value a few thousand deep may die of it.
const MaxDepth = 512

var (
	// ErrDepth: arrays or maps are nested deeper than MaxDepth.
	ErrDepth = errors.New("mpack: nested too deep")
	// ErrAttachment: a placeholder stands for no attachment, or for one that another stands for.
	ErrAttachment = errors.New("mpack: placeholder of no attachment")
)

// AppendFromJSON appends one JSON value, with white space around it, as msgpack: what JavaScript's writers make of what
// JSON.parse reads.
//
// A number that is an integer is one, in the shortest form, however it is written (1.0, 1e2; -0 is 0), and exact from
// -2^63 to 2^64-1, where JavaScript's are from -2^53 to 2^53. Any other takes 9 bytes. Of a key that comes again, the
// last value takes the place of the first. The order of keys is that of the text; JavaScript enumerates those that look
// like array indices first. What is not UTF-8, and half a surrogate pair, is U+FFFD.
//
// Beside an error, which says where the text is not JSON or matches [ErrDepth], it returns dst.
func AppendFromJSON(dst, text []byte) ([]byte, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	out := p.whole(slices.Grow(dst, len(text)), text, 0)
	if p.bad {
		return dst, p.why()
	}
	return out, nil
}

// AppendArrayFromJSON appends an array of JSON values as [AppendFromJSON] makes them, and when there are attachments,
// puts them in as bytes: an object with the members "_placeholder":true and "num":n stands for attachments[n], as in
// packets of Socket.IO. Only one may stand for each, so that a text cannot make more of them than there are. The error
// of any other matches [ErrAttachment].
func AppendArrayFromJSON[S ~[]byte](dst []byte, values []S, attachments [][]byte) ([]byte, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	if p.attachments = attachments; len(attachments) > 0 {
		p.used = make([]bool, len(attachments))
	}
	out := AppendArrayLen(dst, len(values))
	for _, text := range values {
		out = p.whole(slices.Grow(out, len(text)), text, 1)
	}
	if p.bad {
		return dst, p.why()
	}
	return out, nil
}

// parsers keeps parsers for their members, which would be the only allocation.
var parsers = sync.Pool{New: func() any { return new(parser) }}

func (p *parser) release() {
	*p = parser{members: p.members[:0]}
	if cap(p.members) <= 1024 {
		parsers.Put(p)
	}
}

// A parser parses JSON. As in a [Cursor], the first failure sticks, and from then on nothing is left.
type parser struct {
	text []byte
	pos  int
	bad  bool
	at   int   // where the first failure was
	err  error // why, when the text is JSON

	exact bool // see AppendExactFromJSON

	members     []member // of the objects that are open
	scratch     []byte   // a copy of an object with keys that come again
	attachments [][]byte
	used        []bool // of attachments
}

// A member of an object is in dst: its key from key on, and its value from value to end.
type member struct{ key, value, end int }

// whole parses a text that is one value, which is so many arrays deep.
func (p *parser) whole(dst, text []byte, depth int) []byte {
	if p.bad {
		return dst
	}
	p.text, p.pos = text, 0
	dst = p.value(dst, depth)
	if p.space(); p.pos < len(text) {
		p.fail(nil)
	}
	return dst
}

func (p *parser) why() error {
	if p.err != nil {
		return p.err
	}
	return fmt.Errorf("mpack: no JSON, at byte %d", p.at)
}

func (p *parser) fail(err error) {
	if !p.bad {
		p.bad, p.at, p.err = true, p.pos, err
	}
	p.pos = len(p.text)
}

// next returns the next byte that is no white space, without moving behind it; 0 at the end.
func (p *parser) next() byte {
	if p.pos < len(p.text) {
		if b := p.text[p.pos]; b > ' ' {
			return b
		}
	}
	return p.space()
}

func (p *parser) space() byte {
	for p.pos < len(p.text) {
		switch b := p.text[p.pos]; b {
		case ' ', '\n', '\t', '\r':
			p.pos++
		default:
			return b
		}
	}
	return 0
}

func (p *parser) value(dst []byte, depth int) []byte {
	switch b := p.next(); b {
	case '"':
		return p.str(dst)
	case '{':
		return p.object(dst, depth+1)
	case '[':
		return p.array(dst, depth+1)
	case 't':
		p.word("true")
		return append(dst, tagTrue)
	case 'f':
		p.word("false")
		return append(dst, tagFalse)
	case 'n':
		p.word("null")
		return append(dst, Nil)
	}
	return p.number(dst)
}

func (p *parser) word(w string) {
	if !bytes.HasPrefix(p.text[p.pos:], []byte(w)) {
		p.fail(nil)
		return
	}
	p.pos += len(w)
}

// more moves behind what comes after an element, and reports whether another one follows.
func (p *parser) more(end byte) bool {
	switch p.next() {
	case ',':
		p.pos++
		return true
	case end:
		p.pos++
		return false
	}
	p.fail(nil)
	return false
}

func (p *parser) array(dst []byte, depth int) []byte {
	if depth > MaxDepth {
		p.fail(ErrDepth)
		return dst
	}
	head, n := len(dst), 0
	dst = append(dst, FixArray)
	p.pos++
	if p.next() == ']' {
		p.pos++
		return dst
	}
	for {
		dst = p.value(dst, depth)
		n++
		if !p.more(']') {
			return setLen(dst, head, n, tagArray16)
		}
	}
}

func (p *parser) object(dst []byte, depth int) []byte {
	if depth > MaxDepth {
		p.fail(ErrDepth)
		return dst
	}
	head, from := len(dst), len(p.members)
	dst = append(dst, fixMap)
	p.pos++
	if p.next() == '}' {
		p.pos++
		return dst
	}
	for more := true; more; more = p.more('}') {
		key := len(dst)
		if p.next() != '"' {
			p.fail(nil)
			return dst
		}
		dst = p.str(dst)
		if p.next() != ':' {
			p.fail(nil)
			return dst
		}
		p.pos++
		value := len(dst)
		dst = p.value(dst, depth)
		p.members = append(p.members, member{key, value, len(dst)})
	}
	if p.bad {
		return dst
	}
	dst, members := p.unique(dst, p.members[from:])
	p.members = p.members[:from]
	if len(p.attachments) > 0 {
		if b, ok := p.attachment(dst, members); ok {
			return AppendBin(dst[:head], b)
		}
	}
	return setLen(dst, head, len(members), tagMap16)
}

// setLen sets the number of elements of what follows dst[head], which was begun as a short array or map.
func setLen(dst []byte, head, n int, tag16 byte) []byte {
	if n < 16 {
		dst[head] |= byte(n)
		return dst
	}
	if n <= math.MaxUint16 {
		dst = insert(dst, head+1, 2)
		dst[head] = tag16
		binary.BigEndian.PutUint16(dst[head+1:], uint16(n))
		return dst
	}
	dst = insert(dst, head+1, 4)
	dst[head] = tag16 + 1
	binary.BigEndian.PutUint32(dst[head+1:], uint32(n))
	return dst
}

// insert makes room for n bytes, at most 5, at dst[at].
func insert(dst []byte, at, n int) []byte {
	dst = append(dst, "\x00\x00\x00\x00\x00"[:n]...)
	copy(dst[at+n:], dst[at:])
	return dst
}

// unique takes out the members of an object, the last in dst, that come again: the last value takes the place of the
// first.
func (p *parser) unique(dst []byte, members []member) ([]byte, []member) {
	if p.exact || !repeats(dst, members) {
		return dst, members
	}
	begin := members[0].key
	kept := make([]member, 0, len(members))
	index := make(map[string]int, len(members))
	for _, m := range members {
		key := string(dst[m.key:m.value])
		if i, ok := index[key]; ok {
			kept[i] = m
			continue
		}
		index[key] = len(kept)
		kept = append(kept, m)
	}
	p.scratch = append(p.scratch[:0], dst[begin:]...)
	dst = dst[:begin]
	for i, m := range kept {
		at := len(dst)
		dst = append(dst, p.scratch[m.key-begin:m.end-begin]...)
		kept[i] = member{at, at + m.value - m.key, at + m.end - m.key}
	}
	return dst, kept
}

// repeats reports whether a key comes again. It takes linear time, whatever the keys are.
func repeats(dst []byte, members []member) bool {
	if len(members) <= 8 {
		for i := 1; i < len(members); i++ {
			key := dst[members[i].key:members[i].value]
			for _, m := range members[:i] {
				if bytes.Equal(key, dst[m.key:m.value]) {
					return true
				}
			}
		}
		return false
	}
	var few [64]int32
	slots := few[:] // indices of members, counted from 1
	if 2*len(members) > len(slots) {
		slots = make([]int32, 1<<bits.Len(uint(2*len(members))))
	}
	mask := len(slots) - 1
	seed := maphash.MakeSeed()
	for i, m := range members {
		key := dst[m.key:m.value]
		at := int(maphash.Bytes(seed, key)) & mask
		for ; slots[at] != 0; at = (at + 1) & mask {
			if o := members[slots[at]-1]; bytes.Equal(key, dst[o.key:o.value]) {
				return true
			}
		}
		slots[at] = int32(i + 1)
	}
	return false
}

// attachment returns what an object stands for, if it is a placeholder.
func (p *parser) attachment(dst []byte, members []member) (b []byte, ok bool) {
	n := -1
	for _, m := range members {
		switch key, value := dst[m.key:m.value], dst[m.value:m.end]; string(key) {
		case "\xac_placeholder":
			ok = value[0] == tagTrue
		case "\xa3num":
			if c := NewCursor(value); c.AtNumber() {
				if v := c.Uint(); !c.Bad() && v < uint64(len(p.attachments)) {
					n = int(v)
				}
			}
		}
	}
	if !ok {
		return nil, false
	}
	if n < 0 || p.used[n] {
		p.fail(ErrAttachment)
		return nil, false
	}
	p.used[n] = true
	return p.attachments[n], true
}
