package crosscast_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// The referee is another implementation of msgpack, and of the format on top of it: instructions to and from trees of any,
// written from the documentation and not from the code.

// treeOf returns the elements of an instruction, whole: none is left out.
func treeOf(inst *crosscast.Instruction) []any {
	var ns any
	if inst.Namespace != "" {
		ns = inst.Namespace
	}
	t := &inst.Target
	target := []any{t.Everyone, listOf(t.Rooms), listOf(t.Users), listOf(t.Sockets), listOf(t.ExceptRooms),
		listOf(t.ExceptUsers), listOf(t.ExceptSockets)}
	var event, node any
	if inst.Event != "" {
		event = inst.Event
	}
	payload := payloadTree(inst.Payload)
	meta := []any{}
	for _, kv := range inst.Meta {
		meta = append(meta, kv.Key, kv.Value)
	}
	if inst.Node != (crosscast.NodeInfo{}) {
		node = []any{inst.Node.Name, uint64(inst.Node.Heartbeat / time.Millisecond)}
	}
	var ref, question any
	if inst.Ref != "" {
		ref = inst.Ref
	}
	if q := inst.Question; q != nil {
		question = []any{uint64(q.Kind), uint64(q.Fields), q.Salt}
	}
	volatile := uint64(0)
	if inst.Volatile {
		volatile = 1
	}
	return []any{uint64(inst.Kind), volatile, ns, target, event, payload,
		meta, node, listOf(inst.Rooms), string(inst.Reason), ref, uint64(inst.TTL / time.Millisecond), question,
		answerTree(inst.Answer), presenceTree(inst.Presence)}
}

func payloadTree(p crosscast.Payload) any {
	switch p.Encoding {
	case crosscast.EncodingJSON:
		return string(p.Data)
	case crosscast.EncodingBinary:
		return p.Data
	case crosscast.EncodingArgs:
		return msgpack.RawMessage(p.Data) // its bytes are kept
	case crosscast.EncodingMsgPack:
		return packed{p.Data}
	}
	return nil
}

// packed is an extension of type 4.
type packed struct{ data []byte }

func init() {
	msgpack.RegisterExtEncoder(4, packed{}, func(_ *msgpack.Encoder, v reflect.Value) ([]byte, error) {
		return v.Interface().(packed).data, nil
	})
	msgpack.RegisterExtDecoder(4, packed{}, func(d *msgpack.Decoder, v reflect.Value, n int) error {
		data := make([]byte, n)
		v.Addr().Interface().(*packed).data = data
		return d.ReadFull(data)
	})
}

func presenceTree(p *crosscast.Presence) any {
	if p == nil {
		return nil
	}
	changes := []any{}
	for _, c := range p.Changes {
		changes = append(changes, []any{string(c.Socket), c.User, c.Left, string(c.Presence), c.At})
	}
	numbers := func(all []uint64) any {
		list := []any{}
		for _, v := range all {
			list = append(list, v)
		}
		return list
	}
	return []any{p.Since, p.Version, uint64(p.Part), p.Last, changes, p.Round, p.Buckets, numbers(p.Sums),
		numbers(p.Versions), p.Full}
}

func answerTree(a *crosscast.Answer) any {
	if a == nil {
		return nil
	}
	users := []byte{}
	for _, u := range a.Users {
		users = binary.BigEndian.AppendUint64(users, u)
	}
	sockets, rooms, replies := []any{}, []any{}, []any{}
	for _, s := range a.Sockets {
		sockets = append(sockets, []any{string(s.ID), s.User, listOf(s.Rooms), string(s.Data), string(s.Handshake)})
	}
	for _, r := range a.Rooms {
		rooms = append(rooms, []any{r.Room, uint64(r.Sockets)})
	}
	for _, r := range a.Replies {
		replies = append(replies, []any{string(r.Socket), payloadTree(r.Payload), r.Silent})
	}
	return []any{uint64(a.Part), a.Last, a.Err, uint64(a.Count), users, sockets, rooms, replies, payloadTree(a.Payload),
		a.Handled}
}

func listOf[S ~string](names []S) any {
	list := []any{}
	for _, n := range names {
		list = append(list, string(n))
	}
	return list
}

// refereeReads is readAll by the referee. It panics when a value is not of the type that the format has there.
func refereeReads(b []byte) (s sequence, err error) {
	for dec := msgpack.NewDecoder(bytes.NewReader(b)); ; {
		v, err := dec.DecodeInterface()
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		full := make([]any, 15)
		if copy(full, v.([]any)) < len(v.([]any)) {
			panic("an element that is not documented")
		}
		s = append(s, instructionOf(full))
	}
}

