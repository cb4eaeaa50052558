package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/crosscast/crosscast/internal/mpack"
)

// The types of Engine.IO packets. The type is the first character of a text message.
const (
	engineOpen    = '0'
	engineClose   = '1'
	enginePing    = '2'
	enginePong    = '3'
	engineMessage = '4'
	engineUpgrade = '5'
	engineNoop    = '6'
	engineBase64  = 'b' // bytes, for clients that accept no binary messages
)

// The types of Socket.IO packets. The type follows engineMessage.
const (
	connect      = '0'
	disconnect   = '1'
	emission     = '2'
	ack          = '3'
	connectError = '4'
	binaryEvent  = '5'
	binaryAck    = '6'
)

// isReserved reports whether an implementation uses an event for itself. Clients and servers break the connection when
// they receive it.
func isReserved(event string) bool {
	switch event {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// A packet is a Socket.IO packet without its attachments.
type packet struct {
	typ         byte // binaryEvent and binaryAck become emission and ack
	attachments int
	namespace   string
	id          uint64 // of an event that wants an acknowledgement, or of the acknowledgement
	hasID       bool
	auth        json.RawMessage   // of connect; nil: none
	event       string            // of emission
	values      []json.RawMessage // the arguments of the event or the acknowledgement
}

// maxArguments is the largest number of arguments of an event or acknowledgement. Each takes memory in addition to its
// text.
const maxArguments = 1 << 16

// size returns the memory of the packet while it waits for attachments.
func (p *packet) size() int {
	size := 24 * len(p.values)
	for _, v := range p.values {
		size += len(v)
	}
	return size
}

// maxID is the largest ID of an event, the largest safe integer of JavaScript.
const maxID = 1<<53 - 1

var (
	errType        = errors.New("unknown packet type")
	errAttachments = errors.New("illegal attachments")
	errTooMany     = errors.New("too many attachments")
	errID          = errors.New("illegal packet id")
	errPayload     = errors.New("invalid payload")
	errReserved    = errors.New("reserved event")
	errArguments   = errors.New("too many arguments")
	errState       = errors.New("packet for a namespace in another state")
)

// parsePacket parses a packet. text begins after the type of the Engine.IO packet. No part of text is kept.
//
// It accepts everything that clients write. It refuses some input that Node.js accepts: numbers of attachments and IDs
// that are not plain digits, white space before the JSON, events without a name, acknowledgements without an ID or a
// list, and nesting deeper than mpack.MaxDepth.
func parsePacket(text []byte, maxAttachments int) (packet, error) {
	var p packet
	if len(text) == 0 {
		return p, errType
	}
	p.typ = text[0]
	text = text[1:]
	switch p.typ {
	case connect, disconnect, emission, ack, connectError:
	case binaryEvent, binaryAck:
		n, rest := digits(text)
		if n < 1 || len(rest) == 0 || rest[0] != '-' {
			return p, errAttachments
		}
		if n > uint64(maxAttachments) {
			return p, errTooMany
		}
		p.attachments, text = int(n), rest[1:]
		p.typ -= binaryEvent - emission
	default:
		return p, errType
	}
	p.namespace = "/"
	if len(text) > 0 && text[0] == '/' {
		end := slices.Index(text, ',')
		if end < 0 {
			end = len(text)
		}
		p.namespace, text = string(text[:end]), text[min(end+1, len(text)):]
	}
	if len(text) > 0 && text[0] >= '0' && text[0] <= '9' {
		p.hasID = true
		if p.id, text = digits(text); p.id > maxID {
			return p, errID
		}
	}
	return p, p.parseData(text)
}

// digits parses the digits at the beginning of text. A result above maxID might be wrong, but is above maxID.
func digits(text []byte) (n uint64, rest []byte) {
	for len(text) > 0 && text[0] >= '0' && text[0] <= '9' {
		if n <= maxID {
			n = 10*n + uint64(text[0]-'0')
		}
		text = text[1:]
	}
	return n, text
}

// parseData parses the JSON at the end of a packet.
func (p *packet) parseData(text []byte) error {
	switch p.typ {
	case connect:
		if len(text) == 0 {
			return nil
		}
		if text[0] != '{' || !json.Valid(text) {
			return errPayload
		}
		p.auth = slices.Clone(text)
		return nil
	case disconnect:
		if len(text) > 0 {
			return errPayload
		}
		return nil
	case connectError: // from a client, it always ends the connection
		return errType
	}
	if p.typ == ack && !p.hasID {
		return errID
	}
	if len(text) == 0 || text[0] != '[' || !json.Valid(text) {
		return errPayload
	}
	commas, depth := measure(text)
	switch {
	case depth > mpack.MaxDepth:
		return errPayload
	case commas > maxArguments: // the event is not an argument
		return errArguments
	}
	values := splitArray(slices.Clone(text), commas)
	p.values = values
	if p.typ == ack {
		return nil
	}
	if len(p.values) == 0 {
		return errPayload
	}
	var err error
	p.event, err = eventName(p.values[0])
	p.values = p.values[1:]
	return err
}

// measure returns the number of commas between the elements of text, which is a JSON array, and the depth of nesting.
func measure(text []byte) (commas, depth int) {
	walk(text, func(at, level int) {
		depth = max(depth, level)
		if level == 1 && text[at] == ',' {
			commas++
		}
	})
	return commas, depth
}

// splitArray returns the elements of text, an array with that many commas. They are parts of text.
func splitArray(text []byte, commas int) []json.RawMessage {
	begin := 1
	elements := make([]json.RawMessage, 0, commas+1)
	walk(text, func(at, level int) {
		if level == 1 && text[at] == ',' || level == 0 {
			elements = append(elements, bytes.TrimSpace(text[begin:at:at]))
			begin = at + 1
		}
	})
	if commas == 0 && len(elements[0]) == 0 {
		return nil
	}
	return elements
}

// walk calls f for each bracket and comma of JSON outside of strings, with its position and depth. The depth of a
// bracket is the depth after it.
func walk(text []byte, f func(at, level int)) {
	level := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '[', '{':
			level++
			f(i, level)
		case ']', '}':
			level--
			f(i, level)
		case ',':
			f(i, level)
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
}

// eventName returns the name of an event: a string, or a number in JavaScript's form.
func eventName(value json.RawMessage) (string, error) {
	if value[0] == '"' {
		var name string
		if json.Unmarshal(value, &name) != nil {
			return "", errPayload
		}
		if isReserved(name) {
			return "", errReserved
		}
		return name, nil
	}
	if value[0] != '-' && (value[0] < '0' || value[0] > '9') {
		return "", errPayload
	}
	number, err := mpack.AppendFromJSON(nil, value)
	if err != nil {
		return "", errPayload
	}
	text, _, err := mpack.AppendJSON(nil, number, nil)
	if err != nil || string(text) == "null" { // too large for a number of JavaScript
		return "", errPayload
	}
	return string(text), nil
}

// appendHeader appends a packet up to its JSON. The type of the Engine.IO packet comes first.
func appendHeader(dst []byte, typ byte, namespace string, attachments int, id uint64, hasID bool) []byte {
	if attachments > 0 && (typ == emission || typ == ack) {
		typ += binaryEvent - emission
	}
	dst = append(dst, engineMessage, typ)
	if attachments > 0 {
		dst = append(strconv.AppendInt(dst, int64(attachments), 10), '-')
	}
	if namespace != "/" {
		dst = append(append(dst, namespace...), ',')
	}
	if hasID {
		dst = strconv.AppendUint(dst, id, 10)
	}
	return dst
}

// headerSize returns an upper bound for the bytes that appendHeader appends.
func headerSize(namespace string) int {
	return len("45") + 20 + len("-") + len(namespace) + len(",") + 20
}

// validNamespace reports whether clients can connect to a namespace of that name.
func validNamespace(name string) bool {
	return strings.HasPrefix(name, "/") && !strings.Contains(name, ",")
}
