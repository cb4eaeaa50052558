package crosscast

import (
	"fmt"
	"math"

	"github.com/crosscast/crosscast/internal/intern"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
)

// For drivers: an InstructionReader reads instructions from bytes. The zero value is ready, and it is not for
// concurrent use. codec.go describes the format.
//
// It reuses the instruction that it returns, which is valid until the next Read. Strings may be kept. An Answer and a
// Presence may be kept, with everything in them. Payload.Data is a part of the bytes that were read. The other slices,
// and a Question, must be copied to be kept.
//
// The bytes are taken as hostile. For any bytes, a reader does not panic or recurse. It allocates only strings,
// answers, presences, and tables of its own, which are bounded and made once. It remembers the latest few hundred
// names, so that repeated names cost nothing. An answer takes at most 28 times its bytes in memory; a real list of
// sockets takes about 4 times its bytes.
type InstructionReader struct {
	c     cursor
	inst  Instruction
	event string // of the latest instruction with an event

	names, ids intern.Table // socket IDs are apart, because they are many and would drive out events and rooms

	// The slices of the returned instruction point into these.
	texts    []string   // at most limit.Names
	sockets  []SocketID // at most limit.Names
	meta     []KeyValue // at most limit.Meta
	rooms    []string   // at most limit.Names
	question Question
}

// Read reads the first instruction of data, and returns it with the bytes behind it. An error means that the bytes
// break the format; its text names the position.
//
// The driver sets the fields that the bytes do not carry: From, To and, in a hello or heartbeat, the ID of Node, which
// is From. If Kind is 0, the instruction is of a later version and must be skipped: none of its other fields is set.
func (r *InstructionReader) Read(data []byte) (inst *Instruction, rest []byte, err error) {
	c := &r.c
	c.Reset(data)
	n := c.Array()
	number := c.Uint()
	if n == 0 || number == 0 {
		c.Fail()
	}
	inst = &r.inst
	*inst = Instruction{} // in place; a literal with values would be made on the stack and copied
	if number > math.MaxUint8 {
		c.Skip(n - 1)
		n = 0
	} else {
		inst.Kind, inst.Namespace = kind.Kind(number), "/"
	}
	for i := 1; i < n; i++ {
		if c.IsNil() {
			continue
		}
		switch i {
		case 1:
			inst.Volatile = c.Uint()&flagVolatile != 0
		case 2:
			inst.Namespace = r.names.Get(c.name())
		case 3:
			r.readTarget(&inst.Target)
		case 4:
			if name := c.name(); string(name) != r.event { // most often the same as before
				r.event = r.names.Get(name)
			}
			inst.Event = r.event
		case 5:
			inst.Payload = c.payload()
		case 6:
			r.readMeta()
		case 7:
			r.readNode()
		case 8, 9, 10, 11, 12, 13, 14:
			r.readBody(i)
		default:
			c.Skip(n - i)
			i = n
		}
	}
	if c.Bad() {
		return nil, nil, fmt.Errorf("crosscast: malformed instruction, at byte %d", c.At())
	}
	return inst, data[c.Pos():], nil
}

func (r *InstructionReader) readTarget(t *Target) {
	r.texts, r.sockets = r.texts[:0], r.sockets[:0]
	c := &r.c
	n := c.Array()
	for i := 0; i < n; i++ {
		if c.IsNil() {
			continue
		}
		switch i {
		case 0:
			t.Everyone = c.Bool()
		case 1:
			r.texts, t.Rooms = readNames(r, &r.names, r.texts)
		case 2:
			r.texts, t.Users = readNames(r, &r.names, r.texts)
		case 3:
			r.sockets, t.Sockets = readNames(r, &r.ids, r.sockets)
		case 4:
			r.texts, t.ExceptRooms = readNames(r, &r.names, r.texts)
		case 5:
			r.texts, t.ExceptUsers = readNames(r, &r.names, r.texts)
		case 6:
			r.sockets, t.ExceptSockets = readNames(r, &r.ids, r.sockets)
		default:
			c.Skip(n - i)
			i = n
		}
	}
}

// readNames appends an array of names to all, and also returns the appended part; nil if it is empty.
func readNames[S ~string](r *InstructionReader, table *intern.Table, all []S) (longer, names []S) {
	c := &r.c
	n := c.Array()
	if n > limit.Names-len(r.texts)-len(r.sockets) {
		c.Fail()
	}
	from := len(all)
	for ; n > 0 && !c.Bad(); n-- {
		all = append(all, S(table.Get(c.name())))
	}
	if len(all) == from {
		return all, nil
	}
	return all, all[from:len(all):len(all)]
}

func (r *InstructionReader) readMeta() {
	c := &r.c
	n := c.Array()
	if n%2 != 0 || n > 2*limit.Meta {
		c.Fail()
	}
	r.meta = r.meta[:0]
	for ; n > 0 && !c.Bad(); n -= 2 {
		// Values differ for each message, such as traces. Remembering them would only drive out names.
		r.meta = append(r.meta, KeyValue{r.names.Get(c.text()), string(c.text())})
	}
	if len(r.meta) > 0 {
		r.inst.Meta = r.meta
	}
}

func (r *InstructionReader) readNode() {
	c := &r.c
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	name := c.text()
	heartbeat := c.Milliseconds()
	c.Skip(n - 2)
	r.inst.Node = NodeInfo{Name: r.names.Get(name), Heartbeat: heartbeat}
}

// A cursor also parses the parts of instructions.
type cursor struct{ mpack.Cursor }

// payload reads a string as JSON, bytes as Binary, an array as Args, and an extension as the encoding of its type.
func (c *cursor) payload() Payload {
	switch {
	case c.AtStr(): // nearly always
	case c.AtBin():
		return Payload{EncodingBinary, c.Bin()}
	case c.AtArray():
		return Payload{EncodingArgs, c.Scanned()}
	case c.AtExt():
		number, data := c.Ext()
		if number >= 0 && Encoding(number) < EncodingMsgPack { // they have forms of their own
			c.Fail()
			return Payload{}
		}
		return Payload{Encoding(number), data}
	}
	return Payload{EncodingJSON, c.Str()}
}

// name returns the bytes of a string of 1 to limit.Name bytes.
func (c *cursor) name() []byte { return c.StrOf(1, limit.Name) }

// text returns the bytes of a string of at most limit.Name bytes.
func (c *cursor) text() []byte { return c.StrOf(0, limit.Name) }
