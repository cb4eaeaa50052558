package wire

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/intern"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
)

// A frameReader reads frames in place; frame.go describes the format. The zero value is ready: reset takes a frame and
// parses its header, next returns its items. Without next, only the header is parsed. It is not for concurrent use.
//
// It reuses its results. A header is valid until the next reset, an item until the next call of next or reset.
// [crosscast.InstructionReader] says which parts of an instruction may be kept.
//
// Bytes are hostile until parsed. Whatever they are, a reader does not panic or recurse. It allocates only as an
// InstructionReader does, and bounded tables of its own. maxItems bounds the items of a frame, however small they are.
type frameReader struct {
	rest         []byte             // bytes that were not read yet
	err          error              // of reset, or of the first item that is malformed
	index        int                // of the item, for errors
	items        int                // of the frame so far, as maxItems counts them
	topic        *crosscast.Address // that the frame arrived on
	header       frameHeader
	instructions crosscast.InstructionReader
	names        intern.Table // of headers

	// Returned slices point into these.
	topicName [1]string
	losses    []lossRange         // at most maxLosses
	lossName  []crosscast.Address // at most maxLosses * maxLossNames
}

// An item is a part of a frame: an instruction, quiet topics, or a routing.
type item struct {
	inst       *crosscast.Instruction // nil: it is none
	copyNumber uint64                 // of an instruction that came in several copies
	quiet      []byte
	routing    []byte
}

// reset parses the header of a frame that arrived on the topic of a name, or of none, which is the zero Address. The
// name must not change while the frame is read. The error matches [ErrForeign], errVersion or [ErrMalformed]; next then
// returns it too.
func (r *frameReader) reset(frame []byte, topic *crosscast.Address) (*frameHeader, error) {
	r.rest, r.topic = frame, topic
	r.index, r.items = -1, 0
	if r.header.Losses != nil {
		r.header.Losses = nil
	}
	r.header.LossCount, r.header.LossAge = 0, 0
	if r.err = r.readHeader(); r.err != nil {
		r.rest = nil
		return nil, r.err
	}
	return &r.header, nil
}

func (r *frameReader) readHeader() error {
	cursor := mpack.NewCursor(r.rest)
	c, h := &cursor, &r.header
	n := c.Array()
	if magic := c.Str(); n == 0 || string(magic) != frameMagic {
		return ErrForeign
	}
	if n < 2 {
		c.Fail()
	}
	if v := c.Uint(); v != frameVersion && !c.Bad() {
		return fmt.Errorf("%w: %d", errVersion, v)
	}
	if n < 6 {
		c.Fail()
	}
	origin := c.Str()
	if len(origin) != originLen {
		c.Fail()
	}
	h.Number = c.Uint()
	h.Previous = c.Uint()
	h.Control = c.Uint()&headerControl != 0
	if n > 6 && !c.IsNil() {
		r.readLosses(c)
	}
	if n > 7 {
		c.Skip(n - 7)
	}
	if c.Bad() {
		return fmt.Errorf("%w: header, at byte %d", ErrMalformed, c.At())
	}
	h.Origin = crosscast.NodeID(r.names.Get(origin))
	r.rest = r.rest[c.Pos():]
	return nil
}

func (r *frameReader) readLosses(c *mpack.Cursor) {
	if r.losses == nil {
		r.losses = make([]lossRange, 0, maxLosses)
		r.lossName = make([]crosscast.Address, 0, maxLosses*maxLossNames)
	}
	r.losses, r.lossName = r.losses[:0], r.lossName[:0]
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	r.header.LossCount = c.Uint()
	ranges := c.Array()
	if ranges > maxLosses {
		c.Fail()
	}
	for ; ranges > 0 && !c.Bad(); ranges-- {
		r.readLoss(c)
	}
	r.header.Losses = r.losses
	if n > 2 {
		r.header.LossAge = c.Milliseconds()
		c.Skip(n - 3)
	}
}

func (r *frameReader) readLoss(c *mpack.Cursor) {
	n := c.Array()
	if n < 2 {
		c.Fail()
	}
	l := lossRange{From: c.Uint(), To: c.Uint()}
	if n > 2 {
		if !c.IsNil() {
			names := c.Array()
			if names > maxLossNames {
				c.Fail()
			}
			from := len(r.lossName)
			for ; names > 0 && !c.Bad(); names-- {
				r.lossName = append(r.lossName, r.readAddress(c))
			}
			l.Names = r.lossName[from:len(r.lossName):len(r.lossName)]
		}
		if n > 3 {
			l.Age = c.Milliseconds()
			c.Skip(n - 4)
		}
	}
	r.losses = append(r.losses, l)
}

