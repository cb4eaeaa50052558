package crosscast

import (
	"encoding/binary"
	"math"
	"slices"
)

// The bodies of instructions: what is asked, and what is answered. codec.go describes the rest of the frame format.
//
// A question is an array of three unsigned numbers:
//
//	0 kind    1 sockets, 2 count, 3 rooms
//	1 fields  bit 0 user, bit 1 rooms, bit 2 data
//	2 salt    of the hashes in an answer's users
//
// An answer is an array; nil stands for the zero value of any element, and elements left out at the end are nil:
//
//	0 part     unsigned, counted from 0
//	1 last     boolean
//	2 err      string
//	3 count    unsigned
//	4 users    bytes: hashes of 8 bytes, big endian
//	5 sockets  array of [ID, user, rooms, data]: a string of 1 to 255 bytes, a string of at most 255, an array of strings, a JSON string
//	6 rooms    array of [room, number of sockets]
//	7 replies  array of [socket ID, payload, silent], the payload as in an instruction
//	8 payload  string: JSON; bytes: binary
//	9 handled  boolean
//
// Whoever answers splits what is long into parts of at most [MaxAnswer] bytes. A reader allocates in proportion to the bytes that
// it reads.

// MaxAnswer is about the largest size of one part of an answer, in bytes.
const MaxAnswer = 192 << 10

// appendBody appends elements 10 to n-1 of an instruction.
func appendBody(dst []byte, in *Instruction, n int) []byte {
	if n > 10 {
		dst = appendText(dst, string(in.Reason))
	}
	if n > 11 {
		dst = appendText(dst, in.Ref)
	}
	if n > 12 {
		dst = appendMilliseconds(dst, in.TTL)
	}
	if n > 13 {
		if q := in.Question; q == nil {
			dst = append(dst, mpNil)
		} else {
			dst = appendUint(append(dst, mpFixArray|3), uint64(q.Kind))
			dst = appendUint(dst, uint64(q.Fields))
			dst = appendUint(dst, q.Salt)
		}
	}
	if n > 14 {
		if in.Answer == nil {
			dst = append(dst, mpNil)
		} else {
			dst = appendAnswer(dst, in.Answer)
		}
	}
	if n > 15 {
		dst = appendPresence(dst, in.Presence)
	}
	return dst
}

// appendText appends a string, or nil when it is empty.
func appendText(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, mpNil)
	}
	return appendStr(dst, s)
}

func appendAnswer(dst []byte, a *Answer) []byte {
	dst = appendUint(append(dst, mpFixArray|10), uint64(a.Part))
	dst = appendBool(dst, a.Last)
	dst = appendText(dst, a.Err)
	dst = appendUint(dst, uint64(a.Count))
	if len(a.Users) == 0 {
		dst = append(dst, mpNil)
	} else {
		dst = appendLen(dst, mpBin8, 8*len(a.Users))
		for _, u := range a.Users {
			dst = binary.BigEndian.AppendUint64(dst, u)
		}
	}
	if len(a.Sockets) == 0 {
		dst = append(dst, mpNil)
	} else {
		dst = appendArrayLen(dst, len(a.Sockets))
		for i := range a.Sockets {
			s := &a.Sockets[i]
			dst = appendStr(append(dst, mpFixArray|4), s.ID)
			dst = appendText(dst, s.User)
			dst = appendNames(dst, s.Rooms)
			dst = appendPayload(dst, Payload{JSON, s.Data})
		}
	}
	if len(a.Rooms) == 0 {
		dst = append(dst, mpNil)
	} else {
		dst = appendArrayLen(dst, len(a.Rooms))
		for _, r := range a.Rooms {
			dst = appendStr(append(dst, mpFixArray|2), r.Room)
			dst = appendUint(dst, uint64(r.Sockets))
		}
	}
	if len(a.Replies) == 0 {
		dst = append(dst, mpNil)
	} else {
		dst = appendArrayLen(dst, len(a.Replies))
		for i := range a.Replies {
			r := &a.Replies[i]
			dst = appendStr(append(dst, mpFixArray|3), r.Socket)
			dst = appendPayload(dst, r.Payload)
			dst = appendBool(dst, r.Silent)
		}
	}
	dst = appendPayload(dst, a.Payload)
	return appendBool(dst, a.Handled)
}

// appendPayload appends what cursor.payload reads; JSON without data is nil.
func appendPayload(dst []byte, p Payload) []byte {
	switch {
	case p.Encoding == Binary:
		return appendBin(dst, p.Data)
	case p.Encoding == JSON && len(p.Data) > 0:
		return appendStr(dst, p.Data)
	}
	return append(dst, mpNil)
}

