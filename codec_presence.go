package crosscast

import (
	"math"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
)

// The body of an instruction about the members of rooms: an array; nil stands for the zero value of any element, and
// elements left out at the end are nil.
//
//	0 since     unsigned: the version before the changes; 0: from nothing, so the changes are all the members
//	1 version   unsigned: the version after the changes; the same as since: there are no changes
//	2 part      unsigned, counted from 0: the part of a whole list
//	3 last      boolean: this is the last part of a whole list
//	4 changes   array of [socket ID, user, left, presence, at]: a string of 20 bytes, a string of at most 255, a boolean,
//	            a string of at most 1,024, which is JSON (what the socket shows of itself; nil: nothing), and unsigned
//	            (when that was set, in milliseconds since 1970). Those left out at the end are nil
//	5 round     unsigned: the number of a digest, in its request and in itself
//	6 buckets   unsigned: a set of bits
//	7 sums      array of at most 64 unsigned: the digest; nil: none
//	8 versions  array of at most 1,024 unsigned: one for each of the instruction's rooms; nil: none
//	9 full      boolean: the rooms are not reported
//
// An instruction to watch has at most round, buckets and versions. presence_node.go describes their meaning.

// presenceChangeMin is the smallest number of bytes of a change.
const presenceChangeMin = 2 + socketIDLen

func appendPresence(dst []byte, p *Presence) []byte {
	n := 0
	switch {
	case p.Full:
		n = 10
	case len(p.Versions) > 0:
		n = 9
	case len(p.Sums) > 0:
		n = 8
	case p.Buckets != 0:
		n = 7
	case p.Round != 0:
		n = 6
	case p.Version != 0 || p.Since != 0 || p.Part != 0 || p.Last || len(p.Changes) > 0:
		n = 5
	}
	dst = append(dst, mpack.FixArray|byte(n))
	if n > 0 {
		dst = mpack.AppendUint(dst, p.Since)
		dst = mpack.AppendUint(dst, p.Version)
		dst = mpack.AppendUint(dst, uint64(p.Part))
		dst = mpack.AppendBool(dst, p.Last)
		dst = appendPresenceChanges(dst, p)
	}
	if n > 5 {
		dst = mpack.AppendUint(dst, p.Round)
	}
	if n > 6 {
		dst = mpack.AppendUint(dst, p.Buckets)
	}
	if n > 7 {
		dst = appendNumbers(dst, p.Sums)
	}
	if n > 8 {
		dst = appendNumbers(dst, p.Versions)
	}
	if n > 9 {
		dst = mpack.AppendBool(dst, p.Full)
	}
	return dst
}

func appendNumbers(dst []byte, all []uint64) []byte {
	if len(all) == 0 {
		return append(dst, mpack.Nil)
	}
	dst = mpack.AppendArrayLen(dst, len(all))
	for _, v := range all {
		dst = mpack.AppendUint(dst, v)
	}
	return dst
}

func appendPresenceChanges(dst []byte, p *Presence) []byte {
	if len(p.Changes) == 0 {
		return append(dst, mpack.Nil)
	}
	dst = mpack.AppendArrayLen(dst, len(p.Changes))
	for i := range p.Changes {
		c := &p.Changes[i]
		n := byte(1)
		switch {
		case c.At != 0:
			n = 5
		case len(c.Presence) > 0:
			n = 4
		case c.Left:
			n = 3
		case c.User != "":
			n = 2
		}
		dst = mpack.AppendStr(append(dst, mpack.FixArray|n), c.Socket)
		if n > 1 {
			dst = appendText(dst, c.User)
		}
		if n > 2 {
			dst = mpack.AppendBool(dst, c.Left)
		}
		if n > 3 {
			dst = appendText(dst, c.Presence)
		}
		if n > 4 {
			dst = mpack.AppendUint(dst, c.At)
		}
	}
	return dst
}

// presenceSize is the approximate memory of p, and more than its bytes in the format.
func presenceSize(p *Presence) int {
	n := 64 + 9*(len(p.Sums)+len(p.Versions))
	for i := range p.Changes {
		n += presenceChangeSize(&p.Changes[i].Member)
	}
	return n
}

func presenceChangeSize(m *Member) int {
	n := 48 + len(m.Socket) + len(m.User)
	if len(m.Presence) > 0 {
		n += 16 + len(m.Presence)
	}
	return n
}

func checkPresence(p *Presence) error {
	if p == nil {
		return nil
	}
	if p.Part < 0 {
		return &limit.Error{What: "presence", Len: p.Part, Max: math.MaxInt32}
	}
	if len(p.Sums) > buckets {
		return &limit.Error{What: "presence", Len: len(p.Sums), Max: buckets}
	}
	if len(p.Versions) > limit.Names {
		return &limit.Error{What: "presence", Len: len(p.Versions), Max: limit.Names}
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if len(c.Socket) != socketIDLen {
			return &limit.Error{What: "socket", Len: len(c.Socket), Max: socketIDLen, Name: true}
		}
		if len(c.User) > limit.Name {
			return checkName("user", c.User)
		}
		if len(c.Presence) > limit.Presence {
			return &limit.Error{What: "presence", Len: len(c.Presence), Max: limit.Presence, Bytes: true}
		}
	}
	return nil
}

// presence reads a body. It may be kept, with everything in it.
func (c *cursor) presence() *Presence {
	p := new(Presence)
	n := c.Array()
	for i := 0; i < n && !c.Bad(); i++ {
		if c.IsNil() {
			continue
		}
		switch i {
		case 0:
			p.Since = c.Uint()
		case 1:
			p.Version = c.Uint()
		case 2:
			p.Part = c.count()
		case 3:
			p.Last = c.Bool()
		case 4:
			m := c.Array()
			if m > 0 && !c.Bad() { // bounded by the bytes left, because the length might be hostile
				p.Changes = make([]PresenceChange, 0, min(m, c.Left()/presenceChangeMin))
			}
			for ; m > 0 && !c.Bad(); m-- {
				p.Changes = append(p.Changes, c.presenceChange())
			}
		case 5:
			p.Round = c.Uint()
		case 6:
			p.Buckets = c.Uint()
		case 7:
			p.Sums = c.numbers(buckets)
		case 8:
			p.Versions = c.numbers(limit.Names)
		case 9:
			p.Full = c.Bool()
		default:
			c.Skip(n - i)
			i = n
		}
	}
	return p
}

// numbers reads an array of at most most unsigned numbers.
func (c *cursor) numbers(most int) []uint64 {
	n := c.Array()
	if n > most {
		c.Fail()
	}
	if n == 0 || c.Bad() {
		return nil
	}
	all := make([]uint64, 0, min(n, c.Left()))
	for ; n > 0 && !c.Bad(); n-- {
		all = append(all, c.Uint())
	}
	return all
}

func (c *cursor) presenceChange() (v PresenceChange) {
	n := c.Array()
	for i := 0; i < n && !c.Bad(); i++ {
		if c.IsNil() {
			continue
		}
		switch i {
		case 0:
			v.Socket = SocketID(c.name())
		case 1:
			v.User = string(c.text())
		case 2:
			v.Left = c.Bool()
		case 3:
			v.Presence = c.ownText()
			if len(v.Presence) > limit.Presence {
				c.Fail()
			}
		case 4:
			v.At = c.Uint()
		default:
			c.Skip(n - i)
			i = n
		}
	}
	if len(v.Socket) != socketIDLen {
		c.Fail()
	}
	return v
}
