package interop

import (
	"encoding/json"
	"errors"
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
	serverSideEmitAck(nsp, event string, args ...any) (replies []any, err error)
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

// nodeSpeaker is a Node.js process that emits, and is no server: @socket.io/redis-emitter.
type nodeSpeaker struct{ *process }

func (s nodeSpeaker) do(op string, to target, more map[string]any, result any) error {
	args := map[string]any{"target": to.js()}
	for key, value := range more {
		args[key] = value
	}
	return s.call(op, args, result)
}

func (s nodeSpeaker) emit(to target, event string, args ...any) error {
	return s.do("emit", to, map[string]any{"event": event, "args": args}, nil)
}

func (s nodeSpeaker) join(who target, rooms ...string) error {
	return s.do("join", who, map[string]any{"rooms": rooms}, nil)
}

func (s nodeSpeaker) leave(who target, rooms ...string) error {
	return s.do("leave", who, map[string]any{"rooms": rooms}, nil)
}

func (s nodeSpeaker) disconnect(who target, closing bool) error {
	return s.do("disconnect", who, map[string]any{"close": closing}, nil)
}

func (s nodeSpeaker) serverSideEmit(nsp, event string, args ...any) error {
	return s.do("serverSideEmit", all().in(nsp), map[string]any{"event": event, "args": args}, nil)
}

// nodeServer is a Socket.IO server of a Node.js process.
type nodeServer struct {
	nodeSpeaker
	listens  int // its port
	told     *log
	incoming *log
}

var _ server = (*nodeServer)(nil)

// openNode starts a server in a process of server.mjs. The options are that script's.
func openNode(p *process, options map[string]any) (*nodeServer, error) {
	s := &nodeServer{nodeSpeaker: nodeSpeaker{p}, told: newLog(p.name), incoming: newLog(p.name + ", from clients")}
	p.listen(func(line pushed) {
		args, err := decodeValues(line.Args)
		if err != nil {
			args = []any{"unreadable", err.Error()}
		}
		switch line.Push {
		case "heard":
			s.told.add(serverEvent(line.Nsp, line.Event, args...))
		case "received":
			s.incoming.add(event{line.Event, args})
		}
	})
	return s, p.call("open", options, &s.listens)
}

func (s *nodeServer) name() string   { return s.process.name }
func (s *nodeServer) port() int      { return s.listens }
func (s *nodeServer) heard() *log    { return s.told }
func (s *nodeServer) received() *log { return s.incoming }

// ack is the outcome of an operation that has a callback (err, replies).
func (s *nodeServer) ack(op string, to target, event string, args []any) ([]any, error) {
	var o struct {
		Error   any
		Replies json.RawMessage
	}
	if err := s.do(op, to, map[string]any{"event": event, "args": args}, &o); err != nil {
		return nil, err
	}
	replies, err := decodeReplies(o.Replies)
	if text, ok := o.Error.(string); ok {
		return replies, errors.New(text)
	}
	return replies, err
}

// decodeReplies reads the second argument of a callback: a list, or the one reply of a single socket.
func decodeReplies(text json.RawMessage) ([]any, error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	v = decodeValue(v)
	if replies, ok := v.([]any); ok {
		return replies, nil
	}
	return []any{v}, nil
}

func (s *nodeServer) emitAck(to target, event string, args ...any) ([]any, error) {
	return s.ack("emitAck", to, event, args)
}

func (s *nodeServer) serverSideEmitAck(nsp, event string, args ...any) ([]any, error) {
	return s.ack("serverSideEmitAck", all().in(nsp), event, args)
}

func (s *nodeServer) fetch(who target) ([]remoteSocket, error) {
	var found []struct {
		ID        string
		Handshake map[string]any
		Rooms     []string
		Data      any
	}
	err := s.do("fetch", who, nil, &found)
	out := make([]remoteSocket, len(found))
	for i, f := range found {
		handshake, _ := decodeValue(f.Handshake).(map[string]any)
		out[i] = remoteSocket{f.ID, handshake, f.Rooms, decodeValue(f.Data)}
	}
	return out, err
}

func (s *nodeServer) allRooms(nsp string) (rooms []string, err error) {
	err = s.do("allRooms", all().in(nsp), nil, &rooms)
	return rooms, err
}

func (s *nodeServer) count(nsp string) (n int, err error) {
	err = s.do("count", all().in(nsp), nil, &n)
	return n, err
}

func (s *nodeServer) pending(nsp string) (questions, acks int, err error) {
	var n struct{ Questions, Acks int }
	err = s.do("pending", all().in(nsp), nil, &n)
	return n.Questions, n.Acks, err
}

// ofSocket is a call about one socket of the server's own.
func (s *nodeServer) ofSocket(op, id string, to target, more map[string]any) error {
	of := to.js()
	of["socket"] = id
	more["target"] = of
	return s.call(op, more, nil)
}

func (s *nodeServer) socketJoin(nsp, id string, rooms ...any) error {
	return s.ofSocket("socketJoin", id, all().in(nsp), map[string]any{"rooms": rooms})
}

func (s *nodeServer) socketLeave(nsp, id string, rooms ...string) error {
	return s.ofSocket("socketLeave", id, all().in(nsp), map[string]any{"rooms": rooms})
}

func (s *nodeServer) broadcast(id string, to target, event string, args ...any) error {
	return s.ofSocket("broadcast", id, to, map[string]any{"event": event, "args": args})
}

func (s *nodeServer) settle() error  { return s.call("settle", nil, nil) }
func (s *nodeServer) drained() error { return s.call("drained", nil, nil) }
func (s *nodeServer) close() error   { return s.call("close", nil, nil) }

// remote does something with the one socket that a server finds by its ID: "remoteEmit", "remoteJoin" and so on.
func (s *nodeServer) remote(op, id string, more map[string]any) error {
	return s.do(op, socketID(id), more, nil)
}

// remoteEmitAck emits to the one socket that a server finds by its ID, and returns its reply.
func (s *nodeServer) remoteEmitAck(id string, timeout time.Duration, event string, args ...any) ([]any, error) {
	return s.ack("remoteEmitAck", socketID(id).within(timeout), event, args)
}
