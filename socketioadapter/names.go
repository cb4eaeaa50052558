package socketioadapter

import (
	"strings"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/internal/mpack"
)

// Socket.IO has one space of names: rooms, including the sockets' IDs. crosscast has three. Therefore users' names get
// a prefix on the way out, and an incoming name stands for all its possible meanings: see the package documentation.

// socketIDLen is the length of the IDs of crosscast's sockets.
const socketIDLen = 20

// names is a list of outgoing names, in three parts.
type names struct {
	rooms   []string
	users   []string
	sockets []crosscast.SocketID
}

func targetNames(t *crosscast.Target) names {
	if t.Everyone {
		return names{}
	}
	return names{t.Rooms, t.Users, t.Sockets}
}

func exceptNames(t *crosscast.Target) names {
	return names{t.ExceptRooms, t.ExceptUsers, t.ExceptSockets}
}

func (n *names) len() int { return len(n.rooms) + len(n.users) + len(n.sockets) }

// single returns the only room of the list, and its address if it is a room or user. It returns "" if the list is empty
// or has several.
func (n *names) single(ns, prefix string) (room string, a crosscast.Address) {
	switch {
	case n.len() == 0:
		return "", a
	case len(n.rooms) > 0:
		room = n.rooms[0]
		a = crosscast.Address{Namespace: ns, Space: crosscast.SpaceRoom, Name: room}
	case len(n.users) > 0:
		room = prefix + n.users[0]
		a = crosscast.Address{Namespace: ns, Space: crosscast.SpaceUser, Name: n.users[0]}
	default:
		room = string(n.sockets[0])
	}
	if n.len() == 1 {
		return room, a
	}
	// Servers make a set of the list, and count its elements.
	for _, r := range n.rooms {
		if r != room {
			return "", crosscast.Address{}
		}
	}
	for _, u := range n.users {
		if rest, ok := strings.CutPrefix(room, prefix); !ok || rest != u {
			return "", crosscast.Address{}
		}
	}
	for _, s := range n.sockets {
		if string(s) != room {
			return "", crosscast.Address{}
		}
	}
	return room, a
}

// append appends the list as an array of strings.
func (n *names) append(dst []byte, prefix string) []byte {
	dst = mpack.AppendArrayLen(dst, n.len())
	for _, r := range n.rooms {
		dst = mpack.AppendStr(dst, r)
	}
	for _, u := range n.users {
		var buf [2 * limit.Name]byte
		dst = mpack.AppendStr(dst, append(append(buf[:0], prefix...), u...))
	}
	for _, s := range n.sockets {
		dst = mpack.AppendStr(dst, s)
	}
	return dst
}

// place collects the meanings of incoming names, for a target or its exceptions.
type place struct {
	rooms   []string
	users   []string
	sockets []crosscast.SocketID
}

// enter adds all possible meanings of a name of Socket.IO. Names that are too long for crosscast are skipped: this node
// cannot have them.
func (p *place) enter(name, prefix string) {
	if len(name) == 0 {
		return
	}
	if len(name) <= limit.Name {
		p.rooms = append(p.rooms, name)
	}
	if user, ok := strings.CutPrefix(name, prefix); ok && len(user) > 0 && len(user) <= limit.Name {
		p.users = append(p.users, user)
	}
	if len(name) == socketIDLen {
		p.sockets = append(p.sockets, crosscast.SocketID(name))
	}
}

// CheckRoom implements crosscast.ForeignAdapter. A client that chooses its rooms must not receive emissions for others.
func (a *Adapter) CheckRoom(id crosscast.SocketID, user, room string) error {
	whose := ""
	if of, ok := strings.CutPrefix(room, a.dialect.prefix); ok && of != "" {
		if of == user {
			return nil
		}
		whose = "a user's"
	} else if room != string(id) && isID(room) {
		whose = "a socket's"
	}
	if whose == "" || a.allow != nil && a.allow(room) {
		return nil
	}
	return errtext.Errorf("%w: room %q has %s name", crosscast.ErrInvalidName, room, whose)
}

// isID reports whether name might be the ID of a socket. Node.js makes IDs of the same form.
func isID(name string) bool {
	if len(name) != socketIDLen {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// reservedForClients are the events that Socket.IO refuses to emit to clients. Its clients emit them themselves.
var reservedForClients = map[string]bool{
	"connect": true, "connect_error": true, "disconnect": true, "disconnecting": true,
	"newListener": true, "removeListener": true,
}

// reservedForServers are the events that servers refuse to emit to each other.
var reservedForServers = map[string]bool{"connect": true, "connection": true, "new_namespace": true}
