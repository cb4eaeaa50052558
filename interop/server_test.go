package interop

import (
	"time"
)

// speaker is whoever emits to a cluster: a server, or a process without one.
type speaker interface {
	emit(to target, event string, args ...any) error
	join(who target, rooms ...string) error
	leave(who target, rooms ...string) error
	disconnect(who target, closing bool) error
	serverSideEmit(nsp, event string, args ...any) error
}

// server is one Socket.IO server of a cluster, whichever language it is written in.
type server interface {
	speaker

	name() string
	port() int
	// log is what server side events came, and "received", what clients of its own sent. See [serverEvent].
	heard() *log
	received() *log

	emitAck(to target, event string, args ...any) (replies []any, err error) // both, when some did not reply
	fetch(who target) ([]remoteSocket, error)
	serverSideEmitAck(in target, event string, args ...any) (replies []any, err error)
	allRooms(nsp string) ([]string, error)
	count(nsp string) (int, error)
	// pending is how many questions are still open, and how many emissions whose acknowledgements are still collected:
	// a Node.js server keeps those for as long as their timeout.
	pending(nsp string) (questions, acks int, err error)

	// socketJoin makes a socket of the server's own join rooms, and returns when nothing emitted later is missed.
	socketJoin(nsp, id string, rooms ...any) error
	socketLeave(nsp, id string, rooms ...string) error
	// broadcast emits for a socket of the server's own to all others in a target.
	broadcast(id string, to target, event string, args ...any) error

	// settle returns when what the server subscribed to so far is confirmed, and what is on its way to it has arrived.
	settle() error
	// drained returns when the clients that are connected now are gone.
	drained() error
	close() error
}

// remoteSocket is what a server knows of a socket anywhere in the cluster, and can do with it.
type remoteSocket struct {
	id        string
	handshake map[string]any
	rooms     []string
	data      any
}

// serverEvent is how a server side event is logged.
func serverEvent(nsp, name string, args ...any) event {
	if nsp != "/" {
		name = nsp + " " + name
	}
	return event{name, args}
}

// target is whom an operation is for, and how. The zero target is everyone in "/".
type target struct {
	nsp      string   // empty: "/"
	rooms    []any    // strings; from a Node.js server also numbers
	sockets  []string // IDs: a room each, for Socket.IO
	users    []string // in rooms of "user:" and the name, for Socket.IO
	except   []string
	exceptID []string
	local    bool
	volatile bool
	compress *bool
	timeout  time.Duration
}

func all() target { return target{} }

func room(names ...string) target { return target{}.and(names...) }

func socketID(ids ...string) target { return target{sockets: ids} }

func (t target) and(names ...string) target {
	for _, name := range names {
		t.rooms = append(t.rooms, name)
	}
	return t
}

func (t target) in(nsp string) target {
	t.nsp = nsp
	return t
}

func (t target) but(names ...string) target {
	t.except = names
	return t
}

func (t target) butID(ids ...string) target {
	t.exceptID = ids
	return t
}

func (t target) within(timeout time.Duration) target {
	t.timeout = timeout
	return t
}

func (t target) namespace() string {
	if t.nsp == "" {
		return "/"
	}
	return t.nsp
}

// js is the target in the words of emission.mjs.
func (t target) js() map[string]any {
	to := append([]any{}, t.rooms...)
	for _, id := range t.sockets {
		to = append(to, id)
	}
	for _, user := range t.users {
		to = append(to, "user:"+user)
	}
	m := map[string]any{"nsp": t.namespace(), "to": to, "except": append(append([]string{}, t.except...), t.exceptID...)}
	if t.local {
		m["local"] = true
	}
	if t.volatile {
		m["volatile"] = true
	}
	if t.compress != nil {
		m["compress"] = *t.compress
	}
	if t.timeout > 0 {
		m["timeout"] = t.timeout.Milliseconds()
	}
	return m
}
