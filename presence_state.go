package crosscast

import "encoding/json"

// Presence, as pure data: a node's records of a watched room of its own, and a watcher's knowledge of a room.
//
// Each node is the only authority on its own members, so nothing is merged: there is one list for each node and room,
// and it changes. A change raises the list's version by one, and versions never fall while the node runs. An
// instruction carries a piece of that history: either the changes from one version to another, or the whole list at a
// version, which is Since 0. A watcher applies changes only if they begin at the version that it has. It takes a whole
// list only if that is not older than its own. So at any time, and for any order of arrival, it has exactly the node's
// list at some version. If changes do not join on, or a digest of versions differs, the watcher is behind, and asks for
// the whole list.

// maxChanges is the number of changes of one room that may wait to be sent. If there are more, the whole list is sent
// instead.
const maxChanges = 4096

// maxShown is the same for the bytes of what sockets show.
const maxShown = 1 << 20

// A Member is one entry of a watched room: a socket and its user, or with WatchOptions.Users a user alone.
type Member struct {
	Socket SocketID // names its node; empty: all sockets of User together
	User   string   // empty: no user
	// Presence is what the socket shows of itself ([ConnectOptions.Presence]), as JSON, which must not be changed; nil:
	// nothing. For a user it is what was set last by a socket of the user that is in the room, by the clocks of the nodes.
	Presence json.RawMessage `json:",omitempty"`
}

// For drivers: Presence is the part of an instruction of [kind.Presence] about members of rooms on one node. For one
// room it has the changes that lead from one version of the list to another. For several rooms it says that they are
// empty, or are not reported. Or it is a digest. In an instruction of [kind.Watch] it names the watcher's versions.
type Presence struct {
	Since   uint64 // 0: from nothing, so that Changes are all the members
	Version uint64 // 1 and above; the same as Since: there are no changes
	Part    int    // of a whole list: counts from 0, so that a missing part shows
	Last    bool   // of a whole list: this is the last part
	Changes []PresenceChange

	// Round numbers a request for a digest. The answer has the same Round.
	Round uint64
	// Buckets is a set of bits: the buckets of rooms that the other fields are about. 0: all of them, as one.
	Buckets uint64
	Sums    []uint64 // the digest: one sum for each of Buckets
	// Versions has one version for each of the instruction's Rooms: of an empty list, or of the list that the watcher
	// has.
	Versions []uint64
	Full     bool // the instruction's Rooms are not reported: too much is watched already
}

// For drivers: A PresenceChange is a socket that joined or left, or that shows something else: then it was there before.
type PresenceChange struct {
	Member
	Left bool
	At   uint64 // when Presence was set, in milliseconds by the clock of the socket's node
}

// A changelog numbers the changes of one room on its node, and keeps those not sent yet.
type changelog struct {
	version uint64
	changes []PresenceChange // the latest ones
	shown   int              // bytes of what the sockets show
	lost    bool             // there were too many
}

func (l *changelog) record(c PresenceChange) {
	l.version++
	switch {
	case l.lost:
	case len(l.changes) == maxChanges, l.shown+len(c.Presence) > maxShown:
		l.changes, l.shown, l.lost = nil, 0, true
	default:
		l.changes = append(l.changes, c)
		l.shown += len(c.Presence)
	}
}

// base is the version before the waiting changes; ok is false if there were too many to keep.
func (l *changelog) base() (version uint64, ok bool) {
	return l.version - uint64(len(l.changes)), !l.lost
}

// drain returns the changes since the last drain, and the version before them; ok is false if there were too many to
// keep.
func (l *changelog) drain() (changes []PresenceChange, since uint64, ok bool) {
	since, ok = l.base()
	changes, l.changes, l.shown, l.lost = l.changes, nil, 0, false
	return changes, since, ok
}

// pieces cuts changes into instructions of about fit bytes.
func pieces(changes []PresenceChange, since uint64, fit int) (parts []*Presence) {
	for len(changes) > 0 {
		n := fitting(changes, fit)
		parts = append(parts, &Presence{Since: since, Version: since + uint64(n), Changes: changes[:n:n]})
		since += uint64(n)
		changes = changes[n:]
	}
	return parts
}

// whole makes instructions of about fit bytes from all the members at a version. The order is the same each time, so
// that parts of a list that was sent twice fit together.
func whole(version uint64, members []PresenceChange, fit int) (parts []*Presence) {
	for {
		n := fitting(members, fit)
		last := n == len(members)
		parts = append(parts, &Presence{Version: version, Part: len(parts), Last: last, Changes: members[:n:n]})
		if last {
			return parts
		}
		members = members[n:]
	}
}

// fitting is the number of changes that go into one instruction of about fit bytes: at least one, if there are any.
func fitting(changes []PresenceChange, fit int) int {
	size := 0
	for i := range changes {
		if size += presenceChangeSize(&changes[i].Member); size > fit && i > 0 {
			return i
		}
	}
	return len(changes)
}
