package crosscast

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/crosscast/crosscast/internal/intern"
	"github.com/crosscast/crosscast/internal/mpack"
)

// A FrameReader reads frames in place; codec.go describes the format. The zero value is ready: Reset takes a frame
// and parses its header, Next yields its instructions. Not calling Next skips the rest of a frame for free. It is not
// for concurrent use.
//
// What it yields is reused: a header is valid until the next Reset, an instruction until the next Next or Reset, and
// Payload.Data is a part of the frame. Strings may be kept, and an Answer with all that it holds; slices, of names too,
// and a Question must be copied to be kept.
//
// Bytes are hostile until parsed. Whatever they are, a reader does not panic or recurse, and allocates nothing but
// the strings and answers that it yields, beside tables of its own, bounded and made once: it remembers the latest few
// hundred names, so that those that come again and again cost nothing. Of an answer's bytes it allocates at most 28
// times as many, whatever they are, and about 4 times of those that tell of real sockets. What it yields of a frame is
// bounded by [MaxFrameItems], however small its instructions are.
type FrameReader struct {
	c      cursor
	err    error // of Reset
	index  int   // of the instruction, for errors
	items  int   // of the frame so far, as MaxFrameItems counts them
	topic  Address
	header FrameHeader
	in     Instruction
	event  string // of the latest instruction that had one

	names, ids intern.Table // socket IDs apart: they are many, and would drive out events and rooms

	// What yielded slices point into.
	implied  [1]string  // the name that the topic stands for
	texts    []string   // at most MaxNames
	sockets  []SocketID // at most MaxNames
	meta     []KeyValue // at most MaxMeta
	rooms    []string   // at most MaxNames
	question Question
	losses   []LossRange // at most MaxLosses
	lossName []Address   // at most MaxLosses * MaxLossNames
}

// Reset parses the header of a frame. topic is what [AppendInstruction] was given. The error matches [ErrForeign],
// [ErrVersion] or [ErrMalformed], and Next then returns it, too.
func (r *FrameReader) Reset(frame []byte, topic Address) (*FrameHeader, error) {
	r.c.Reset(frame)
	r.topic = topic
	r.implied[0] = topic.Name
	r.index, r.items = -1, 0
	r.header = FrameHeader{}
	if r.err = r.readHeader(); r.err != nil {
		r.c.Reset(nil)
		return nil, r.err
	}
	return &r.header, nil
}

func (r *FrameReader) readHeader() error {
	c, h := &r.c, &r.header
	n := c.Array()
	if magic := c.Str(); n == 0 || string(magic) != frameMagic {
		return ErrForeign
	}
	if n < 2 {
		c.Fail()
	}
	if v := c.Uint(); v != FrameVersion && !c.Bad() {
		return fmt.Errorf("%w: %d", ErrVersion, v)
	}
	if n < 6 {
		c.Fail()
	}
	origin := c.Str()
	if len(origin) != nodeIDLen {
		c.Fail()
	}
	h.Number = c.Uint()
	h.Previous = c.Uint()
	h.Control = c.Uint()&headerControl != 0
	if n > 6 && !c.IsNil() {
		r.readLosses()
	}
	if n > 7 {
		c.Skip(n - 7)
	}
	if c.Bad() {
		return fmt.Errorf("%w: header, at byte %d", ErrMalformed, c.At())
	}
	h.Origin = NodeID(r.names.Get(origin))
	return nil
}

func (r *FrameReader) readLosses() {
	if r.losses == nil {
		r.losses = make([]LossRange, 0, MaxLosses)
		r.lossName = make([]Address, 0, MaxLosses*MaxLossNames)
	}
	r.losses, r.lossName = r.losses[:0], r.lossName[:0]
	c := &r.c
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	r.header.LossCount = c.Uint()
	ranges := c.Array()
	if ranges > MaxLosses {
		c.Fail()
	}
	for ; ranges > 0 && !c.Bad(); ranges-- {
		r.readLoss()
	}
	r.header.Losses = r.losses
	if n > 2 {
		r.header.LossAge = c.milliseconds()
		c.Skip(n - 3)
	}
}

func (r *FrameReader) readLoss() {
	c := &r.c
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	l := LossRange{From: c.Uint(), To: c.Uint()}
	if n > 2 {
		if !c.IsNil() {
			names := c.Array()
			if names > MaxLossNames {
				c.Fail()
			}
			from := len(r.lossName)
			for ; names > 0 && !c.Bad(); names-- {
				r.lossName = append(r.lossName, r.readAddress())
			}
			l.Names = r.lossName[from:len(r.lossName):len(r.lossName)]
		}
		c.Skip(n - 3)
	}
	r.losses = append(r.losses, l)
}

func (r *FrameReader) readAddress() (a Address) {
	c := &r.c
	n := c.Array()
	if n < 3 {
		c.Fail()
	}
	space := c.Uint()
	if space == 0 || space > math.MaxUint8 {
		c.Fail()
	}
	a.Space = Space(space)
	a.Namespace = "/"
	if !c.IsNil() {
		a.Namespace = r.names.Get(c.name())
	}
	a.Name = r.names.Get(c.name())
	c.Skip(n - 3)
	return a
}

