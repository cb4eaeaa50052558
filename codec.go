package crosscast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/crosscast/crosscast/internal/mpack"
)

// FrameVersion is the version of the frame format, which this file is the specification of.
//
// A frame is a sequence of msgpack values, one behind the other: a header, then instructions until the bytes end.
// There is no count and no padding, so that a frame grows by appending. Names and events are any bytes, written as
// msgpack strings.
//
// The header is an array of 7. A writer writes these bytes exactly; a reader takes any width of the same values, here
// and below, and does without the losses.
//
//	offset  bytes            meaning
//	0       97               array of 7
//	1       a2 63 63         0 the string "cc": what begins otherwise is foreign
//	4       01               1 the version
//	5       a8 + 8 bytes     2 the origin, a [NodeID]
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
// An instruction is an array. In it, and in its target, nil stands for the zero value of any element, and elements
// left out at the end are nil.
//
//	0 kind       unsigned: 1 emit, 2 hello, 3 heartbeat, 4 goodbye, 5 join, 6 leave, 7 disconnect, 8 ask, 9 answer,
//	             10 request, 11 watch, 12 presence, 13 quiet, which wire/quiet.go describes; never nil or 0
//	1 flags      unsigned: bit 0 volatile
//	2 namespace  string; nil: "/"
//	3 target     nil: exactly the room or user that the topic stands for, in this namespace; where it stands for
//	             none, everyone. Else an array [everyone, rooms, users, sockets, rooms excepted, users excepted,
//	             sockets excepted] of a boolean and six arrays of strings. Nobody is the empty array
//	4 event      string
//	5 payload    nil: none; string: JSON; bytes: binary; array: arguments, in which arrays and maps are nested at most
//	             512 deep, itself counted, and the keys of maps are strings or numbers
//	6 copy       unsigned: one number for all copies of an instruction that goes to several topics, counted by the
//	             origin; 0: it goes to one
//	7 meta       array of at most 16 strings: key, value, key, value, …
//	8 node       [name, heartbeat in milliseconds] of the node that says hello
//	9 rooms      array of strings: what to join, leave or watch, or whose members presence tells of
//	10 reason    string: of a disconnect
//	11 ref       string: the question, or what else is to be answered; in an answer, what it answers
//	12 ttl       unsigned: how long the origin waits for answers, or watches, in milliseconds
//	13 question  [kind, fields, salt], all unsigned; codec_body.go has the values
//	14 answer    an array; codec_body.go has its elements
//	15 presence  an array; codec_presence.go has its elements
//
// Thus an emission of {} as "x" to the room of the topic is 96 01 00 c0 c0 a1 78 a2 7b 7d.
//
// Names, events, namespaces and refs take 1 to 255 bytes; keys, values, reasons and the names of nodes at most 255. An
// instruction has at most 1,024 names in its target's lists together, and 1,024 rooms. A frame has at most 2,049
// instructions, target's names and rooms together: no frame is more work than one instruction may be. What goes beyond is
// malformed.
//
// What may change without a new version: elements may be added at the end of any array but a list, bits to flags, and
// kinds; readers skip what they do not know, and a kind above 255 with its whole instruction. The elements above keep
// their places and types for every kind, so that a reader passes on kinds that it does not know. Anything else is a
// new version, which readers of this one refuse with [ErrVersion].
const FrameVersion = 1

const (
	// FrameHeaderLen is the length of the header up to its losses. A header without losses is one byte longer.
	FrameHeaderLen = 33

	// MaxNames is the largest number of names in one instruction's target, over all its lists, and that of its rooms.
	MaxNames = 1024
	// MaxFrameItems is the largest number of a frame's instructions, names in their targets, and their rooms, all
	// together: what one instruction may have. A node has work for each of them, and each takes as little as two bytes.
	MaxFrameItems = 1 + 2*MaxNames
	// MaxMeta is the largest number of an instruction's pairs of meta data.
	MaxMeta = 8
	// MaxLosses is the largest number of loss ranges in a frame's header.
	MaxLosses = 16
	// MaxLossNames is the largest number of names in a loss range.
	MaxLossNames = 8

	numberAt   = 14 // where the header's numbers begin
	previousAt = 23
	frameMagic = "cc"

	headerControl = 1 // of the header's flags
)

