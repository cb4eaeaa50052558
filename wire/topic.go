package wire

import (
	"fmt"
	"strings"

	"github.com/crosscast/crosscast"
)

// The names of topics, after the prefix and a colon:
//
//	all                       everyone
//	n:<node ID>               the inbox of one node
//	r:<namespace>:<room>      a room
//	u:<namespace>:<user>      a user
//	hr:<topics>:<number>      the rooms with one hash, if rooms share that many topics (routing.go)
//	hu:<topics>:<number>      the users with one hash
//	in                        the ingress, for JSON of programs that are no nodes
//
// Users choose names. So bytes of a namespace or a name that are not in nameBytes are percent-escaped, and in a
// namespace also ':'. So no name can imitate another topic, be a pattern of any bus, or choose the slot of a Redis
// Cluster.

// nameBytes are the bytes that a topic may have after its prefix, beside '%'. Bytes with a meaning for a bus are not in
// it: the wildcards and separators of NATS (. * >), MQTT (+ #) and AMQP; the patterns of Redis (* ? [ ] \) and its hash
// tags ({ }); white space, control characters, and bytes that are not ASCII.
var nameBytes = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_/:@=~!$&'(),;") {
		set[c] = true
	}
	return set
}()

// checkPrefix refuses invalid prefixes. With "app:r:/", for example, the topic for everyone would be that of the room
// "all" of the prefix "app". So r, u and n cannot be parts.
func checkPrefix(prefix string) error {
	if len(prefix) > 100 || strings.ContainsAny(prefix, " \r\n\t*?[]{}") {
		return fmt.Errorf("crosscast/wire: Options.Prefix is %q: "+
			"it must have at most 100 bytes, without white space or any of *?[]{}", prefix)
	}
	_, rest, _ := strings.Cut(prefix, ":")
	for part := range strings.SplitSeq(rest, ":") {
		if part == "r" || part == "u" || part == "n" {
			return fmt.Errorf("crosscast/wire: Options.Prefix is %q: it must not have %q between its colons, "+
				"or its topics could be those of rooms, users or nodes of a shorter prefix", prefix, part)
		}
	}
	return nil
}

// appendAddress appends the topic of a room or user. For the zero address it appends nothing.
func appendAddress(dst []byte, prefix string, a *crosscast.Address) []byte {
	if *a == (crosscast.Address{}) {
		return dst
	}
	dst = append(dst, prefix...)
	if a.Space == crosscast.SpaceUser {
		dst = append(dst, ":u:"...)
	} else {
		dst = append(dst, ":r:"...)
	}
	dst = appendEscaped(dst, a.Namespace, true)
	return appendEscaped(append(dst, ':'), a.Name, false)
}

func appendEscaped(dst []byte, s string, namespace bool) []byte {
	const digits = "0123456789ABCDEF"
	from := 0
	for i := range len(s) {
		if c := s[i]; !nameBytes[c] || namespace && c == ':' {
			dst = append(append(dst, s[from:i]...), '%', digits[c>>4], digits[c&15])
			from = i + 1
		}
	}
	return append(dst, s[from:]...)
}

// destination is one topic that an instruction goes to: a node's inbox, a name, or (the zero value) everyone. The
// ingress is a destination that no node publishes to. foreign is a topic of a dialect, which may be that of a name.
type destination struct {
	node      crosscast.NodeID
	name      crosscast.Address // of a shared topic: its space alone
	ingress   bool
	of, index uint16 // of a shared topic: the number of topics, and its own
	foreign   string
}

func (d destination) isEveryone() bool { return d == destination{} }

// topicKind separates topics that need an order between them. A client receives its own address, its user's, its rooms'
// and everyone's, so topics of different kinds keep an order. Two topics of one kind are two rooms or two users, which
// need no order. Of the inboxes, a node receives only its own.
type topicKind uint8

const (
	toEveryone topicKind = 1 + iota
	toInbox
	toRoom
	toUser
	toSeveral // also all topics of a dialect
)

// kindOf returns the kind of a topic.
func kindOf(d *destination) topicKind {
	switch {
	case d.foreign != "":
		return toSeveral
	case d.name.Space == crosscast.SpaceRoom:
		return toRoom
	case d.name.Space == crosscast.SpaceUser:
		return toUser
	case d.node != "":
		return toInbox
	default:
		return toEveryone
	}
}

// carriesLosses reports whether frames to d carry the losses. Every node must learn of them at some time, so they are
// on everyone's topic. They are also on inboxes, where a new node gets its first answers.
func (d destination) carriesLosses() bool {
	return d.name == crosscast.Address{} && !d.ingress && d.foreign == ""
}

// names returns the names for a gap of the topic, which is not shared; nil: all names.
func (d destination) names() []crosscast.Address {
	if d.name == (crosscast.Address{}) {
		return nil
	}
	return []crosscast.Address{d.name}
}

func (d destination) topic(prefix string) string { return string(d.appendTopic(nil, prefix)) }

func (d *destination) appendTopic(dst []byte, prefix string) []byte {
	switch {
	case d.foreign != "":
		return append(dst, d.foreign...)
	case d.isShared():
		return d.appendShared(dst, prefix)
	case d.name.Space != 0:
		return appendAddress(dst, prefix, &d.name)
	case d.node != "":
		return append(append(append(dst, prefix...), ":n:"...), d.node...)
	case d.ingress:
		return append(append(dst, prefix...), ":in"...)
	default:
		return append(append(dst, prefix...), ":all"...)
	}
}
