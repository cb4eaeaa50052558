package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
)

// A frame is the bytes that are written to a topic at once. This file specifies them; codec.go of package crosscast
// specifies those of an instruction.
//
// With Options.Seal it travels inside a sealed frame: see seal_frame.go.
//
// A frame is a sequence of msgpack values: a header, then items until the bytes end. It has no count and no padding, so
// it can grow by appending.
//
// The header is an array of 7. A writer writes exactly these bytes. A reader accepts any width of the same values, here
// and below, and a header without the losses.
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
// Losses are the losses of the origin's run so far: their count; the latest of them, as an array of at most 16 ranges
// [from, to, names, age]; and for how many milliseconds there has been no other, which is left out if it is 0. Older
// ranges that were sent often enough are left out. The age of a range is how many milliseconds ago its first instruction
// was queued; it is left out if that is not known. names is nil (any name) or an array of at most 8 addresses [space,
// namespace, name]. space is 1 for a room, 2 for a user, 3 for instructions to one node only, whose ID is the name, and 5
// for a shared topic (routing.go), whose name is the topic's after the prefix and a colon.
// A nil namespace is "/".
//
// An item is one of these:
//
//	array     an instruction. On the topic of a room or user one without a target is for that room or user; its namespace
//	          is then that of the topic
//	unsigned  the copy number of the instruction behind it: one number for all copies of an instruction that goes to
//	          several topics, counted by the origin
//	bytes     quiet topics: see quiet.go
//	string    of a frame without instructions for clients: how the origin spreads names over topics: "own", a number of
//	          topics, or both with a comma; see routing.go. A hello or heartbeat without it means "own"
//
// Thus an emission of {} as "x" to the room of the topic is 96 01 00 c0 c0 a1 78 a2 7b 7d.
//
// A frame has at most 2,049 items, names in the targets of its instructions and rooms of them, together. So no frame is
// more work than one instruction may be. A frame with more is malformed.
//
// A later version may add elements at the end of the header, of its losses, and of their ranges and addresses; flags;
// and all that instructions may add. Any other change needs a new version number, which readers of this version refuse.
const frameVersion = 1

const (
	// headerLen is the length of the header up to its losses. A header without losses is one byte longer.
	headerLen   = 33
	plainHeader = headerLen + 1

	// maxItems is the largest number of a frame's items, names in targets, and rooms together; one instruction may have
	// as many. Each of them costs a node work, and may take as little as two bytes.
	maxItems = 1 + 2*limit.Names
	// maxLosses is the largest number of loss ranges in a header, and maxLossNames that of the names in one of them.
	maxLosses, maxLossNames = 16, 8

	numberAt   = 14 // where the header's numbers begin
	previousAt = 23
	frameMagic = "cc"
	originLen  = 8

	headerControl = 1 // of the header's flags
)

var (
	// ErrForeign means that a message does not begin as the messages of nodes do: another program publishes on the
	// topic, or the message was cut in its first bytes.
	ErrForeign = errors.New("crosscast: foreign message")
	// ErrMalformed means that a message breaks the format. The text of the error contains the place.
	ErrMalformed = errors.New("crosscast: malformed message")

	errVersion = errors.New("crosscast: frame of another version")
)

// A frameHeader is the header of a frame.
type frameHeader struct {
	Origin   crosscast.NodeID // 8 bytes
	Number   uint64
	Previous uint64 // the origin's previous frame on this topic; 0: not remembered
	Control  bool   // the frame carries no instruction for clients

	LossCount uint64        // how many losses the origin has had in this run
	Losses    []lossRange   // the latest of them
	LossAge   time.Duration // for how long there has been no other; whole milliseconds
}

// A lossRange is a stretch of frames that an origin did not publish, or might not have.
type lossRange struct {
	From, To uint64
	// Names are the rooms and users concerned; nil means any. An address with [crosscast.SpaceSocket] has a node's ID
	// as its Name, and stands for instructions to that node only.
	Names []crosscast.Address
	Age   time.Duration // how long ago its first instruction was queued; whole milliseconds; 0: not known
}

// appendFrameHeader appends the header of a frame. If there are more than maxLosses losses, it writes the last ones;
// the count shows that there were others. For a loss with more than maxLossNames names it writes nil, which means any
// name. It panics unless h.Origin has 8 bytes.
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
	age := uint64(max(0, l.Age) / time.Millisecond)
	elements := byte(3)
	if age > 0 {
		elements = 4
	}
	dst = mpack.AppendUint(append(dst, mpack.FixArray|elements), l.From)
	dst = mpack.AppendUint(dst, l.To)
	dst = appendLossNames(dst, l.Names)
	if age > 0 {
		dst = mpack.AppendUint(dst, age)
	}
	return dst
}

func appendLossNames(dst []byte, names []crosscast.Address) []byte {
	if names == nil || len(names) > maxLossNames {
		return append(dst, mpack.Nil)
	}
	dst = mpack.AppendArrayLen(dst, len(names))
	for _, a := range names {
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

// patchNumbers sets the numbers of a frame that begins with a header from appendFrameHeader.
func patchNumbers(frame []byte, number, previous uint64) {
	binary.BigEndian.PutUint64(frame[numberAt+1:previousAt], number)
	binary.BigEndian.PutUint64(frame[previousAt+1:headerLen-1], previous)
}

// maxCopyNumber is the largest size of a copy number in bytes.
const maxCopyNumber = 9

// appendCopyNumber appends the copy number that precedes an instruction for several topics; nothing if n is 0.
func appendCopyNumber(dst []byte, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return mpack.AppendUint(dst, n)
}

// appendInstruction appends an instruction to a frame on the topic of a name, or of none. Its errors are those of
// [crosscast.AppendInstruction].
func appendInstruction(dst []byte, inst *crosscast.Instruction, topic *crosscast.Address) ([]byte, error) {
	if topic.Space != 0 && isTopicsTarget(inst, topic) {
		bare := *inst
		bare.Target = crosscast.Target{}
		return crosscast.AppendInstruction(dst, &bare)
	}
	return crosscast.AppendInstruction(dst, inst)
}

// isTopicsTarget reports whether the instruction is for the name of its topic and nobody else. It is false for a name
// that is invalid, so that the encoder refuses it.
func isTopicsTarget(inst *crosscast.Instruction, topic *crosscast.Address) bool {
	t := &inst.Target
	if t.Everyone || len(t.Sockets) != 0 || len(t.ExceptRooms)+len(t.ExceptUsers)+len(t.ExceptSockets) != 0 ||
		len(topic.Name) == 0 || len(topic.Name) > limit.Name {
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

// isQuery reports whether instructions of this kind are a query or its answer. If one is missing, the querying node gets
// an error in its place, so it is neither a loss nor a gap.
func isQuery(k kind.Kind) bool { return k == kind.Ask || k == kind.Answer }

func targetNames(t *crosscast.Target) int {
	return len(t.Rooms) + len(t.Users) + len(t.Sockets) + len(t.ExceptRooms) + len(t.ExceptUsers) + len(t.ExceptSockets)
}