var (
	// ErrForeign: the bytes are not a frame; somebody else publishes there. So is a frame that was cut in its first
	// bytes.
	ErrForeign = errors.New("crosscast: foreign frame")
	// ErrVersion: the frame is of another version of the format.
	ErrVersion = errors.New("crosscast: frame of another version")
	// ErrMalformed: the frame breaks the format. The text says where.
	ErrMalformed = errors.New("crosscast: malformed frame")
)

// A FrameHeader is what a frame says about itself.
type FrameHeader struct {
	Origin   NodeID // 8 bytes
	Number   uint64
	Previous uint64 // the origin's previous frame on this topic; 0: not remembered
	Control  bool   // the frame carries no instruction for clients

	LossCount uint64        // how many losses the origin has had in this run
	Losses    []LossRange   // the latest of them
	LossAge   time.Duration // for how long there has been no other; whole milliseconds
}

// A LossRange is a stretch of frames that an origin could not publish, or may not have published.
type LossRange struct {
	From, To uint64
	// Names are the rooms and users concerned; nil: any. An address with [SocketSpace] has the ID of a node for its Name: it
	// stands for what was for that node alone.
	Names []Address
}

// AppendFrameHeader appends the header of a frame. Of more than [MaxLosses] losses it writes the last ones (the
// count gives the others away), and of more than [MaxLossNames] names of one loss it writes nil, which is any. It
// panics unless h.Origin has 8 bytes.
func AppendFrameHeader(dst []byte, h *FrameHeader) []byte {
	if len(h.Origin) != nodeIDLen {
		panic(fmt.Sprintf("crosscast: node ID %q does not have %d bytes", string(h.Origin), nodeIDLen))
	}
	dst = append(dst, mpack.FixArray|7, mpack.FixStr|2, frameMagic[0], frameMagic[1], FrameVersion)
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
	losses := h.Losses[max(0, len(h.Losses)-MaxLosses):]
	age := uint64(max(0, h.LossAge) / time.Millisecond)
	elements := byte(2)
	if age > 0 {
		elements = 3
	}
	dst = mpack.AppendUint(append(dst, mpack.FixArray|elements), h.LossCount)
	dst = mpack.AppendArrayLen(dst, len(losses))
	for i := range losses {
		l := &losses[i]
		dst = mpack.AppendUint(append(dst, mpack.FixArray|3), l.From)
		dst = mpack.AppendUint(dst, l.To)
		if l.Names == nil || len(l.Names) > MaxLossNames {
			dst = append(dst, mpack.Nil)
			continue
		}
		dst = mpack.AppendArrayLen(dst, len(l.Names))
		for _, a := range l.Names {
			dst = mpack.AppendUint(append(dst, mpack.FixArray|3), uint64(a.Space))
			dst = appendNamespace(dst, a.Namespace)
			dst = mpack.AppendStr(dst, a.Name)
		}
	}
	if age > 0 {
		dst = mpack.AppendUint(dst, age)
	}
	return dst
}

// PatchFrameNumbers sets the numbers of a frame that begins with what [AppendFrameHeader] wrote.
func PatchFrameNumbers(frame []byte, number, previous uint64) {
	binary.BigEndian.PutUint64(frame[numberAt+1:previousAt], number)
	binary.BigEndian.PutUint64(frame[previousAt+1:FrameHeaderLen-1], previous)
}

func appendNamespace(dst []byte, ns string) []byte {
	if ns == "" || ns == "/" {
		return append(dst, mpack.Nil)
	}
	return mpack.AppendStr(dst, ns)
}

// FrameItems is at least what in counts towards [MaxFrameItems] in a frame.
func FrameItems(in *Instruction) int { return 1 + targetNames(&in.Target) + len(in.Rooms) }

func targetNames(t *Target) int {
	return len(t.Rooms) + len(t.Users) + len(t.Sockets) + len(t.ExceptRooms) + len(t.ExceptUsers) + len(t.ExceptSockets)
}

