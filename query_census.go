package crosscast

import (
	"context"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/kind"
)

// Queries with a [ForeignAdapter]: the node knows only the number of peers that will answer, and an answer may come
// without the ID of its node. So answers are counted, and repeated ones are detected by the sockets in them.

const (
	maxClients = 1 << 30  // the most clients whose replies are waited for
	maxSilent  = 1024     // missing replies that are listed
	maxSeen    = 64 << 20 // bytes, about, of the socket IDs that one query remembers
	seenSize   = 48       // memory of one beside its text
)

// A census is the tally of one query's answers, and the expectation of as many as there are peers. It is guarded by the
// query's mutex.
type census struct {
	silence  error // reported if no peer answers; nil: that is no error
	self     NodeID
	inst     *Instruction // the query
	expected int          // number of answers: one of each peer
	answered int          // of these
	clients  int          // that got an emission and should reply, by the answers so far
	replied  int          // of these

	failed []error // errors of peers without an ID: their own, or the reason why they did not answer
	silent int     // replies that did not come

	from    map[NodeID]struct{}   // nodes that answered with an ID
	sockets map[SocketID]struct{} // that were in answers
	bytes   int                   // of sockets
}

func newCensus(self NodeID, inst *Instruction, silence error) *census {
	return &census{
		silence: silence, self: self, inst: inst, from: make(map[NodeID]struct{}), sockets: make(map[SocketID]struct{}),
	}
}

// begin makes every node get the query.
func (c *census) begin(*query, *Instruction, []NodeID) ([]NodeID, error) { return nil, nil }

// completeLocked reports whether everything has come.
func (c *census) completeLocked() bool { return c.answered >= c.expected && c.replied >= c.clients }

// countAnswer counts an answer, and returns its new part; nil: it is repeated, or nobody waits for it.
func (c *census) countAnswer(from NodeID, a *Answer) *Answer {
	reply := c.inst.Kind == kind.Emit && !a.Last
	_, again := c.from[from]
	if reply && c.completeLocked() || !reply && (!a.Last || again || c.answered >= c.expected) {
		return nil
	}
	sockets := fresh(c, a.Sockets, func(s *SocketInfo) SocketID { return s.ID })
	replies := fresh(c, a.Replies, func(r *Reply) SocketID { return r.Socket })
	if reply && len(replies) == 0 || from == "" && len(a.Sockets) > 0 && len(sockets) == 0 {
		return nil
	}
	c.replied += len(replies)
	if a.Last {
		c.answered++
		if c.inst.Kind == kind.Emit {
			c.clients = min(c.clients+min(max(a.Count, 0), maxClients), maxClients)
		}
		if from != "" {
			c.from[from] = struct{}{}
		}
	}
	part := *a
	part.Replies = replies
	if len(a.Sockets) > 0 {
		c.reduce(&part, sockets)
	}
	return &part
}

// fresh returns the items whose sockets are new to c and not this node's, and those without a socket.
func fresh[T any](c *census, items []T, socket func(*T) SocketID) []T {
	var kept []T
	for i := range items {
		id := socket(&items[i])
		if _, seen := c.sockets[id]; seen || id.Node() == c.self {
			continue
		}
		if id != "" {
			c.sockets[id] = struct{}{}
			c.bytes += seenSize + len(id)
		}
		kept = append(kept, items[i])
	}
	return kept
}

// reduce replaces the sockets in an answer by the queried data.
func (c *census) reduce(a *Answer, sockets []SocketInfo) {
	a.Sockets = nil
	switch q := c.inst.Question; {
	case c.inst.Kind == kind.Emit || c.inst.Kind == kind.Request: // not about sockets
	case q == nil: // a command
		a.Count = len(sockets)
	case q.Kind == kind.AskSockets:
		a.Sockets = sockets
	case q.Kind == kind.AskRooms:
		for room, n := range roomsOf(sockets, func(s SocketInfo) []string { return s.Rooms }) {
			a.Rooms = append(a.Rooms, RoomCount{room, n})
		}
	case q.Kind == kind.AskCount:
		a.Count = len(sockets)
		if q.Fields&kind.FieldUser != 0 {
			for user := range usersOf(sockets, func(s SocketInfo) string { return s.User }) {
				a.Users = append(a.Users, userHash(q.Salt, user))
			}
		}
	}
}

// giveUpLocked fails the peers that have not answered, and counts the missing replies.
func (c *census) giveUpLocked(err error) {
	for ; c.answered < c.expected; c.answered++ {
		c.failed = append(c.failed, errtext.Errorf("a peer did not answer: %w", err))
	}
	if missing := c.clients - c.replied; missing > 0 {
		c.silent = min(missing, maxSilent)
		c.clients = c.replied
	}
}

// failLocked gives up the peers, because they could not be asked.
func (c *census) failLocked(q *query, err error) {
	c.expected = 0
	q.failed[""] = err
}

// reportLocked adds the missing answers and replies to e, under empty IDs.
func (c *census) reportLocked(q *query, e *IncompleteError) {
	for _, err := range c.failed {
		e.Missing = append(e.Missing, MissingNode{Err: err})
	}
	e.Silent = append(e.Silent, make([]SocketID, c.silent)...)
	if c.silence != nil && c.answered == 0 && len(q.failed)+len(e.Missing) == 0 {
		e.Missing = append(e.Missing, MissingNode{Err: c.silence})
	}
}

// handle handles an answer, and reports whether anybody waited for it.
func (c *census) handle(q *query, from NodeID, a *Answer) bool {
	q.mu.Lock()
	defer q.signal()
	defer q.mu.Unlock()
	part := c.countAnswer(from, a)
	switch {
	case part == nil:
		return false
	case !q.enqueueLocked(from, part):
		q.failed[""] = errTooMuch
	case a.Err != "" && from == "":
		c.failed = append(c.failed, &RemoteError{Text: a.Err})
	case a.Err != "":
		q.failed[from] = &RemoteError{from, a.Err}
	}
	if c.bytes > maxSeen {
		c.giveUpLocked(errTooMuch)
	}
	return true
}

// ready fetches the number of peers that will answer.
func (c *census) ready(q *query) error { return c.count(q, q.ctx, false) }

// count fetches the number of peers that will answer. again is set after the first call.
func (c *census) count(q *query, ctx context.Context, again bool) error {
	inst := *c.inst
	inst.Payload = Payload{} // it belongs to the application again, and must not be kept
	n, err := q.n.foreign.CountPeers(ctx, &inst, again)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n = min(max(n, 0), maxPeers); !again || n < c.expected {
		c.expected = n
	}
	return nil
}

// beat checks whether the peers that have not answered are still there. If that cannot be found out, they count as
// present.
func (c *census) beat(q *query) {
	q.mu.Lock()
	all := c.answered >= c.expected
	q.mu.Unlock()
	if all {
		return
	}
	ctx, cancel := context.WithTimeout(q.ctx, q.n.heartbeat)
	defer cancel()
	if err := c.count(q, ctx, true); err != nil {
		q.n.log.Debug("crosscast: could not count the peers again", "error", err)
	}
}
