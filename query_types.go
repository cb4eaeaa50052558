package crosscast

import (
	"encoding/json"

	"github.com/crosscast/crosscast/internal/validjson"
	"github.com/crosscast/crosscast/kind"
)

// Fields selects fields of [SocketInfo]. The zero value selects all of them. The ID is always there: Fields{ID: true}
// selects nothing else.
type Fields struct {
	ID, User, Rooms, Data, Handshake bool
}

// selected returns the set of the fields besides the ID.
func (f Fields) selected() (set kind.Fields) {
	if f == (Fields{}) {
		return kind.AllFields
	}
	if f.User {
		set |= kind.FieldUser
	}
	if f.Rooms {
		set |= kind.FieldRooms
	}
	if f.Data {
		set |= kind.FieldData
	}
	if f.Handshake {
		set |= kind.FieldHandshake
	}
	return set
}

// For drivers: Question is the query in an instruction of [kind.Ask].
type Question struct {
	Kind   kind.Question
	Fields kind.Fields
	// Salt keys the hashes in Answer.Users.
	Salt uint64
}

// For drivers: Answer is one part of one node's answer.
type Answer struct {
	Part int  // counts from 0, so that a missing part shows
	Last bool // this is the last part
	// Err is the reason why the node has no answer, or no complete one; empty: none.
	Err string

	Count   int          // sockets counted, changed by a command or, in the first part, that took an emission to reply to
	Users   []uint64     // of kind.AskCount with kind.FieldUser: salted hashes of the users, each once
	Sockets []SocketInfo // of kind.AskSockets
	Rooms   []RoomCount  // of kind.AskRooms
	Replies []Reply      // of an acknowledged emission
	Payload Payload      // of a request, of kind.AskNodes and of kind.AskStats
	Handled bool         // of a request: the node has the handler, and it returned
}

// valid reports whether all JSON in a is valid and in UTF-8.
func (a *Answer) valid() bool {
	for i := range a.Sockets {
		s := &a.Sockets[i]
		if len(s.Data) > 0 && !validjson.Valid(s.Data) || len(s.Handshake) > 0 && !validjson.Valid(s.Handshake) {
			return false
		}
	}
	for i := range a.Replies {
		if !a.Replies[i].Payload.valid() {
			return false
		}
	}
	return a.Payload.valid()
}

// SocketInfo describes a socket on any node of the cluster. Its ID names its node. Fields that were not selected
// ([Fields]) are empty.
type SocketInfo struct {
	ID    SocketID
	User  string
	Rooms []string
	Data  json.RawMessage // the Data given to Connect, as JSON
	// Handshake is the binding's data about the connection, as JSON.
	Handshake json.RawMessage
}

// RoomCount is a room with the number of the target's sockets in it.
type RoomCount struct {
	Room    string
	Sockets int
}

// Reply is a client's reply to an acknowledged emission. A Silent one, of EncodingNone, stands for a client that did
// not reply in time, or left.
type Reply struct {
	Socket  SocketID // empty if the adapter does not know it
	Payload Payload
	Silent  bool
}
