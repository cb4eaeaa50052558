package crosscast

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Queries of the cluster, on the side that sends them. A query goes to every peer, and each answers to this node alone. It is
// complete when each peer that was known at its start has answered, left or expired. Peers are tracked by ID, or by
// number if the adapter knows only that (query_census.go).

const (
	maxQueries     = 4096     // queries under way
	maxAnswerBytes = 16 << 20 // of one query, waiting to be read
	defaultQuery   = 5 * time.Second
	maxPatience    = time.Hour // the longest time for which peers work on one query
)

// queries are a node's queries under way.
type queries struct {
	mu     sync.Mutex        // guards the following fields
	m      map[string]*query // by Ref
	last   uint64
	closed bool
}

// query is one query. It is open until it is read to its end, or its context is done.
type query struct {
	n       *Node
	ref     string // set once, with queries.mu held
	ctx     context.Context
	cancel  context.CancelFunc
	stop    func() bool                   // ends the wait for ctx
	own     func(part func(*Answer) bool) // this node's part, made while it is read; may be nil
	held    atomic.Pointer[space]         // in which the answers are heard, if it has an interest
	expects expectation
	failure error         // nothing was published; the other fields are zero
	wake    chan struct{} // capacity 1
	began   time.Time     // of a ping; zero: it is none
	counted atomic.Bool   // by its outcome

	mu      sync.Mutex     // guards the following fields
	waiting map[NodeID]int // nodes whose answers are missing, with the next part
	failed  map[NodeID]error
	doubted []NodeID // of waiting: suspected at the start
	silent  []SocketID
	queue   []answered
	bytes   int // of queue
}

type answered struct {
	from NodeID
	a    *Answer
	size int
}

// deadline gives ctx the default deadline if it has none.
func deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultQuery)
}

// patience is the time for which the queried nodes may wait for others. It is a little shorter than ctx allows, so that
// their answers still arrive.
func patience(ctx context.Context) time.Duration {
	at, _ := ctx.Deadline()
	left := time.Until(at)
	return min(max(left-min(left/8, 250*time.Millisecond), time.Millisecond), maxPatience)
}

// query begins a query. inst gets a Ref and a TTL, and is published to the peers in to (nil: all), whose answers are
// collected. before, if not nil, is called before the publishing, when the peers already count as queried.
func (n *Node) query(ctx context.Context, inst *Instruction, to []NodeID, before func(q *query)) *query {
	if err := ctx.Err(); err != nil {
		return n.failedQuery(err)
	}
	ctx, cancel := deadline(ctx)
	q := &query{
		n: n, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1),
		expects: n.expects(inst, to), waiting: make(map[NodeID]int), failed: make(map[NodeID]error),
	}
	if n.interests.all() {
		q.held.Store(n.namespace(inst.Namespace).hold())
	}
	q.stop = context.AfterFunc(ctx, q.forget)
	if err := n.queries.open(q); err != nil {
		q.release()
		return n.failedQuery(err)
	}
	if ctx.Err() != nil { // forget might have come before add
		q.forget()
	}
	to, err := q.expects.begin(q, inst, to)
	if err != nil {
		q.release()
		return n.failedQuery(err)
	}
	if before != nil {
		before(q)
	}
	inst.From, inst.Ref, inst.TTL = n.id, q.ref, patience(ctx)
	q.publish(inst, to)
	return q
}

// publish queries the peers in to (nil: all), after the answers can be heard.
func (q *query) publish(inst *Instruction, to []NodeID) {
	if to != nil && len(to) == 0 {
		return
	}
	if ns := q.held.Load(); ns != nil {
		if err := q.n.interests.confirm(q.ctx, ns.all.wait(nil), false); err != nil {
			q.failPeers(err)
			return
		}
	}
	if err := q.expects.ready(q); err != nil {
		q.failPeers(err)
		return
	}
	if to == nil {
		if err := q.n.publish(q.ctx, inst); err != nil {
			q.failPeers(err)
		}
		return
	}
	for _, id := range to {
		one := *inst
		one.To = id
		if err := q.n.publish(q.ctx, &one); err != nil {
			q.mu.Lock()
			if _, waiting := q.waiting[id]; waiting {
				q.failLocked(id, err)
			}
			q.mu.Unlock()
		}
	}
}

