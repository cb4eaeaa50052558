package crosscast

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// JSONEnvelope is the [Framer] of plain websocket, server-sent-event and other text connections: one JSON object a
// message,
//
//	{"event":"roomMessage","data":{"text":"hello"}}
//
// and, when the client is to reply ([Message.Ack]), its number:
//
//	{"event":"roomMessage","data":{"text":"hello"},"id":7}
//
// A [JSON] payload is put in as it is (Emit has validated it), a [Binary] one as a JSON string in standard base64, and
// without a payload there is no "data". An event that is not UTF-8 has the bytes in question replaced by U+FFFD.
type JSONEnvelope struct{}

const (
	envelopeOpen  = `{"event":`
	envelopeData  = `,"data":`
	envelopeID    = `,"id":`
	envelopeClose = `}`
)

// Frame returns the envelope of m, in one allocation.
func (JSONEnvelope) Frame(m *Message) ([]byte, error) {
	quoted, err := quoteEvent(m.Event)
	if err != nil {
		return nil, err
	}
	data := m.Payload.Data
	size := len(envelopeOpen) + len(m.Event) + 2 + len(quoted) + len(envelopeData) + len(envelopeClose)
	switch m.Payload.Encoding {
	case None:
	case JSON:
		size += len(data)
	case Binary:
		size += base64.StdEncoding.EncodedLen(len(data)) + 2
	default:
		return nil, fmt.Errorf("crosscast: payload of unknown encoding %d", m.Payload.Encoding)
	}
	if m.Ack != 0 {
		size += len(envelopeID) + 20
	}

	b := make([]byte, 0, size)
	b = append(b, envelopeOpen...)
	if quoted != nil {
		b = append(b, quoted...)
	} else {
		b = append(b, '"')
		b = append(b, m.Event...)
		b = append(b, '"')
	}
	switch m.Payload.Encoding {
	case JSON:
		if len(data) > 0 { // no bytes are no JSON: leaving them out keeps the object whole
			b = append(b, envelopeData...)
			b = append(b, data...)
		}
	case Binary:
		b = append(b, envelopeData...)
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, data)
		b = append(b, '"')
	}
	if m.Ack != 0 {
		b = append(b, envelopeID...)
		b = strconv.AppendUint(b, m.Ack, 10)
	}
	return append(b, envelopeClose...), nil
}

// quoteEvent returns event as a JSON string, or nil when it only needs quotes around it: nearly always.
func quoteEvent(event string) ([]byte, error) {
	ascii := true
	for i := range len(event) {
		c := event[i]
		if c < ' ' || c == '"' || c == '\\' {
			return json.Marshal(event)
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(event) {
		return json.Marshal(event)
	}
	return nil, nil
}
