package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/validjson"
	"github.com/crosscast/crosscast/kind"
)

// The ingress is a topic for programs without crosscast, in any language. Each message is one JSON object:
//
//	{"namespace":"/chat","rooms":["a"],"users":["u"],"except":["b"],"event":"said","data":{"text":"hi"}}
//
// Every node with the option receives it, and serves its own sockets and subscriptions. So nothing crosses the bus
// twice, nothing arrives twice, and no node speaks for a stranger: the instruction has no origin.
//
//   - namespace: a name; without it "/"
//   - rooms, users: lists of names; or
//   - everyone: true, and then neither rooms nor users
//   - except: a list of rooms, whose members are left out
//   - event: a name; required
//   - data: any JSON; without it the event has no payload
//
// A name has 1 to 255 bytes; there are at most 1,024 of them. The message has at most maxIngress bytes, or MaxFrame if
// that is less. These are refused, because a writer who misspells "except" must not reach the excepted members:
//
//   - unknown members; "EVENT" is one
//   - members that come twice
//   - null for a list, a name or a boolean
//   - bytes that are not UTF-8
//
// A message may be signed: see ingress_signed.go. With Seal.Require it must be.
//
// A frame, which only nodes write, is never JSON. JSON on any other topic is never a frame.
//
// There are no numbers, so a missed message is not reported, except as part of a node's own outage. Two messages of one
// connection arrive in order, if the bus keeps it.

// maxIngress is the size of the largest message in bytes, equal to the default limit of a payload.
const maxIngress = 1 << 20

// refusals are the reasons for which the ingress has refused something before.
type refusals struct{ logged [dropReasons]atomic.Bool }

// handleIngress handles a message to the ingress, on a topic.
func (l *ledger) handleIngress(topic string, text []byte, now time.Time) {
	if len(text) > min(maxIngress, l.o.MaxFrame) {
		l.refuse(dropIngressSize, fmt.Errorf("%d bytes", len(text)))
		return
	}
	text, signed, why, err := l.o.seal.verify(topic, text)
	if err != nil {
		l.refuse(why, err)
		return
	}
	inst, at, why, err := parseIngress(text, signed)
	if err == nil && signed {
		why, err = l.seen.enter(at, now, l.o.seal.fresh)
	}
	if err != nil {
		l.refuse(why, err)
		return
	}
	l.stats.bytesIn.Add(uint64(len(text)))
	l.stats.instructionsIn.Add(1)
	l.handler.Handle(inst)
}

// refuse counts a message, and logs the first one for each reason, because its writer gets no error.
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

// parseIngress parses a message to the ingress. The result keeps no part of text. The memory is proportional to text. A
// signed message has a stamp.
func parseIngress(text []byte, signed bool) (inst *crosscast.Instruction, at stamp, why dropReason, err error) {
	m, why, err := parseMembers(text, signed)
	if err != nil {
		return nil, at, why, err
	}
	inst, why, err = m.instruction()
	return inst, m.stamp, why, err
}

func parseMembers(text []byte, signed bool) (m members, why dropReason, err error) {
	if !validjson.Valid(text) {
		if !utf8.Valid(text) {
			return m, dropIngressSyntax, errNotUTF8
		}
		var v json.RawMessage
		return m, dropIngressSyntax, fmt.Errorf("%w: %w", errNoObject, json.Unmarshal(text, &v))
	}
	m.signed = signed
	if why, err := m.read(text); err != nil {
		return m, why, err
	}
	if signed && (!m.seen["time"] || !m.seen["id"]) {
		return m, dropIngressMember, errNoStamp
	}
	return m, 0, nil
}

// instruction returns the instruction with these members.
func (m *members) instruction() (inst *crosscast.Instruction, why dropReason, err error) {
	inst = &crosscast.Instruction{
		Kind: kind.Emit, Namespace: m.namespace, Event: m.event, Payload: m.data, Target: m.target,
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

// members are the members of a message to the ingress.
type members struct {
	namespace, event string
	target           crosscast.Target
	data             crosscast.Payload
	stamp            stamp
	signed           bool
	seen             map[string]bool
}

// read reads valid JSON, member by member, because encoding/json alone accepts "EVENT" for "event", and null,
// and the last of two equal members.
func (m *members) read(text []byte) (why dropReason, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return dropIngressSyntax, errNoObject
	}
	m.seen = make(map[string]bool)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return dropIngressSyntax, err
		}
		name, _ := key.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return dropIngressSyntax, err
		}
		if m.seen[name] {
			return dropIngressMember, fmt.Errorf("%.40q comes twice", name)
		}
		if err := m.set(name, value); err != nil {
			return dropIngressMember, err
		}
		m.seen[name] = true
	}
	return 0, nil
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
	case "time", "id":
		if !m.signed {
			return fmt.Errorf("%q is for signed messages", name)
		}
		return m.stamp.set(name, value)
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
