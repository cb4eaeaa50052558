package crosscast

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"unicode/utf8"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
)

// A Namespace is an independent set of sockets, users and rooms on the same cluster. Its methods may be called
// concurrently. It may be kept as long as its node. When it is empty, its memory and subscriptions are freed after it
// has lingered ([Options.Linger]), unless [Namespace.Keep] was called. They come back with the next use.
type Namespace struct {
	node  *Node
	name  string
	space atomic.Pointer[space] // nil if it is not in use
}

// Keep makes the node use the namespace for the rest of its life, even without sockets. So the node receives the
// events that servers of Socket.IO emit to each other there, see [Node.OnRequest]. A binding keeps the namespaces that are
// configured by name. Keep does not wait. Any number of calls costs as much as one empty namespace.
func (ns *Namespace) Keep() {
	ns.node.interests.want(ns.hold().all.wait(nil))
}

// Logger returns the logger for bindings: the node's Options.Logger, or slog.Default if that is nil. They log there
// events that no error and no hook reports.
func (ns *Namespace) Logger() *slog.Logger { return ns.node.log.audible() }

// Name returns the namespace's name. A [Node] has a Name of its own, its label.
func (ns *Namespace) Name() string { return ns.name }

// ConnectOptions describe a new socket. The zero value is an anonymous socket in no room.
type ConnectOptions struct {
	// User is the owner of the socket; empty: none. One user may have many sockets on many nodes.
	User string
	// Rooms are joined before Connect returns. [Socket.Join] lists the names that are refused.
	Rooms []string
	// Data belongs to the application. Connect marshals it as JSON, for peers that query it. The JSON may be as long as
	// a payload.
	Data any
	// Handshake is a binding's data about the connection (address, headers, …). It is marshalled and limited as Data
	// is.
	Handshake any
	// Presence is what the socket shows of itself to those who watch its rooms ([Namespace.Watch]), as [Member.Presence]:
	// a name, a status. Connect marshals it as JSON, of at most 1 KB, and refuses what msgpack cannot say, because some
	// clients get that (docs/msgpack.md). [Socket.SetPresence] changes it. Data stays on the servers, and Presence is what
	// clients may see. Default nil: nothing.
	Presence any
	// OnClose is called once, after the socket's memberships have ended, on the goroutine that closes the socket. After
	// a command to disconnect the socket, or a drain, it is called on a goroutine of its own. It may still emit, for
	// example "left" to the socket's former Rooms. Node.Close waits for it.
	OnClose func(s *Socket, reason Reason)
}

// Connect makes a socket of conn, in its rooms and with its user. When it returns, every later emission to them, on any
// node, reaches the socket. Messages might reach conn before Connect returns. It may be called concurrently.
//
// Its errors are those of [Socket.Join], and [ErrDraining]. An error means that there is no socket. The conn is the caller's: it is
// neither closed nor called any more, though it might have got messages before. If the socket was closed while Connect
// waited, by a command or because conn had failed, Connect returns no error: conn and OnClose are called.
//
// A link that is down is no error either: the socket gets this node's emissions at once, and the peers' emissions to
// its rooms and user once the link is back. The gap of that outage covers them.
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
	if n.deaf != nil {
		return nil, n.deaf
	}
	if len(o.Rooms) > n.maxRooms {
		return nil, &limit.Error{What: "number of rooms", Len: len(o.Rooms), Max: n.maxRooms}
	}
	s := &Socket{id: newSocketID(n.id), user: o.User, conn: conn}
	err := n.checkRooms(s, o.Rooms)
	if err != nil {
		return nil, err
	}
	if s.told, err = n.newTold(&o); err != nil {
		return nil, err
	}
	show, err := n.newShown(s.id, o.Presence)
	if err != nil {
		return nil, err
	}
	if show != nil {
		s.shown.Store(show)
	}
	var few [8]*group
	waits, err := n.openSocket(ns, s, o.Rooms, few[:0])
	if err != nil {
		return nil, err
	}
	if len(waits) > 0 {
		if err := s.confirm(ctx, waits); err != nil {
			return nil, err
		}
	}
	s.connected()
	n.stats.connects.Add(1)
	return s, nil
}

