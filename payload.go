package crosscast

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/internal/validjson"
)

// Encoding says how the bytes of a [Payload] are to be read.
type Encoding uint8

const (
	EncodingNone   Encoding = iota // no payload
	EncodingJSON                   // one JSON text
	EncodingBinary                 // bytes
	// EncodingArgs is one msgpack array: the arguments of an event, where they are more than one JSON value or one run
	// of bytes. Arrays and maps in it are nested at most 512 deep, itself counted, and the keys of maps are strings or
	// numbers.
	EncodingArgs
	// EncodingMsgPack is one value of msgpack that JSON can say too: see [MsgPack].
	EncodingMsgPack
)

// Payload is what an emission carries: opaque bytes, marshalled once at the emitting node.
type Payload struct {
	Encoding Encoding
	Data     []byte
}

// Bytes is what is emitted as binary. JSON that is already marshalled is emitted as a [json.RawMessage]; a bare []byte,
// which might be either, is refused.
type Bytes []byte

// A payloader is a value that is emitted as what its method returns, such as the arguments of an event of Socket.IO.
type payloader interface{ Payload() Payload }

var (
	errBadJSON = errors.New("crosscast: payload is not valid JSON in UTF-8")
	errBadArgs = errors.New("crosscast: payload is not one array of arguments")
	errBytes   = errors.New("crosscast: a bare []byte as payload: crosscast.Bytes(b) sends it as binary, " +
		"json.RawMessage(b) as JSON")
)

// payload makes the payload of what a user emits.
func (n *Node) payload(v any) (Payload, error) {
	var p Payload
	switch v := v.(type) {
	case nil:
		return p, nil
	case Payload:
		p = v
	case json.RawMessage:
		if v == nil {
			return p, nil
		}
		p = Payload{EncodingJSON, v}
	case Bytes:
		p = Payload{EncodingBinary, v}
	case []byte:
		return p, errBytes
	case msgPack:
		return v.encode(n.maxPayload)
	default:
		if made, ok := v.(payloader); ok {
			return n.payload(made.Payload())
		}
		data, err := json.Marshal(v)
		if err != nil {
			return p, errtext.Errorf("crosscast: payload: %w", err)
		}
		p = Payload{EncodingJSON, data}
	}
	if len(p.Data) > n.maxPayload {
		return p, &limit.Error{What: "payload", Len: len(p.Data), Max: n.maxPayload, Bytes: true}
	}
	switch v.(type) {
	case Payload, json.RawMessage:
		switch {
		case p.Encoding > EncodingMsgPack:
			return p, fmt.Errorf("crosscast: payload of unknown encoding %d", p.Encoding)
		case p.Encoding == EncodingNone && len(p.Data) > 0:
			return p, errors.New("crosscast: payload of EncodingNone with data")
		case p.Encoding == EncodingArgs:
			return p, checkArgs(p.Data)
		case p.Encoding == EncodingMsgPack:
			if err := mpack.Exact(p.Data); err != nil {
				return p, errtext.Errorf("crosscast: payload: %w", err)
			}
		case !p.valid():
			return p, errBadJSON
		}
	case Bytes:
	default: // encoding/json takes what a json.RawMessage or a MarshalJSON within v says, whether or not it is UTF-8
		if !utf8.Valid(p.Data) {
			return p, errBadJSON
		}
	}
	return p, nil
}

// valid reports whether clients can take the payload, once the format can carry it: JSON that is none, or not
// UTF-8, ends their connections. What is made of Args for them is always valid. Encodings of later versions are not.
func (p *Payload) valid() bool {
	switch p.Encoding {
	case EncodingJSON:
		return validjson.Valid(p.Data)
	case EncodingMsgPack:
		return mpack.Exact(p.Data) == nil
	}
	return p.known()
}

// known reports whether this version knows the encoding.
func (p *Payload) known() bool { return p.Encoding <= EncodingMsgPack }

// Encode makes a payload of v as [BoundTarget.Emit] does, with the same limit, for what bindings send beside messages.
func (ns *Namespace) Encode(v any) (Payload, error) { return ns.node.payload(v) }

// AppendJSON appends the payload as one JSON value, for clients that take nothing else:
//
//   - [EncodingJSON]: as it is; Emit has validated it.
//   - [EncodingBinary]: a string in standard base64.
//   - [EncodingArgs]: the only argument, or an array of them, as JSON.stringify of JavaScript would write them, with bytes
//     as strings in base64.
//   - [EncodingMsgPack]: the same value, with bytes as strings in base64, and times as in RFC 3339.
//   - [EncodingNone]: nothing.
//
// An error is about arguments that are not well formed, about msgpack that is not, or about an unknown encoding; nothing
// is appended then.
func (p Payload) AppendJSON(dst []byte) ([]byte, error) {
	switch p.Encoding {
	case EncodingNone:
		return dst, nil
	case EncodingJSON:
		return append(dst, p.Data...), nil
	case EncodingBinary:
		return appendBase64(dst, p.Data), nil
	case EncodingArgs:
		data := p.Data
		if c := mpack.NewCursor(data); c.Array() == 1 {
			data = data[c.Pos():]
		}
		dst, _, err := mpack.AppendJSON(dst, data, appendBase64)
		if err != nil {
			err = errtext.Errorf("%w: %w", errBadArgs, err)
		}
		return dst, err
	case EncodingMsgPack:
		return mpack.AppendExactJSON(dst, p.Data, appendBase64)
	}
	return dst, fmt.Errorf("crosscast: payload of unknown encoding %d", p.Encoding)
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}