func (r *frameReader) readAddress(c *mpack.Cursor) (a crosscast.Address) {
	n := c.Array()
	if n < 3 {
		c.Fail()
	}
	space := c.Uint()
	if space == 0 || space > math.MaxUint8 {
		c.Fail()
	}
	a.Space = crosscast.Space(space)
	a.Namespace = "/"
	if !c.IsNil() {
		a.Namespace = r.names.Get(c.StrOf(1, limit.Name))
	}
	a.Name = r.names.Get(c.StrOf(1, limit.Name))
	c.Skip(n - 3)
	return a
}

// next returns the next item, or io.EOF at the end of the frame. An error that matches [ErrMalformed] ends the frame:
// the items before it are valid, the rest is missing, and the caller reports a gap. (A check of the whole frame first
// would nearly double the cost of reading, and frames of this version's writers never need it: a look at the structure
// alone took 27 ns an instruction beside 31.)
//
// The instruction's From is the frame's origin, as is the ID of its Node in a hello or heartbeat. To stays empty.
func (r *frameReader) next() (item, error) {
	for len(r.rest) > 0 {
		r.index++
		copyNumber := uint64(0)
		if r.rest[0]&0xf0 != mpack.FixArray { // no instruction, or of many elements
			it, ok := r.readOther()
			if !ok {
				break
			}
			if it.quiet != nil || it.routing != nil {
				return it, nil
			}
			copyNumber = it.copyNumber
		}
		inst, rest, err := r.instructions.Read(r.rest)
		if err != nil {
			r.fail(err)
			break
		}
		r.rest = rest
		if inst.Kind == 0 { // of a later version
			continue
		}
		names := targetNames(&inst.Target)
		if r.items += 1 + names + len(inst.Rooms); r.items > maxItems {
			r.fail(errItems)
			break
		}
		inst.From = r.header.Origin
		if inst.Kind.Control() {
			inst.Node.ID = inst.From
		}
		if names == 0 && r.topic.Space != 0 && !inst.Target.Everyone && !r.implyTarget(inst) {
			break
		}
		return item{inst: inst, copyNumber: copyNumber}, nil
	}
	if r.err != nil {
		return item{}, r.err
	}
	return item{}, io.EOF
}

// readOther reads an item that is no instruction of a few elements: the names of quiet topics, a routing, or the copy
// number before an instruction. It returns false after a failure.
func (r *frameReader) readOther() (it item, ok bool) {
	c := mpack.NewCursor(r.rest)
	switch {
	case c.AtArray():
		return it, true
	case c.AtBin():
		it.quiet = c.Bin()
		if r.items++; r.items > maxItems {
			c.Fail()
		}
	case c.AtStr():
		it.routing = c.StrOf(1, routingBytes)
		if r.items++; r.items > maxItems {
			c.Fail()
		}
	default: // the next value is read as an instruction
		it.copyNumber = c.Uint()
	}
	if c.Bad() {
		r.fail(errNoItem)
		return it, false
	}
	r.rest = r.rest[c.Pos():]
	return it, true
}

// implyTarget sets the target of an instruction without one, on the topic of a name. It returns false after a failure.
func (r *frameReader) implyTarget(inst *crosscast.Instruction) bool {
	if inst.Namespace != r.topic.Namespace { // the topic does not stand for this name
		r.fail(errNamespace)
		return false
	}
	r.topicName[0] = r.topic.Name
	if r.topic.Space == crosscast.SpaceRoom {
		inst.Target.Rooms = r.topicName[:]
	} else {
		inst.Target.Users = r.topicName[:]
	}
	return true
}

var (
	errNoItem    = errors.New("no item")
	errItems     = errors.New("too many items")
	errNamespace = errors.New("no target in another namespace than the topic's")
)

// fail ends the frame.
func (r *frameReader) fail(err error) {
	r.err = fmt.Errorf("%w: item %d, in the last %d bytes: %w", ErrMalformed, r.index, len(r.rest), err)
	r.rest = nil
}
