package crosscast

import (
	"fmt"
	"math"
	"time"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
)

// An instruction is bytes between nodes: an array of msgpack, which this file specifies. Names and events are any
// bytes, written as msgpack strings. A writer uses the shortest form of each value. A reader accepts any width.
//
// In an instruction, and in its target, nil stands for the zero value of any element, and elements left out at the end
// are nil.
//
//	0 kind       unsigned: 1 emit, 2 hello, 3 heartbeat, 4 goodbye, 5 join, 6 leave, 7 disconnect, 8 ask, 9 answer,
//	             10 request, 11 watch, 12 presence; never nil or 0
//	1 flags      unsigned: bit 0 volatile
//	2 namespace  string; nil: "/"
//	3 target     array [everyone, rooms, users, sockets, rooms excepted, users excepted, sockets excepted] of a boolean
//	             and six arrays of strings; nil: nobody
//	4 event      string
//	5 payload    nil: none; string: JSON; bytes: binary; array: arguments, in which arrays and maps are nested at most
//	             512 deep, itself counted, and the keys of maps are strings or numbers; extension of type 4: msgpack, one
//	             value; extension of any other type above that, or below 0: an encoding of a later version
//	6 meta       array of at most 16 strings: key, value, key, value, …
//	7 node       [name, heartbeat in milliseconds] of the node that says hello
//	8 rooms      array of strings: to join, leave or watch, or the rooms of presence
//	9 reason     string: of a disconnect
//	10 ref       string: names an instruction that is to be answered; the answer has the same ref
//	11 ttl       unsigned: time for which the origin waits for answers, or watches, in milliseconds
//	12 question  [kind, fields, salt], all unsigned; codec_body.go has the values
//	13 answer    an array; codec_body.go has its elements
//	14 presence  an array; codec_presence.go has its elements
//
// Thus an emission of {} as "x" to everyone is 96 01 00 c0 91 c3 a1 78 a2 7b 7d.
//
// Names, events, namespaces and refs take 1 to 255 bytes; keys, values, reasons and the names of nodes at most 255. An
// instruction has at most 1,024 names in its target's lists together, and 1,024 rooms. A reader refuses more than that.
//
// A later version may add elements at the end of any array but a list, bits of flags, and kinds. A reader skips
// elements and bits that it does not know, and a whole instruction of a kind above 255. The elements above keep their
// places and types for every kind, so a reader passes on unknown kinds. Any other change is another format, and the
// transport must tell the two apart.

const flagVolatile = 1 // of an instruction's flags

func appendNamespace(dst []byte, ns string) []byte {
	if ns == "" || ns == "/" {
		return append(dst, mpack.Nil)
	}
	return mpack.AppendStr(dst, ns)
}

func targetNames(t *Target) int {
	return len(t.Rooms) + len(t.Users) + len(t.Sockets) + len(t.ExceptRooms) + len(t.ExceptUsers) + len(t.ExceptSockets)
}

// checkInstruction returns an error if the format cannot carry inst: one of a limit, or an error about a payload of
// [EncodingArgs] that is not one array.
func checkInstruction(inst *Instruction) error {
	if inst.Kind == 0 {
		return &limit.Error{What: "kind", Max: math.MaxUint8}
	}
	if len(inst.Namespace) > limit.Name {
		return checkName("namespace", inst.Namespace)
	}
	if len(inst.Event) > limit.Name {
		return checkName("event", inst.Event)
	}
	if err := checkPayload(&inst.Payload); err != nil {
		return err
	}
	t := &inst.Target
	n := targetNames(t)
	if n > limit.Names {
		return &limit.Error{What: "target", Len: n, Max: limit.Names}
	}
	if n > 0 {
		if err := checkTarget(t); err != nil {
			return err
		}
	}
	if len(inst.Meta) > limit.Meta {
		return &limit.Error{What: "meta", Len: len(inst.Meta), Max: limit.Meta}
	}
	for i := range inst.Meta {
		if n := max(len(inst.Meta[i].Key), len(inst.Meta[i].Value)); n > limit.Name {
			return &limit.Error{What: "meta string", Len: n, Max: limit.Name}
		}
	}
	if len(inst.Node.Name) > limit.Name {
		return checkName("node", inst.Node.Name)
	}
	if len(inst.Rooms) > limit.Names {
		return &limit.Error{What: "rooms", Len: len(inst.Rooms), Max: limit.Names}
	}
	if err := checkNames("room", inst.Rooms); err != nil {
		return err
	}
	if len(inst.Reason) > limit.Name {
		return &limit.Error{What: "reason", Len: len(inst.Reason), Max: limit.Name, Bytes: true}
	}
	if len(inst.Ref) > limit.Name {
		return checkName("ref", inst.Ref)
	}
	if inst.Answer != nil {
		if err := checkAnswer(inst.Answer); err != nil {
			return err
		}
	}
	return checkPresence(inst.Presence)
}

