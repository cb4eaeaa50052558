package crosscast

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"unicode/utf8"
)

// A Namespace is an independent set of sockets, users and rooms on the same cluster. Its methods may be called
// concurrently. It may be kept for as long as its node: what an empty one holds, in memory and of subscriptions, ends
// when it has lingered ([Options.Linger]), unless it is kept, and comes back with the next use.
type Namespace struct {
	node  *Node
	name  string
	space atomic.Pointer[space] // nil while it is not in use
}

// Keep has the node use the namespace for as long as it lives, with and without sockets: so it hears what servers of
// Socket.IO emit to each other there, see [Node.OnRequest]. A binding keeps the namespaces that it is given by name. Keep
// waits for nothing; what it holds is that of one empty namespace, however often it is called.
func (ns *Namespace) Keep() {
	ns.node.interests.want(ns.hold().all.wait(nil))
}

// Logger is for bindings: where they log what nobody else is told. It is the node's Options.Logger, or slog.Default when
// there is none.
func (ns *Namespace) Logger() *slog.Logger { return cmp.Or(ns.node.logger, slog.Default()) }

// Name returns the namespace's name.
func (ns *Namespace) Name() string { return ns.name }

// ConnectOptions say more about a new socket. The zero value is an anonymous socket in no room.
type ConnectOptions struct {
	// User is whom the socket belongs to; empty: nobody. One user may have many sockets on many nodes.
	User string
	// Rooms are joined before Connect returns. See [Socket.Join] for names that are refused.
	Rooms []string
	// Data belongs to the application. It is marshalled as JSON here and now, for peers that ask for it, to at most as
	// many bytes as a payload may have.
	Data any
	// Handshake is what a binding knows of the connection (address, headers, …). It is marshalled and limited as Data is.
	Handshake any
	// OnClose is called once, after the socket's memberships have ended, on the goroutine that closes the socket, or
	// after a command to disconnect it on one of its own. It may still emit, for example "left" to the socket's former
	// Rooms. Node.Close waits for it.
	OnClose func(s *Socket, reason Reason)
}

// Connect makes a socket of conn, in its rooms and known by its user, and returns when every later emission to them,
// on any node, reaches it. Messages may reach conn before Connect returns.
//
// Its errors are those of [Socket.Join], and mean that nothing happened: there is no socket, and conn is the caller's,
// neither closed nor called any more, though it may have been sent something before. When the socket was closed while
// Connect waited, by a command or because conn had failed, that is no error: conn and OnClose know of it.
//
// A link that is down is no error either: the socket serves what this node emits, and what peers emit to its rooms and
// user once the link is back. The gap of that outage covers them.
func (ns *Namespace) Connect(ctx context.Context, conn Conn, o ConnectOptions) (*Socket, error) {
	if conn == nil {
		return nil, errors.New("crosscast: Connect without a conn")
	}
	if o.User != "" {
		if err := checkName("user", o.User); err != nil {
			return nil, err
		}
	}
	if err := checkNames("room", o.Rooms); err != nil {
		return nil, err
	}
	n := ns.node
	if n.lookout != nil {
		return nil, ErrEmitOnly
	}
	if len(o.Rooms) > n.maxRooms {
		return nil, &LimitError{What: "number of rooms", Len: len(o.Rooms), Max: n.maxRooms}
	}
	s := &Socket{
		id: newSocketID(n.id), user: o.User, data: o.Data, handshake: o.Handshake, conn: conn, onClose: o.OnClose,
	}
	err := n.checkRooms(s, o.Rooms)
	if err != nil {
		return nil, err
	}
	if s.dataJSON, err = n.describe("socket data", o.Data); err != nil {
		return nil, err
	}
	if s.handshakeJSON, err = n.describe("socket handshake", o.Handshake); err != nil {
		return nil, err
	}
	waits, ok := n.openSocket(ns, s, o.Rooms)
	if !ok {
		return nil, ErrClosed
	}
	if len(waits) > 0 {
		if err := s.confirm(ctx, waits); err != nil {
			return nil, err
		}
	}
	s.connecting.Store(false)
	return s, nil
}

// checkRooms returns an error for rooms that s may not join of itself, whose names are valid.
func (n *Node) checkRooms(s *Socket, rooms []string) error {
	if n.foreign == nil {
		return nil
	}
	for _, room := range rooms {
		if err := n.foreign.CheckRoom(s.id, s.user, room); err != nil {
			return err
		}
	}
	return nil
}

// describe marshals what peers may ask of a socket; nil: nothing.
func (n *Node) describe(what string, v any) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("crosscast: %s: %w", what, err)
	}
	if !utf8.Valid(text) { // as of a payload
		return nil, fmt.Errorf("crosscast: %s: not UTF-8", what)
	}
	if len(text) > n.maxPayload {
		return nil, &LimitError{What: what, Len: len(text), Max: n.maxPayload}
	}
	return text, nil
}

// Emit sends to everyone in the namespace; see [BoundTarget.Emit].
func (ns *Namespace) Emit(ctx context.Context, event string, payload any) error {
	return ns.Everyone().Emit(ctx, event, payload)
}

// Everyone targets every socket of the namespace, on all nodes. It does not reach subscriptions, which are to rooms.
func (ns *Namespace) Everyone() BoundTarget {
	return BoundTarget{ns: ns, target: Target{Everyone: true}}
}

// To targets the sockets in at least one of rooms. Without names it targets nobody.
func (ns *Namespace) To(rooms ...string) BoundTarget { return BoundTarget{ns: ns}.To(rooms...) }

// ToUser targets all sockets of users.
func (ns *Namespace) ToUser(users ...string) BoundTarget { return BoundTarget{ns: ns}.ToUser(users...) }

// ToSocket targets single sockets.
func (ns *Namespace) ToSocket(ids ...SocketID) BoundTarget {
	return BoundTarget{ns: ns}.ToSocket(ids...)
}

// Socket returns the socket of this node with the given ID, nil if there is none.
func (ns *Namespace) Socket(id SocketID) *Socket { return ns.here().socket(id) }

func (ns *space) socket(id SocketID) *Socket {
	sh := ns.shardOf(string(id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.sockets[id]
}

// Members returns the sockets of this node that are in room.
func (ns *Namespace) Members(room string) []*Socket {
	sh := ns.here().shardOf(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if g := sh.groups[SpaceRoom-1][room]; g != nil {
		return append([]*Socket(nil), g.sockets...)
	}
	return nil
}

// Rooms returns the rooms that have a socket on this node, in no order.
func (ns *Namespace) Rooms() []string {
	var rooms []string
	sp := ns.here()
	for i := range sp.shards {
		sh := &sp.shards[i]
		sh.mu.Lock()
		for name, g := range sh.groups[SpaceRoom-1] {
			if len(g.sockets) > 0 {
				rooms = append(rooms, name)
			}
		}
		sh.mu.Unlock()
	}
	return rooms
}

// everySocket returns the sockets of this node.
func (ns *space) everySocket() []*Socket {
	ns.allShard.mu.Lock()
	defer ns.allShard.mu.Unlock()
	return append([]*Socket(nil), ns.all.sockets...)
}
