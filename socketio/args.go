package socketio

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/validjson"
)

// Args are the arguments of an event or of an acknowledgement. The zero value has none. They must not be changed, and
// may be kept and read concurrently. Everything that takes a payload, such as [crosscast.BoundTarget.Emit], takes Args.
type Args struct {
	values   []json.RawMessage  // JSON texts, bytes, or values of msgpack, depending on encoding
	encoding crosscast.Encoding // None: JSON texts that are not in one payload
	payload  crosscast.Payload
}

// parseArgs makes the arguments of a packet.
func parseArgs(values []json.RawMessage, attachments [][]byte) (Args, error) {
	if len(attachments) == 0 {
		return Args{values: values}, nil
	}
	p, err := args.FromJSON(values, attachments)
	if err != nil {
		return Args{}, err
	}
	return ArgsOf(p)
}

// ArgsOf returns the arguments in a payload: of an answer, of a request, or of a subscription's message. It keeps p.
func ArgsOf(p crosscast.Payload) (Args, error) {
	a := Args{encoding: p.Encoding, payload: p}
	switch p.Encoding {
	case crosscast.EncodingNone:
		return Args{}, nil
	case crosscast.EncodingJSON:
		if !validjson.Valid(p.Data) {
			return Args{}, errors.New("crosscast/socketio: payload is not valid JSON")
		}
		a.values = []json.RawMessage{p.Data}
		return a, nil
	case crosscast.EncodingBinary:
		a.values = []json.RawMessage{p.Data}
		return a, nil
	case crosscast.EncodingArgs:
		if n, _, err := mpack.Scan(p.Data); err != nil || n < len(p.Data) {
			return Args{}, errNoArgs
		}
		c := mpack.NewCursor(p.Data)
		a.values = make([]json.RawMessage, c.Array())
		for i := range a.values {
			a.values[i] = c.Value()
		}
		if c.Bad() {
			return Args{}, errNoArgs
		}
		return a, nil
	case crosscast.EncodingMsgPack:
		if err := mpack.Exact(p.Data); err != nil {
			return Args{}, errtext.Errorf("crosscast/socketio: payload: %w", err)
		}
		a.values = []json.RawMessage{p.Data}
		return a, nil
	}
	return Args{}, fmt.Errorf("crosscast/socketio: payload of unknown encoding %d", p.Encoding)
}

var errBytes = errors.New("crosscast/socketio: a bare []byte as argument: crosscast.Bytes(b) sends it as bytes, " +
	"json.RawMessage(b) as JSON")

var errNoArgs = errors.New("crosscast/socketio: payload is not one array of arguments")

// NewArgs returns the arguments of [Values].
func NewArgs(values ...any) (Args, error) {
	p, err := encode(values)
	if err != nil {
		return Args{}, err
	}
	return ArgsOf(p)
}

// Values makes a payload of several arguments, or of arguments with bytes in them:
//
//	node.To("room1").Emit(ctx, "message", socketio.Values("from", crosscast.Bytes(picture)))
//
// Each value is one of:
//
//   - [crosscast.Bytes]: bytes. A bare []byte is refused, because it might be JSON.
//   - []any, map[string]any: as JSON, at any depth. Each crosscast.Bytes in it is sent as bytes, and so is each []byte
//     ([Args.Decode] makes these).
//   - [json.RawMessage]: the value of its JSON text.
//   - [Args]: all its arguments, with their bytes.
//   - anything else: as encoding/json encodes it. The bytes of a struct become a string in base64.
//
// If a value cannot be encoded, Emit returns the error, or the other function that takes the result as a payload.
func Values(values ...any) any {
	p, err := encode(values)
	if err != nil {
		return failure{err}
	}
	return p
}

// A failure is a payload that could not be encoded. Marshalling it returns the error.
type failure struct{ err error }

func (f failure) MarshalJSON() ([]byte, error) { return nil, f.err }

// encode makes a payload of arguments. Each list of arguments has only one form.
func encode(values []any) (crosscast.Payload, error) {
	var none crosscast.Payload
	if len(values) == 0 {
		return none, nil
	}
	if slices.ContainsFunc(values, func(v any) bool { _, ok := v.([]byte); return ok }) {
		return none, errBytes
	}
	if slices.ContainsFunc(values, func(v any) bool { _, ok := v.(Args); return ok }) {
		return join(values)
	}
	if len(values) == 1 {
		if b, ok := values[0].(crosscast.Bytes); ok {
			return crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: slices.Clone(b)}, nil
		}
		bytes, err := hasBytes(values[0], 0)
		if err != nil {
			return none, err
		}
		if !bytes {
			text, err := json.Marshal(values[0])
			return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: text}, err
		}
	}
	dst, err := appendValue(nil, values, 0)
	if err != nil {
		return none, err
	}
	return crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: dst}, nil
}

