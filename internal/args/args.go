// Package args is the arguments of an event between [crosscast.Payload] and the two encodings of Socket.IO: msgpack, as
// its servers write it to Redis, and JSON with attachments, as its clients write it.
//
// An event has a list of arguments. Its normal form is a payload of None when there are none, of JSON when there is
// exactly one without bytes in it, of Binary when there is exactly one that is bytes, and of Args otherwise. What is
// read here is in normal form. A payload of MsgPack is one argument.
//
// Bytes are hostile until parsed: mpack has the limits. Functions that append return dst beside an error.
package args

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
)

var (
	errNoEvent = errors.New("args: no array that begins with a string or a number")
	errNoArgs  = errors.New("args: payload is not one array of arguments")
)

// AppendMsgpack appends an event and its arguments as one array: [event, ...].
func AppendMsgpack(dst []byte, event string, p crosscast.Payload) ([]byte, error) {
	values, n, err := elements(p)
	if err != nil {
		return dst, err
	}
	out := mpack.AppendStr(mpack.AppendArrayLen(dst, 1+n), event)
	if out, err = appendMsgpack(out, p, values); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendMsgpackValues appends the arguments alone, one behind the other, and returns also how many they are.
func AppendMsgpackValues(dst []byte, p crosscast.Payload) (out []byte, n int, err error) {
	values, n, err := elements(p)
	if err != nil {
		return dst, 0, err
	}
	if out, err = appendMsgpack(dst, p, values); err != nil {
		return dst, 0, err
	}
	return out, n, nil
}

// elements returns how many arguments p has, and those of Args.
func elements(p crosscast.Payload) (values []byte, n int, err error) {
	switch p.Encoding {
	case crosscast.EncodingNone:
		return nil, 0, nil
	case crosscast.EncodingJSON, crosscast.EncodingBinary:
		return nil, 1, nil
	case crosscast.EncodingArgs:
		c := mpack.NewCursor(p.Data)
		n = c.Array()
		length, _, err := mpack.Scan(p.Data)
		if err != nil {
			return nil, 0, err
		}
		if c.Bad() || length != len(p.Data) {
			return nil, 0, errNoArgs
		}
		return p.Data[c.Pos():], n, nil
	case crosscast.EncodingMsgPack:
		return p.Data, 1, mpack.Exact(p.Data)
	}
	return nil, 0, fmt.Errorf("args: payload of unknown encoding %d", p.Encoding)
}

func appendMsgpack(dst []byte, p crosscast.Payload, values []byte) ([]byte, error) {
	switch p.Encoding {
	case crosscast.EncodingJSON:
		return mpack.AppendFromJSON(dst, p.Data)
	case crosscast.EncodingBinary:
		return mpack.AppendBin(dst, p.Data), nil
	}
	return append(dst, values...), nil
}

// ParseMsgpack reads an array of an event and its arguments at the beginning of array, and returns also its length. An
// event that is a number is its decimal text. Bytes that are the only argument alias array; what else p holds is its
// own.
func ParseMsgpack(array []byte) (event string, p crosscast.Payload, n int, err error) {
	c := mpack.NewCursor(array)
	count := c.Array()
	switch {
	case count == 0:
		return "", p, 0, errNoEvent
	case c.AtStr():
		event = string(c.Str())
	case c.AtNumber():
		text, _, err := mpack.AppendJSON(nil, array[c.Pos():], nil)
		if err != nil || string(text) == "null" { // not finite
			return "", p, 0, errNoEvent
		}
		event = string(text)
		c.Skip(1)
	default:
		c.Fail()
	}
	if c.Bad() {
		return "", p, 0, errNoEvent
	}
	n = c.Pos()
	p, length, err := FromMsgpackValues(array[n:], count-1)
	if err != nil {
		return "", crosscast.Payload{}, 0, err
	}
	return event, p, n + length, nil
}

// FromMsgpackValues reads n arguments, one behind the other, at the beginning of values, and returns also how many bytes
// they take. Bytes that are the only argument alias values.
func FromMsgpackValues(values []byte, n int) (p crosscast.Payload, length int, err error) {
	switch n {
	case 0:
		return p, 0, nil
	case 1:
		return FromMsgpackValue(values)
	}
	c := mpack.NewCursor(values)
	c.Skip(n)
	if c.Bad() {
		return p, 0, mpack.ErrMalformed
	}
	return list(values[:c.Pos()], n)
}

// list makes Args of n values.
func list(values []byte, n int) (p crosscast.Payload, length int, err error) {
	const head = 5 // at most
	data := append(mpack.AppendArrayLen(make([]byte, 0, head+len(values)), n), values...)
	if _, _, err := mpack.Scan(data); err != nil {
		return p, 0, err
	}
	return crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: data}, len(values), nil
}