func checkPayload(p *Payload) error {
	if !p.known() {
		return &limit.Error{What: "payload encoding", Len: int(p.Encoding), Max: int(EncodingMsgPack)}
	}
	if len(p.Data) > math.MaxInt32 {
		return &limit.Error{What: "payload", Len: len(p.Data), Max: math.MaxInt32, Bytes: true}
	}
	if p.Encoding == EncodingArgs {
		return checkArgs(p.Data)
	}
	return nil
}

// checkArgs returns an error unless data is a payload of [EncodingArgs].
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

// For drivers: AppendInstruction appends an instruction as bytes. It may be called concurrently, keeps nothing of inst,
// and allocates only a larger dst.
//
// The bytes do not carry inst.From and inst.To, which the transport carries, or inst.Late. An empty namespace is "/".
// Heartbeats and TTLs are rounded up to milliseconds.
//
// An error means that the format cannot carry inst. Then dst is returned unchanged. It matches [ErrTooLarge] or
// [ErrInvalidName], unless the payload is of [EncodingArgs] and not one array.
func AppendInstruction(dst []byte, inst *Instruction) ([]byte, error) {
	if err := checkInstruction(inst); err != nil {
		return dst, err
	}
	n := 1
	switch {
	case inst.Presence != nil || inst.Answer != nil || inst.Question != nil || inst.TTL > 0 ||
		len(inst.Ref)|len(inst.Reason)|len(inst.Rooms) != 0:
		n = bodyLen(inst)
	case inst.Node != (NodeInfo{}):
		n = 8
	case len(inst.Meta) > 0:
		n = 7
	case inst.Payload.Encoding != EncodingNone:
		n = 6
	case inst.Event != "":
		n = 5
	case !inst.Target.isZero():
		n = 4
	case inst.Namespace != "" && inst.Namespace != "/":
		n = 3
	case inst.Volatile:
		n = 2
	}
	dst = mpack.AppendUint(append(dst, mpack.FixArray|byte(n)), uint64(inst.Kind))
	if n > 1 {
		flags := uint64(0)
		if inst.Volatile {
			flags = flagVolatile
		}
		dst = mpack.AppendUint(dst, flags)
	}
	if n > 2 {
		dst = appendNamespace(dst, inst.Namespace)
	}
	if n > 3 {
		dst = appendTarget(dst, &inst.Target)
	}
	if n > 4 {
		if inst.Event == "" {
			dst = append(dst, mpack.Nil)
		} else {
			dst = mpack.AppendStr(dst, inst.Event)
		}
	}
	if n > 5 {
		switch inst.Payload.Encoding { // as appendPayload, which is not inlined: a tenth of an emission's cost
		case EncodingJSON:
			dst = mpack.AppendStr(dst, inst.Payload.Data)
		case EncodingBinary:
			dst = mpack.AppendBin(dst, inst.Payload.Data)
		case EncodingArgs:
			dst = append(dst, inst.Payload.Data...)
		case EncodingMsgPack:
			dst = mpack.AppendExt(dst, int8(EncodingMsgPack), inst.Payload.Data)
		default:
			dst = append(dst, mpack.Nil)
		}
	}
	if n <= 6 { // nearly every emission
		return dst, nil
	}
	if len(inst.Meta) == 0 {
		dst = append(dst, mpack.Nil)
	} else {
		dst = mpack.AppendArrayLen(dst, 2*len(inst.Meta))
		for i := range inst.Meta {
			dst = mpack.AppendStr(dst, inst.Meta[i].Key)
			dst = mpack.AppendStr(dst, inst.Meta[i].Value)
		}
	}
	if n > 7 {
		if inst.Node == (NodeInfo{}) {
			dst = append(dst, mpack.Nil)
		} else {
			dst = mpack.AppendStr(append(dst, mpack.FixArray|2), inst.Node.Name)
			dst = appendMilliseconds(dst, inst.Node.Heartbeat)
		}
	}
	if n > 8 {
		dst = appendBody(appendNames(dst, inst.Rooms), inst, n)
	}
	return dst, nil
}

// appendMilliseconds appends a duration, rounded up, and limited to the range of a reader.
func appendMilliseconds(dst []byte, d time.Duration) []byte {
	d = min(max(0, d), math.MaxInt64-time.Millisecond)
	return mpack.AppendUint(dst, uint64((d+time.Millisecond-1)/time.Millisecond))
}

// isZero reports whether no field of the target is set.
func (t *Target) isZero() bool { return t.isNobody() && !t.hasExceptions() }

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
	default:
		return append(dst, mpack.Nil)
	}
	dst = mpack.AppendBool(append(dst, mpack.FixArray|byte(n)), t.Everyone)
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
