package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/validjson"
)

// The ingress: a topic for programs that are no nodes, in whatever language. It takes one JSON object a message,
//
//	{"namespace":"/chat","rooms":["a"],"users":["u"],"except":["b"],"event":"said","data":{"text":"hi"}}
//
// and every node that opted in hears it, and serves its own sockets and subscriptions. So nothing crosses the bus
// twice, nothing comes double, and no node speaks for a stranger: what came in has no origin.
//
//   - namespace: a name; without it "/"
//   - rooms, users: lists of names; or
//   - everyone: true, and then neither rooms nor users
//   - except: a list of rooms, whose members are left out
//   - event: a name; required
//   - data: any JSON; without it the event has no payload
//
// Names are of 1 to 255 bytes, 1,024 of them at most. Members of other names, or that come twice, are refused, as are
// null for a list, a name or a boolean, names that are spelled with other capitals, and bytes that are not UTF-8:
// whoever misspells "except" must not reach those whom he wanted to except. The whole has at most maxIngress bytes, or
// MaxFrame if that is less. A frame, which only nodes write, is no JSON; and JSON on any other topic is no frame.
//
// There are no numbers, so nothing tells of a message that was missed, except that a node's own outages are gaps as
// ever. Two messages of one connection arrive in their order, as long as the bus keeps it.

// maxIngress is the size of the largest message: that of the largest payload that nodes emit by default.
const maxIngress = 1 << 20

// refusals are the reasons for which the ingress refused something before.
type refusals struct{ logged [dropReasons]atomic.Bool }

// handleIngress acts on a message to the ingress.
func (l *ledger) handleIngress(text []byte) {
	if len(text) > min(maxIngress, l.o.MaxFrame) {
		l.refuse(dropIngressSize, fmt.Errorf("%d bytes", len(text)))
		return
	}
	inst, why, err := parseIngress(text)
	if err != nil {
		l.refuse(why, err)
		return
	}
	l.stats.bytesIn.Add(uint64(len(text)))
	l.stats.instructionsIn.Add(1)
	l.handler.Handle(inst)
}

// refuse counts a message, and logs the first one for each reason: whoever wrote it cannot be told otherwise.
func (s *session) refuse(why dropReason, err error) {
	s.count(why)
	if s.refusals.logged[why].CompareAndSwap(false, true) {
		s.logger.Warn("crosscast: a message to the ingress was refused; others for the same reason are only counted",
			"topic", destination{ingress: true}.topic(s.o.Prefix), "reason", dropNames[why], "error", err)
	}
}

var (
	errNotUTF8  = errors.New("not UTF-8")
	errNoObject = errors.New("not a JSON object")
	errNoEvent  = errors.New(`no "event"`)
	errNobody   = errors.New(`neither "rooms" nor "users", and not "everyone":true`)
	errBoth     = errors.New(`"everyone":true beside "rooms" or "users"`)
)

// parseIngress reads a message to the ingress. What it returns keeps nothing of text. It costs memory in proportion to
// text.
func parseIngress(text []byte) (inst *crosscast.Instruction, why dropReason, err error) {
	if !validjson.Valid(text) {
		if !utf8.Valid(text) {
			return nil, dropIngressSyntax, errNotUTF8
		}
		var v json.RawMessage
		return nil, dropIngressSyntax, fmt.Errorf("%w: %w", errNoObject, json.Unmarshal(text, &v))
	}
	m, why, err := readMembers(text)
	if err != nil {
		return nil, why, err
	}
	inst = &crosscast.Instruction{
		Kind: crosscast.KindEmit, Namespace: m.namespace, Event: m.event, Payload: m.data, Target: m.target,
	}
	t := &inst.Target
	switch named := len(t.Rooms)+len(t.Users) > 0; {
	case !m.seen["event"]:
		return nil, dropIngressMember, errNoEvent
	case m.event == "" || m.seen["namespace"] && m.namespace == "":
		return nil, dropIngressName, fmt.Errorf("%w: empty", crosscast.ErrInvalidName)
	case !named && !t.Everyone:
		return nil, dropIngressTarget, errNobody
	case t.Everyone && (m.seen["rooms"] || m.seen["users"]):
		return nil, dropIngressTarget, errBoth
	}
	if inst.Namespace == "" {
		inst.Namespace = "/"
	}
	scratch := messagePool.Get().(*messages)
	defer scratch.release()
	switch err := scratch.check(inst); {
	case errors.Is(err, crosscast.ErrInvalidName):
		return nil, dropIngressName, err
	case err != nil:
		return nil, dropIngressSize, err
	}
	return inst, 0, nil
}

// members are what a message to the ingress may have.
type members struct {
	namespace, event string
	target           crosscast.Target
	data             crosscast.Payload
	seen             map[string]bool
}

// readMembers reads valid JSON. It goes member by member, because encoding/json alone takes "EVENT" for "event", null
// for nothing, and the last of two.
func readMembers(text []byte) (m members, why dropReason, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return m, dropIngressSyntax, errNoObject
	}
	m.seen = make(map[string]bool)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return m, dropIngressSyntax, err
		}
		name, _ := key.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return m, dropIngressSyntax, err
		}
		if m.seen[name] {
			return m, dropIngressMember, fmt.Errorf("%.40q comes twice", name)
		}
		if err := m.set(name, value); err != nil {
			return m, dropIngressMember, err
		}
		m.seen[name] = true
	}
	return m, 0, nil
}

func (m *members) set(name string, value json.RawMessage) error {
	var to any
	kind := byte('[')
	switch name {
	case "namespace":
		to, kind = &m.namespace, '"'
	case "event":
		to, kind = &m.event, '"'
	case "rooms":
		to = &m.target.Rooms
	case "users":
		to = &m.target.Users
	case "except":
		to = &m.target.ExceptRooms
	case "everyone":
		to = &m.target.Everyone
		if kind = value[0]; kind == 'n' {
			return errors.New(`"everyone" is null`)
		}
	case "data":
		m.data = crosscast.Payload{Encoding: crosscast.EncodingJSON, Data: value}
		return nil
	default:
		return fmt.Errorf("unknown member %.40q", name)
	}
	if value[0] != kind {
		return fmt.Errorf("%q is of the wrong type", name)
	}
	if err := json.Unmarshal(value, to); err != nil {
		return fmt.Errorf("%q is of the wrong type: %w", name, err)
	}
	return nil
}
