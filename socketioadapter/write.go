package socketioadapter

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/kind"
)

// From instructions to messages.

// sender takes the messages that are written.
type sender = func(topic string, name crosscast.Address, data []byte)

// Write implements wire.Dialect.
func (d *dialect) Write(in *crosscast.Instruction, send sender) error {
	f := forms.Get().(*form)
	defer f.release()
	if in.Kind == kind.Answer {
		return d.answer(f, in, send)
	}
	if in.Kind == kind.Goodbye {
		return nil
	}
	if err := d.supports(in); err != nil || isNobody(&in.Target) { // an empty list of rooms would mean everyone
		return err
	}
	m := d.message(0, namespaceOf(in))
	m.target, m.volatile = in.Target, in.Volatile
	m.event, m.payload, m.rooms, m.close = in.Event, in.Payload, in.Rooms, in.Reason == forceClose
	topic, name := d.channels.request(m.namespace), crosscast.Address{}
	if in.Ref != "" {
		m.id, m.timeout = d.refs+in.Ref, in.TTL
	}
	switch in.Kind {
	case kind.Emit:
		m.kind = broadcast
		if in.Ref == "" {
			topic, name = d.broadcastTopic(&m)
		}
	case kind.Request:
		m.kind = request
	case kind.Ask:
		m.kind, m.fields = fetch, wanted(in.Question)
	default:
		return d.command(f, in.Kind, &m, topic, send)
	}
	return d.send(f, &m, topic, name, send)
}

// broadcastTopic returns the channel and the address of a broadcast without replies.
func (d *dialect) broadcastTopic(m *message) (string, crosscast.Address) {
	n := targetNames(&m.target)
	room, name := n.single(m.namespace, d.prefix)
	if room == "" || !d.channels.own(room) {
		return d.channels.main(m.namespace), name
	}
	return d.channels.room(m.namespace, room), name
}