// refereeWrites returns the bytes of an instruction, whatever it is.
func refereeWrites(t testing.TB, inst *crosscast.Instruction) []byte {
	buf := new(bytes.Buffer)
	enc := refereeEncoder{Encoder: msgpack.NewEncoder(buf), buf: buf}
	if err := enc.encode(treeOf(inst)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func instructionOf(e []any) crosscast.Instruction {
	inst := crosscast.Instruction{Kind: kind.Kind(number(e[0])), Volatile: number(e[1])&1 == 1,
		Namespace: namespace(e[2])}
	if e[3] != nil {
		t := make([]any, 7)
		copy(t, e[3].([]any))
		inst.Target.Everyone, _ = t[0].(bool)
		inst.Target.Rooms, inst.Target.Users, inst.Target.Sockets = texts[string](t[1]), texts[string](t[2]),
			texts[crosscast.SocketID](t[3])
		inst.Target.ExceptRooms, inst.Target.ExceptUsers = texts[string](t[4]), texts[string](t[5])
		inst.Target.ExceptSockets = texts[crosscast.SocketID](t[6])
	}
	if e[4] != nil {
		inst.Event = e[4].(string)
	}
	inst.Payload = payloadOf(e[5])
	for meta := texts[string](e[6]); len(meta) > 0; meta = meta[2:] {
		inst.Meta = append(inst.Meta, crosscast.KeyValue{Key: meta[0], Value: meta[1]})
	}
	if e[7] != nil {
		node := e[7].([]any)
		inst.Node = crosscast.NodeInfo{Name: node[0].(string),
			Heartbeat: time.Duration(number(node[1])) * time.Millisecond}
	}
	inst.Rooms, inst.Reason, inst.Ref = texts[string](e[8]), crosscast.Reason(text(e[9])), text(e[10])
	inst.TTL = time.Duration(number(e[11])) * time.Millisecond
	if e[12] != nil {
		q := e[12].([]any)
		inst.Question = &crosscast.Question{Kind: kind.Question(number(q[0])),
			Fields: kind.Fields(number(q[1])), Salt: number(q[2])}
	}
	if e[13] != nil {
		inst.Answer = answerOf(e[13].([]any))
	}
	if e[14] != nil {
		p := refereePresence(e[14].([]any))
		inst.Presence = &p
	}
	return inst
}

func payloadOf(v any) crosscast.Payload {
	switch p := v.(type) {
	case nil:
		return crosscast.Payload{}
	case string:
		return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: []byte(p)}
	case packed:
		return crosscast.Payload{Encoding: crosscast.EncodingMsgPack, Data: p.data}
	case []any:
		buf := new(bytes.Buffer)
		enc := msgpack.NewEncoder(buf)
		enc.UseCompactInts(true)
		if err := enc.Encode(p); err != nil {
			panic(err)
		}
		return crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: buf.Bytes()}
	default:
		return crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: p.([]byte)}
	}
}

func answerOf(e []any) *crosscast.Answer {
	full := make([]any, 10)
	if copy(full, e) < len(e) {
		panic("an element that is not documented")
	}
	a := &crosscast.Answer{Part: int(number(full[0])), Err: text(full[2]), Count: int(number(full[3])),
		Payload: payloadOf(full[8])}
	a.Last, _ = full[1].(bool)
	a.Handled, _ = full[9].(bool)
	if full[4] != nil {
		for b := full[4].([]byte); len(b) > 0; b = b[8:] {
			a.Users = append(a.Users, binary.BigEndian.Uint64(b))
		}
	}
	for _, s := range arrays(full[5], 4, 5) {
		info := crosscast.SocketInfo{ID: crosscast.SocketID(s[0].(string)), User: text(s[1]), Rooms: texts[string](s[2])}
		if s[3] != nil {
			info.Data = []byte(s[3].(string))
		}
		if len(s) > 4 {
			info.Handshake = []byte(s[4].(string))
		}
		a.Sockets = append(a.Sockets, info)
	}
	for _, r := range arrays(full[6], 2) {
		a.Rooms = append(a.Rooms, crosscast.RoomCount{Room: r[0].(string), Sockets: int(number(r[1]))})
	}
	for _, r := range arrays(full[7], 3) {
		a.Replies = append(a.Replies, crosscast.Reply{Socket: crosscast.SocketID(r[0].(string)), Payload: payloadOf(r[1]),
			Silent: r[2].(bool)})
	}
	return a
}

// arrays returns the arrays of so many elements that v is a list of.
func arrays(v any, n ...int) (all [][]any) {
	if v == nil {
		return nil
	}
	for _, e := range v.([]any) {
		if !slices.Contains(n, len(e.([]any))) {
			panic("an array of another length than documented")
		}
		all = append(all, e.([]any))
	}
	return all
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return v.(string)
}

func number(v any) uint64 {
	if v == nil {
		return 0
	}
	if r := reflect.ValueOf(v); r.CanUint() {
		return r.Uint()
	} else if r.Int() >= 0 {
		return uint64(r.Int())
	}
	panic("negative")
}

func namespace(v any) string {
	if v == nil {
		return "/"
	}
	return v.(string)
}

func texts[S ~string](v any) (list []S) {
	if v == nil {
		return nil
	}
	for _, s := range v.([]any) {
		list = append(list, S(s.(string)))
	}
	return list
}

