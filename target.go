package crosscast

import (
	"slices"
	"unicode/utf8"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
)

// BoundTarget is a [Target] bound to a namespace: the receiver of an emission, query or command. It is a small value.
// Every method returns a changed copy, so a target may be kept, extended differently, and used concurrently.
//
// Names are checked when the target is used, not before. A room or user has 1 to 255 bytes, as have events and
// namespaces. A target has at most 1,024 names, exceptions included. A target without any recipient (To() without names) is nobody:
// an emission to it does nothing and returns nil.
type BoundTarget struct {
	ns       *Namespace
	target   Target
	meta     []KeyValue
	volatile bool
	local    bool // only sockets of this node
}

// with returns a new slice of old's and more's elements; the result never shares spare capacity with old or more.
func with[T any](old, more []T) []T { return append(old[:len(old):len(old)], more...) }

// To adds rooms.
func (t BoundTarget) To(rooms ...string) BoundTarget {
	t.target.Rooms = with(t.target.Rooms, rooms)
	return t
}

// ToUser adds users, on every node: all of their sockets, and the subscriptions that have them ([Subscription.AddUser]).
func (t BoundTarget) ToUser(users ...string) BoundTarget {
	t.target.Users = with(t.target.Users, users)
	return t
}

// ToSocket adds single sockets, on every node.
func (t BoundTarget) ToSocket(ids ...SocketID) BoundTarget {
	t.target.Sockets = with(t.target.Sockets, ids)
	return t
}

// Except takes out the sockets that are in one of rooms. Exceptions apply only to sockets: a [Subscription] that has
// a target's room or user still gets the message.
func (t BoundTarget) Except(rooms ...string) BoundTarget {
	t.target.ExceptRooms = with(t.target.ExceptRooms, rooms)
	return t
}

// ExceptUser takes out the sockets of users.
func (t BoundTarget) ExceptUser(users ...string) BoundTarget {
	t.target.ExceptUsers = with(t.target.ExceptUsers, users)
	return t
}

// ExceptSocket takes out single sockets.
func (t BoundTarget) ExceptSocket(ids ...SocketID) BoundTarget {
	t.target.ExceptSockets = with(t.target.ExceptSockets, ids)
	return t
}

// Local keeps the emission on this node.
func (t BoundTarget) Local() BoundTarget {
	t.local = true
	return t
}

// Volatile lets the emission be dropped wherever it would have to wait: for a slow client, for room in the adapter's
// queue, or for the link. [BoundTarget.Emit] then returns nil, and the drop is counted in [Stats]. Deliver returns
// [ErrNotConnected]. This node's sockets are served in any case.
func (t BoundTarget) Volatile() BoundTarget {
	t.volatile = true
	return t
}

// Meta adds pairs that travel along with the message, such as a trace context: at most 8, of at most 255 bytes each.
func (t BoundTarget) Meta(pairs ...KeyValue) BoundTarget {
	t.meta = with(t.meta, pairs)
	return t
}

// check returns an error, most often one of a limit, for the first limit that the target or the event breaks.
func (t *BoundTarget) check(event string) error {
	if err := checkName("event", event); err != nil {
		return err
	}
	g := &t.target
	names := len(g.Rooms) + len(g.Users) + len(g.Sockets) +
		len(g.ExceptRooms) + len(g.ExceptUsers) + len(g.ExceptSockets)
	if names > limit.Names {
		return &limit.Error{What: "target", Len: names, Max: limit.Names}
	}
	if err := checkNames("room", g.Rooms); err != nil {
		return err
	}
	if names > len(g.Rooms) {
		if err := g.checkOthers(); err != nil {
			return err
		}
	}
	if t.ns.node.onlyText && !t.isText(event) {
		return errNoText
	}
	return checkMeta(t.meta)
}

// checkOthers checks the names that are not in Rooms.
func (t *Target) checkOthers() error {
	for _, l := range [...]struct {
		what  string
		names []string
	}{{"user", t.Users}, {"room", t.ExceptRooms}, {"user", t.ExceptUsers}} {
		if err := checkNames(l.what, l.names); err != nil {
			return err
		}
	}
	for _, ids := range [...][]SocketID{t.Sockets, t.ExceptSockets} {
		for _, id := range ids {
			if len(id) != socketIDLen {
				return &limit.Error{What: "socket", Len: len(id), Max: socketIDLen, Name: true}
			}
		}
	}
	return nil
}

var errNoText = errtext.Errorf("%w: the adapter carries names of UTF-8 only", ErrInvalidName)

// isText reports whether event and the target's names are UTF-8.
func (t *BoundTarget) isText(event string) bool {
	g := &t.target
	for _, names := range [...][]string{g.Rooms, g.Users, g.ExceptRooms, g.ExceptUsers, {event, t.ns.name}} {
		if slices.ContainsFunc(names, func(name string) bool { return !utf8.ValidString(name) }) {
			return false
		}
	}
	return true
}

func checkMeta(pairs []KeyValue) error {
	if len(pairs) > limit.Meta {
		return &limit.Error{What: "meta", Len: len(pairs), Max: limit.Meta}
	}
	for _, kv := range pairs {
		if l := max(len(kv.Key), len(kv.Value)); l > limit.Name {
			return &limit.Error{What: "meta", Len: l, Max: limit.Name}
		}
	}
	return nil
}
