package crosscast

import (
	"encoding/json"

	"github.com/crosscast/crosscast/internal/validjson"
)

// QuestionKind says what is asked about the sockets in a target.
type QuestionKind uint8

const (
	AskSockets QuestionKind = 1 + iota // which there are: Answer.Sockets
	AskCount                           // how many there are: Answer.Count, and with FieldUser Answer.Users
	AskRooms                           // which rooms they are in: Answer.Rooms
	// AskNodes is a question of an emitter, and not about sockets: to everyone, who is there, answered with nothing;
	// to one node, which peers it knows, answered with a binary Answer.Payload of their IDs, one behind the other.
	AskNodes
)

// Fields says what to tell about a socket beside its ID.
type Fields uint8

const (
	FieldUser Fields = 1 << iota
	FieldRooms
	FieldData
	FieldHandshake

	AllFields = FieldUser | FieldRooms | FieldData | FieldHandshake
)

// Question is what an instruction of [KindAsk] asks.
type Question struct {
	Kind   QuestionKind
	Fields Fields
	// Salt keys the hashes in Answer.Users.
	Salt uint64
}

// Answer is one part of what one node answers.
type Answer struct {
	Part int  // counts from 0: a missing part shows
	Last bool // nothing follows
	// Err says why the node has no answer, or no complete one.
	Err string

	Count   int          // sockets counted, changed by a command, or, in the first part, that took an emission to reply to
	Users   []uint64     // of AskCount with FieldUser: salted hashes of the users, each once
	Sockets []SocketInfo // of AskSockets
	Rooms   []RoomCount  // of AskRooms
	Replies []Reply      // of an acknowledged emission
	Payload Payload      // of a request
	Handled bool         // of a request: the node has the handler, and it returned
}

// valid reports whether all JSON in a is such, and UTF-8.
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

// SocketInfo is what is known of a socket anywhere in the cluster. Its ID names its node.
type SocketInfo struct {
	ID    SocketID
	User  string          // with FieldUser
	Rooms []string        // with FieldRooms
	Data  json.RawMessage // with FieldData: what was given to Connect, as JSON
	// Handshake is, with FieldHandshake, what the binding knows of the connection, as JSON.
	Handshake json.RawMessage
}

// RoomCount is a room and how many of the sockets asked about are in it.
type RoomCount struct {
	Room    string
	Sockets int
}

// Reply is a client's reply to an acknowledged emission. A reply of EncodingNone with Silent set stands for a client
// that did not reply in time, or left.
type Reply struct {
	Socket  SocketID // empty where the adapter cannot tell
	Payload Payload
	Silent  bool
}
