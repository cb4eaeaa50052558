package ws

import (
	"encoding/json"
	"errors"

	"github.com/crosscast/crosscast"
)

// An Envelope is the format of the messages of clients. It must be comparable, as a [crosscast.Framer], and its methods
// may be called concurrently.
type Envelope interface {
	// Frame makes the websocket message of what is emitted: once, for all clients of a node.
	crosscast.Framer
	// Parse takes a client's message apart. It must not keep any of it: the bytes are used again. The text of an error
	// is sent to the client.
	Parse(message []byte) (event string, data json.RawMessage, err error)
	// Binary reports whether messages are binary, both ways. Otherwise they are text.
	Binary() bool
}

// JSON is the default [Envelope]: a text message {"event":"…","data":…}. Events to clients are framed as by
// [crosscast.JSONEnvelope].
type JSON struct{ crosscast.JSONEnvelope }

// Binary returns false.
func (JSON) Binary() bool { return false }

var errNoEvent = errors.New(`malformed message: want {"event":"…","data":…}`)

// Parse implements [Envelope].
func (JSON) Parse(message []byte) (string, json.RawMessage, error) {
	var m struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return "", nil, errors.New("malformed message: " + err.Error())
	}
	if m.Event == "" {
		return "", nil, errNoEvent
	}
	return m.Event, m.Data, nil
}
