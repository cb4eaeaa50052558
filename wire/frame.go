package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
)

// A frame is what is written to a topic at once. This file specifies its bytes; codec.go of package crosscast specifies
// those of an instruction.
//
// A frame is a sequence of msgpack values, one behind the other: a header, then items until the bytes end. There is no
// count and no padding, so that a frame grows by appending.
//
// The header is an array of 7. A writer writes these bytes exactly. A reader takes any width of the same values, here and
// below, and does without the losses.
//
//	offset  bytes            meaning
//	0       97               array of 7
//	1       a2 63 63         0 the string "cc": anything that begins otherwise is foreign
//	4       01               1 the version
//	5       a8 + 8 bytes     2 the origin, a node's ID
//	14      cf + 8 bytes     3 the number: one counter a run of the origin, drawn when the frame is sealed
//	23      cf + 8 bytes     4 the number of the origin's previous frame on this topic; 0: not remembered
//	32      00 or 01         5 flags: bit 0 is set when the frame carries nothing for clients
//	33      c0, or an array  6 losses: nil, or [count, ranges, age]
//
// Losses are those of the origin's run so far: their count, the latest of them as an array of at most 16 ranges
// [from, to, names], and for how many milliseconds there has been no other; 0 is left out. Of the ranges that were told
// often enough the older ones are left out. names is nil (any name) or an array of at most 8 addresses
// [space, namespace, name]: space is 1 for a room, 2 for a user and 3 for what was for one node alone, whose ID is the
// name; a nil namespace is "/".
//
// An item is one of these:
//
//	array     an instruction. On the topic of a room or user one without a target is for that room or user; its namespace
//	          is then that of the topic
//	unsigned  the copy number of the instruction behind it: one number for all copies of an instruction that goes to
//	          several topics, counted by the origin
//	bytes     what quiet.go describes
//
// Thus an emission of {} as "x" to the room of the topic is 96 01 00 c0 c0 a1 78 a2 7b 7d.
//
// A frame has at most 2,049 items, names in the targets of its instructions and rooms of theirs, together: no frame is more
// work than one instruction may be. A frame with more is malformed.
//
// A later version may add: elements at the end of the header, of its losses and of their ranges and addresses, bits of
// flags, and whatever instructions may add. Anything else is a new version, which readers of this one refuse.
const frameVersion = 1

const (
	// headerLen is the length of the header up to its losses. A header without losses is one byte longer.
	headerLen   = 33
	plainHeader = headerLen + 1

	// maxItems is the largest number of a frame's items, names in targets, and rooms, all together: what one instruction may
	// have. A node has work for each of them, and each takes as little as two bytes.
	maxItems = 1 + 2*crosscast.MaxNames
	// maxLosses is the largest number of loss ranges in a header, and maxLossNames that of the names in one of them.
	maxLosses, maxLossNames = 16, 8

	numberAt   = 14 // where the header's numbers begin
	previousAt = 23
	frameMagic = "cc"
	originLen  = 8

	headerControl = 1 // of the header's flags
)

var (
	// ErrForeign means that a message is nothing that nodes write: somebody else publishes there, or the message was cut in
	// its first bytes.
	ErrForeign = errors.New("crosscast: foreign message")
	// ErrMalformed means that a message breaks the format. The text of the error says where.
	ErrMalformed = errors.New("crosscast: malformed message")

	errVersion = errors.New("crosscast: frame of another version")
)

// A frameHeader is what a frame says about itself.
type frameHeader struct {
	Origin   crosscast.NodeID // 8 bytes
	Number   uint64
	Previous uint64 // the origin's previous frame on this topic; 0: not remembered
	Control  bool   // the frame carries no instruction for clients

	LossCount uint64        // how many losses the origin has had in this run
	Losses    []lossRange   // the latest of them
	LossAge   time.Duration // for how long there has been no other; whole milliseconds
}

// A lossRange is a stretch of frames that an origin could not publish, or may not have published.
type lossRange struct {
	From, To uint64
	// Names are the rooms and users concerned; nil: any. An address with [crosscast.SpaceSocket] has the ID of a node for
	// its Name: it stands for what was for that node alone.
	Names []crosscast.Address
}