func checkAnswer(a *Answer) error {
	if a.Part < 0 || a.Count < 0 {
		return &LimitError{What: "answer", Len: min(a.Part, a.Count), Max: math.MaxInt32}
	}
	for i := range a.Sockets {
		s := &a.Sockets[i]
		if err := checkName("socket", string(s.ID)); err != nil {
			return err
		}
		if len(s.User) > MaxName {
			return checkName("user", s.User)
		}
		if err := checkNames("room", s.Rooms); err != nil {
			return err
		}
	}
	for i := range a.Rooms {
		if err := checkName("room", a.Rooms[i].Room); err != nil {
			return err
		}
		if a.Rooms[i].Sockets < 0 {
			return &LimitError{What: "room count", Len: a.Rooms[i].Sockets, Max: math.MaxInt32}
		}
	}
	for i := range a.Replies {
		if err := checkName("socket", string(a.Replies[i].Socket)); err != nil {
			return err
		}
	}
	return nil
}

// readBody reads element i, which is not nil, of the instruction.
func (r *FrameReader) readBody(i int) {
	c, in := &r.c, &r.in
	switch i {
	case 9:
		r.rooms = r.rooms[:0]
		n := c.array()
		if n > MaxNames {
			c.fail()
		}
		for ; n > 0 && !c.bad; n-- {
			r.rooms = append(r.rooms, r.names.get(c.name()))
		}
		in.Rooms = r.rooms
	case 10:
		in.Reason = Reason(r.names.get(c.text()))
	case 11:
		in.Ref = string(c.name())
	case 12:
		in.TTL = c.milliseconds()
	case 13:
		n := c.array()
		if n < 3 {
			c.fail()
		}
		q := Question{Kind: QuestionKind(c.smallUint()), Fields: Fields(c.smallUint()), Salt: c.uint()}
		c.skip(n - 3)
		r.question = q
		in.Question = &r.question
	case 14:
		in.Answer = c.answer()
	case 15:
		in.Presence = c.presence()
	}
}

// smallUint reads a number that fits a byte.
func (c *cursor) smallUint() uint8 {
	v := c.uint()
	if v > math.MaxUint8 {
		c.fail()
		return 0
	}
	return uint8(v)
}

// count reads a number of things.
func (c *cursor) count() int {
	v := c.uint()
	if v > math.MaxInt32 {
		c.fail()
		return 0
	}
	return int(v)
}

// answer reads an answer, which may be kept, with all that it holds.
func (c *cursor) answer() *Answer {
	a := new(Answer)
	n := c.array()
	for i := 0; i < n && !c.bad; i++ {
		if c.isNil() {
			continue
		}
		switch i {
		case 0:
			a.Part = c.count()
		case 1:
			a.Last = c.bool()
		case 2:
			a.Err = string(c.str())
		case 3:
			a.Count = c.count()
		case 4:
			a.Users = c.hashes()
		case 5:
			list(c, &a.Sockets, (*cursor).socketInfo)
		case 6:
			list(c, &a.Rooms, (*cursor).roomCount)
		case 7:
			list(c, &a.Replies, (*cursor).reply)
		case 8:
			a.Payload = c.ownPayload()
		case 9:
			a.Handled = c.bool()
		default:
			c.skip(n - i)
			i = n
		}
	}
	return a
}

// list reads an array of things. It grows as they are read: what a hostile length promises is not allocated.
func list[T any](c *cursor, to *[]T, read func(*cursor) T) {
	n := c.array()
	if n > 0 && !c.bad {
		*to = make([]T, 0, min(n, 64))
	}
	for ; n > 0 && !c.bad; n-- {
		*to = append(*to, read(c))
	}
}

func (c *cursor) hashes() []uint64 {
	p := c.payload()
	if p.Encoding != Binary || len(p.Data)%8 != 0 {
		c.fail()
		return nil
	}
	h := make([]uint64, 0, len(p.Data)/8)
	for b := p.Data; len(b) > 0; b = b[8:] {
		h = append(h, bigEndian(b[:8]))
	}
	return h
}

func (c *cursor) socketInfo() (s SocketInfo) {
	n := c.array()
	if n < 1 {
		c.fail()
	}
	for i := 0; i < n && !c.bad; i++ {
		if c.isNil() {
			continue
		}
		switch i {
		case 0:
			s.ID = SocketID(c.name())
		case 1:
			s.User = string(c.text())
		case 2:
			list(c, &s.Rooms, func(c *cursor) string { return string(c.name()) })
		case 3:
			s.Data = c.ownPayload().Data
		default:
			c.skip(n - i)
			i = n
		}
	}
	if s.ID == "" {
		c.fail()
	}
	return s
}

func (c *cursor) roomCount() RoomCount {
	n := c.array()
	if n < 2 {
		c.fail()
	}
	r := RoomCount{Room: string(c.name()), Sockets: c.count()}
	c.skip(max(n-2, 0))
	return r
}

func (c *cursor) reply() (r Reply) {
	n := c.array()
	if n < 3 {
		c.fail()
	}
	r.Socket = SocketID(c.name())
	if !c.isNil() {
		r.Payload = c.ownPayload()
	}
	r.Silent = c.bool()
	c.skip(max(n-3, 0))
	return r
}

// ownPayload reads a payload with bytes of its own.
func (c *cursor) ownPayload() Payload {
	p := c.payload()
	p.Data = slices.Clone(p.Data)
	return p
}
