package crosscast

import (
	"context"
	"errors"
	"slices"
	"sync"
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
func (l *lookout) look(q *query) error {
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
	found, err := n.findNodes(ctx)
	switch {
	case q.ctx.Err() != nil, n.state.Load() == nodeClosed: // Close ends queries one by one, and might not have reached q
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
	n.peers.become(found, began)
	return nil
}

// listen makes the adapter hear the answers to q.
func (q *query) listen() error {
	if a, ok := q.n.adapter.(AdapterSubscriber); ok {
		return a.Listen(q.ctx)
	}
	return nil
}

// foundPeers is the expectation of an emitter: it first finds the peers.
type foundPeers struct{ knownPeers }

func (e foundPeers) begin(q *query, inst *Instruction, to []NodeID) ([]NodeID, error) {
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

func (e heard) begin(q *query, inst *Instruction, to []NodeID) ([]NodeID, error) {
	if to == nil || len(to) > 0 {
		if err := q.listen(); err != nil {
			return nil, err
		}
	}
	return e.expectation.begin(q, inst, to)
}

// nodeAnswer expects the answer of anybody, or of one node, until read reports that it is complete.
type nodeAnswer struct {
	knownPeers
	of       NodeID // empty: anybody
	complete chan struct{}

	mu   sync.Mutex // guards the following fields
	over bool
	read func(NodeID, *Answer) (complete bool)
}

func (e *nodeAnswer) handle(_ *query, from NodeID, a *Answer) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over || e.of != "" && from != e.of {
		return false
	}
	if e.over = e.read(from, a); e.over {
		close(e.complete)
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

// findNodes queries everyone for a sign of life, and the first node that answers for its peers.
func (n *Node) findNodes(ctx context.Context) ([]Peer, error) {
	var first NodeID
	if err := n.askNodes(ctx, "", func(from NodeID, _ *Answer) (complete bool) {
		first = from
		return true
	}); err != nil {
		return nil, err
	}
	found := foundNodes{from: first}
	if err := n.askNodes(ctx, first, found.add); err != nil {
		return nil, err
	}
	return found.peers, nil
}

// foundNodes are the nodes in the parts of an answer.
type foundNodes struct {
	from  NodeID // the answering node
	part  int    // the next one
	peers []Peer // at most maxPeers
}

// add takes a part, and reports whether it was the last one. Parts that others send, or after a missing part, do not
// count: then there is no last one.
func (f *foundNodes) add(from NodeID, a *Answer) (complete bool) {
	if from != f.from || a.Part != f.part {
		return false
	}
	f.part++
	var r InstructionReader
	for beats := a.Payload.Data; len(beats) > 0 && len(f.peers) < maxPeers; {
		inst, rest, ok := readBeat(&r, beats)
		if !ok {
			break
		}
		f.peers = append(f.peers, Peer{NodeInfo: inst.sender().bounded(), Meta: slices.Clone(inst.Meta)})
		beats = rest
	}
	if a.Last && !slices.ContainsFunc(f.peers, func(p Peer) bool { return p.ID == from }) {
		f.peers = append(f.peers, Peer{NodeInfo: NodeInfo{ID: from}})
	}
	return a.Last
}

// appendBeat appends the ID of p, and the bytes of a heartbeat of p.
func appendBeat(dst []byte, p *Peer) []byte {
	beat, err := AppendInstruction(append(dst, p.ID...), &Instruction{
		Kind: kind.Heartbeat, Namespace: "/", Target: Target{Everyone: true}, Node: p.NodeInfo, Meta: p.Meta,
	})
	if err != nil || len(p.ID) != nodeIDLen { // an adapter that does not check them has made it
		return dst
	}
	return beat
}

// readBeat reads what appendBeat has appended, and returns the rest.
func readBeat(r *InstructionReader, data []byte) (inst *Instruction, rest []byte, ok bool) {
	if len(data) < nodeIDLen {
		return nil, nil, false
	}
	inst, rest, err := r.Read(data[nodeIDLen:])
	if err != nil || inst.Kind != kind.Heartbeat {
		return nil, nil, false
	}
	inst.From = NodeID(data[:nodeIDLen])
	return inst, rest, true
}

// askNodes sends the query AskNodes to everyone (to is empty) or to one node, and calls answer with the answers, one at
// a time, until it returns true. If the bus has no receiver for the query, or ctx ends first, the error is errNobody.
func (n *Node) askNodes(ctx context.Context, to NodeID, answer func(NodeID, *Answer) (complete bool)) error {
	ctx, cancel := context.WithCancel(ctx)
	e := &nodeAnswer{of: to, read: answer, complete: make(chan struct{})}
	q := &query{n: n, ctx: ctx, cancel: cancel, expects: e, stop: func() bool { return true }}
	defer q.end()
	if err := n.queries.open(q); err != nil {
		return err
	}
	inst := &Instruction{
		Kind: kind.Ask, Namespace: "/", From: n.id, To: to, Target: Target{Everyone: to == ""},
		Ref: q.ref, TTL: patience(ctx), Question: &Question{Kind: kind.AskNodes},
	}
	receipt, err := n.deliverRemote(ctx, inst)
	if err != nil {
		return err
	}
	n.stats.out.Add(1)
	if receipt.Known && receipt.Nodes == 0 {
		return errNobody
	}
	select {
	case <-e.complete:
		return nil
	case <-ctx.Done():
		return errNobody
	}
}

// answerNodes answers the query kind.AskNodes.
func (n *Node) answerNodes(inst *Instruction) {
	if inst.To == "" {
		n.reply(inst, &Answer{Last: true})
		return
	}
	n.work(n.jobs.answering, inst, func(ctx context.Context, r *answerer) {
		p := &parts{send: func(a *Answer) bool { return r.send(ctx, a) == nil }}
		self := Peer{NodeInfo: n.info(), Meta: n.meta}
		for _, peer := range append(n.peers.list(), self) {
			beat := appendBeat(nil, &peer)
			if !p.grow(len(beat)) {
				return
			}
			p.next.Payload = Payload{EncodingBinary, append(p.next.Payload.Data, beat...)}
		}
		p.end()
	})
}

// become makes found the known peers, as another node has reported them.
func (p *peers) become(found []Peer, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.m {
		if !slices.ContainsFunc(found, func(f Peer) bool { return f.ID == id }) {
			delete(p.m, id)
			p.tellLocked(NodeExpired, v)
		}
	}
	if p.m == nil {
		p.m = make(map[NodeID]*peer)
	}
	for _, f := range found {
		f.Since = now
		if v := p.m[f.ID]; v != nil {
			f.Since = v.Since
		}
		p.m[f.ID] = &peer{Peer: f, heard: now, last: now}
	}
}
