package crosscast

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Questions to the cluster. What is asked goes to every peer, and each answers to this node alone. A question is complete when
// every peer that was known when it was asked has answered, or left, or expired: they are tracked by ID, never by a number.

const (
	maxAsks        = 4096     // questions under way
	maxAnswerBytes = 16 << 20 // of one question, waiting to be read
	defaultAsk     = 5 * time.Second
)

// An IncompleteError says whose answers are missing from a result, which is right as far as it goes.
type IncompleteError struct {
	// Nodes did not answer, or not to the end.
	Nodes []NodeID
	// Silent are the sockets that did not reply to an acknowledged emission, where their nodes told.
	Silent []SocketID
	// Err says why: the context's error, the adapter's, or what the first node had to say.
	Err error
}

func (e *IncompleteError) Error() string {
	var missing []string
	if len(e.Nodes) > 0 {
		ids := make([]string, len(e.Nodes))
		for i, id := range e.Nodes {
			ids[i] = string(id)
		}
		missing = append(missing, fmt.Sprintf("%d nodes (%s)", len(ids), strings.Join(ids, ", ")))
	}
	if len(e.Silent) > 0 {
		missing = append(missing, fmt.Sprintf("%d sockets", len(e.Silent)))
	}
	return fmt.Sprintf("crosscast: no answer of %s: %v", strings.Join(missing, " and "), e.Err)
}

// Unwrap makes errors.Is see why.
func (e *IncompleteError) Unwrap() error { return e.Err }

// Answers is a result that arrives from many nodes. It is read once, by one goroutine: first All, then Err. A result that nobody
// reads costs memory until its deadline.
type Answers[T any] struct {
	q    *ask
	each func(from NodeID, a *Answer) []T
}