// A refereeEncoder writes trees as the referee does; how it writes what the format leaves open is drawn.
type refereeEncoder struct {
	*msgpack.Encoder
	buf  *bytes.Buffer
	wide bool // lengths of 32 bits, which the library never writes for short values
	ints int  // 0: shortest; 1: int64; 2: uint64; 3: the narrowest signed type
}

func (e *refereeEncoder) encode(v any) error {
	switch v := v.(type) {
	case uint64:
		switch {
		case e.ints == 1 && int64(v) >= 0:
			return e.EncodeInt64(int64(v))
		case e.ints == 2:
			return e.EncodeUint64(v)
		case e.ints == 3 && v < 1<<7:
			return e.EncodeInt8(int8(v))
		case e.ints == 3 && v < 1<<15:
			return e.EncodeInt16(int16(v))
		case e.ints == 3 && v < 1<<31:
			return e.EncodeInt32(int32(v))
		}
		return e.EncodeUint(v)
	case string:
		if e.wide {
			return e.raw(0xdb, len(v), v)
		}
		return e.EncodeString(v)
	case []byte:
		if e.wide {
			return e.raw(0xc6, len(v), string(v))
		}
		return e.EncodeBytes(v)
	case []any:
		err := e.EncodeArrayLen(len(v))
		if e.wide {
			e.buf.Truncate(e.buf.Len() - 1 - map[bool]int{true: 2}[len(v) > 15])
			err = e.raw(0xdd, len(v), "")
		}
		for i := range v {
			if err == nil {
				err = e.encode(v[i])
			}
		}
		return err
	}
	return e.Encode(v)
}

func (e *refereeEncoder) raw(tag byte, n int, s string) error {
	e.buf.WriteByte(tag)
	e.buf.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	e.buf.WriteString(s)
	return nil
}

func TestRefereeReadsWhatWeWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSequence(t)
		got, err := refereeReads(s.bytes())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("the referee read %v\n%+v\nwritten\n%+v", err, got, s)
		}
	})
}

// TestWeReadWhatTheRefereeWrites also adds what a later version may add: elements of any type at the end of arrays,
// and instructions of kinds that do not fit.
func TestWeReadWhatTheRefereeWrites(t *testing.T) {
	later := []any{nil, true, false, -1, int64(-1 << 40), 1.5, float32(2.5), "text", []byte("bytes"), time.Unix(1, 0),
		time.Unix(1, 1),
		[]any{}, []any{1, []any{"x", map[string]any{"k": []any{nil}}}}, map[string]any{"a": 1, "b": nil},
		msgpack.RawMessage{0xd4, 1, 2}, msgpack.RawMessage{0xd5, 1, 2, 3}, msgpack.RawMessage("\xd8\x010123456789abcdef"),
		msgpack.RawMessage("\xc7\x03\x01abc"), msgpack.RawMessage("\xc8\x00\x02\x01ab"),
		msgpack.RawMessage("\xc9\x00\x00\x00\x00\x01"),
		msgpack.RawMessage("\xdd\x00\x00\x00\x01\xc0"), msgpack.RawMessage("\xde\x00\x01\xc0\xc0"),
		msgpack.RawMessage("\xdf\x00\x00\x00\x01\xc0\xc0"),
		msgpack.RawMessage("\xc5\x00\x01a"), msgpack.RawMessage("\xda\x00\x01a"), msgpack.RawMessage("\xd0\x80"),
		msgpack.RawMessage("\xd1\x80\x00")}
	var r crosscast.InstructionReader
	rapid.Check(t, func(t *rapid.T) {
		s := genSequence(t)
		more := func(to any) any {
			return append(to.([]any), rapid.SliceOfN(rapid.SampledFrom(later), 0, 3).Draw(t, "more")...)
		}
		var values []any
		for i := range s {
			e := treeOf(&s[i])
			e[3] = more(e[3])
			for _, i := range []int{7, 12, 13, 14} {
				if e[i] == nil {
					continue
				}
				if i == 13 {
					for _, list := range e[i].([]any)[5:8] {
						for j, thing := range list.([]any) {
							list.([]any)[j] = more(thing)
						}
					}
				}
				e[i] = more(e[i])
			}
			if rapid.IntRange(0, 3).Draw(t, "later kind") == 0 {
				values = append(values, rapid.SampledFrom([]any{[]any{uint64(256)}, []any{uint64(1 << 40), "?",
					[]any{-1}}}).Draw(t, "kind"))
			}
			values = append(values, more(e))
		}

		buf := new(bytes.Buffer)
		enc := refereeEncoder{msgpack.NewEncoder(buf), buf, rapid.Bool().Draw(t, "wide"), rapid.IntRange(0, 3).Draw(t,
			"ints")}
		for _, v := range values {
			if err := enc.encode(v); err != nil {
				t.Fatal(err)
			}
		}
		got, err := readAll(&r, buf.Bytes())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("read %v\n%+v\nthe referee wrote\n%+v", err, got, s)
		}
	})
}
