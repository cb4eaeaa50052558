package crosscast

import "github.com/crosscast/crosscast/kind"

// An expectation says which answers a query waits for. It is chosen when the query begins. The nodes that it knows by
// ID are in the query's waiting and failed, and so is this node. The names that end in Locked need the query's lock.
type expectation interface {
	// begin records which of the peers in to (nil: all) must answer, and returns those that are to get the query.
	begin(q *query, inst *Instruction, to []NodeID) ([]NodeID, error)
	// ready is called before the query is published, if it is.
	ready(q *query) error
	// handle handles an answer, and reports whether it was waited for.
	handle(q *query, from NodeID, a *Answer) bool
	// beat is called once a heartbeat, while answers are missing.
	beat(q *query)
	// completeLocked reports whether nothing is missing, beside the nodes in waiting.
	completeLocked() bool
	// giveUpLocked ends the wait for answers, beside those of the nodes in waiting.
	giveUpLocked(err error)
	// failLocked does the same if the query could not be published.
	failLocked(q *query, err error)
	// reportLocked adds what is missing to e, beside the nodes in failed.
	reportLocked(q *query, e *IncompleteError)
}

// expecting makes the expectation of a query to the peers in to (nil: all).
type expecting func(inst *Instruction, to []NodeID) expectation

// chooseExpecting returns how queries of this node wait for their answers. The queries themselves do not look at which
// kind of node it is.
func (n *Node) chooseExpecting() expecting {
	always := func(e expectation) expecting { return func(*Instruction, []NodeID) expectation { return e } }
	switch {
	case n.foreign == nil && n.lookout == nil:
		return always(knownPeers{})
	case n.foreign == nil:
		return always(foundPeers{})
	case n.lookout == nil:
		return func(inst *Instruction, to []NodeID) expectation { return foreignPeers(n.id, inst, to, nil) }
	}
	return func(inst *Instruction, to []NodeID) expectation {
		return heard{foreignPeers(n.id, inst, to, errNobody)} // no server is up, or it is on another bus
	}
}

// foreignPeers is the expectation of a node whose adapter is a [ForeignAdapter]. silence is reported if nobody of all
// peers answers.
func foreignPeers(self NodeID, inst *Instruction, to []NodeID, silence error) expectation {
	if to != nil {
		return namedPeers{}
	}
	return newCensus(self, inst, silence)
}

// knownPeers expects an answer of each peer that is known by its ID.
type knownPeers struct{}

// begin returns the known ones of to.
func (knownPeers) begin(q *query, inst *Instruction, to []NodeID) ([]NodeID, error) {
	q.n.peers.with(func(known map[NodeID]*peer) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if to == nil {
			for _, p := range known {
				q.awaitPeerLocked(p)
			}
			return
		}
		there := make([]NodeID, 0, len(to))
		for _, id := range to {
			switch {
			case known[id] != nil:
				q.awaitPeerLocked(known[id])
				there = append(there, id)
			case inst.aboutNodes(): // for others, an unknown node has no sockets
				q.failed[id] = errUnknownNode
			}
		}
		to = there
	})
	return to, nil
}

// aboutNodes reports whether inst queries nodes, and not their sockets.
func (inst *Instruction) aboutNodes() bool {
	return inst.Kind == kind.Request || inst.Question != nil && inst.Question.Kind == kind.AskStats
}

// beat gives up peers that were suspected at the start, and still are. So they are waited for one heartbeat at
// most: a process that hangs must not hold up every query until it is taken for dead.
func (knownPeers) beat(q *query) {
	q.n.peers.with(func(known map[NodeID]*peer) {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, id := range q.doubted {
			if _, waiting := q.waiting[id]; waiting && known[id] != nil && known[id].Suspect {
				q.failLocked(id, errSuspect)
			}
		}
		q.doubted = nil
	})
}

// awaitPeerLocked records that a peer must answer.
func (q *query) awaitPeerLocked(p *peer) {
	q.waiting[p.ID] = 0
	if p.Suspect {
		q.doubted = append(q.doubted, p.ID)
	}
}

func (knownPeers) ready(*query) error                           { return nil }
func (knownPeers) handle(q *query, from NodeID, a *Answer) bool { return q.handleAnswer(from, a) }
func (knownPeers) completeLocked() bool                         { return true }
func (knownPeers) giveUpLocked(error)                           {}
func (knownPeers) failLocked(*query, error)                     {}
func (knownPeers) reportLocked(*query, *IncompleteError)        {}

// namedPeers expects an answer of each named node, whether it is known or not.
type namedPeers struct{ knownPeers }

func (namedPeers) begin(q *query, _ *Instruction, to []NodeID) ([]NodeID, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range to {
		q.waiting[id] = 0
	}
	return to, nil
}
