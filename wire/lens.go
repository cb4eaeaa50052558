package wire

import (
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

// A Lens reads what passes on a bus, for tools that look on without being a node. Prefix, Topics and Seal are those of the
// nodes' Options. It has no books, so it does not notice what is missing, nor what is repeated. It is not for concurrent use.
type Lens struct {
	Prefix string
	Topics int
	Seal   Seal
	// Part is the name of the part whose bus this is, if the nodes use [NewParts] and a Seal. With
	// redisadapter.Options.Sharded, what is on plain Pub/Sub has the part "sharded".
	Part string

	reader frameReader
	opener *opener
}

// Topic returns the topic of a room or user, which others might share. For the zero Address, it is that of everyone. An
// emission to more than 8 rooms and users also goes there.
func (l *Lens) Topic(a crosscast.Address) string {
	if a == noName {
		return destination{}.topic(l.Prefix)
	}
	return spread(a, l.Topics).topic(l.Prefix)
}

// Address returns the room or user of a topic; for that of everyone, those of the nodes, and those that names share, the
// zero Address. It returns false if the topic is not one of this prefix.
func (l *Lens) Address(topic string) (a crosscast.Address, ok bool) {
	rest, ok := strings.CutPrefix(topic, l.Prefix+":")
	if !ok {
		return a, false
	}
	switch {
	case strings.HasPrefix(rest, "r:"):
		a.Space = crosscast.SpaceRoom
	case strings.HasPrefix(rest, "u:"):
		a.Space = crosscast.SpaceUser
	default:
		return a, rest == "all" || strings.HasPrefix(rest, "n:") || isSharedTopic(":"+rest)
	}
	namespace, name, _ := strings.Cut(rest[2:], ":")
	var errs [2]error
	a.Namespace, errs[0] = url.PathUnescape(namespace)
	a.Name, errs[1] = url.PathUnescape(name)
	if errors.Join(errs[:]...) != nil || a.Name == "" || spread(a, ownTopics).topic(l.Prefix) != topic {
		return crosscast.Address{}, false
	}
	return a, true
}

// Read calls each with the instructions of a frame that arrived on a topic, in order. An instruction is valid during the
// call; see [crosscast.InstructionReader] for what may be kept. The error matches [ErrForeign], [ErrMalformed] or
// [ErrSealed], or is about another version of the format, or an invalid Seal. What each got before is correct.
func (l *Lens) Read(topic string, frame []byte, each func(inst *crosscast.Instruction)) error {
	a, ok := l.Address(topic)
	if !ok {
		return ErrForeign
	}
	frame, err := l.unseal(topic, frame)
	if err != nil {
		return err
	}
	if _, err := l.reader.reset(frame, &a); err != nil {
		return err
	}
	for {
		it, err := l.reader.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case it.inst != nil:
			each(it.inst)
		}
	}
}

// unseal returns the frame in a sealed one. Any age is fresh, because the clock of whoever looks on might be wrong.
func (l *Lens) unseal(topic string, frame []byte) ([]byte, error) {
	if l.opener == nil && len(l.Seal.Keys) > 0 {
		g, err := l.Seal.check(false)
		if err != nil {
			return nil, err
		}
		g.fresh = 100 * 365 * 24 * time.Hour
		o := newOpener(g, l.Part)
		l.opener = &o
	}
	if !isSealed(frame) {
		if l.Seal.Require {
			return nil, ErrSealed
		}
		return frame, nil
	}
	if l.opener == nil {
		return nil, ErrSealed
	}
	f, _, ok := l.opener.open(topic, frame, time.Now())
	if !ok {
		return nil, ErrSealed
	}
	return f.frame, nil
}
