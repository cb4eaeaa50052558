package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast/internal/mpack"
)

// The subprotocols of package ws, for Options.Subprotocols.
const (
	SubprotocolJSON    = "crosscast.json.1"    // JSON, with bytes as binary messages
	SubprotocolMsgPack = "crosscast.msgpack.1" // msgpack
)

// A form is how the messages of a connection are written.
type form uint8

const (
	formPlain form = iota // JSON, with bytes as strings in base64
	formJSON
	formMsgPack
)

func formOf(conn *websocket.Conn) form {
	switch chosen := conn.Subprotocol(); {
	case strings.EqualFold(chosen, SubprotocolJSON):
		return formJSON
	case strings.EqualFold(chosen, SubprotocolMsgPack):
		return formMsgPack
	}
	return formPlain
}

// A message is one of the websocket.
type message struct {
	typ  websocket.MessageType
	data []byte
}

// frame makes the message of m.
func (c *Client) frame(m *outgoing, f form) (message, error) {
	b, err := encode(m, f)
	if err != nil {
		return message{}, fmt.Errorf("crosscast/client: %q: %w", m.Event, err)
	}
	if len(b.data) > c.o.WriteLimit {
		return message{}, fmt.Errorf("%w: %d bytes (at most %d)", ErrTooLarge, len(b.data), c.o.WriteLimit)
	}
	return b, nil
}

// encode makes a message of any size. Data that is a []byte is bytes, where the form has them.
func encode(m *outgoing, f form) (message, error) {
	b, isBytes := m.Data.([]byte)
	isBytes = b != nil && isBytes && f != formPlain
	head := *m
	if isBytes {
		head.Data = nil
	}
	text, err := json.Marshal(&head)
	if err != nil {
		return message{}, err
	}
	if !utf8.Valid(text) { // from a json.RawMessage or a MarshalJSON; the server would end the connection
		return message{}, errors.New("not UTF-8")
	}
	switch {
	case f == formMsgPack:
		text, err = mpack.AppendExactFromJSON(nil, text)
		if err == nil && isBytes {
			text[0]++ // the number of members, of which there are few
			text = mpack.AppendBin(mpack.AppendStr(text, "data"), b)
		}
	case isBytes:
		text = append(append(text, 0), b...)
	default:
		return message{websocket.MessageText, text}, nil
	}
	return message{websocket.MessageBinary, text}, err
}

// errBinary ends a connection whose server does not keep to the form.
var errBinary = errors.New("crosscast/client: the server sends messages of another type than was agreed upon")

// decode reads a message of the server. Its data are JSON, whatever the form. end is an error that ends the connection.
func (f form) decode(typ websocket.MessageType, b []byte) (m incoming, end error) {
	var err error
	switch {
	case f == formMsgPack && typ == websocket.MessageBinary:
		if b, err = mpack.AppendExactJSON(nil, b, appendBase64); err == nil {
			err = json.Unmarshal(b, &m)
		}
	case f == formJSON && typ == websocket.MessageBinary:
		head, data, found := bytes.Cut(b, []byte{0})
		if !found {
			err = errors.New("no zero byte before the bytes")
		} else if err = json.Unmarshal(head, &m); err == nil {
			m.Data = appendBase64(nil, data)
		}
	case typ != websocket.MessageText || f == formMsgPack:
		return m, errBinary
	default:
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return incoming{bad: fmt.Errorf("malformed message: %w", err)}, nil
	}
	return m, nil
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}
