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
	// Control makes the websocket message of what the server itself sends to a client. Nothing is sent if it returns no
	// bytes, as it should for a kind that it does not know.
	Control(c Control) ([]byte, error)
	// Parse reads a client's message. It must not keep any of it: the bytes are used again. The text of an error is sent
	// to the client.
	Parse(message []byte) (Incoming, error)
	// Binary reports whether messages are binary, both ways. Otherwise they are text.
	Binary() bool
}

// A Control is a message of the server's own: the application did not emit it.
type Control struct {
	Kind ControlKind
	// ID is that of the event which a ControlReply answers. It is never 0 then, and always 0 otherwise.
	ID uint64
	// Data is the reply. It is empty if the handler returned none, and if there is a Failure.
	Data crosscast.Payload
	// Failure is the text of a ControlError. In a ControlReply it is why there is no reply, or empty.
	Failure string
}

// A ControlKind is what a [Control] says. Later versions might add kinds.
type ControlKind uint8

const (
	// ControlReply answers an event that the client has sent with an ID. Never used if Parse returns no IDs.
	ControlReply ControlKind = iota + 1
	// ControlError reports an event without an ID that failed, or a message that Parse refused.
	ControlError
)

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
	msg := Incoming{Event: m.Event, Data: m.Data}
	switch {
	case m.ID == nil && m.Event == "":
		return Incoming{}, errNoEvent
	case m.ID == nil:
		return msg, nil
	case *m.ID == 0 || *m.ID > maxID:
		return Incoming{}, fmt.Errorf("malformed message: id of %d, want 1 to %d", *m.ID, uint64(maxID))
	}
	msg.ID = *m.ID
	if m.Event == "" && m.Error != nil {
		msg.Failure = *m.Error
		if msg.Failure == "" {
			msg.Failure = "failed"
		}
	}
	return msg, nil
}

// Control implements [Envelope].
func (e JSON) Control(c Control) ([]byte, error) {
	switch c.Kind {
	case ControlReply:
		return appendReply(strconv.AppendUint([]byte(`{"id":`), c.ID, 10), c)
	case ControlError:
		data, err := json.Marshal(struct {
			Message string `json:"message"`
		}{c.Failure})
		if err != nil {
			return nil, err
		}
		return append(append([]byte(`{"event":"error","data":`), data...), '}'), nil
	}
	return nil, nil
}

// appendReply appends what follows the ID of a reply.
func appendReply(b []byte, c Control) ([]byte, error) {
	name, data := `,"data":`, []byte(nil)
	var err error
	if c.Failure != "" {
		name = `,"error":`
		data, err = json.Marshal(c.Failure)
	} else {
		data, err = c.Data.AppendJSON(nil)
	}
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		b = append(append(b, name...), data...)
	}
	return append(b, '}'), nil
}