func (s *queries) open(q *query) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case len(s.m) >= maxQueries:
		return ErrBusy
	case s.m == nil:
		s.m = make(map[string]*query)
	}
	s.last++
	q.ref = strconv.FormatUint(s.last, 36)
	s.m[q.ref] = q
	return nil
}

func (s *queries) all() []*query {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*query, 0, len(s.m))
	for _, q := range s.m {
		all = append(all, q)
	}
	return all
}

// close ends all queries with ErrClosed. No query begins after it.
func (s *queries) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, q := range s.all() {
		q.giveUp(ErrClosed)
		q.end()
	}
}

// forget takes the query off the list. Later answers are ignored.
func (q *query) forget() {
	s := &q.n.queries
	s.mu.Lock()
	delete(s.m, q.ref)
	s.mu.Unlock()
	if ns := q.held.Swap(nil); ns != nil {
		ns.release()
	}
}

// end ends a query that was published.
func (q *query) end() {
	q.count()
	q.release()
}

func (q *query) release() {
	q.stop()
	q.forget()
	q.cancel()
}

func (q *query) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// giveUp fails all nodes that have not answered.
func (q *query) giveUp(err error) {
	q.mu.Lock()
	for id := range q.waiting {
		q.failLocked(id, err)
	}
	q.expects.giveUpLocked(err)
	q.mu.Unlock()
	q.signal()
}

// failPeers fails the peers, because they could not be queried. This node's own part goes on.
func (q *query) failPeers(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range q.waiting {
		if id != q.n.id {
			q.failLocked(id, err)
		}
	}
	q.expects.failLocked(q, err)
}

// failLocked gives up a node.
func (q *query) failLocked(id NodeID, err error) {
	delete(q.waiting, id)
	q.failed[id] = err
}

// enqueueLocked queues a part of the result, and returns whether there was room.
func (q *query) enqueueLocked(from NodeID, a *Answer) bool {
	size := answerSize(a)
	if q.bytes+size > maxAnswerBytes && len(q.queue) > 0 {
		return false
	}
	for i := range a.Replies {
		if a.Replies[i].Silent {
			q.silent = append(q.silent, a.Replies[i].Socket)
		}
	}
	q.queue = append(q.queue, answered{from, a, size})
	q.bytes += size
	return true
}

var (
	errSuspect     = errors.New("it has missed heartbeats, and does not answer")
	errUnknownNode = errors.New("not known")
	errMissedPart  = errors.New("a part of the answer was missed")
	errTooMuch     = fmt.Errorf("more than %d bytes of answers waited to be read", maxAnswerBytes)
)

// awaits reports whether a query is open.
func (s *queries) awaits(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[ref] != nil
}

// handleAnswer handles an answer, and reports whether anybody waited for it.
func (s *queries) handleAnswer(inst *Instruction) bool {
	s.mu.Lock()
	q := s.m[inst.Ref]
	s.mu.Unlock()
	if q == nil || inst.Answer == nil {
		return false
	}
	a := inst.Answer
	invalid := !a.valid()
	if invalid {
		a = &Answer{Part: a.Part, Last: true, Err: "its answer is not valid JSON in UTF-8"}
	}
	awaited := q.expects.handle(q, inst.From, a)
	if awaited && invalid { // otherwise it counts as one that nobody waits for
		q.n.stats.drop(dropInvalid)
	}
	return awaited
}

// handleAnswer handles an answer of a node that is known by ID, and reports whether it was waited for.
func (q *query) handleAnswer(from NodeID, a *Answer) bool {
	q.mu.Lock()
	defer q.signal()
	defer q.mu.Unlock()
	if _, waiting := q.waiting[from]; waiting && !q.began.IsZero() {
		q.n.handlePong(from, q.began)
	}
	next, ok := q.waiting[from]
	switch {
	case !ok || a.Part < next: // unknown, or repeated
		return false
	case a.Part > next:
		q.failLocked(from, errMissedPart)
	case !q.enqueueLocked(from, a):
		q.failLocked(from, errTooMuch)
	case a.Err != "":
		q.failLocked(from, &RemoteError{from, a.Err})
	case a.Last:
		delete(q.waiting, from)
	default:
		q.waiting[from]++
	}
	return true
}

// handlePeerGone removes a peer that left or expired from every query.
func (s *queries) handlePeerGone(id NodeID) {
	for _, q := range s.all() {
		q.mu.Lock()
		delete(q.waiting, id)
		q.mu.Unlock()
		q.signal()
	}
}
