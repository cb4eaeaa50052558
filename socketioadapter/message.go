package socketioadapter

import (
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// message is one message of Socket.IO's servers, on either wire. classic.go and sharded.go have the formats.
type message struct {
	kind      messageKind
	uid       string // of the sending server; empty: unknown
	namespace string // empty: unknown
	id        string // the requestId of a query or an answer

	// In broadcasts, commands and fetches: the target.
	target   crosscast.Target
	volatile bool
	timeout  time.Duration // of a broadcast with an id: the sender's timeout

	// In a broadcast or request: the event and its payload. In an answer or a reply: its one value, without an event.
	// When read, it is in data: an array [event, arguments…] or one value of msgpack; nil: none.
	event   string
	payload crosscast.Payload
	data    []byte

	rooms   []string    // of a join or leave; of gotRooms
	close   bool        // of a disconnect: ends the whole connection, not only the namespace
	command bool        // of a fetch: a command with the same id accompanies it, and nodes answer that instead
	fields  kind.Fields // of a fetch: which parts of sockets are wanted; of gotSockets: which are there
	sockets []crosscast.SocketInfo
	count   int                // how many clients a broadcast or a command reached
	client  crosscast.SocketID // the client that replied, if known
	old     bool               // of a join, leave or disconnect: in the form of old servers, for one socket
	number  uint64             // of an echo
}

type messageKind uint8

const (
	broadcast  messageKind = 1 + iota // an event for clients; with an id, they reply to it
	join                              // sockets join rooms
	leave                             // sockets leave rooms
	disconnect                        // sockets are disconnected
	fetch                             // queries sockets
	fetchIDs                          // queries only the IDs of sockets
	fetchRooms                        // queries rooms
	request                           // an event for servers; with an id, they answer it
	gotSockets                        // answers fetch
	gotIDs                            // answers fetchIDs
	gotRooms                          // answers fetchRooms
	answer                            // answers a request
	clients                           // answers a broadcast, or a command with an id: how many clients it reached
	reply                             // a client's reply to a broadcast
	done                              // answers an old form
	echo                              // a node's message to itself
)

// isText reports whether all names of the message are UTF-8, so that JSON can carry them. Names from JavaScript always
// are.
func (m *message) isText() bool {
	t := &m.target
	for _, list := range [...][]string{t.Rooms, t.Users, t.ExceptRooms, t.ExceptUsers, m.rooms} {
		for _, s := range list {
			if !utf8.ValidString(s) {
				return false
			}
		}
	}
	for i := range m.sockets {
		for _, r := range m.sockets[i].Rooms {
			if !utf8.ValidString(r) {
				return false
			}
		}
		if !utf8.ValidString(m.sockets[i].User) {
			return false
		}
	}
	return utf8.ValidString(m.event) && utf8.ValidString(m.namespace)
}

// uidOf returns a node's uid on the wire: its ID, and in sharded the 16 hexadecimal digits of its bytes, as servers
// have. An emitter's uid has a mark, because it does not count as a server.
func uidOf(self crosscast.NodeID, emitOnly, sharded bool) string {
	uid := string(self)
	if sharded {
		uid = hex.EncodeToString([]byte(uid))
	}
	if emitOnly {
		uid += emitterMark
	}
	return uid
}

const (
	emitterMark = "."       // ends the uid of an emit-only node
	emitterUID  = "emitter" // the uid of all of Socket.IO's emitters
)

// nodeOf returns the ID of the node with a uid. A server's uid serves as its ID.
func nodeOf(uid string, sharded bool) crosscast.NodeID {
	if uid == emitterUID {
		return ""
	}
	name := strings.TrimSuffix(uid, emitterMark)
	if sharded && len(name) == 2*nodeIDLen {
		if id, err := hex.DecodeString(name); err == nil && isNodeID(id) {
			return crosscast.NodeID(id)
		}
	}
	return crosscast.NodeID(name)
}

const nodeIDLen = 8

// isNodeID reports whether b might be a crosscast node's ID: base64url.
func isNodeID(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return len(b) == nodeIDLen
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
