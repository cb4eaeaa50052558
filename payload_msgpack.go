package crosscast

import (
	"encoding/json"
	"errors"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
)

// MsgPack makes a payload of [EncodingMsgPack]. Emit, and everything else that takes a payload, encodes v then, by
// [github.com/vmihailenco/msgpack/v5] with the names of json tags:
//
//	node.To("room1").Emit(ctx, "moved", crosscast.MsgPack(position{X: 1, Y: 2}))
//
// Clients that have asked for msgpack get these bytes, and all others get the same value as JSON. Therefore a value that
// JSON cannot say is refused with an error: a float that is not finite, a key of a map that is no string, a string that is
// not UTF-8, a time outside the years 0 to 9999, any other extension, and more than 512 levels. Nothing is changed
// silently. docs/msgpack.md has the table.
//
// MarshalMsgpack counts, and MarshalBinary and MarshalText, which make bytes; MarshalJSON does not. A [json.RawMessage] by
// itself becomes the value of its text; within another value it is bytes. Of the options of json tags only omitempty counts.
func MsgPack(v any) any { return msgPack{v} }

// msgPack is a value that is to be encoded.
type msgPack struct{ v any }

var errNested = errors.New("crosscast: MsgPack within another value")

// MarshalJSON and MarshalMsgpack fail: it is a payload, and no part of another value.
func (msgPack) MarshalJSON() ([]byte, error)    { return nil, errNested }
func (msgPack) MarshalMsgpack() ([]byte, error) { return nil, errNested }

// encode makes the payload, of at most so many bytes.
func (m msgPack) encode(most int) (Payload, error) {
	w := bounded{most: most}
	var err error
	if text, ok := m.v.(json.RawMessage); ok && text != nil {
		w.data, err = mpack.AppendExactFromJSON(nil, text)
	} else {
		enc := msgpack.GetEncoder()
		enc.Reset(&w)
		enc.SetCustomStructTag("json")
		enc.UseCompactInts(true)
		enc.SetSortMapKeys(true)
		err = enc.Encode(m.v)
		msgpack.PutEncoder(enc)
	}
	if err == nil {
		err = mpack.Exact(w.data)
	}
	if errors.Is(err, ErrTooLarge) {
		return Payload{}, err
	}
	if err != nil {
		return Payload{}, errtext.Errorf("crosscast: payload: %w", err)
	}
	return Payload{EncodingMsgPack, w.data}, nil
}

// bounded takes at most so many bytes, also of a value that contains itself.
type bounded struct {
	data []byte
	most int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if n := len(b.data) + len(p); n > b.most {
		return 0, &limit.Error{What: "payload", Len: n, Max: b.most, Bytes: true}
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

// WriteByte implements io.ByteWriter, for which the encoder looks.
func (b *bounded) WriteByte(c byte) error {
	_, err := b.Write([]byte{c})
	return err
}