// join is encode for values with Args among them.
func join(values []any) (crosscast.Payload, error) {
	var dst []byte
	count := 0
	for _, v := range values {
		n, err := 1, error(nil)
		if a, ok := v.(Args); ok {
			dst, n, err = args.AppendMsgpackValues(dst, a.Payload())
		} else {
			dst, err = appendValue(dst, v, 1)
		}
		if err != nil {
			return crosscast.Payload{}, err
		}
		count += n
	}
	p, _, err := args.FromMsgpackValues(dst, count)
	return p, err
}

// hasBytes reports whether v contains bytes that encoding/json does not encode.
func hasBytes(v any, depth int) (bool, error) {
	if depth > mpack.MaxDepth {
		return false, mpack.ErrDepth // perhaps v contains itself
	}
	var parts []any
	switch v := v.(type) {
	case []byte, crosscast.Bytes:
		return true, nil
	case []any:
		parts = v
	case map[string]any:
		parts = slices.Collect(maps.Values(v))
	}
	for _, part := range parts {
		if bytes, err := hasBytes(part, depth+1); bytes || err != nil {
			return bytes, err
		}
	}
	return false, nil
}

// appendValue appends v as msgpack.
func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	if depth > mpack.MaxDepth {
		return nil, mpack.ErrDepth
	}
	var err error
	switch v := v.(type) {
	case []byte:
		return mpack.AppendBin(dst, v), nil
	case crosscast.Bytes:
		return mpack.AppendBin(dst, v), nil
	case []any:
		dst = mpack.AppendArrayLen(dst, len(v))
		for _, part := range v {
			if dst, err = appendValue(dst, part, depth+1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	case map[string]any:
		dst = mpack.AppendMapLen(dst, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if dst, err = appendValue(mpack.AppendStr(dst, key), v[key], depth+1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mpack.AppendFromJSON(dst, text)
}

// Len returns the number of arguments.
func (a Args) Len() int { return len(a.values) }

// Bytes returns argument i if it is bytes. They must not be changed.
func (a Args) Bytes(i int) ([]byte, bool) {
	switch a.encoding {
	case crosscast.EncodingBinary:
		return a.values[i], true
	case crosscast.EncodingArgs, crosscast.EncodingMsgPack:
		c := mpack.NewCursor(a.values[i])
		return c.Buffer()
	}
	return nil, false
}

// JSON returns argument i as JSON, with bytes as strings in base64. The result must not be changed.
func (a Args) JSON(i int) (json.RawMessage, error) {
	switch a.encoding {
	case crosscast.EncodingBinary:
		return base64JSON(nil, a.values[i]), nil
	case crosscast.EncodingArgs:
		text, _, err := mpack.AppendJSON(nil, a.values[i], base64JSON)
		return text, err
	case crosscast.EncodingMsgPack:
		return mpack.AppendExactJSON(nil, a.values[i], base64JSON)
	}
	return a.values[i], nil
}

func base64JSON(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// Decode stores argument i in the variable that v points to. Bytes are stored in a []byte or an any. Other values are
// decoded by encoding/json from [Args.JSON], so bytes within an object fit a struct's field of type []byte.
func (a Args) Decode(i int, v any) error {
	if i < 0 || i >= len(a.values) {
		return fmt.Errorf("crosscast/socketio: no argument %d, there are %d", i, len(a.values))
	}
	if b, ok := a.Bytes(i); ok {
		switch v := v.(type) {
		case *[]byte:
			*v = slices.Clone(b)
			return nil
		case *any:
			*v = slices.Clone(b)
			return nil
		}
	}
	text, err := a.JSON(i)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// Rest returns the arguments from i on, if there are any. With it a handler relays the arguments after the name of a
// room, with their bytes:
//
//	s.To(room).Emit(ctx, "message", args.Rest(1))
func (a Args) Rest(i int) Args {
	switch {
	case i <= 0:
		return a
	case i >= len(a.values):
		return Args{}
	case a.encoding == crosscast.EncodingNone:
		return Args{values: a.values[i:]}
	}
	var values []byte
	for _, v := range a.values[i:] {
		values = append(values, v...)
	}
	p, _, err := args.FromMsgpackValues(values, len(a.values)-i)
	if err != nil { // not possible for arguments that ArgsOf accepts
		return Args{}
	}
	rest, _ := ArgsOf(p)
	return rest
}

// Payload returns the arguments unchanged as a payload. So arguments can be emitted.
func (a Args) Payload() crosscast.Payload {
	if a.encoding != crosscast.EncodingNone {
		return a.payload
	}
	p, err := args.FromJSON(a.values, nil)
	if err != nil { // not possible for arguments that parsePacket accepts; emitting this payload is an error
		return crosscast.Payload{Encoding: crosscast.EncodingJSON}
	}
	return p
}

// MarshalJSON fails: Args are a payload, or one of several Values, but no part of another value.
func (a Args) MarshalJSON() ([]byte, error) {
	return nil, errors.New("crosscast/socketio: Args within another value")
}

// size returns the memory that the arguments take.
func (a Args) size() int {
	size := len(a.payload.Data)
	for _, v := range a.values {
		size += 24
		if a.encoding == crosscast.EncodingNone {
			size += len(v)
		}
	}
	return size
}
