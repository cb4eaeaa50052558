package socketioadapter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/args"
	"github.com/crosscast/crosscast/internal/mpack"
)

// dialect is Socket.IO's as package wire wants it: instructions to messages, and messages to instructions. What is
// asked gets as its requestId the uid and the Ref, so that nothing has to be remembered of own questions.
type dialect struct {
	channels channels
	prefix   string // of users' rooms
	counter  *counter

	self      crosscast.NodeID
	emitter   bool
	handler   crosscast.Handler
	refs      string // what begins the requestIds of this node
	reader    reader
	in        crosscast.Instruction // the one that handler is told of
	questions questions
	dropped   [dropReasons]atomic.Uint64
}

func newDialect(o Options, c *counter) *dialect {
	return &dialect{
		channels: channels{key: o.Key, sharded: o.Mode == Sharded, rooms: o.Subscription}, prefix: o.UserRooms, counter: c,
	}
}

// forceClose is the reason of a disconnect that ends the whole connection, not only a namespace of it.
const forceClose crosscast.Reason = "forced server close"

// Begin implements wire.Dialect.
func (d *dialect) Begin(self crosscast.NodeInfo, h crosscast.Handler) {
	d.self, d.emitter, d.handler = self.ID, self.EmitOnly, h
	d.channels.self, d.channels.emitter = uidOf(self, d.channels.sharded), self.EmitOnly
	d.refs = d.channels.self + "~"
	d.counter.watch("/")
	d.reader = reader{channels: &d.channels, prefix: d.prefix, uid: []byte(d.channels.self)}
}

// Home implements wire.Dialect.
func (d *dialect) Home() []string { return d.channels.home("/") }

// Topics implements wire.Dialect.
func (d *dialect) Topics(name crosscast.Address) []string {
	if name.Space == crosscast.NamespaceSpace {
		d.counter.watch(name.Namespace)
	}
	return d.channels.of(name, d.prefix)
}

// Gather implements wire.Gatherer.
func (d *dialect) Gather(ctx context.Context) { d.counter.gather(ctx) }

// Echo implements wire.Dialect.
func (d *dialect) Echo(number uint64) (topic string, data []byte) {
	m := d.message(echo, "/")
	m.number = number
	var f form
	data, _ = d.encode(&f, &m) // nothing in it can be wrong
	return d.channels.response("/", d.channels.self), data
}

func (d *dialect) message(k kind, ns string) message {
	return message{kind: k, uid: d.channels.self, namespace: ns}
}

// namespaceOf is the namespace of an instruction, whose zero value is the default.
func namespaceOf(in *crosscast.Instruction) string { return cmp.Or(in.Namespace, "/") }

// encode writes m, into memory of f.
func (d *dialect) encode(f *form, m *message) ([]byte, error) {
	f.buf, f.prefix, f.err = f.buf[:0], d.prefix, nil
	asJSON := true
	if d.channels.sharded {
		f.sharded(m)
		_, hasBytes, err := mpack.Scan(f.buf)
		asJSON = !hasBytes
		if err != nil {
			f.fail(err)
		}
	} else {
		asJSON = f.classic(m)
	}
	if f.err != nil || !asJSON || !m.isText() {
		return f.buf, f.err
	}
	var err error
	f.json, _, err = mpack.AppendJSON(f.json[:0], f.buf, args.BufferJSON)
	return f.json, err
}

var forms = sync.Pool{New: func() any { return new(form) }}

// release lets f be used again, unless it keeps much memory.
func (f *form) release() {
	if cap(f.buf) <= maxScratch && cap(f.json) <= maxScratch {
		forms.Put(f)
	}
}

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

// sender is what takes the messages that are written.
type sender = func(topic string, name crosscast.Address, data []byte)

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
				return err
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

// Read implements wire.Dialect.
func (d *dialect) Read(topic string, data []byte) (number uint64, err error) {
	m, err := d.reader.read(topic, data)
	if err != nil {
		return 0, err
	}
	from := nodeOf(m.uid, d.channels.sharded)
	own := m.uid == d.channels.self || from == d.self
	switch {
	case m.kind == echo && own:
		return m.number, nil
	case m.kind == echo:
		return 0, fmt.Errorf("%w: another node's echo", crosscast.ErrForeign)
	case m.kind == 0 || own || m.command:
		return 0, nil
	case m.kind >= gotSockets:
		return 0, d.heard(m, from)
	}
	d.in = crosscast.Instruction{Namespace: m.namespace, From: from, Target: m.target}
	in := &d.in
	switch m.kind {
	case broadcast, request:
		if err := d.reader.emitted(); err != nil {
			return 0, err
		}
		in.Kind, in.Event, in.Payload = crosscast.KindEmit, m.event, m.payload
		if m.kind == request {
			in.Kind, in.Target.Everyone = crosscast.KindRequest, true
		}
		if m.volatile {
			in.Flags = crosscast.Volatile
		}
	case join, leave, disconnect:
		in.Kind, in.Rooms = commands[m.kind], m.rooms
		if m.close {
			in.Reason = forceClose
		}
	case fetch:
		in.Kind, in.Question = crosscast.KindAsk, &askSockets
	case fetchIDs:
		in.Kind, in.Question = crosscast.KindAsk, &askIDs
	case fetchRooms:
		in.Kind, in.Question = crosscast.KindAsk, &askRooms
	}
	if m.id != "" {
		in.Ref, in.TTL = m.id, m.timeout
		q := question{kind: m.kind, old: m.old, namespace: m.namespace, uid: m.uid, id: m.id}
		if err := d.questions.add(from, q, m.timeout, time.Now()); err != nil {
			d.drop(err)
			return 0, nil
		}
	}
	d.handler.Handle(in)
	return 0, nil
}

var commands = map[kind]crosscast.Kind{
	join: crosscast.KindJoin, leave: crosscast.KindLeave, disconnect: crosscast.KindDisconnect,
}

var (
	askSockets = crosscast.Question{Kind: crosscast.AskSockets, Fields: crosscast.AllFields}
	askIDs     = crosscast.Question{Kind: crosscast.AskSockets}
	askRooms   = crosscast.Question{Kind: crosscast.AskSockets, Fields: crosscast.FieldUser | crosscast.FieldRooms}
)

// heard passes on an answer to a question of this node's.
func (d *dialect) heard(m *message, from crosscast.NodeID) error {
	ref, ok := strings.CutPrefix(m.id, d.refs)
	if !ok {
		return nil // of another's
	}
	a := new(crosscast.Answer)
	switch m.kind {
	case gotSockets:
		a.Sockets, a.Last = m.sockets, true
	case answer, reply:
		if err := d.reader.valued(); err != nil {
			return err
		}
		if m.kind == reply {
			a.Replies = []crosscast.Reply{{Socket: m.client, Payload: m.payload}}
			break
		}
		a.Payload, a.Handled, a.Last = m.payload, true, true
	case clients:
		a.Count, a.Last = m.count, true
	default:
		return fmt.Errorf("%w: an answer to what this node never asks", crosscast.ErrMalformed)
	}
	d.in = crosscast.Instruction{
		Kind: crosscast.KindAnswer, Namespace: "/", From: from, To: d.self, Ref: ref, Answer: a,
	}
	d.handler.Handle(&d.in)
	return nil
}