// All yields what is answered, as it arrives: this node's own part first. It ends when the result is complete or the deadline has
// passed; Err tells which. Breaking off ends the question.
func (a *Answers[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		defer a.q.end()
		for {
			from, part, ok := a.q.next()
			if !ok {
				return
			}
			for _, v := range a.each(from, part) {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// Err returns, after All, an [*IncompleteError] if something is missing, another error if nothing was asked, or nil.
func (a *Answers[T]) Err() error { return a.q.err() }

// asks are a node's questions under way.
type asks struct {
	mu   sync.Mutex // guards what follows; locked after peers.mu
	open map[string]*ask
	last uint64
}

// ask is one question. It ends when it is complete, read to its end, or its context is done.
type ask struct {
	n      *Node
	ref    string
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1

	mu      sync.Mutex     // guards what follows; locked after asks.mu
	failure error          // nothing was asked
	waiting map[NodeID]int // whose answers are missing: the next part
	failed  []NodeID       // who failed to answer
	silent  []SocketID
	cause   error // of the first of failed
	queue   []answered
	bytes   int
	late    error // the context's error, when the reader met it
}

type answered struct {
	from NodeID
	a    *Answer
	size int
}

// deadline gives ctx the default deadline unless it has one.
func deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultAsk)
}

// failedAsk is a question that could not be asked.
func (n *Node) failedAsk(err error) *ask {
	ctx, cancel := context.WithCancel(context.Background())
	return &ask{n: n, ctx: ctx, cancel: cancel, failure: err}
}

// ask sends in, which gets a Ref and a TTL, to the peers in to (nil: all), and collects their answers. own adds this node's part of the
// result before; it may be nil, and so may in, when only this node is asked.
func (n *Node) ask(ctx context.Context, in *Instruction, own func(q *ask), to []NodeID) *ask {
	if n.state.Load() == nodeClosed {
		return n.failedAsk(ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return n.failedAsk(err)
	}
	ctx, cancel := deadline(ctx)
	q := &ask{n: n, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1), waiting: map[NodeID]int{}}
	if err := n.asks.add(q); err != nil {
		cancel()
		return n.failedAsk(err)
	}
	context.AfterFunc(ctx, q.end)
	remote := n.adapter != nil && in != nil
	if remote {
		n.peers.with(func(ids []NodeID) {
			q.mu.Lock()
			defer q.mu.Unlock()
			for _, id := range ids {
				if to == nil || slices.Contains(to, id) {
					q.waiting[id] = 0
				}
			}
		})
	}
	if own != nil {
		own(q)
	}
	if !remote {
		return q
	}
	in.From, in.Ref, in.TTL = n.id, q.ref, patience(ctx)
	if to == nil {
		if err := n.publish(ctx, in); err != nil {
			q.unsent(err)
		}
		return q
	}
	for _, id := range to {
		one := *in
		one.To = id
		if err := n.publish(ctx, &one); err != nil {
			q.unsent(err)
			break
		}
	}
	return q
}

// patience is how long those who are asked may wait for others: so much less than ctx allows that what they know by then still arrives.
func patience(ctx context.Context) time.Duration {
	at, _ := ctx.Deadline()
	left := time.Until(at)
	return max(left-min(left/8, 250*time.Millisecond), time.Millisecond)
}

func (s *asks) add(q *ask) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxAsks {
		return ErrBusy
	}
	if s.open == nil {
		s.open = make(map[string]*ask)
	}
	s.last++
	q.ref = strconv.FormatUint(s.last, 36)
	s.open[q.ref] = q
	return nil
}

// end forgets the question; later answers are ignored.
func (q *ask) end() {
	s := &q.n.asks
	s.mu.Lock()
	delete(s.open, q.ref)
	s.mu.Unlock()
	q.cancel()
	q.signal()
}

func (q *ask) signal() {
	if q.wake == nil {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// unsent notes that no peer was asked.
func (q *ask) unsent(err error) {
	q.mu.Lock()
	for id := range q.waiting {
		q.fail(id, err)
	}
	q.mu.Unlock()
	q.signal()
}

// fail gives up a node; q.mu is held.
func (q *ask) fail(id NodeID, err error) {
	delete(q.waiting, id)
	q.failed = append(q.failed, id)
	if q.cause == nil {
		q.cause = err
	}
}

// push adds a part of the result.
func (q *ask) push(from NodeID, a *Answer) {
	q.mu.Lock()
	q.add(from, a)
	q.mu.Unlock()
	q.signal()
}

// add queues a part, and reports whether there was room; q.mu is held.
func (q *ask) add(from NodeID, a *Answer) bool {
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

// answerSize is about the memory that an answer takes.
func answerSize(a *Answer) int {
	n := 256 + 8*len(a.Users) + len(a.Payload.Data)
	for i := range a.Sockets {
		s := &a.Sockets[i]
		n += 100 + len(s.User) + len(s.Data)
		for _, r := range s.Rooms {
			n += 16 + len(r)
		}
	}
	for i := range a.Rooms {
		n += 24 + len(a.Rooms[i].Room)
	}
	for i := range a.Replies {
		n += 80 + len(a.Replies[i].Payload.Data)
	}
	return n
}

var (
	errMissedPart = errors.New("a part of the answer was missed")
	errTooMuch    = fmt.Errorf("more than %d bytes of answers waited to be read", maxAnswerBytes)
)

// answer acts on an answer of a peer, and reports whether anybody waited for it.
func (s *asks) answer(in *Instruction) bool {
	s.mu.Lock()
	q := s.open[in.Ref]
	s.mu.Unlock()
	if q == nil || in.Answer == nil {
		return false
	}
	q.mu.Lock()
	defer q.signal()
	defer q.mu.Unlock()
	next, ok := q.waiting[in.From]
	a := in.Answer
	switch {
	case !ok || a.Part < next: // unknown, or repeated
		return false
	case a.Part > next:
		q.fail(in.From, errMissedPart)
	case !q.add(in.From, a):
		q.fail(in.From, errTooMuch)
	case a.Err != "":
		q.fail(in.From, errors.New(a.Err))
	case a.Last:
		delete(q.waiting, in.From)
	default:
		q.waiting[in.From]++
	}
	return true
}

// gone takes a peer that left or expired out of every question.
func (s *asks) gone(id NodeID) {
	s.mu.Lock()
	all := make([]*ask, 0, len(s.open))
	for _, q := range s.open {
		all = append(all, q)
	}
	s.mu.Unlock()
	for _, q := range all {
		q.mu.Lock()
		_, ok := q.waiting[id]
		delete(q.waiting, id)
		q.mu.Unlock()
		if ok {
			q.signal()
		}
	}
}

// next returns the next part of the result. It is called by the reader only.
func (q *ask) next() (from NodeID, a *Answer, ok bool) {
	for {
		q.mu.Lock()
		if q.failure != nil {
			q.mu.Unlock()
			return "", nil, false
		}
		if len(q.queue) > 0 {
			v := q.queue[0]
			q.queue[0] = answered{}
			q.queue = q.queue[1:]
			q.bytes -= v.size
			q.mu.Unlock()
			return v.from, v.a, true
		}
		if len(q.waiting) == 0 {
			q.mu.Unlock()
			return "", nil, false
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-q.ctx.Done():
			q.mu.Lock()
			if len(q.queue) == 0 {
				q.late = q.ctx.Err()
				q.mu.Unlock()
				return "", nil, false
			}
			q.mu.Unlock()
		}
	}
}

func (q *ask) err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failure != nil {
		return q.failure
	}
	e := &IncompleteError{Nodes: slices.Clone(q.failed), Silent: slices.Clone(q.silent), Err: q.cause}
	if q.late != nil {
		for id := range q.waiting {
			e.Nodes = append(e.Nodes, id)
		}
		if e.Err == nil {
			e.Err = q.late
		}
	}
	if len(e.Silent) > 0 && e.Err == nil {
		e.Err = context.DeadlineExceeded
	}
	if len(e.Nodes) == 0 && len(e.Silent) == 0 {
		return nil
	}
	slices.Sort(e.Nodes)
	return e
}

// An answerer sends the parts of this node's answer to one question.
type answerer struct {
	n    *Node
	to   NodeID
	ref  string
	part int
}

// send publishes one part.
func (r *answerer) send(ctx context.Context, a *Answer) error {
	a.Part = r.part
	r.part++
	return r.n.publish(ctx, &Instruction{Kind: KindAnswer, Namespace: "/", From: r.n.id, To: r.to, Ref: r.ref, Answer: a})
}

// maxAnswering is how many instructions of peers a node works on at a time, beside delivering.
const maxAnswering = 256

// work runs f, on a goroutine of its own, for an instruction that asks for an answer. f gets a context that ends with the asker's
// patience or this node. When too much is under way, the asker is told.
func (n *Node) work(in *Instruction, f func(ctx context.Context, r *answerer)) {
	r := &answerer{n: n, to: in.From, ref: in.Ref}
	ttl := in.TTL
	if ttl <= 0 {
		ttl = defaultAsk
	}
	select {
	case n.working <- struct{}{}:
	default:
		n.stats.busy.Add(1)
		n.tryAnswer(r, &Answer{Last: true, Err: "too busy"})
		return
	}
	n.workers.Add(1)
	n.busy.begin()
	go func() {
		defer n.workers.Done()
		defer n.busy.end(1)
		defer func() { <-n.working }()
		ctx, cancel := context.WithTimeout(n.ctx, ttl)
		defer cancel()
		f(ctx, r)
	}()
}

// tryAnswer sends an answer without ever waiting, as a handler of instructions must.
func (n *Node) tryAnswer(r *answerer, a *Answer) {
	if r.ref == "" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.send(ctx, a); err != nil {
		n.log.Debug("crosscast: could not answer", "to", r.to, "error", err)
	}
}
