package ws

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/crosscast/crosscast"
)

// An Envelope is the format of the messages of clients. It must be comparable, as a [crosscast.Framer], and its methods
// may be called concurrently.
type Envelope interface {
	// Frame makes the websocket message of what is emitted: once, for all clients of a node. When the message's Ack is
	// not 0, the client is to reply with that number.
	crosscast.Framer
	// Reply makes the message that answers a client's event with the ID id: with p, or, when failure is not empty, with
	// that instead. It is never called when Parse returns no IDs.
	Reply(id uint64, p crosscast.Payload, failure string) ([]byte, error)
	// Parse takes a client's message apart. It must not keep any of it: the bytes are used again. The text of an error
	// is sent to the client.
	Parse(message []byte) (Incoming, error)
	// Binary reports whether messages are binary, both ways. Otherwise they are text.
	Binary() bool
}

// Incoming is what a client's message says: an event, or, without one, a reply.
type Incoming struct {
	Event string
	// Data is of the event or the reply; nil when there is none.
	Data json.RawMessage
	// ID is not 0 when the client waits for a reply to the event. Of a reply it is the Ack of the message.
	ID uint64
	// Failure is why a reply has no data: the client refuses to reply.
	Failure string
}

// maxID is the largest ID of a client's event, the largest integer of JavaScript.
const maxID = 1<<53 - 1

// JSON is the default [Envelope]: see the package's documentation. Events to clients are framed as by
// [crosscast.JSONEnvelope].
type JSON struct{ crosscast.JSONEnvelope }

// Binary returns false.
func (JSON) Binary() bool { return false }

var errNoEvent = errors.New(`malformed message: want {"event":"…","data":…}`)

// Parse implements [Envelope].
func (JSON) Parse(message []byte) (Incoming, error) {
	var m struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
		ID    *uint64         `json:"id"`
		Error *string         `json:"error"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return Incoming{}, errors.New("malformed message: " + err.Error())
	}
	in := Incoming{Event: m.Event, Data: m.Data}
	switch {
	case m.ID == nil && m.Event == "":
		return Incoming{}, errNoEvent
	case m.ID == nil:
		return in, nil
	case *m.ID == 0 || *m.ID > maxID:
		return Incoming{}, fmt.Errorf("malformed message: id of %d, want 1 to %d", *m.ID, uint64(maxID))
	}
	in.ID = *m.ID
	if m.Event == "" && m.Error != nil {
		in.Failure = *m.Error
		if in.Failure == "" {
			in.Failure = "failed"
		}
	}
	return in, nil
}

// Reply implements [Envelope].
func (JSON) Reply(id uint64, p crosscast.Payload, failure string) ([]byte, error) {
	b := strconv.AppendUint([]byte(`{"id":`), id, 10)
	switch {
	case failure != "":
		text, err := json.Marshal(failure)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"error":`...), text...)
	default:
		data, err := p.AppendJSON(nil)
		if err != nil {
			return nil, err
		}
		if len(data) > 0 {
			b = append(append(b, `,"data":`...), data...)
		}
	}
	return append(b, '}'), nil
}
