package crosscast

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
)

// The bodies of instructions: queries and answers. codec.go describes the rest of the format.
//
// A question is an array of three unsigned numbers:
//
//	0 kind    1 sockets, 2 count, 3 rooms, 4 nodes, 5 stats; 0 and numbers above 255 are unknown to this version
//	1 fields  bit 0 user, bit 1 rooms, bit 2 data, bit 3 handshake
//	2 salt    of the hashes in an answer's users
//
// An answer is an array; nil stands for the zero value of any element, and elements left out at the end are nil:
//
//	0 part     unsigned, counted from 0
//	1 last     boolean
//	2 err      string
//	3 count    unsigned
//	4 users    bytes: hashes of 8 bytes, big endian
//	5 sockets  array of [ID, user, rooms, data, handshake]: a string, a string or nil, an array of strings or nil, and
//	           two strings, which are JSON, or nil; the last is left out if it is nil
//	6 rooms    array of [room, number of sockets]: a string, and unsigned
//	7 replies  array of [socket ID, payload, silent]: a string, a payload as in an instruction, and a boolean
//	8 payload  as in an instruction
//	9 handled  boolean
//
// The elements of these inner arrays must be present, and are nil only where the table allows it. Parts, counts and
// numbers of sockets are at most 2,147,483,647. IDs and names take 1 to 255 bytes. A user takes at most 255; an empty
// one is no user. The lists are limited only by the bytes that they take, and a reader allocates a bounded multiple of
// these. A node that answers splits a long answer into parts of about limit.Answer bytes.

// Sizes of the shortest elements of lists, in bytes. Before a list is allocated, this many bytes must be there for each
// element. Whether the list is complete shows only at its end.
const (
	leastName       = 2 // a string of 1 byte
	leastSocketInfo = 1 + leastName + 3
	leastRoomCount  = 1 + leastName + 1
	leastReply      = 1 + leastName + 2
)

// bodyLen returns the number of elements of an instruction that has an element from 8 on.
func bodyLen(inst *Instruction) int {
	switch {
	case inst.Presence != nil:
		return 15
	case inst.Answer != nil:
		return 14
	case inst.Question != nil:
		return 13
	case inst.TTL > 0:
		return 12
	case inst.Ref != "":
		return 11
	case inst.Reason != "":
		return 10
	}
	return 9
}

// appendBody appends elements 9 to n-1 of an instruction.
func appendBody(dst []byte, inst *Instruction, n int) []byte {
	if n > 9 {
		dst = appendText(dst, inst.Reason)
	}
	if n > 10 {
		dst = appendText(dst, inst.Ref)
	}
	if n > 11 {
		dst = appendMilliseconds(dst, inst.TTL)
	}
	if n > 12 {
		if q := inst.Question; q == nil {
			dst = append(dst, mpack.Nil)
		} else {
			dst = mpack.AppendUint(append(dst, mpack.FixArray|3), uint64(q.Kind))
			dst = mpack.AppendUint(dst, uint64(q.Fields))
			dst = mpack.AppendUint(dst, q.Salt)
		}
	}
	if n > 13 {
		if inst.Answer == nil {
			dst = append(dst, mpack.Nil)
		} else {
			dst = appendAnswer(dst, inst.Answer)
		}
	}
	if n > 14 {
		dst = appendPresence(dst, inst.Presence)
	}
	return dst
}

// appendText appends a string, or nil if it is empty.
func appendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	if len(s) == 0 {
		return append(dst, mpack.Nil)
	}
	return mpack.AppendStr(dst, s)
}

