package socketioadapter

import (
	"strings"

	"github.com/crosscast/crosscast"
)

// channels names the channels of Redis. K is the key and N a namespace:
//
//	classic  K#N#              broadcasts to everyone, or to several rooms
//	         K#N#room#         broadcasts to one room
//	         K-request#N#      everything else, except answers
//	         K-response#N#     answers to every server that queried
//	         K-response#N#uid# answers to one server
//	sharded  K#N#              everything except the following
//	         K#N#room#         broadcasts to one room, if it has a channel in the subscription mode
//	         K#N#uid#          answers to one server
//
// Names are not escaped, so two names with a # might share one channel. Therefore every message names its namespace and
// rooms, or is on a channel that ends with its namespace. These names are not patterns.
type channels struct {
	key     string
	sharded bool
	rooms   SubscriptionMode // of the sharded wire
	self    string           // the uid of this node
	emitter bool             // the node hears only answers
}

func (c *channels) main(ns string) string { return c.key + "#" + ns + "#" }

func (c *channels) room(ns, room string) string { return c.key + "#" + ns + "#" + room + "#" }

func (c *channels) request(ns string) string {
	if c.sharded {
		return c.main(ns)
	}
	return c.key + "-request#" + ns + "#"
}

// response returns the channel of answers to the server uid. If uid is empty, it is the channel of answers to
// everybody.
func (c *channels) response(ns, uid string) string {
	switch {
	case c.sharded:
		return c.room(ns, uid)
	case uid == "":
		return c.key + "-response#" + ns + "#"
	}
	return c.key + "-response#" + ns + "#" + uid + "#"
}

// home returns the channels of a namespace that a node hears without any room.
func (c *channels) home(ns string) []string {
	var all []string
	if !c.emitter {
		all = append(all, c.main(ns))
	}
	if !c.sharded {
		if !c.emitter {
			all = append(all, c.request(ns))
		}
		all = append(all, c.response(ns, ""))
	}
	return append(all, c.response(ns, c.self))
}

// own reports whether broadcasts to only this room have a channel of their own.
func (c *channels) own(room string) bool {
	if !c.sharded {
		return true
	}
	switch c.rooms {
	case DynamicPrivate:
		return true
	case Dynamic:
		return !looksLikeSocketID(room)
	}
	return false
}

// of returns the channels of an address. prefix is that of users' rooms.
func (c *channels) of(a crosscast.Address, prefix string) []string {
	room := a.Name
	switch a.Space {
	case crosscast.SpaceNamespace:
		return c.home(a.Namespace)
	case crosscast.SpaceUser:
		room = prefix + room
	}
	if !c.own(room) {
		return nil
	}
	return []string{c.room(a.Namespace, room)}
}

// requestNamespace returns the namespace of a channel of requests in classic.
func (c *channels) requestNamespace(channel string) (ns string, ok bool) {
	return between(channel, c.key, "-request#")
}

// isResponse reports whether a channel of classic carries answers.
func (c *channels) isResponse(channel string) bool {
	_, ok := between(channel, c.key, "-response#")
	return ok
}

// inNamespace reports whether a channel can carry broadcasts for a namespace.
func (c *channels) inNamespace(channel, ns string) bool {
	rest, ok := between(channel, c.key, "#")
	return ok && strings.HasPrefix(rest, ns) && (len(rest) == len(ns) || rest[len(ns)] == '#')
}

// between returns the part of s between key+mark and the # that ends s.
func between(s, key, mark string) (string, bool) {
	s, ok := strings.CutPrefix(s, key)
	if !ok {
		return "", false
	}
	if s, ok = strings.CutPrefix(s, mark); !ok {
		return "", false
	}
	return strings.CutSuffix(s, "#")
}

// looksLikeSocketID reports whether the name has 20 UTF-16 code units in JavaScript. Sharded servers tell socket IDs
// from other rooms in this way.
func looksLikeSocketID(name string) bool {
	if len(name) < socketIDUnits || len(name) > 3*socketIDUnits {
		return false
	}
	units := 0
	for _, r := range name {
		if units++; r > 0xffff {
			units++
		}
	}
	return units == socketIDUnits
}

const socketIDUnits = 20