// Next yields the next instruction and its copy number, or io.EOF at the end of the frame. An error that matches
// [ErrMalformed] ends the frame: what came before it stands, and what else the frame carried is missed, which is a gap
// for the caller to report. (Looking at the frame as a whole first nearly doubles the cost of reading, and a frame of
// a writer of this version never needs it: a look at the structure alone took 27 ns an instruction beside 31.)
//
// The instruction's From is the frame's origin, as is the ID of its Node where there is one. To is left empty.
func (r *FrameReader) Next() (in *Instruction, copyNumber uint64, err error) {
	c := &r.c
	for c.Left() > 0 {
		r.index++
		n := c.Array()
		kind := c.Uint()
		if n == 0 || kind == 0 {
			c.Fail()
		}
		if kind > math.MaxUint8 { // of a later version
			c.Skip(n - 1)
			continue
		}
		r.items++
		in = &r.in
		*in = Instruction{} // in place; a literal with values would be made on the stack and copied
		in.Kind, in.From, in.Namespace = Kind(kind), r.header.Origin, "/"
		implied := true
		for i := 1; i < n; i++ {
			if c.IsNil() {
				continue
			}
			switch i {
			case 1:
				in.Flags = Flags(c.Uint())
			case 2:
				in.Namespace = r.names.Get(c.name())
			case 3:
				implied = false
				r.readTarget(&in.Target)
			case 4:
				if name := c.name(); string(name) != r.event { // most often the one before
					r.event = r.names.Get(name)
				}
				in.Event = r.event
			case 5:
				in.Payload = c.payload()
			case 6:
				copyNumber = c.Uint()
			case 7:
				r.readMeta()
			case 8:
				r.readNode()
			case 9, 10, 11, 12, 13, 14, 15:
				r.readBody(i)
			default:
				c.Skip(n - i)
				i = n
			}
		}
		if implied {
			r.implyTarget()
		}
		if r.items > MaxFrameItems {
			c.Fail()
		}
		if c.Bad() {
			break
		}
		return in, copyNumber, nil
	}
	if c.Bad() && r.err == nil {
		r.err = fmt.Errorf("%w: instruction %d, at byte %d", ErrMalformed, r.index, c.At())
	}
	if r.err != nil {
		return nil, 0, r.err
	}
	return nil, 0, io.EOF
}

func (r *FrameReader) implyTarget() {
	t := &r.in.Target
	switch r.topic.Space {
	case 0:
		t.Everyone = true
		return
	case RoomSpace:
		t.Rooms = r.implied[:]
	default:
		t.Users = r.implied[:]
	}
	if r.in.Namespace != r.topic.Namespace { // the topic does not stand for this name
		r.c.Fail()
	}
}

func (r *FrameReader) readTarget(t *Target) {
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

// readNames appends an array of names to all, and returns also the part of it that it appended: nil when empty.
func readNames[S ~string](r *FrameReader, table *intern.Table, all []S) (longer, names []S) {
	c := &r.c
	n := c.Array()
	if n > MaxNames-len(r.texts)-len(r.sockets) {
		c.Fail()
	}
	r.items += n
	from := len(all)
	for ; n > 0 && !c.Bad(); n-- {
		all = append(all, S(table.Get(c.name())))
	}
	if len(all) == from {
		return all, nil
	}
	return all, all[from:len(all):len(all)]
}

func (r *FrameReader) readMeta() {
	c := &r.c
	n := c.Array()
	if n%2 != 0 || n > 2*MaxMeta {
		c.Fail()
	}
	r.meta = r.meta[:0]
	for ; n > 0 && !c.Bad(); n -= 2 {
		// Values are as many as messages: traces. Remembering them would only drive out names.
		r.meta = append(r.meta, KeyValue{r.names.Get(c.text()), string(c.text())})
	}
	if len(r.meta) > 0 {
		r.in.Meta = r.meta
	}
}

func (r *FrameReader) readNode() {
	c := &r.c
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	name := c.text()
	heartbeat := c.milliseconds()
	c.Skip(n - 2)
	r.in.Node = NodeInfo{ID: r.in.From, Name: r.names.Get(name), Heartbeat: heartbeat}
}

// A cursor also parses what instructions are made of.
type cursor struct{ mpack.Cursor }

// payload takes a string as JSON, bytes as Binary, and an array as Args.
func (c *cursor) payload() Payload {
	switch {
	case c.AtStr(): // nearly always
	case c.AtBin():
		return Payload{EncodingBinary, c.Bin()}
	case c.AtArray():
		return Payload{EncodingArgs, c.Scanned()}
	}
	return Payload{EncodingJSON, c.Str()}
}

func (c *cursor) milliseconds() time.Duration {
	ms := c.Uint()
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		c.Fail()
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}

// name returns the bytes of a string of 1 to MaxName bytes.
func (c *cursor) name() []byte {
	s := c.Str()
	if len(s) == 0 || len(s) > MaxName {
		c.Fail()
		return nil
	}
	return s
}

// text returns the bytes of a string of at most MaxName bytes.
func (c *cursor) text() []byte {
	s := c.Str()
	if len(s) > MaxName {
		c.Fail()
		return nil
	}
	return s
}
