package socketioadapter

import (
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
)

// message is one message of Socket.IO's servers, whichever of the two wires it is on. classic.go and sharded.go have
// the forms.
type message struct {
	kind      kind
	uid       string // of the server that it is from; empty: it does not say
	namespace string // empty: the wire does not say
	id        string // the requestId: what is to be answered, or is answered

	// Of broadcasts, commands and fetches: whom they are for.
	target   crosscast.Target
	volatile bool
	timeout  time.Duration // of a broadcast with an id: how long its sender waits

	// Of a broadcast or request: what was emitted. Of an answer or a reply: its one value, without an event. It comes in
	// as data, an array [event, arguments…] or one value of msgpack; nil: there is none.
	event   string
	payload crosscast.Payload
	data    []byte

	rooms   []string         // of a join or leave; of gotRooms
	close   bool             // of a disconnect: the connection, too, and not only the namespace
	command bool             // of a fetch: a command with the same id goes with it, which nodes answer instead
	fields  crosscast.Fields // of a fetch, which of a socket are asked for; of gotSockets, which are told
	sockets []crosscast.SocketInfo
	count   int                // how many clients a broadcast or a command reached
	client  crosscast.SocketID // whose reply it is, where it says
	old     bool               // of a join, leave or disconnect: in the form of old servers, for one socket
	number  uint64             // of an echo
}

type kind uint8

const (
	broadcast  kind = 1 + iota // an event for clients, who reply to it if it has an id
	join                       // sockets join rooms
	leave                      // sockets leave rooms
	disconnect                 // sockets are disconnected
	fetch                      // which sockets are there?
	fetchIDs                   // the same, of whose answer IDs are enough
	fetchRooms                 // which rooms are there?
	request                    // an event for servers, who answer it if it has an id
	gotSockets                 // answers fetch
	gotIDs                     // answers fetchIDs
	gotRooms                   // answers fetchRooms
	answer                     // answers a request
	clients                    // answers a broadcast, and a command that has an id: how many clients it reached
	reply                      // a client's, to a broadcast
	done                       // answers an old form
	echo                       // a node's own, to itself
)

// isText reports whether all names of the message are UTF-8, so that JSON can carry them. Names of JavaScript's always
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

// uidOf is what a node calls itself on the wire: its ID, in the 16 hexadecimal digits that sharded servers have. That
// of an emitter, which counts for no server, shows it.
func uidOf(self crosscast.NodeInfo, sharded bool) string {
	uid := string(self.ID)
	if sharded {
		uid = hex.EncodeToString([]byte(uid))
	}
	if self.EmitOnly {
		uid += emitterMark
	}
	return uid
}

const (
	emitterMark = "."       // ends the uid of a node that only emits
	emitterUID  = "emitter" // the uid of Socket.IO's emitters, whatever they are
)

// nodeOf is who a uid is: a node, or a server, whose uid is as good as an ID.
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

// isNodeID reports whether b could be a crosscast node's ID: base64url.
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
