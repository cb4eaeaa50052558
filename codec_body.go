package crosscast

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The bodies of instructions: what is asked, and what is answered. codec.go describes the rest of the frame format.
//
// A question is an array of three unsigned numbers:
//
//	0 kind    1 sockets, 2 count, 3 rooms; 0, and what is above 255, is none that this version knows
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
//	5 sockets  array of [ID, user, rooms, data]: a string, a string or nil, an array of strings or nil, and a string,
//	           which is JSON, or nil
//	6 rooms    array of [room, number of sockets]: a string, and unsigned
//	7 replies  array of [socket ID, payload, silent]: a string, a payload as in an instruction, and a boolean
//	8 payload  as in an instruction
//	9 handled  boolean
//
// What these arrays hold is there, and nil only where it says so. Parts, counts and numbers of sockets are at most
// 2,147,483,647. IDs and names take 1 to 255 bytes; a user at most 255, where none is no user. The lists have no limit
// but the bytes that they take, of which a reader allocates a bounded multiple: whoever answers splits what is long
// into parts of about [MaxAnswer] bytes.

// MaxAnswer is about the largest size of one part of an answer, in bytes.
const MaxAnswer = 192 << 10

// What the shortest elements of lists take in a frame. A list of so many has so many times as many bytes before it is
// allocated; that it is as long as it says shows only at its end.
const (
	leastName       = 2 // a string of 1 byte
	leastSocketInfo = 1 + leastName + 3
	leastRoomCount  = 1 + leastName + 1
	leastReply      = 1 + leastName + 2
)

// bodyLen returns the number of elements of an instruction that has one from 9 on.
func bodyLen(in *Instruction) int {
	switch {
	case in.Answer != nil:
		return 15
	case in.Question != nil:
		return 14
	case in.TTL > 0:
		return 13
	case in.Ref != "":
		return 12
	case in.Reason != "":
		return 11
	}
	return 10
}

// appendBody appends elements 10 to n-1 of an instruction.
func appendBody(dst []byte, in *Instruction, n int) []byte {
	if n > 10 {
		dst = appendText(dst, in.Reason)
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
		dst = appendAnswer(dst, in.Answer)
	}
	return dst
}

// appendText appends a string, or nil when it is empty.
func appendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	if len(s) == 0 {
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
	dst = appendArrayLen(dst, len(a.Sockets))
	for i := range a.Sockets {
		s := &a.Sockets[i]
		dst = appendStr(append(dst, mpFixArray|4), s.ID)
		dst = appendText(dst, s.User)
		dst = appendNames(dst, s.Rooms)
		dst = appendText(dst, s.Data)
	}
	dst = appendArrayLen(dst, len(a.Rooms))
	for i := range a.Rooms {
		dst = appendStr(append(dst, mpFixArray|2), a.Rooms[i].Room)
		dst = appendUint(dst, uint64(a.Rooms[i].Sockets))
	}
	dst = appendArrayLen(dst, len(a.Replies))
	for i := range a.Replies {
		r := &a.Replies[i]
		dst = appendStr(append(dst, mpFixArray|3), r.Socket)
		dst = appendPayload(dst, &r.Payload)
		dst = appendBool(dst, r.Silent)
	}
	dst = appendPayload(dst, &a.Payload)
	return appendBool(dst, a.Handled)
}

// appendPayload appends a string, bytes or nil.
func appendPayload(dst []byte, p *Payload) []byte {
	switch p.Encoding {
	case JSON:
		return appendStr(dst, p.Data)
	case Binary:
		return appendBin(dst, p.Data)
	}
	return append(dst, mpNil)
}

func checkAnswer(a *Answer) error {
	if err := checkCount("part", a.Part); err != nil {
		return err
	}
	if err := checkCount("count", a.Count); err != nil {
		return err
	}
	if err := checkCount("error", len(a.Err)); err != nil {
		return err
	}
	if len(a.Users) > math.MaxInt32/8 {
		return &LimitError{What: "users", Len: len(a.Users), Max: math.MaxInt32 / 8}
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
		if err := checkCount("data", len(s.Data)); err != nil {
			return err
		}
	}
	for i := range a.Rooms {
		if err := checkName("room", a.Rooms[i].Room); err != nil {
			return err
		}
		if err := checkCount("sockets", a.Rooms[i].Sockets); err != nil {
			return err
		}
	}
	for i := range a.Replies {
		if err := checkName("socket", string(a.Replies[i].Socket)); err != nil {
			return err
		}
		if err := checkPayload(&a.Replies[i].Payload); err != nil {
			return err
		}
	}
	return checkPayload(&a.Payload)
}

