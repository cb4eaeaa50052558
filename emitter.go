package crosscast

import (
	"context"
	"fmt"
	"time"
)

// Emitters: nodes with Options.EmitOnly. An emitter says no hello and has no heartbeat, so it is nobody's peer, and it
// is told nothing. What needs more than a Publish is a question, and only because of whom to ask and where the answers
// go: before one the emitter looks who is there, with a hello that does not introduce it.

// A lookout is what an emitter knows of who is there.
type lookout struct {
	turn   chan struct{} // capacity 1: one looks at a time, and guards what follows
	looked time.Time     // when somebody did
	silent int           // how many nodes heard the hello then, and did not say who they are
}

func newLookout() *lookout { return &lookout{turn: make(chan struct{}, 1)} }

// look brings n.peers up to date, unless that was done less than a heartbeat ago, so that it is about as fresh as what
// other nodes know. It returns how many nodes are there as far as the bus knows, and did not say who they are.
func (l *lookout) look(ctx context.Context, n *Node) (silent int, err error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	began := time.Now()
	if !l.looked.IsZero() && began.Sub(l.looked) < n.heartbeat {
		return l.silent, nil
	}
	if a, ok := n.adapter.(Listener); ok {
		if err := a.Listen(ctx); err != nil {
			return 0, err
		}
	}
	hello := n.control(KindHello, "")
	hello.Flags = Unlisted
	reach, err := n.deliverRemote(ctx, hello)
	if err != nil {
		return 0, err
	}
	n.stats.out.Add(1)
	wait, cancel := context.WithTimeout(ctx, n.heartbeat)
	defer cancel()
	expected := reach.Nodes
	if !reach.Known {
		expected = maxPeers + 1 // all who answer while this waits
	}
	there := n.peers.await(wait, expected, began)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n.peers.keep(began)
	l.looked, l.silent = began, max(reach.Nodes-there, 0)
	return l.silent, nil
}

// lookAround prepares a question of an emitter.
func (q *ask) lookAround() error {
	silent, err := q.n.lookout.look(q.ctx, q.n)
	if err == nil && silent > 0 {
		q.mu.Lock()
		q.failed[""] = fmt.Errorf("%d nodes did not say who they are", silent)
		q.mu.Unlock()
	}
	return err
}
