package socketioadapter

import (
	"encoding/json"
	"strings"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
	"github.com/crosscast/crosscast/kind"
)

// noHandshake is the handshake of a socket whose handshake is unknown. It has all members, so that code which reads one
// finds it.
const noHandshake = `{"headers":{},"time":"","address":"","xdomain":false,"secure":false,"issued":0,"url":"",` +
	`"query":{},"auth":{}}`

// noData is the data of a socket without data in Socket.IO.
const noData = "{}"

// sockets writes a list of sockets: id, handshake, rooms and data of each. Its ID is a room, and so is its user.
func (f *form) sockets(k string, m *message) {
	f.key(k)
	f.array(len(m.sockets))
	for i := range m.sockets {
		s := &m.sockets[i]
		if m.kind == gotIDs {
			f.str(string(s.ID))
			continue
		}
		handshake, data := m.fields&kind.FieldHandshake != 0, m.fields&kind.FieldData != 0
		f.object(2 + set(handshake) + set(data))
		f.text("id", string(s.ID))
		if handshake {
			f.parsed("handshake", s.Handshake, noHandshake)
		}
		f.key("rooms")
		f.array(1 + len(s.Rooms) + one(s.User))
		f.str(string(s.ID))
		for _, room := range s.Rooms {
			f.str(room)
		}
		if s.User != "" {
			f.str(f.prefix + s.User)
		}
		if data {
			f.parsed("data", s.Data, noData)
		}
	}
}

// parsed writes a JSON text. It writes other if the text is empty, or nested too deep for the wire, because the rest of
// the answer is still useful.
func (f *form) parsed(k string, text json.RawMessage, other string) {
	f.key(k)
	if len(text) > 0 {
		if buf, err := mpack.AppendFromJSON(f.buf, text); err == nil {
			f.buf = buf
			return
		}
	}
	buf, err := mpack.AppendFromJSON(f.buf, []byte(other))
	if err != nil {
		f.fail(err)
		return
	}
	f.buf = buf
}

// Each socket in a list takes at least about minSocket bytes. A decoded socket takes more than a hundred.
const (
	minSocket  = 8
	fewSockets = 16 // for this many the minimum does not hold
)

// sockets reads a server's list of sockets. The result may be kept.
func (r *reader) sockets() {
	c := mpack.NewCursor(r.raw.sockets)
	n := c.Array()
	if n > fewSockets+len(r.raw.sockets)/minSocket {
		c.Fail()
	} else {
		r.m.sockets = make([]crosscast.SocketInfo, 0, n)
	}
	for ; n > 0 && !c.Bad(); n-- {
		var s crosscast.SocketInfo
		if c.AtStr() {
			s.ID = crosscast.SocketID(c.Str())
		} else {
			s = r.socket(c.Value())
		}
		if len(s.ID) > 0 && len(s.ID) <= limit.Name {
			r.m.sockets = append(r.m.sockets, s)
		}
	}
	if c.Bad() || c.Left() > 0 {
		r.fail("a list of sockets")
	}
}

func (r *reader) socket(value []byte) (s crosscast.SocketInfo) {
	var id, handshake, rooms, data []byte
	c := mpack.NewCursor(value)
	for n := c.Map(); n > 0 && !c.Bad(); n-- {
		key, v := c.Str(), c.Value()
		switch string(key) {
		case "id":
			id = v
		case "handshake":
			handshake = v
		case "rooms":
			rooms = v
		case "data":
			data = v
		}
	}
	if c.Bad() || c.Left() > 0 {
		r.fail("a socket")
		return s
	}
	c = mpack.NewCursor(id)
	s.ID = crosscast.SocketID(c.Str())
	s.Handshake = r.json(handshake)
	if s.Data = r.json(data); string(s.Data) == noData {
		s.Data = nil
	}
	user := -1 // index of the user's room in s.Rooms: the last one, as nodes write it
	r.list(rooms, func(room string) {
		if room == string(s.ID) || len(room) == 0 {
			return
		}
		if rest, ok := strings.CutPrefix(room, r.prefix); ok && rest != "" && len(rest) <= limit.Name {
			user = len(s.Rooms)
		} else if len(room) > limit.Name {
			return
		}
		s.Rooms = append(s.Rooms, room)
	})
	if user >= 0 {
		s.User = s.Rooms[user][len(r.prefix):]
		s.Rooms = append(s.Rooms[:user], s.Rooms[user+1:]...)
	}
	return s
}

// json returns a value as a new JSON text; nil: none.
func (r *reader) json(value []byte) json.RawMessage {
	if len(value) == 0 {
		return nil
	}
	text, _, err := mpack.AppendJSON(nil, value, args.BufferJSON)
	if err != nil {
		r.fail("a value")
		return nil
	}
	return text
}