func checkCount(what string, n int) error {
	if n < 0 || n > math.MaxInt32 {
		return &LimitError{What: what, Len: n, Max: math.MaxInt32}
	}
	return nil
}

// readBody reads element i of the instruction, from 9 on, which is not nil.
func (r *FrameReader) readBody(i int) {
	c, in := &r.c, &r.in
	switch i {
	case 9:
		n := c.array()
		if n > MaxNames {
			c.fail()
		}
		r.rooms = r.rooms[:0]
		for ; n > 0 && !c.bad; n-- {
			r.rooms = append(r.rooms, r.names.get(c.name()))
		}
		if n := len(r.rooms); n > 0 {
			in.Rooms = r.rooms[:n:n]
		}
	case 10:
		in.Reason = Reason(r.names.get(c.text()))
	case 11:
		in.Ref = string(c.name()) // as many as questions: remembering them would only drive out names
	case 12:
		in.TTL = c.milliseconds()
	case 13:
		r.readQuestion()
	case 14:
		in.Answer = r.readAnswer()
	}
}

func (r *FrameReader) readQuestion() {
	c := &r.c
	n := c.array()
	if n < 3 {
		c.fail()
	}
	kind := c.uint()
	if kind > math.MaxUint8 { // of a later version: who asks is to be told, so that the question stays one
		kind = 0
	}
	r.question = Question{Kind: QuestionKind(kind), Fields: Fields(c.uint()), Salt: c.uint()}
	c.skip(n - 3)
	r.in.Question = &r.question
}

// readAnswer reads an answer that may be kept. Nothing of it is a part of the frame, and no string of it a part of a
// longer one: whoever keeps a name keeps no more.
func (r *FrameReader) readAnswer() *Answer {
	c, a := &r.c, new(Answer)
	n := c.array()
	for i := 0; i < n; i++ {
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
			a.Sockets = readList(r, leastSocketInfo, (*FrameReader).readSocketInfo)
		case 6:
			a.Rooms = readList(r, leastRoomCount, (*FrameReader).readRoomCount)
		case 7:
			a.Replies = readList(r, leastReply, (*FrameReader).readReply)
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

// readList reads an array of things that take at least so many bytes each: nil when it is empty.
func readList[T any](r *FrameReader, least int, read func(*FrameReader, *T)) []T {
	n := r.c.array()
	if n > r.c.left()/least {
		r.c.fail()
	}
	if n == 0 || r.c.bad {
		return nil
	}
	list := make([]T, n)
	for i := 0; i < n && !r.c.bad; i++ {
		read(r, &list[i])
	}
	return list
}

func (r *FrameReader) readSocketInfo(s *SocketInfo) {
	c := &r.c
	n := c.array()
	if n < 4 {
		c.fail()
	}
	s.ID = SocketID(c.name())
	if !c.isNil() {
		s.User = string(c.text())
	}
	if !c.isNil() {
		s.Rooms = readList(r, leastName, (*FrameReader).readRoom)
	}
	if !c.isNil() {
		if data := c.str(); len(data) > 0 {
			s.Data = bytes.Clone(data)
		}
	}
	c.skip(n - 4)
}

// readRoom reads a room that a socket is in: others are in it, too.
func (r *FrameReader) readRoom(room *string) { *room = r.names.get(r.c.name()) }

func (r *FrameReader) readRoomCount(count *RoomCount) {
	c := &r.c
	n := c.array()
	if n < 2 {
		c.fail()
	}
	count.Room = string(c.name())
	count.Sockets = c.count()
	c.skip(n - 2)
}

func (r *FrameReader) readReply(reply *Reply) {
	c := &r.c
	n := c.array()
	if n < 3 {
		c.fail()
	}
	reply.Socket = SocketID(c.name())
	if !c.isNil() {
		reply.Payload = c.ownPayload()
	}
	reply.Silent = c.bool()
	c.skip(n - 3)
}

// count reads a number of things.
func (c *cursor) count() int {
	n := c.uint()
	if n > math.MaxInt32 {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *cursor) hashes() []uint64 {
	p := c.payload()
	if p.Encoding != Binary || len(p.Data)%8 != 0 {
		c.fail()
	}
	if len(p.Data) == 0 || c.bad {
		return nil
	}
	hashes := make([]uint64, len(p.Data)/8)
	for i := range hashes {
		hashes[i] = binary.BigEndian.Uint64(p.Data[8*i:])
	}
	return hashes
}

// ownPayload reads a payload with bytes of its own.
func (c *cursor) ownPayload() Payload {
	p := c.payload()
	p.Data = bytes.Clone(p.Data) // slices.Clone of no bytes would still point into the frame
	return p
}