// CheckInstruction returns an error if the frame format cannot carry in: peers would drop the frame. It is a
// [LimitError], unless it is about a payload of [EncodingArgs] that is not one array.
func CheckInstruction(in *Instruction) error {
	if in.Kind == 0 {
		return &LimitError{What: "kind", Max: math.MaxUint8}
	}
	if len(in.Namespace) > MaxName {
		return checkName("namespace", in.Namespace)
	}
	if len(in.Event) > MaxName {
		return checkName("event", in.Event)
	}
	if err := checkPayload(&in.Payload); err != nil {
		return err
	}
	t := &in.Target
	n := targetNames(t)
	if n > MaxNames {
		return &LimitError{What: "target", Len: n, Max: MaxNames}
	}
	if n > 0 {
		if err := checkTarget(t); err != nil {
			return err
		}
	}
	if len(in.Meta) > MaxMeta {
		return &LimitError{What: "meta", Len: len(in.Meta), Max: MaxMeta}
	}
	for i := range in.Meta {
		if n := max(len(in.Meta[i].Key), len(in.Meta[i].Value)); n > MaxName {
			return &LimitError{What: "meta string", Len: n, Max: MaxName}
		}
	}
	if len(in.Node.Name) > MaxName {
		return checkName("node", in.Node.Name)
	}
	if len(in.Rooms) > MaxNames {
		return &LimitError{What: "rooms", Len: len(in.Rooms), Max: MaxNames}
	}
	if err := checkNames("room", in.Rooms); err != nil {
		return err
	}
	if len(in.Reason) > MaxName {
		return &LimitError{What: "reason", Len: len(in.Reason), Max: MaxName}
	}
	if len(in.Ref) > MaxName {
		return checkName("ref", in.Ref)
	}
	if in.Answer != nil {
		if err := checkAnswer(in.Answer); err != nil {
			return err
		}
	}
	return checkPresence(in.Presence)
}

func checkPayload(p *Payload) error {
	if p.Encoding > EncodingArgs {
		return &LimitError{What: "payload encoding", Len: int(p.Encoding), Max: int(EncodingArgs)}
	}
	if len(p.Data) > math.MaxInt32 {
		return &LimitError{What: "payload", Len: len(p.Data), Max: math.MaxInt32}
	}
	if p.Encoding == EncodingArgs {
		return checkArgs(p.Data)
	}
	return nil
}

// checkArgs returns an error unless data is what [EncodingArgs] says.
func checkArgs(data []byte) error {
	c := mpack.NewCursor(data)
	if !c.AtArray() {
		return errBadArgs
	}
	n, _, err := mpack.Scan(data)
	if err != nil {
		return fmt.Errorf("%w: %w", errBadArgs, err)
	}
	if n != len(data) {
		return errBadArgs
	}
	return nil
}