// appendFrameHeader appends the header of a frame. Of more than maxLosses losses it writes the last ones (the count gives
// the others away), and of more than maxLossNames names of one loss it writes nil, which is any. It panics unless h.Origin
// has 8 bytes.
func appendFrameHeader(dst []byte, h *frameHeader) []byte {
	if len(h.Origin) != originLen {
		panic(fmt.Sprintf("crosscast: node ID %q does not have %d bytes", string(h.Origin), originLen))
	}
	dst = append(dst, mpack.FixArray|7, mpack.FixStr|2, frameMagic[0], frameMagic[1], frameVersion)
	dst = mpack.AppendStr(dst, h.Origin)
	dst = mpack.AppendUint64(dst, h.Number)
	dst = mpack.AppendUint64(dst, h.Previous)
	if h.Control {
		dst = append(dst, headerControl)
	} else {
		dst = append(dst, 0)
	}
	if h.LossCount == 0 && len(h.Losses) == 0 {
		return append(dst, mpack.Nil)
	}
	losses := h.Losses[max(0, len(h.Losses)-maxLosses):]
	age := uint64(max(0, h.LossAge) / time.Millisecond)
	elements := byte(2)
	if age > 0 {
		elements = 3
	}
	dst = mpack.AppendUint(append(dst, mpack.FixArray|elements), h.LossCount)
	dst = mpack.AppendArrayLen(dst, len(losses))
	for i := range losses {
		dst = appendLoss(dst, &losses[i])
	}
	if age > 0 {
		dst = mpack.AppendUint(dst, age)
	}
	return dst
}

func appendLoss(dst []byte, l *lossRange) []byte {
	dst = mpack.AppendUint(append(dst, mpack.FixArray|3), l.From)
	dst = mpack.AppendUint(dst, l.To)
	if l.Names == nil || len(l.Names) > maxLossNames {
		return append(dst, mpack.Nil)
	}
	dst = mpack.AppendArrayLen(dst, len(l.Names))
	for _, a := range l.Names {
		dst = mpack.AppendUint(append(dst, mpack.FixArray|3), uint64(a.Space))
		if a.Namespace == "" || a.Namespace == "/" {
			dst = append(dst, mpack.Nil)
		} else {
			dst = mpack.AppendStr(dst, a.Namespace)
		}
		dst = mpack.AppendStr(dst, a.Name)
	}
	return dst
}

// patchNumbers sets the numbers of a frame that begins with what appendFrameHeader wrote.
func patchNumbers(frame []byte, number, previous uint64) {
	binary.BigEndian.PutUint64(frame[numberAt+1:previousAt], number)
	binary.BigEndian.PutUint64(frame[previousAt+1:headerLen-1], previous)
}

// maxCopyNumber is how many bytes a copy number takes at most.
const maxCopyNumber = 9

// appendCopyNumber appends what goes before an instruction that goes to several topics; nothing for 0.
func appendCopyNumber(dst []byte, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return mpack.AppendUint(dst, n)
}

// appendInstruction appends an instruction to a frame on the topic of a name, or of none. An error is that of
// [crosscast.AppendInstruction].
func appendInstruction(dst []byte, inst *crosscast.Instruction, topic *crosscast.Address) ([]byte, error) {
	if topic.Space != 0 && isTopicsTarget(inst, topic) {
		bare := *inst
		bare.Target = crosscast.Target{}
		return crosscast.AppendInstruction(dst, &bare)
	}
	return crosscast.AppendInstruction(dst, inst)
}

// isTopicsTarget reports whether the instruction is for the name of its topic and nobody else. A name that no instruction
// may have is none of them, so that it is refused.
func isTopicsTarget(inst *crosscast.Instruction, topic *crosscast.Address) bool {
	t := &inst.Target
	if t.Everyone || len(t.Sockets) != 0 || t.HasExceptions() || len(topic.Name) == 0 || len(topic.Name) > crosscast.MaxName {
		return false
	}
	if topic.Space == crosscast.SpaceRoom {
		if len(t.Users) != 0 || len(t.Rooms) != 1 || t.Rooms[0] != topic.Name {
			return false
		}
	} else if len(t.Rooms) != 0 || len(t.Users) != 1 || t.Users[0] != topic.Name {
		return false
	}
	return inst.Namespace == topic.Namespace || inst.Namespace == "" && topic.Namespace == "/"
}

// itemsOf is how many of maxItems an instruction takes in a frame, at most.
func itemsOf(inst *crosscast.Instruction) int { return 1 + targetNames(&inst.Target) + len(inst.Rooms) }

func targetNames(t *crosscast.Target) int {
	return len(t.Rooms) + len(t.Users) + len(t.Sockets) + len(t.ExceptRooms) + len(t.ExceptUsers) + len(t.ExceptSockets)
}
