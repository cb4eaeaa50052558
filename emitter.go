package crosscast

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Emitters: nodes with Options.EmitOnly. An emitter says no hello and has no heartbeat, so it is nobody's peer, and it
// is told nothing. What needs more than a Publish is a question, and only because of whom to expect answers of. Nodes
// know that of each other's heartbeats, so one of them is asked; which one does not matter, and those who are silent at
// the moment are among those whom it knows.

// A lookout is how an emitter learns of the nodes.
type lookout struct {
	turn   chan struct{} // capacity 1: one looks at a time, and guards what follows
	looked time.Time     // when somebody did, and found a node
}

func newLookout() *lookout { return &lookout{turn: make(chan struct{}, 1)} }

var errNobody = errors.New("no node said that it is there")

// look brings the table of peers up to date for the question q, unless that was done less than a heartbeat ago: then it
// is about as fresh as those of other nodes. When nobody answers, q has failed in part.
func (l *lookout) look(q *ask) error {
	n := q.n
	if n.foreign != nil { // who is there is not known, but how many
		return l.listen(q)
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-q.ctx.Done():
		return n.ended(q.ctx)
	}
	began := time.Now()
	if !l.looked.IsZero() && began.Sub(l.looked) < n.heartbeat {
		return nil
	}
	if err := l.listen(q); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.ctx, n.heartbeat)
	defer cancel()
	ids, err := n.findNodes(ctx)
	switch {
	case q.ctx.Err() != nil:
		return n.ended(q.ctx)
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

// listen has the adapter hear the answers to q.
func (l *lookout) listen(q *ask) error {
	if a, ok := q.n.adapter.(AdapterSubscriber); ok {
		return a.Listen(q.ctx)
	}
	return nil
}

// ended says why a context of a question has ended.
func (n *Node) ended(ctx context.Context) error {
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	return ctx.Err()
}

// findNodes asks who is there, and the first one that answers for all that it knows.
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

// askNodes asks the question AskNodes of everyone (to is empty) or of one node, and returns the first answer. When the
// bus has nobody to give it to, or nobody answered before ctx ended, the error is errNobody.
func (n *Node) askNodes(ctx context.Context, to NodeID) (NodeID, *Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	first := make(chan answered, 1)
	q := &ask{n: n, ctx: ctx, cancel: cancel, stop: func() bool { return true }}
	q.anyone = func(from NodeID, a *Answer) bool {
		if to != "" && from != to {
			return false
		}
		select {
		case first <- answered{from: from, a: a}:
		default: // the others say the same
		}
		return true
	}
	defer q.end()
	if err := n.asks.add(q); err != nil {
		return "", nil, err
	}
	in := &Instruction{
		Kind: KindAsk, Namespace: "/", From: n.id, To: to, Target: Target{Everyone: to == ""},
		Ref: q.ref, TTL: patience(ctx), Question: &Question{Kind: AskNodes},
	}
	reach, err := n.deliverRemote(ctx, in)
	if err != nil {
		return "", nil, err
	}
	n.stats.out.Add(1)
	if reach.Known && reach.Nodes == 0 {
		return "", nil, errNobody
	}
	select {
	case v := <-first:
		return v.from, v.a, nil
	case <-ctx.Done():
		return "", nil, errNobody
	}
}

// known answers the question AskNodes.
func (n *Node) known(in *Instruction) *Answer {
	a := &Answer{Last: true}
	if in.To == "" {
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

// become makes the peers those with ids, who told somebody else that they are there.
func (p *peers) become(ids []NodeID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.m {
		if !slices.Contains(ids, id) {
			delete(p.m, id)
			p.tell(NodeExpired, v)
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
