package crosscast

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/crosscast/crosscast/kind"
)

// Emitters: nodes with Options.EmitOnly. An emitter sends no hello and no heartbeat, so it is nobody's peer, and gets
// no messages unasked. For a query it needs to know which nodes will answer. Nodes know each other by their heartbeats,
// so it fetches the list from one of them. Any node will do, and its list includes nodes that are silent at the moment.

// A lookout fetches the list of nodes for an emitter.
type lookout struct {
	turn   chan struct{} // capacity 1: one goroutine looks at a time; guards looked
	looked time.Time     // the time of the last look that found a node
}

func newLookout() *lookout { return &lookout{turn: make(chan struct{}, 1)} }

var errNobody = errors.New("no node said that it is there")

// look updates the table of peers for the query q, unless the last update is less than a heartbeat old: then the table
// is about as fresh as those of other nodes. If no node answers, q has failed in part.
func (l *lookout) look(q *ask) error {
	n := q.n
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-q.ctx.Done():
		return n.whyEnded(q.ctx)
	}
	began := time.Now()
	if !l.looked.IsZero() && began.Sub(l.looked) < n.heartbeat {
		return nil
	}
	if err := q.listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.ctx, n.heartbeat)
	defer cancel()
	ids, err := n.findNodes(ctx)
	switch {
	case q.ctx.Err() != nil:
		return n.whyEnded(q.ctx)
	case errors.Is(err, errNobody):
		q.mu.Lock()
		q.failed[""] = err
		q.mu.Unlock()
	case err != nil:
		return err
	default:
		l.looked = began
	}
	n.peers.become(ids, began)
	return nil
}

// listen makes the adapter hear the answers to q.
func (q *ask) listen() error {
	if a, ok := q.n.adapter.(AdapterSubscriber); ok {
		return a.Listen(q.ctx)
	}
	return nil
}

// foundPeers is the expectation of an emitter: it first finds the peers.
type foundPeers struct{ knownPeers }

func (e foundPeers) begin(q *ask, inst *Instruction, to []NodeID) ([]NodeID, error) {
	if to == nil || len(to) > 0 {
		if err := q.n.lookout.look(q); err != nil {
			return nil, err
		}
	}
	return e.knownPeers.begin(q, inst, to)
}

// heard is the expectation of an emitter whose adapter is a [ForeignAdapter]: it first makes sure that it hears the
// answers.
type heard struct{ expectation }

func (e heard) begin(q *ask, inst *Instruction, to []NodeID) ([]NodeID, error) {
	if to == nil || len(to) > 0 {
		if err := q.listen(); err != nil {
			return nil, err
		}
	}
	return e.expectation.begin(q, inst, to)
}

// firstAnswer expects one answer of anybody, or of one node.
type firstAnswer struct {
	knownPeers
	of   NodeID // empty: anybody
	came chan answered
}

func (e firstAnswer) handle(_ *ask, from NodeID, a *Answer) bool {
	if e.of != "" && from != e.of {
		return false
	}
	select {
	case e.came <- answered{from: from, a: a}:
	default: // the first answer is enough
	}
	return true
}

// whyEnded returns the reason why a context of a query has ended.
func (n *Node) whyEnded(ctx context.Context) error {
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	return ctx.Err()
}

// findNodes asks everyone for a sign of life, and the first node that answers for its peers.
func (n *Node) findNodes(ctx context.Context) ([]NodeID, error) {
	first, _, err := n.askNodes(ctx, "")
	if err != nil {
		return nil, err
	}
	_, a, err := n.askNodes(ctx, first)
	if err != nil {
		return nil, err
	}
	ids := []NodeID{first}
	for b := a.Payload.Data; len(b) >= nodeIDLen && len(ids) < maxPeers; b = b[nodeIDLen:] {
		ids = append(ids, NodeID(b[:nodeIDLen]))
	}
	return ids, nil
}

// askNodes sends the query kind.AskNodes to everyone (to is empty) or to one node, and returns the first answer. If the
// bus has no receiver for it, or nobody answers before ctx ends, the error is errNobody.
func (n *Node) askNodes(ctx context.Context, to NodeID) (NodeID, *Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	first := firstAnswer{of: to, came: make(chan answered, 1)}
	q := &ask{n: n, ctx: ctx, cancel: cancel, expects: first, stop: func() bool { return true }}
	defer q.end()
	if err := n.asks.open(q); err != nil {
		return "", nil, err
	}
	inst := &Instruction{
		Kind: kind.Ask, Namespace: "/", From: n.id, To: to, Target: Target{Everyone: to == ""},
		Ref: q.ref, TTL: patience(ctx), Question: &Question{Kind: kind.AskNodes},
	}
	reach, err := n.deliverRemote(ctx, inst)
	if err != nil {
		return "", nil, err
	}
	n.stats.out.Add(1)
	if reach.Known && reach.Nodes == 0 {
		return "", nil, errNobody
	}
	select {
	case v := <-first.came:
		return v.from, v.a, nil
	case <-ctx.Done():
		return "", nil, errNobody
	}
}

// knownNodes answers the query kind.AskNodes.
func (n *Node) knownNodes(inst *Instruction) *Answer {
	a := &Answer{Last: true}
	if inst.To == "" {
		return a
	}
	n.peers.with(func(known map[NodeID]*peer) {
		for id := range known {
			if len(id) == nodeIDLen {
				a.Payload.Data = append(a.Payload.Data, id...)
			}
		}
	})
	a.Payload.Encoding = EncodingBinary
	return a
}

// become makes ids the known peers, as another node has reported them.
func (p *peers) become(ids []NodeID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.m {
		if !slices.Contains(ids, id) {
			delete(p.m, id)
			p.tellLocked(NodeExpired, v)
		}
	}
	if p.m == nil {
		p.m = make(map[NodeID]*peer)
	}
	for _, id := range ids {
		if p.m[id] == nil {
			p.m[id] = &peer{Peer: Peer{NodeInfo: NodeInfo{ID: id}, Since: now}, heard: now, last: now}
		}
	}
}