// checkRooms returns an error for rooms that s itself may not join. Their names are valid.
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

// newTold returns what o tells of a socket. It marshals what others may see.
func (n *Node) newTold(o *ConnectOptions) (t *told, err error) {
	if o.Data == nil && o.Handshake == nil && o.OnClose == nil {
		return &nothingTold, nil
	}
	t = &told{data: o.Data, handshake: o.Handshake, onClose: o.OnClose}
	if t.dataJSON, err = n.describe("socket data", o.Data, n.maxPayload); err != nil {
		return nil, err
	}
	if t.handshakeJSON, err = n.describe("socket handshake", o.Handshake, n.maxPayload); err != nil {
		return nil, err
	}
	return t, nil
}

// describe marshals data of a socket that others may see, at most most bytes; nil: none.
func (n *Node) describe(what string, v any, most int) (string, error) {
	if v == nil {
		return "", nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "", errtext.Errorf("crosscast: %s: %w", what, err)
	}
	if !utf8.Valid(text) { // as for a payload
		return "", fmt.Errorf("crosscast: %s: not UTF-8", what)
	}
	if len(text) > most {
		return "", &limit.Error{What: what, Len: len(text), Max: most, Bytes: true}
	}
	return string(text), nil
}

// Emit sends to everyone in the namespace; see [BoundTarget.Emit].
func (ns *Namespace) Emit(ctx context.Context, event string, payload any) error {
	return ns.Everyone().Emit(ctx, event, payload)
}

// nobody is where every target begins. Without an adapter all targets are local.
func (ns *Namespace) nobody() BoundTarget {
	return BoundTarget{ns: ns, local: ns.node.everyPeer != nil}
}

// Everyone targets every socket of the namespace, on all nodes. It does not reach subscriptions, which are of rooms and users.
func (ns *Namespace) Everyone() BoundTarget {
	t := ns.nobody()
	t.target.Everyone = true
	return t
}

// To targets the sockets in at least one of rooms. Without names it targets nobody.
func (ns *Namespace) To(rooms ...string) BoundTarget { return ns.nobody().To(rooms...) }

// ToUser targets all sockets of users, and the subscriptions that have them.
func (ns *Namespace) ToUser(users ...string) BoundTarget { return ns.nobody().ToUser(users...) }

// ToSocket targets single sockets.
func (ns *Namespace) ToSocket(ids ...SocketID) BoundTarget {
	return ns.nobody().ToSocket(ids...)
}

// Socket returns the socket of this node with the given ID, or nil. [Namespace.ToSocket] reaches sockets of all nodes.
func (ns *Namespace) Socket(id SocketID) *Socket { return ns.here().socket(id) }

func (ns *space) socket(id SocketID) *Socket {
	sh := ns.shardOf(string(id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.sockets.Get(sh.hash, string(id), (*Socket).named)
}

// Members returns the sockets of this node that are in room. [BoundTarget.Sockets] queries all nodes, and a [Watch]
// follows them.
func (ns *Namespace) Members(room string) []*Socket {
	sh := ns.here().shardOf(room)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if g := sh.groupLocked(SpaceRoom, room); g != nil {
		return append([]*Socket(nil), g.sockets...)
	}
	return nil
}

// Rooms returns the rooms that have a socket on this node, in no order. [BoundTarget.Rooms] queries all nodes.
func (ns *Namespace) Rooms() []string {
	var rooms []string
	sp := ns.here()
	for i := range sp.shards {
		sh := &sp.shards[i]
		sh.mu.Lock()
		for g := range sh.groups[SpaceRoom-1].All() {
			if len(g.sockets) > 0 {
				rooms = append(rooms, g.name)
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