func appendAnswer(dst []byte, a *Answer) []byte {
	dst = mpack.AppendUint(append(dst, mpack.FixArray|10), uint64(a.Part))
	dst = mpack.AppendBool(dst, a.Last)
	dst = appendText(dst, a.Err)
	dst = mpack.AppendUint(dst, uint64(a.Count))
	if len(a.Users) == 0 {
		dst = append(dst, mpack.Nil)
	} else {
		dst = mpack.AppendBinLen(dst, 8*len(a.Users))
		for _, u := range a.Users {
			dst = binary.BigEndian.AppendUint64(dst, u)
		}
	}
	dst = mpack.AppendArrayLen(dst, len(a.Sockets))
	for i := range a.Sockets {
		s := &a.Sockets[i]
		n := byte(4)
		if len(s.Handshake) > 0 {
			n = 5
		}
		dst = mpack.AppendStr(append(dst, mpack.FixArray|n), s.ID)
		dst = appendText(dst, s.User)
		dst = appendNames(dst, s.Rooms)
		dst = appendText(dst, s.Data)
		if n > 4 {
			dst = mpack.AppendStr(dst, s.Handshake)
		}
	}
	dst = mpack.AppendArrayLen(dst, len(a.Rooms))
	for i := range a.Rooms {
		dst = mpack.AppendStr(append(dst, mpack.FixArray|2), a.Rooms[i].Room)
		dst = mpack.AppendUint(dst, uint64(a.Rooms[i].Sockets))
	}
	dst = mpack.AppendArrayLen(dst, len(a.Replies))
	for i := range a.Replies {
		r := &a.Replies[i]
		dst = mpack.AppendStr(append(dst, mpack.FixArray|3), r.Socket)
		dst = appendPayload(dst, &r.Payload)
		dst = mpack.AppendBool(dst, r.Silent)
	}
	dst = appendPayload(dst, &a.Payload)
	return mpack.AppendBool(dst, a.Handled)
}

// appendPayload appends a string, bytes, an array, an extension or nil.
func appendPayload(dst []byte, p *Payload) []byte {
	switch p.Encoding {
	case EncodingJSON:
		return mpack.AppendStr(dst, p.Data)
	case EncodingBinary:
		return mpack.AppendBin(dst, p.Data)
	case EncodingArgs:
		return append(dst, p.Data...)
	case EncodingMsgPack:
		return mpack.AppendExt(dst, int8(EncodingMsgPack), p.Data)
	}
	return append(dst, mpack.Nil)
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
		return &limit.Error{What: "users", Len: len(a.Users), Max: math.MaxInt32 / 8}
	}
	for i := range a.Sockets {
		s := &a.Sockets[i]
		if err := checkName("socket", string(s.ID)); err != nil {
			return err
		}
		if len(s.User) > limit.Name {
			return checkName("user", s.User)
		}
		if err := checkNames("room", s.Rooms); err != nil {
			return err
		}
		if err := checkCount("data", len(s.Data)); err != nil {
			return err
		}
		if err := checkCount("handshake", len(s.Handshake)); err != nil {
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
		return &limit.Error{What: what, Len: n, Max: math.MaxInt32}
	}
	return nil
}

// readBody reads element i, from 8 on, of the instruction. The element is not nil.
func (r *InstructionReader) readBody(i int) {
	c, inst := &r.c, &r.inst
	switch i {
	case 8:
		n := c.Array()
		if n > limit.Names {
			c.Fail()
		}
		r.rooms = r.rooms[:0]
		for ; n > 0 && !c.Bad(); n-- {
			r.rooms = append(r.rooms, r.names.Get(c.name()))
		}
		if n := len(r.rooms); n > 0 {
			inst.Rooms = r.rooms[:n:n]
		}
	case 9:
		inst.Reason = Reason(r.names.Get(c.text()))
	case 10:
		inst.Ref = string(c.name()) // one for each query: remembering them would only drive out names
	case 11:
		inst.TTL = c.Milliseconds()
	case 12:
		r.readQuestion()
	case 13:
		inst.Answer = r.readAnswer()
	case 14:
		inst.Presence = c.presence()
	}
}

func (r *InstructionReader) readQuestion() {
	c := &r.c
	n := c.Array()
	if n < 3 {
		c.Fail()
	}
	number := c.Uint()
	if number > math.MaxUint8 { // of a later version: the query is kept as one, so that its sender gets an answer
		number = 0
	}
	r.question = Question{Kind: kind.Question(number), Fields: kind.Fields(c.Uint()), Salt: c.Uint()}
	c.Skip(n - 3)
	r.inst.Question = &r.question
}