// FromMsgpackValue reads the only argument of a list, at the beginning of value, and returns also its length. Bytes
// alias value.
func FromMsgpackValue(value []byte) (p crosscast.Payload, n int, err error) {
	n, hasBytes, err := mpack.Scan(value)
	if err != nil {
		return p, 0, err
	}
	value = value[:n]
	if hasBytes {
		c := mpack.NewCursor(value)
		if b, ok := c.Buffer(); ok {
			return crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: b}, n, nil
		}
		return list(value, 1)
	}
	text, _, err := mpack.AppendJSON(make([]byte, 0, n+n/2+16), value, nil)
	if err != nil {
		return p, 0, err
	}
	return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: text}, n, nil
}

// AppendJSON appends an event and its arguments as one JSON array: ["event", ...]. Bytes in them are written by bytes.
// A payload of JSON is put in as it is.
func AppendJSON(dst []byte, event string, p crosscast.Payload, bytes mpack.Bytes) ([]byte, error) {
	out := mpack.AppendQuoted(append(dst, '['), event)
	end := len(out)
	out, err := AppendJSONValues(append(out, ','), p, bytes)
	if err != nil {
		return dst, err
	}
	if len(out) == end+1 { // there are no arguments
		out = out[:end]
	}
	return append(out, ']'), nil
}

// AppendJSONValues appends the arguments alone, with commas between them, as [AppendJSON] does.
func AppendJSONValues(dst []byte, p crosscast.Payload, bytes mpack.Bytes) ([]byte, error) {
	values, n, err := elements(p)
	if err != nil {
		return dst, err
	}
	switch p.Encoding {
	case crosscast.EncodingJSON:
		return append(dst, p.Data...), nil
	case crosscast.EncodingBinary:
		return bytes(dst, p.Data), nil
	case crosscast.EncodingMsgPack:
		return mpack.AppendExactJSON(dst, values, bytes)
	}
	out := dst
	for i := range n {
		if i > 0 {
			out = append(out, ',')
		}
		var length int
		if out, length, err = mpack.AppendJSON(out, values, bytes); err != nil {
			return dst, err
		}
		values = values[length:]
	}
	return out, nil
}

// FromJSON reads JSON values as arguments, in which placeholders stand for attachments; see
// [mpack.AppendArrayFromJSON]. An argument that is JSON aliases its element.
func FromJSON(elements []json.RawMessage, attachments [][]byte) (crosscast.Payload, error) {
	switch {
	case len(elements) == 0:
		return crosscast.Payload{}, nil
	case len(elements) == 1 && len(attachments) == 0:
		return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: elements[0]}, nil
	}
	data, err := mpack.AppendArrayFromJSON(nil, elements, attachments)
	if err != nil {
		return crosscast.Payload{}, err
	}
	if len(elements) == 1 {
		value := data[1:]
		if _, hasBytes, err := mpack.Scan(value); err != nil || !hasBytes {
			return crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: elements[0]}, err
		}
		if c := mpack.NewCursor(value); c.AtBin() {
			return crosscast.Payload{Encoding: crosscast.EncodingBinary, Data: c.Bin()}, nil
		}
	}
	return crosscast.Payload{Encoding: crosscast.EncodingArgs, Data: data}, nil
}

// BufferJSON appends bytes as JSON.stringify writes a Buffer of Node.js: {"type":"Buffer","data":[1,2]}.
func BufferJSON(dst, b []byte) []byte {
	dst = append(dst, `{"type":"Buffer","data":[`...)
	for i, x := range b {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(x), 10)
	}
	return append(dst, "]}"...)
}
