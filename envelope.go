package crosscast

import (
	"encoding/base64"
	"encoding/json"
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
// The data is what [Payload.AppendJSON] makes of the payload; without a payload there is none. An event that is not
// UTF-8 has the bytes in question replaced by U+FFFD.
type JSONEnvelope struct{}

const (
	envelopeOpen  = `{"event":`
	envelopeData  = `,"data":`
	envelopeID    = `,"id":`
	envelopeClose = `}`
)

// Frame returns the envelope of m, in one allocation unless it has [EncodingArgs] or [EncodingMsgPack].
func (JSONEnvelope) Frame(m *Message) ([]byte, error) {
	quoted, err := quoteEvent(m.Event)
	if err != nil {
		return nil, err
	}
	payload, err := m.json()
	if err != nil {
		return nil, err
	}
	data := payload.Data
	size := len(envelopeOpen) + len(m.Event) + 2 + len(quoted) + len(envelopeData) + len(envelopeClose)
	switch payload.Encoding {
	case EncodingBinary:
		size += base64.StdEncoding.EncodedLen(len(data)) + 2
	case EncodingArgs:
		size += 2 * len(data) // about
	default:
		size += len(data)
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
	open := len(b)
	b = append(b, envelopeData...)
	begin := len(b)
	if b, err = payload.AppendJSON(b); err != nil {
		return nil, err
	}
	if len(b) == begin { // no bytes are no JSON: leaving them out keeps the object whole
		b = b[:open]
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