// command writes a command. If it wants an answer, a fetch of the same sockets accompanies it, because servers answer
// only that: after a join, so that the join is done, and before a leave or disconnect, after which the sockets might
// not be found.
func (d *dialect) command(f *form, k kind.Kind, m *message, topic string, send sender) error {
	m.kind = map[kind.Kind]messageKind{
		kind.Join: join, kind.Leave: leave, kind.Disconnect: disconnect,
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

// isNobody reports whether t has no recipient.
func isNobody(t *crosscast.Target) bool {
	return !t.Everyone && len(t.Rooms)+len(t.Users)+len(t.Sockets) == 0
}

// wanted returns the parts of sockets that a query needs. Servers send everything, but nodes need not publish every
// handshake for a number.
func wanted(q *crosscast.Question) kind.Fields {
	switch q.Kind {
	case kind.AskCount:
		return q.Fields & kind.FieldUser
	case kind.AskRooms:
		return kind.FieldRooms
	}
	return q.Fields
}

func (d *dialect) send(f *form, m *message, topic string, name crosscast.Address, send sender) error {
	data, err := d.encode(f, m)
	if err != nil {
		return errtext.Errorf("crosscast/socketioadapter: %w", err)
	}
	send(topic, name, data)
	return nil
}

// sendAnswer is send for a part of an answer, which must fit into one message. A part that is too large is not sent,
// and is logged.
func (d *dialect) sendAnswer(f *form, m *message, topic string, send sender) error {
	data, err := d.encode(f, m)
	if err == nil && len(data) > d.maxFrame && len(m.sockets) > 0 {
		d.bared(m.sockets)
		for i := range m.sockets {
			m.sockets[i].Handshake = nil
		}
		data, err = d.encode(f, m)
	}
	switch {
	case err != nil:
		return errtext.Errorf("crosscast/socketioadapter: %w", err)
	case len(data) > d.maxFrame:
		d.warn(&d.warnedAnswer, "crosscast: an answer to a Socket.IO server is too large, and so is none",
			"bytes", len(data), "MaxFrame", d.maxFrame)
		return errTooLarge
	}
	send(topic, crosscast.Address{}, data)
	return nil
}

// bared records that sockets are listed without their handshakes, and with empty ones of the same form. The asking
// server waits for one message from each server, so a large answer without handshakes is better than none.
func (d *dialect) bared(sockets []crosscast.SocketInfo) {
	d.dropped[dropHandshakes].Add(1)
	d.warn(&d.warnedBare, "crosscast: sockets are told of without their handshakes, because the answer would be too large",
		"sockets", len(sockets), "MaxFrame", d.maxFrame)
}

// warn logs a recurring problem once.
func (d *dialect) warn(once *sync.Once, text string, args ...any) {
	once.Do(func() { d.log.Warn(text, args...) })
}

// supports returns an error for instructions that Socket.IO cannot carry.
func (d *dialect) supports(in *crosscast.Instruction) error {
	switch {
	case in.To != "":
		return unsupported("an instruction to one node")
	case in.Kind == kind.Emit && reservedForClients[in.Event]:
		return fmt.Errorf("crosscast/socketioadapter: the event %q is Socket.IO's own", in.Event)
	case in.Kind == kind.Request && reservedForServers[in.Event]:
		return fmt.Errorf("crosscast/socketioadapter: the request %q is Socket.IO's own", in.Event)
	case in.Kind == kind.Request && !in.Target.Everyone:
		return unsupported("a request to the nodes with members of a room")
	case in.Kind == kind.Ask && (in.Question == nil || in.Question.Kind > kind.AskRooms):
		return unsupported("a question that is not about sockets")
	}
	switch in.Kind {
	case kind.Emit, kind.Request, kind.Ask,
		kind.Join, kind.Leave, kind.Disconnect:
		return nil
	}
	return unsupported(fmt.Sprintf("an instruction of kind %d", in.Kind))
}

func unsupported(what string) error {
	return errtext.Errorf("crosscast/socketioadapter: Socket.IO has no word for %s: %w", what, errors.ErrUnsupported)
}

// answer writes this node's answer to a server. An answer that is an error is not written: servers without a listener
// send nothing either, and the asking server waits until its deadline.
func (d *dialect) answer(f *form, in *crosscast.Instruction, send sender) error {
	a := in.Answer
	q, first, say, err := d.questions.answered(in.To, in.Ref, a)
	if err != nil {
		d.drop(err)
	}
	if err != nil || !say {
		return nil
	}
	if err := d.answerTo(f, &q, first, a, send); !errors.Is(err, errTooLarge) {
		return err
	}
	d.drop(errTooLarge)
	return nil
}

// answerTo writes the answer for q's sender. If the answer comes in parts, it writes this part.
func (d *dialect) answerTo(f *form, q *question, first bool, a *crosscast.Answer, send sender) error {
	m := d.message(0, q.namespace)
	m.id = q.id
	topic := d.channels.response(q.namespace, q.uid)
	switch q.kind {
	case broadcast:
		if first {
			m.kind, m.count = clients, a.Count
			if err := d.sendAnswer(f, &m, topic, send); err != nil {
				return err
			}
		}
		m.kind = reply
		for i := range a.Replies {
			if a.Replies[i].Silent {
				continue
			}
			m.client, m.payload = a.Replies[i].Socket, a.Replies[i].Payload
			if err := d.sendAnswer(f, &m, topic, send); err != nil {
				d.drop(errReply) // one client must not silence the others
			}
		}
		return nil
	case fetch:
		m.kind, m.sockets, m.fields = gotSockets, q.sockets, q.fields
		if q.bare {
			d.bared(q.sockets)
		}
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
			return nil // only the node that has the socket answers
		case q.old:
			m.kind = done
		default:
			m.kind, m.count = clients, a.Count
		}
	}
	return d.sendAnswer(f, &m, topic, send)
}

// roomsOf returns all rooms of sockets, including their own and their users' rooms.
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
