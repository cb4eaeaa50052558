package natsadapter

import (
	"fmt"
	"strings"
)

// The subjects, after the prefix and a dot:
//
//	all                       everyone
//	n.<node ID>               the inbox of one node
//	r.<namespace>.<room>      a room
//	u.<namespace>.<user>      a user
//	hr.<topics>.<number>      the rooms with one hash, and hu those of users: Options.Topics
//	in                        the ingress
//	s.<server>                the connections to one server, for questions about its interest: see spread.go
//	s.<server>.<link>.<other> the answers to a link's questions, from another server
//
// Those of the upper part are the topics of package wire, with dots in the place of their separators. Package wire has
// escaped what means something to NATS, so each part is one token.

// separators is how many colons of a topic's rest, by its first part, separate parts. A node's ID has no colon, and
// neither has a namespace.
func separators(rest string) int {
	switch kind, _, _ := strings.Cut(rest, ":"); kind {
	case "r", "u", "hr", "hu":
		return 2
	case "n":
		return 1
	}
	return 0
}

// subject returns the subject of a topic.
func (b *bus) subject(topic string) string {
	rest := topic[len(b.o.Prefix)+1:]
	return b.o.Prefix + "." + strings.Replace(rest, ":", ".", separators(rest))
}

// topic returns the topic of a subject, or an empty string if it has none.
func (b *bus) topic(subject string) string {
	rest, ok := strings.CutPrefix(subject, b.o.Prefix+".")
	if !ok {
		return ""
	}
	return b.o.Prefix + ":" + strings.ReplaceAll(rest, ".", ":")
}

// checkPrefix refuses a prefix that is no subject, or is one of those that NATS keeps for itself. Package wire checks
// the rest.
func checkPrefix(prefix string) error {
	bad := strings.HasPrefix(prefix, "$") || strings.ContainsAny(prefix, "*>")
	for token := range strings.SplitSeq(prefix, ".") {
		bad = bad || token == ""
	}
	for _, c := range []byte(prefix) {
		bad = bad || c < ' ' || c == 0x7f
	}
	if bad {
		return fmt.Errorf("crosscast/natsadapter: Options.Prefix is %q: it must not begin with $, and must have neither an empty "+
			"token nor any of *> or a control character", prefix)
	}
	return nil
}