// readAnswer reads an answer that may be kept. No part of it points into the bytes, and no string is a part of a longer
// one, so a caller that keeps a name keeps no more memory than that.
func (r *InstructionReader) readAnswer() *Answer {
	c, a := &r.c, new(Answer)
	n := c.Array()
	for i := 0; i < n; i++ {
		if c.IsNil() {
			continue
		}
		switch i {
		case 0:
			a.Part = c.count()
		case 1:
			a.Last = c.Bool()
		case 2:
			a.Err = string(c.Str())
		case 3:
			a.Count = c.count()
		case 4:
			a.Users = c.hashes()
		case 5:
			a.Sockets = readList(r, leastSocketInfo, (*InstructionReader).readSocketInfo)
		case 6:
			a.Rooms = readList(r, leastRoomCount, (*InstructionReader).readRoomCount)
		case 7:
			a.Replies = readList(r, leastReply, (*InstructionReader).readReply)
		case 8:
			a.Payload = c.ownPayload()
		case 9:
			a.Handled = c.Bool()
		default:
			c.Skip(n - i)
			i = n
		}
	}
	return a
}

// readList reads an array of elements that take at least least bytes each; nil if it is empty.
func readList[T any](r *InstructionReader, least int, read func(*InstructionReader, *T)) []T {
	n := r.c.Array()
	if n > r.c.Left()/least {
		r.c.Fail()
	}
	if n == 0 || r.c.Bad() {
		return nil
	}
	list := make([]T, n)
	for i := 0; i < n && !r.c.Bad(); i++ {
		read(r, &list[i])
	}
	return list
}

func (r *InstructionReader) readSocketInfo(s *SocketInfo) {
	c := &r.c
	n := c.Array()
	if n < 4 {
		c.Fail()
	}
	s.ID = SocketID(c.name())
	if !c.IsNil() {
		s.User = string(c.text())
	}
	if !c.IsNil() {
		s.Rooms = readList(r, leastName, (*InstructionReader).readRoom)
	}
	s.Data = c.ownText()
	if n > 4 {
		s.Handshake = c.ownText()
	}
	c.Skip(n - min(n, 5))
}

// readRoom reads a room of a socket. Other sockets are in it too, so its name is remembered.
func (r *InstructionReader) readRoom(room *string) { *room = r.names.Get(r.c.name()) }

func (r *InstructionReader) readRoomCount(count *RoomCount) {
	c := &r.c
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	count.Room = string(c.name())
	count.Sockets = c.count()
	c.Skip(n - 2)
}

func (r *InstructionReader) readReply(reply *Reply) {
	c := &r.c
	n := c.Array()
	if n < 3 {
		c.Fail()
	}
	reply.Socket = SocketID(c.name())
	if !c.IsNil() {
		reply.Payload = c.ownPayload()
	}
	reply.Silent = c.Bool()
	c.Skip(n - 3)
}

// count reads a number of items.
func (c *cursor) count() int {
	n := c.Uint()
	if n > math.MaxInt32 {
		c.Fail()
		return 0
	}
	return int(n)
}

func (c *cursor) hashes() []uint64 {
	b := c.Bin()
	if len(b)%8 != 0 {
		c.Fail()
	}
	if len(b) == 0 || c.Bad() {
		return nil
	}
	hashes := make([]uint64, len(b)/8)
	for i := range hashes {
		hashes[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return hashes
}

// ownText reads a string, or nil, and copies it; nil if it is empty.
func (c *cursor) ownText() []byte {
	if c.IsNil() {
		return nil
	}
	if s := c.Str(); len(s) > 0 {
		return bytes.Clone(s)
	}
	return nil
}

// ownPayload reads a payload and copies it.
func (c *cursor) ownPayload() Payload {
	p := c.payload()
	p.Data = bytes.Clone(p.Data) // slices.Clone of no bytes would still point into the input
	return p
}
