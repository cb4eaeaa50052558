package socketioadapter

import (
	"errors"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// questions are what peers have asked, and this node has not answered to the end. A node answers in parts; Socket.IO
// takes one message of each server. Its methods may be called concurrently.
type questions struct {
	mu      sync.Mutex // guards what follows
	open    map[asked]*question
	bytes   int       // of what is kept of answers
	sweepAt time.Time // when to look for old ones
}

// asked is how a node calls a question: by who asked, and the Ref.
type asked struct {
	by  crosscast.NodeID
	ref string
}

// question is a message that is being answered.
type question struct {
	kind      kind
	old       bool
	namespace string
	uid       string // of who asked; empty: that is not known
	id        string
	fields    crosscast.Fields // that are told of sockets
	expires   time.Time

	sockets []crosscast.SocketInfo // told so far
	bytes   int                    // about the memory that they take
	bare    bool                   // some of them have lost their handshakes
	counted bool                   // the number of clients was told
}

const (
	maxQuestions     = 4096
	maxQuestionBytes = 16 << 20         // kept of all answers
	defaultPatience  = 5 * time.Second  // of who asks and does not say
	maxPatience      = time.Hour        // a node works no longer on one question
	extraPatience    = 10 * time.Second // a node has given up by then
	sweepInterval    = time.Second
)

var (
	errRepeated  = errors.New("a question with the requestId of an open one")
	errTooMany   = errors.New("too many questions are open")
	errTooLarge  = errors.New("the answers to open questions take too much memory")
	errReply     = errors.New("a reply that is nested too deep")
	errUnasked   = errors.New("an answer that nobody waits for")
	errForgotten = errors.New("a question that nobody answers any more")
)

// room is how many questions may be open for one more to be taken from somebody who waits for so long: few who wait for
// an hour must not shut out many who wait for seconds.
func room(patience time.Duration) int {
	switch {
	case patience <= 10*time.Second:
		return maxQuestions
	case patience <= time.Minute:
		return maxQuestions / 2
	}
	return maxQuestions / 4
}

// add notes a question before the node hears of it. patience is how long who asks waits.
func (s *questions) add(by crosscast.NodeID, q question, patience time.Duration, now time.Time) error {
	q.expires = now.Add(patience + extraPatience)
	key := asked{by, q.id}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(s.sweepAt) {
		s.sweep(now)
	}
	switch {
	case s.open[key] != nil:
		return errRepeated
	case len(s.open) >= room(patience):
		return errTooMany
	case s.open == nil:
		s.open = make(map[asked]*question)
	}
	s.open[key] = &q
	return nil
}

// sweep forgets questions that the node has forgotten. The caller holds mu.
func (s *questions) sweep(now time.Time) {
	s.sweepAt = now.Add(sweepInterval)
	for key, q := range s.open {
		if now.After(q.expires) {
			s.drop(key, q)
		}
	}
}

// drop forgets a question. The caller holds mu.
func (s *questions) drop(key asked, q *question) {
	s.bytes -= q.bytes
	delete(s.open, key)
}

// answered takes a part of this node's answer. When there is something to be said, it returns the question, with the
// sockets of all parts, and first for the first part of the answer.
func (s *questions) answered(
	by crosscast.NodeID, ref string, a *crosscast.Answer,
) (q question, first, say bool, err error) {
	key := asked{by, ref}
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.open[key]
	switch {
	case open == nil:
		return q, false, false, errForgotten
	case a.Err != "": // Socket.IO has no word for it
		s.drop(key, open)
		return q, false, false, nil
	}
	for i := range a.Sockets {
		open.bytes += sizeOf(&a.Sockets[i])
		s.bytes += sizeOf(&a.Sockets[i])
	}
	open.sockets = append(open.sockets, a.Sockets...)
	if s.bytes > maxQuestionBytes {
		s.bare(open)
	}
	if s.bytes > maxQuestionBytes {
		s.drop(key, open)
		return q, false, false, errTooLarge
	}
	first = !open.counted
	open.counted = true
	if a.Last {
		s.drop(key, open)
	}
	return *open, first, a.Last || open.kind == broadcast, nil
}

// bare takes the handshakes off what is told so far, which are most of it. The caller holds mu.
func (s *questions) bare(q *question) {
	for i := range q.sockets {
		n := len(q.sockets[i].Handshake)
		q.sockets[i].Handshake = nil
		q.bytes -= n
		s.bytes -= n
	}
	q.bare = true
}

// sizeOf is about the memory that s takes.
func sizeOf(s *crosscast.SocketInfo) int {
	n := 160 + len(s.ID) + len(s.User) + len(s.Data) + len(s.Handshake)
	for _, r := range s.Rooms {
		n += 16 + len(r)
	}
	return n
}