func checkTarget(t *Target) error {
	for _, names := range [...][]string{t.Rooms, t.ExceptRooms} {
		if err := checkNames("room", names); err != nil {
			return err
		}
	}
	for _, names := range [...][]string{t.Users, t.ExceptUsers} {
		if err := checkNames("user", names); err != nil {
			return err
		}
	}
	for _, ids := range [...][]SocketID{t.Sockets, t.ExceptSockets} {
		for _, id := range ids {
			if err := checkName("socket", string(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// AppendInstruction appends an instruction to a frame. It allocates nothing but a larger dst.
//
// topic is what the frame's topic stands for: a room or a user, whose instructions then need not repeat their
// target; the zero Address for every other topic, where everyone is the target that costs nothing. A reader must be
// given the same. copyNumber marks an emission that goes to several topics; 0 when it goes to one.
//
// The frame carries neither in.From, which is its origin, nor in.To, which is its topic. An empty namespace is "/".
// Heartbeats and TTLs are rounded up to milliseconds. in must pass [CheckInstruction].
func AppendInstruction(dst []byte, in *Instruction, topic Address, copyNumber uint64) []byte {
	ns := in.Namespace != "" && in.Namespace != "/"
	implied := impliedTarget(in, &topic)
	n := 1
	switch {
	case in.Presence != nil || in.Answer != nil || in.Question != nil || in.TTL > 0 || len(in.Ref)|len(in.Reason)|len(in.Rooms) != 0:
		n = bodyLen(in)
	case in.Node != (NodeInfo{}):
		n = 9
	case len(in.Meta) > 0:
		n = 8
	case copyNumber != 0:
		n = 7
	case in.Payload.Encoding != EncodingNone:
		n = 6
	case in.Event != "":
		n = 5
	case !implied:
		n = 4
	case ns:
		n = 3
	case in.Flags != 0:
		n = 2
	}
	dst = mpack.AppendUint(mpack.AppendArrayLen(dst, n), uint64(in.Kind))
	if n > 1 {
		dst = mpack.AppendUint(dst, uint64(in.Flags))
	}
	if n > 2 {
		dst = appendNamespace(dst, in.Namespace)
	}
	if n > 3 {
		if implied {
			dst = append(dst, mpack.Nil)
		} else {
			dst = appendTarget(dst, &in.Target)
		}
	}
	if n > 4 {
		if in.Event == "" {
			dst = append(dst, mpack.Nil)
		} else {
			dst = mpack.AppendStr(dst, in.Event)
		}
	}
	if n > 5 {
		switch in.Payload.Encoding { // as appendPayload, which is not inlined: a tenth of an emission's cost
		case EncodingJSON:
			dst = mpack.AppendStr(dst, in.Payload.Data)
		case EncodingBinary:
			dst = mpack.AppendBin(dst, in.Payload.Data)
		case EncodingArgs:
			dst = append(dst, in.Payload.Data...)
		default:
			dst = append(dst, mpack.Nil)
		}
	}
	if n <= 6 { // nearly every emission
		return dst
	}
	dst = mpack.AppendUint(dst, copyNumber)
	if n > 7 {
		dst = mpack.AppendArrayLen(dst, 2*len(in.Meta))
		for i := range in.Meta {
			dst = mpack.AppendStr(dst, in.Meta[i].Key)
			dst = mpack.AppendStr(dst, in.Meta[i].Value)
		}
	}
	if n > 8 {
		if in.Node == (NodeInfo{}) {
			dst = append(dst, mpack.Nil)
		} else {
			dst = mpack.AppendStr(append(dst, mpack.FixArray|2), in.Node.Name)
			dst = appendMilliseconds(dst, in.Node.Heartbeat)
		}
	}
	if n > 9 {
		dst = appendBody(appendNames(dst, in.Rooms), in, n)
	}
	return dst
}

// appendMilliseconds appends a duration, rounded up as far as a reader takes it.
func appendMilliseconds(dst []byte, d time.Duration) []byte {
	d = min(max(0, d), math.MaxInt64-time.Millisecond)
	return mpack.AppendUint(dst, uint64((d+time.Millisecond-1)/time.Millisecond))
}

// impliedTarget reports whether the instruction's target is the one that its topic stands for.
func impliedTarget(in *Instruction, topic *Address) bool {
	t := &in.Target
	if len(t.Sockets) != 0 || t.HasExceptions() {
		return false
	}
	switch topic.Space {
	case 0:
		return t.Everyone && len(t.Rooms) == 0 && len(t.Users) == 0
	case RoomSpace:
		if t.Everyone || len(t.Users) != 0 || len(t.Rooms) != 1 || t.Rooms[0] != topic.Name {
			return false
		}
	default:
		if t.Everyone || len(t.Rooms) != 0 || len(t.Users) != 1 || t.Users[0] != topic.Name {
			return false
		}
	}
	return in.Namespace == topic.Namespace || in.Namespace == "" && topic.Namespace == "/"
}

func appendTarget(dst []byte, t *Target) []byte {
	n := 0
	switch {
	case len(t.ExceptSockets) > 0:
		n = 7
	case len(t.ExceptUsers) > 0:
		n = 6
	case len(t.ExceptRooms) > 0:
		n = 5
	case len(t.Sockets) > 0:
		n = 4
	case len(t.Users) > 0:
		n = 3
	case len(t.Rooms) > 0:
		n = 2
	case t.Everyone:
		n = 1
	}
	dst = append(dst, mpack.FixArray|byte(n))
	if n > 0 {
		dst = mpack.AppendBool(dst, t.Everyone)
	}
	if n > 1 {
		dst = appendNames(dst, t.Rooms)
	}
	if n > 2 {
		dst = appendNames(dst, t.Users)
	}
	if n > 3 {
		dst = appendNames(dst, t.Sockets)
	}
	if n > 4 {
		dst = appendNames(dst, t.ExceptRooms)
	}
	if n > 5 {
		dst = appendNames(dst, t.ExceptUsers)
	}
	if n > 6 {
		dst = appendNames(dst, t.ExceptSockets)
	}
	return dst
}

func appendNames[S ~string](dst []byte, names []S) []byte {
	if len(names) == 0 {
		return append(dst, mpack.Nil)
	}
	dst = mpack.AppendArrayLen(dst, len(names))
	for _, name := range names {
		dst = mpack.AppendStr(dst, name)
	}
	return dst
}
