// Package kind lists the kinds of instructions and of queries.
//
// For drivers: only a driver that translates instructions for a wire that others have defined imports this package. A
// driver that carries instructions as bytes ([github.com/crosscast/crosscast.AppendInstruction]) needs only
// [Kind.Control]. An application needs neither.
package kind

// Kind is the kind of an instruction. A node ignores kinds that it does not know, so that versions can be mixed during
// a rollout.
type Kind uint8

// The kinds of instructions. The comments name fields of crosscast.Instruction.
const (
	Emit       Kind = 1 + iota // emit Event and Payload to Target
	Hello                      // a node introduces itself, or looks for peers: every peer answers with a heartbeat
	Heartbeat                  // a node is alive
	Goodbye                    // a node leaves
	Join                       // the sockets in Target join Rooms
	Leave                      // the sockets in Target leave Rooms
	Disconnect                 // the sockets in Target are closed, for Reason
	Ask                        // Question is about the sockets in Target
	Answer                     // Answer is to the instruction with the same Ref, whose From is To
	Request                    // the handler named Event is called with Payload, if Target has a socket, or on To
	Watch                      // From requests, for TTL, the members of Rooms, or a digest; without a TTL: no more
	Presence                   // Presence has the members of Rooms on From, for the watcher To
)

// Control reports whether instructions of this kind are only between nodes, and carry nothing for clients. A missed one
// is no gap, and they never wait in a queue.
func (k Kind) Control() bool { return k == Hello || k == Heartbeat }

// Fields are the fields of a crosscast.SocketInfo that a query selects, besides the ID.
type Fields uint8

const (
	FieldUser Fields = 1 << iota
	FieldRooms
	FieldData
	FieldHandshake

	AllFields = FieldUser | FieldRooms | FieldData | FieldHandshake
)

// Question is the kind of a query about the sockets in a target.
type Question uint8

// The kinds of queries. The comments name fields of crosscast.Answer.
const (
	AskSockets Question = 1 + iota // the sockets: Sockets
	AskCount                       // their number: Count, and with the field User Users
	AskRooms                       // their rooms: Rooms
	// AskNodes is a query of an emitter, and not about sockets. To everyone: every node answers with nothing. To one
	// node: it answers with a binary Payload of itself and its peers, one after the other: the 8 bytes of the ID,
	// and a heartbeat as crosscast.AppendInstruction writes it.
	AskNodes
	// AskStats is not about sockets: each node with a socket in the target's rooms, or each node if the target is
	// everyone, answers with its Stats, as JSON in Payload. The others answer with nothing.
	AskStats
)
