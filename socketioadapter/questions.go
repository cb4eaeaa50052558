package socketioadapter

import (
	"errors"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
)

// questions are the open queries of peers. A node answers in parts, but Socket.IO expects one message from each server.
// Its methods may be called concurrently.
type questions struct {
	mu      sync.Mutex // guards the fields below
	open    map[asked]*question
	bytes   int       // of the collected answers
	sweepAt time.Time // time of the next sweep
}

// asked is the key of a query: the asking node, and the Ref.
type asked struct {
	by  crosscast.NodeID
	ref string
}

// question is a query that is being answered.
type question struct {
	kind      messageKind
	old       bool
	namespace string
	uid       string // of the asking server; empty: unknown
	id        string
	fields    kind.Fields // wanted parts of sockets
	expires   time.Time

	sockets []crosscast.SocketInfo // collected so far
	bytes   int                    // approximate memory of sockets
	bare    bool                   // some of them were stripped of their handshakes
	counted bool                   // the number of clients was sent
}

const (
	maxQuestions     = 4096
	maxQuestionBytes = 16 << 20         // of all collected answers
	defaultPatience  = 5 * time.Second  // if the query has no timeout
	maxPatience      = time.Hour        // limit of a query's timeout
	extraPatience    = 10 * time.Second // after which the node has given up
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

// room returns the limit of open queries for a query with that timeout. A few queries with a timeout of an hour must
// not shut out many with seconds.
func room(patience time.Duration) int {
	switch {
	case patience <= 10*time.Second:
		return maxQuestions
	case patience <= time.Minute:
		return maxQuestions / 2
	}
	return maxQuestions / 4
}

// add records a query before the node gets it. patience is the query's timeout.
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

// sweep drops queries that the node has given up. The caller holds mu.
func (s *questions) sweep(now time.Time) {
	s.sweepAt = now.Add(sweepInterval)
	for key, q := range s.open {
		if now.After(q.expires) {
			s.drop(key, q)
		}
	}
}

// drop drops a query. The caller holds mu.
func (s *questions) drop(key asked, q *question) {
	s.bytes -= q.bytes
	delete(s.open, key)
}

// answered takes a part of this node's answer. If say is true, an answer must be sent: q has the sockets of all parts,
// and first is true for the first part.
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
	case a.Err != "": // Socket.IO cannot carry errors
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

// bare strips the handshakes off the collected sockets, which take most of the memory. The caller holds mu.
func (s *questions) bare(q *question) {
	for i := range q.sockets {
		n := len(q.sockets[i].Handshake)
		q.sockets[i].Handshake = nil
		q.bytes -= n
		s.bytes -= n
	}
	q.bare = true
}

// sizeOf returns about the memory that s takes.
func sizeOf(s *crosscast.SocketInfo) int {
	n := 160 + len(s.ID) + len(s.User) + len(s.Data) + len(s.Handshake)
	for _, r := range s.Rooms {
		n += 16 + len(r)
	}
	return n
}
