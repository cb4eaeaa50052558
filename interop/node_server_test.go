package interop

import (
	"encoding/json"
	"errors"
	"time"
)

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

// serverSideEmitAck waits as long as the adapter's options say.
func (s *nodeServer) serverSideEmitAck(in target, event string, args ...any) ([]any, error) {
	return s.ack("serverSideEmitAck", in, event, args)
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
func (s *nodeServer) drained() error { return s.end("drained") }
func (s *nodeServer) close() error   { return s.end("close") }

// end is a call that is in vain where the process was killed.
func (s *nodeServer) end(op string) error {
	if s.wasKilled() {
		return nil
	}
	return s.call(op, nil, nil)
}

// remote does something with the one socket that a server finds by its ID: "remoteEmit", "remoteJoin" and so on.
func (s *nodeServer) remote(op, id string, more map[string]any) error {
	return s.do(op, socketID(id), more, nil)
}

// remoteEmitAck emits to the one socket that a server finds by its ID, and returns its reply.
func (s *nodeServer) remoteEmitAck(id string, timeout time.Duration, event string, args ...any) ([]any, error) {
	return s.ack("remoteEmitAck", socketID(id).within(timeout), event, args)
}
