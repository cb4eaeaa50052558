package ws

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wsconn"
)

// An Envelope is the format of the messages of clients. It must be comparable, as every [crosscast.Framer]. Its methods
// may be called concurrently.
type Envelope interface {
	// Frame makes the websocket message of an emission, once for all clients of a node. If the message's Ack is not 0,
	// the client must reply with that number.
	crosscast.Framer
	// Control makes the websocket message of a [Control]. If it returns no bytes, nothing is sent. It should return
	// none for kinds that it does not know. For a ControlPresence it is called while the room's other updates wait, so it
	// must not wait, nor call methods of the server.
	Control(c Control) ([]byte, error)
	// Parse reads a client's message. It must not keep any part of it, because the bytes are reused. The client gets
	// the text of an error, up to 200 bytes.
	Parse(message []byte) (Incoming, error)
	// Binary reports whether messages are binary in both directions. Otherwise they are text.
	Binary() bool
}

// A Control is a message that the server itself sends to a client.
type Control struct {
	Kind ControlKind
	// ID is the ID of the message that a ControlReply answers, and not 0. It is 0 for other kinds.
	ID uint64
	// Data is the reply. It is empty if the handler returned none, and if there is a Failure.
	Data crosscast.Payload
	// Failure is the text of a ControlError, or the error in a ControlReply. It is empty in a successful reply.
	Failure string
	// Retry is true if the Failure is that of a join, and only for now: the client tries again later.
	Retry bool
	// Room, Since, Until, Ends and Wait are for a ControlGap: the room (empty: everything), the bounds of the gap by
	// this node's clock (a zero Until: it goes on), whether it ends a gap of the room that went on, and the time within
	// which the client queries the server. For a ControlReconnect, Wait is the time after which the client connects
	// again.
	Room         string
	Since, Until time.Time
	Ends         bool
	Wait         time.Duration
	// Presence is for a ControlPresence, with its Room.
	Presence *PresenceUpdate
}

// A ControlKind is the kind of a [Control]. Later versions might add kinds.
type ControlKind uint8

const (
	// ControlReply answers an event, join or leave that the client has sent with an ID. Never used if Parse returns no
	// IDs.
	ControlReply ControlKind = iota + 1
	// ControlError reports an event, join or leave without an ID that failed, or a message that Parse refused.
	ControlError
	// ControlGap tells the client that it might have missed messages: see Options.Gaps. Clients share its message.
	ControlGap
	// ControlReconnect comes before the closing frame of a drain: the client should connect again after Wait, instead of
	// its own back-off.
	ControlReconnect
	// ControlPresence tells the client who is in a room: see Options.AllowPresence. Clients share its message.
	ControlPresence
)

// Incoming is a parsed message of a client: an event, a join, a leave, a wish to know who is in a room or its end, or a
// reply if all of Event, Join, Leave, Watch and Unwatch are empty. At most one of them is set.
type Incoming struct {
	Event string
	// Join and Leave are the name of a room to join or leave. An Envelope without joins never sets them.
	Join, Leave string
	// Watch and Unwatch are the name of a room whose presence the client asks for, or does not need any more. An Envelope
	// without presence never sets them.
	Watch, Unwatch string
	// Data belongs to the event or the reply; nil: none.
	Data json.RawMessage
	// ID is not 0 if the client waits for a reply to the event, join, leave or wish. In a reply it is the Ack of the message.
	ID uint64
	// Failure is the client's reason for refusing to reply; empty: the client replies.
	Failure string
}

// maxID is the largest ID of a client's event, the largest safe integer of JavaScript.
const maxID = 1<<53 - 1

// JSON is the default [Envelope], described in the package documentation. Events to clients are framed as by
// [crosscast.JSONEnvelope].
type JSON struct{ crosscast.JSONEnvelope }

// Binary returns false.
func (JSON) Binary() bool { return false }

var (
	errNoEvent   = errors.New(`malformed message: want {"event":"…","data":…}`)
	errNoRoom    = errors.New("malformed message: empty room name")
	errManyKinds = errors.New("malformed message: more than one of event, join, leave, watch and unwatch")
)

// Parse implements [Envelope].
func (JSON) Parse(message []byte) (Incoming, error) {
	var m parts
	if err := json.Unmarshal(message, &m); err != nil {
		return Incoming{}, errors.New("malformed message: " + err.Error())
	}
	return incomingOf(&m)
}

// parts are the parts of a client's message. The type has no name, because clients see errors with it.
type parts = struct {
	Event   string          `json:"event"`
	Join    *string         `json:"join"`
	Leave   *string         `json:"leave"`
	Watch   *string         `json:"watch"`
	Unwatch *string         `json:"unwatch"`
	Data    json.RawMessage `json:"data"`
	ID      *uint64         `json:"id"`
	Error   *string         `json:"error"`
}

func incomingOf(m *parts) (Incoming, error) {
	msg := Incoming{Event: m.Event, Data: m.Data}
	isRoom, named := false, false
	to := [...]*string{&msg.Join, &msg.Leave, &msg.Watch, &msg.Unwatch}
	for i, room := range [...]*string{m.Join, m.Leave, m.Watch, m.Unwatch} {
		if room != nil {
			*to[i], isRoom = *room, true
			named = named || *room != ""
		}
	}
	switch {
	case isRoom && !named:
		return Incoming{}, errNoRoom
	case m.ID == nil && m.Event == "" && !isRoom:
		return Incoming{}, errNoEvent
	case m.ID == nil:
		return msg, nil
	case *m.ID == 0 || *m.ID > maxID:
		return Incoming{}, fmt.Errorf("malformed message: id of %d, want 1 to %d", *m.ID, uint64(maxID))
	}
	msg.ID = *m.ID
	if m.Event == "" && !isRoom && m.Error != nil {
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
	case ControlGap:
		return append(wsconn.AppendGap([]byte(`{"gap":`), wsconn.GapNotice{
			Room: c.Room, Since: c.Since, Until: c.Until, Ends: c.Ends, Wait: c.Wait,
		}), '}'), nil
	case ControlReconnect:
		return fmt.Appendf(nil, `{"reconnect":{"wait":%d}}`, c.Wait.Milliseconds()), nil
	case ControlPresence:
		return appendPresence(nil, c.Room, c.Presence)
	}
	return nil, nil
}

// appendReply appends the rest of a reply, after its ID.
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
	if c.Retry {
		b = append(b, `,"retry":true`...)
	}
	return append(b, '}'), nil
}
