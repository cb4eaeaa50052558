package socketioadapter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/crosscast/crosscast"
)

// From instructions to messages.

// sender is what takes the messages that are written.
type sender = func(topic string, name crosscast.Address, data []byte)

// Write implements wire.Dialect.
func (d *dialect) Write(in *crosscast.Instruction, send sender) error {
	f := forms.Get().(*form)
	defer f.release()
	if in.Kind == crosscast.KindAnswer {
		return d.answer(f, in, send)
	}
	if in.Kind == crosscast.KindGoodbye {
		return nil
	}
	if err := d.supports(in); err != nil || in.Target.IsNobody() { // no rooms would be everyone
		return err
	}
	m := d.message(0, namespaceOf(in))
	m.target, m.volatile = in.Target, in.Flags&crosscast.Volatile != 0
	m.event, m.payload, m.rooms, m.close = in.Event, in.Payload, in.Rooms, in.Reason == forceClose
	topic, name := d.channels.request(m.namespace), crosscast.Address{}
	if in.Ref != "" {
		m.id, m.timeout = d.refs+in.Ref, in.TTL
	}
	switch in.Kind {
	case crosscast.KindEmit:
		m.kind = broadcast
		if in.Ref == "" {
			topic, name = d.broadcastTopic(&m)
		}
	case crosscast.KindRequest:
		m.kind = request
	case crosscast.KindAsk:
		m.kind = fetch
	default:
		return d.command(f, in.Kind, &m, topic, send)
	}
	return d.send(f, &m, topic, name, send)
}

// broadcastTopic is the channel of a broadcast that nobody replies to, and the address that it is for.
func (d *dialect) broadcastTopic(m *message) (string, crosscast.Address) {
	n := targetNames(&m.target)
	room, name := n.single(m.namespace, d.prefix)
	if room == "" || !d.channels.own(room) {
		return d.channels.main(m.namespace), name
	}
	return d.channels.room(m.namespace, room), name
}

// command writes a command. One that is to be answered goes with a fetch of the same sockets, because servers answer
// that only: behind a join, when it is done, and before a leave or disconnect, after which they might not be found.
func (d *dialect) command(f *form, k crosscast.Kind, m *message, topic string, send sender) error {
	m.kind = map[crosscast.Kind]kind{
		crosscast.KindJoin: join, crosscast.KindLeave: leave, crosscast.KindDisconnect: disconnect,
	}[k]
	ask := *m
	ask.kind, ask.command = fetch, true
	messages := []*message{&ask, m}
	switch {
	case m.id == "":
		messages = messages[1:]
	case m.kind == join:
		slices.Reverse(messages)
	}
	for _, m := range messages {
		if err := d.send(f, m, topic, crosscast.Address{}, send); err != nil {
			return err
		}
	}
	return nil
}

func (d *dialect) send(f *form, m *message, topic string, name crosscast.Address, send sender) error {
	data, err := d.encode(f, m)
	if err != nil {
		return fmt.Errorf("crosscast/socketioadapter: %w", err)
	}
	send(topic, name, data)
	return nil
}

// supports returns an error for what Socket.IO cannot carry.
func (d *dialect) supports(in *crosscast.Instruction) error {
	switch {
	case in.To != "":
		return unsupported("an instruction to one node")
	case in.Kind == crosscast.KindEmit && reservedForClients[in.Event]:
		return fmt.Errorf("crosscast/socketioadapter: the event %q is Socket.IO's own", in.Event)
	case in.Kind == crosscast.KindRequest && reservedForServers[in.Event]:
		return fmt.Errorf("crosscast/socketioadapter: the request %q is Socket.IO's own", in.Event)
	case in.Kind == crosscast.KindRequest && !in.Target.Everyone:
		return unsupported("a request to the nodes with members of a room")
	case in.Kind == crosscast.KindAsk && (in.Question == nil || in.Question.Kind > crosscast.AskRooms):
		return unsupported("a question that is not about sockets")
	}
	switch in.Kind {
	case crosscast.KindEmit, crosscast.KindRequest, crosscast.KindAsk,
		crosscast.KindJoin, crosscast.KindLeave, crosscast.KindDisconnect:
		return nil
	}
	return unsupported(fmt.Sprintf("an instruction of kind %d", in.Kind))
}

func unsupported(what string) error {
	return fmt.Errorf("crosscast/socketioadapter: Socket.IO has no word for %s: %w", what, errors.ErrUnsupported)
}

// answer writes what this node answers to a server. Of an answer that is an error nothing is written: servers are
// silent, too, where they have no listener, and who asks waits until its deadline.
func (d *dialect) answer(f *form, in *crosscast.Instruction, send sender) error {
	a := in.Answer
	q, first, say, err := d.questions.answered(in.To, in.Ref, a)
	if err != nil {
		d.drop(err)
	}
	if err != nil || !say {
		return nil
	}
	m := d.message(0, q.namespace)
	m.id = q.id
	topic := d.channels.response(q.namespace, q.uid)
	switch q.kind {
	case broadcast:
		if first {
			m.kind, m.count = clients, a.Count
			if err := d.send(f, &m, topic, crosscast.Address{}, send); err != nil {
				return err
			}
		}
		m.kind = reply
		for i := range a.Replies {
			if a.Replies[i].Silent {
				continue
			}
			m.client, m.payload = a.Replies[i].Socket, a.Replies[i].Payload
			if err := d.send(f, &m, topic, crosscast.Address{}, send); err != nil {
				d.drop(errReply) // one client must not silence the others
			}
		}
		return nil
	case fetch:
		m.kind, m.sockets = gotSockets, q.sockets
	case fetchIDs:
		m.kind, m.sockets = gotIDs, q.sockets
	case fetchRooms:
		m.kind, m.rooms = gotRooms, d.roomsOf(q.sockets)
	case request:
		if !a.Handled {
			return nil
		}
		m.kind, m.payload = answer, a.Payload
	case join, leave, disconnect:
		switch {
		case q.old && a.Count == 0:
			return nil // only who has the socket answers
		case q.old:
			m.kind = done
		default:
			m.kind, m.count = clients, a.Count
		}
	}
	return d.send(f, &m, topic, crosscast.Address{}, send)
}

// roomsOf returns all rooms that sockets are in, their own and their users' included.
func (d *dialect) roomsOf(sockets []crosscast.SocketInfo) []string {
	var all []string
	seen := make(map[string]bool)
	add := func(room string) {
		if !seen[room] {
			seen[room] = true
			all = append(all, room)
		}
	}
	for i := range sockets {
		s := &sockets[i]
		add(string(s.ID))
		for _, r := range s.Rooms {
			add(r)
		}
		if s.User != "" {
			add(d.prefix + s.User)
		}
	}
	return all
}
