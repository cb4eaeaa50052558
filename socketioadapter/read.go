package socketioadapter

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// From messages to instructions.

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
		return 0, fmt.Errorf("%w: another node's echo", wire.ErrForeign)
	case m.kind == 0 || own || m.kind == fetch && m.command:
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
		in.Kind, in.Event, in.Payload = kind.Emit, m.event, m.payload
		if m.kind == request {
			in.Kind, in.Target.Everyone = kind.Request, true
		}
		if m.volatile {
			in.Volatile = true
		}
	case join, leave, disconnect:
		if n := len(m.rooms); n > limit.Names { // the rooms count for each socket in the target
			return 0, fmt.Errorf("%w: a command with %d rooms", wire.ErrMalformed, n)
		}
		in.Kind, in.Rooms = commands[m.kind], m.rooms
		if m.close {
			in.Reason = forceClose
		}
	case fetch:
		d.question = crosscast.Question{Kind: kind.AskSockets, Fields: m.fields}
		in.Kind, in.Question = kind.Ask, &d.question
	case fetchIDs:
		in.Kind, in.Question = kind.Ask, &askIDs
	case fetchRooms:
		in.Kind, in.Question = kind.Ask, &askRooms
	}
	if m.id != "" {
		in.Ref, in.TTL = m.id, min(cmp.Or(m.timeout, defaultPatience), maxPatience)
		q := question{kind: m.kind, old: m.old, namespace: m.namespace, uid: m.uid, id: m.id, fields: m.fields}
		if err := d.questions.add(from, q, in.TTL, time.Now()); err != nil {
			d.drop(err)
			return 0, nil
		}
	}
	d.handler.Handle(in)
	return 0, nil
}

var commands = map[messageKind]kind.Kind{
	join: kind.Join, leave: kind.Leave, disconnect: kind.Disconnect,
}

var (
	askIDs   = crosscast.Question{Kind: kind.AskSockets}
	askRooms = crosscast.Question{Kind: kind.AskSockets, Fields: kind.FieldUser | kind.FieldRooms}
)

// awaits reports whether this node waits for an answer with this requestId. Most answers are to queries of others, and
// are not counted as dropped.
func (d *dialect) awaits(id string) bool {
	ref, own := strings.CutPrefix(id, d.refs)
	if !own {
		return false
	}
	if !d.handler.Awaits(ref) {
		d.drop(errUnasked)
		return false
	}
	return true
}

// heard passes on an answer to a query of this node.
func (d *dialect) heard(m *message, from crosscast.NodeID) error {
	ref := strings.TrimPrefix(m.id, d.refs)
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
		return fmt.Errorf("%w: an answer to what this node never asks", wire.ErrMalformed)
	}
	d.in = crosscast.Instruction{
		Kind: kind.Answer, Namespace: "/", From: from, To: d.self, Ref: ref, Answer: a,
	}
	d.handler.Handle(&d.in)
	return nil
}
