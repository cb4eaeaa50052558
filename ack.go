package crosscast

import (
	"context"
	"sync"
)

// Acknowledged emissions. Each node that delivers one numbers it; the number travels to the clients in the message, and comes back
// with their replies through [Socket.Reply]. The node passes replies on as they come, and at the end names the clients that were
// silent.

// EmitAck emits as [BoundTarget.Emit] does and collects the clients' replies. The result is complete when every client that took the
// message has replied. The deadline is ctx's, or 5 s. Clients that did not reply in time, or left before, are
// IncompleteError.Silent.
//
// Conns that cannot carry a reply are silent.
func (t BoundTarget) EmitAck(ctx context.Context, event string, payload any) *Answers[Reply] {
	q := t.emitAck(ctx, event, payload)
	return &Answers[Reply]{q, func(_ NodeID, a *Answer) []Reply {
		var replies []Reply
		for _, r := range a.Replies {
			if !r.Silent {
				replies = append(replies, r)
			}
		}
		return replies
	}}
}

func (t *BoundTarget) emitAck(ctx context.Context, event string, payload any) *ask {
	n := t.ns.node
	if err := t.check(event); err != nil {
		return n.failedAsk(err)
	}
	p, err := n.payload(payload)
	if err != nil {
		return n.failedAsk(err)
	}
	if t.target.IsNobody() {
		return n.ask(ctx, nil, nil, nil)
	}
	in := &Instruction{
		Kind: KindEmit, Flags: t.flags, Namespace: t.ns.name, From: n.id,
		Target: t.target, Event: event, Payload: p, Meta: t.meta,
	}
	own := func(q *ask) {
		q.mu.Lock()
		q.waiting[n.id] = 0
		q.mu.Unlock()
		wait, cancel := context.WithTimeout(q.ctx, patience(q.ctx))
		t.ns.deliverAck(wait, in, func(a *Answer) error {
			if a.Last {
				defer cancel()
			}
			n.asks.answer(&Instruction{From: n.id, Ref: q.ref, Answer: a})
			return nil
		})
	}
	var to []NodeID
	send := in
	switch {
	case t.local || n.holdsAll(&t.target):
		send = nil
	case t.target.onlySockets():
		to = n.holders(t.target.Sockets)
	}
	return n.ask(ctx, send, own, to)
}

// acks are the acknowledged emissions that this node's clients have not all replied to.
type acks struct {
	mu   sync.Mutex // guards what follows
	open map[uint64]*ackWait
	last uint64
}

// ackWait is one of them.
type ackWait struct {
	mu      sync.Mutex // guards what follows
	missing map[SocketID]struct{}
	silent  []SocketID
	part    int
	send    func(*Answer) error
	done    chan struct{} // closed when nothing is missing
}

// deliverAck delivers in to this node's sockets, and returns. Replies go to send as they come, then who was silent when ctx ended.
func (ns *Namespace) deliverAck(ctx context.Context, in *Instruction, send func(*Answer) error) {
	n := ns.node
	w := &ackWait{missing: make(map[SocketID]struct{}), send: send, done: make(chan struct{})}
	e := newEmission()
	defer e.release()
	e.in = *in
	e.fill(&e.in)
	ns.collect(e)
	for _, s := range e.sockets {
		w.missing[s.id] = struct{}{}
	}
	e.msg.Ack = n.acks.add(w)
	for _, s := range e.sockets {
		if s.Closed() { // it may have been before it was missed
			w.give(s.id)
		}
	}
	ns.handOver(e, func(s *Socket) { w.give(s.id) })
	w.mu.Lock()
	w.check()
	w.mu.Unlock()
	number := e.msg.Ack
	n.workers.Add(1)
	go func() {
		defer n.workers.Done()
		select {
		case <-w.done:
		case <-ctx.Done():
		}
		n.acks.end(number, w)
	}()
}

// give gives up a socket: it did not take the message, or closed.
func (w *ackWait) give(id SocketID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.missing[id]; ok {
		delete(w.missing, id)
		w.silent = append(w.silent, id)
		w.check()
	}
}

// check closes done when nothing is missing; w.mu is held.
func (w *ackWait) check() {
	if len(w.missing) == 0 {
		select {
		case <-w.done:
		default:
			close(w.done)
		}
	}
}

// left gives up a socket that has closed.
func (s *acks) left(id SocketID) {
	s.mu.Lock()
	open := make([]*ackWait, 0, len(s.open))
	for _, w := range s.open {
		open = append(open, w)
	}
	s.mu.Unlock()
	for _, w := range open {
		w.give(id)
	}
}

func (s *acks) add(w *ackWait) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[uint64]*ackWait)
	}
	s.last++
	s.open[s.last] = w
	return s.last
}

// end takes an emission off the list, and sends the last part: who was silent.
func (s *acks) end(number uint64, w *ackWait) {
	s.mu.Lock()
	delete(s.open, number)
	s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	a := &Answer{Last: true, Part: w.part}
	for id := range w.missing {
		w.silent = append(w.silent, id)
	}
	clear(w.missing)
	for _, id := range w.silent {
		a.Replies = append(a.Replies, Reply{Socket: id, Silent: true})
	}
	w.send(a)
}

// reply passes on a reply, and reports whether anybody waited for it.
func (s *acks) reply(number uint64, id SocketID, p Payload) bool {
	s.mu.Lock()
	w := s.open[number]
	s.mu.Unlock()
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.missing[id]; !ok {
		return false
	}
	delete(w.missing, id)
	a := &Answer{Part: w.part, Replies: []Reply{{Socket: id, Payload: p}}}
	w.part++
	w.send(a)
	w.check()
	return true
}

// Reply passes on the client's reply to the acknowledged emission whose message had the number ack; bindings call it. payload is as in
// [BoundTarget.Emit]. It returns [ErrDropped] when nobody waits for the reply (any more).
func (s *Socket) Reply(ack uint64, payload any) error {
	n := s.ns.node
	p, err := n.payload(payload)
	if err != nil {
		return err
	}
	p.Data = append([]byte(nil), p.Data...)
	if !n.acks.reply(ack, s.id, p) {
		n.stats.reply.Add(1)
		return ErrDropped
	}
	return nil
}

// emittedAck delivers a peer's acknowledged emission.
func (n *Node) emittedAck(ns *Namespace, in *Instruction) {
	ttl := in.TTL
	if ttl <= 0 {
		ttl = defaultAsk
	}
	ctx, cancel := context.WithTimeout(n.ctx, ttl)
	r := &answerer{n: n, to: in.From, ref: in.Ref}
	ns.deliverAck(ctx, in, func(a *Answer) error {
		if a.Last {
			defer cancel()
		}
		r.part = a.Part
		n.tryAnswer(r, a)
		return nil
	})
}
