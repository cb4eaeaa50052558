package crosscast

import (
	"context"
	"sync"
	"time"

	"github.com/crosscast/crosscast/kind"
)

// Acknowledged emissions. Each node that delivers one numbers it. The number travels to the clients in the message, and
// comes back with their replies through [Socket.Reply]. A goroutine of the emission passes replies on as they come, all
// that are ready at once, and in the end names the silent clients.

// maxAcks is the number of acknowledged emissions whose replies a node collects at a time.
const maxAcks = 4096

// EmitAck emits as [BoundTarget.Emit] does, and collects the clients' replies. The result is complete when every client
// that should get the message has replied. The deadline is ctx's, or 5 s. IncompleteError.Silent holds the clients that
// did not reply in time, closed before, did not take the message, or whose conn cannot carry a reply. Nodes wait for
// clients a little less than the deadline, so that they can report in time, and at most an hour.
func (t BoundTarget) EmitAck(ctx context.Context, event string, payload any) *Answers[Reply] {
	return &Answers[Reply]{t.emitAck(ctx, event, payload), func(_ NodeID, a *Answer) []Reply {
		var replies []Reply
		for _, r := range a.Replies {
			if !r.Silent {
				replies = append(replies, r)
			}
		}
		return replies
	}}
}

func (t *BoundTarget) emitAck(ctx context.Context, event string, payload any) *query {
	n := t.ns.node
	if n.observer == nil {
		return t.sendAck(ctx, event, payload, nil)
	}
	o := n.observe(ctx, t.ns.name, event, t.meta)
	defer o.end()
	q := t.sendAck(o.ctx, event, payload, &o)
	o.e.Err = q.failure
	return q
}

func (t *BoundTarget) sendAck(ctx context.Context, event string, payload any, o *observation) *query {
	n := t.ns.node
	if err := t.check(event); err != nil {
		return &query{failure: err}
	}
	p, err := n.payload(payload)
	if err != nil {
		return &query{failure: err}
	}
	inst := &Instruction{
		Kind: kind.Emit, Volatile: t.volatile, Namespace: t.ns.name, From: n.id,
		Target: t.target, Event: event, Payload: p, Meta: o.read(len(p.Data), t.meta),
	}
	to := []NodeID{}
	if t.remote() {
		if err := n.fits(inst, o); err != nil {
			return &query{failure: err}
		}
		to = n.holders(&t.target)
	}
	return n.query(ctx, inst, to, func(q *query) {
		q.mu.Lock()
		q.waiting[n.id] = 0
		q.mu.Unlock()
		part := 0
		if err := t.ns.here().deliverAck(inst, q.ctx, patience(q.ctx), func(_ context.Context, a *Answer) error {
			a.Part = part
			part++
			q.handleAnswer(n.id, a)
			return nil
		}); err != nil {
			q.mu.Lock()
			q.failLocked(n.id, err)
			q.mu.Unlock()
		}
	})
}

// handleAckedEmit delivers a peer's acknowledged emission.
func (n *Node) handleAckedEmit(ns *space, inst *Instruction) {
	switch err := ns.deliverAck(inst, n.jobs.ctx, patienceOf(inst), n.answerer(inst).send); err {
	case nil:
	case errBadJSON:
		n.dropInvalid(inst)
		n.reply(inst, &Answer{Last: true, Err: "the payload is not valid JSON in UTF-8"})
	default:
		n.stats.drop(dropBusy)
		n.reply(inst, &Answer{Last: true, Err: "too busy"})
	}
}

// acks are the acknowledged emissions for which some of this node's clients have not replied yet.
type acks struct {
	mu    sync.Mutex // guards the following fields
	waits map[uint64]*ackWait
	last  uint64
}

// ackWait is one of them. Each missing socket has it in its awaiting, so a socket that closes finds exactly the
// emissions that wait for it. Only one of the locks is held at a time.
type ackWait struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex           // guards the following fields
	missing map[SocketID]*Socket // sockets that have not replied
	ready   []Reply              // to be sent
	bytes   int                  // of ready
}

// deliverAck delivers inst to this node's sockets, and returns. One goroutine passes their replies to send and, after
// patience or the end of ctx, the silent sockets. If too many replies are awaited already, deliverAck delivers without
// asking for replies, and returns [ErrBusy]. A payload that is not valid is delivered to nobody: the result is
// errBadJSON, if there are recipients.
func (ns *space) deliverAck(
	inst *Instruction, ctx context.Context, patience time.Duration, send func(context.Context, *Answer) error,
) error {
	n := ns.node
	w := &ackWait{wake: make(chan struct{}, 1), missing: make(map[SocketID]*Socket)}
	e := newEmission()
	defer e.release()
	e.inst = *inst
	e.fill(n, &e.inst)
	ns.collect(e)
	if inst.From != n.id && e.anybody() && !inst.Payload.valid() {
		return errBadJSON
	}
	most := maxAcks
	if inst.From != n.id {
		most = roomFor(patience, maxAcks-maxAcks/8) // the rest is for this node's own emissions
	}
	number, ok := n.acks.open(w, most)
	if ok {
		e.msg.Ack = number
		w.await(e.to.sockets)
	}
	took := ns.handOver(ctx, e, func(s *Socket, _ error) { w.give(s) })
	if !ok {
		return ErrBusy
	}
	if !n.spawn(func() {
		defer n.acks.forget(number, w)
		w.collect(ctx, patience, took, send)
	}) {
		n.acks.forget(number, w)
		return ErrBusy
	}
	return nil
}

// await makes the open ones of sockets missing.
func (w *ackWait) await(sockets []*Socket) {
	w.mu.Lock()
	for _, s := range sockets {
		w.missing[s.id] = s
	}
	w.mu.Unlock()
	for _, s := range sockets {
		switch {
		case !s.await(w):
			w.give(s)
		case !w.misses(s): // the client has guessed the number, and replied already
			s.unawait(w)
		}
	}
}

func (w *ackWait) misses(s *Socket) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.missing[s.id] != nil
}

// collect sends replies until no socket is missing, or patience has passed. The first part has the number of sockets
// that took the message.
func (w *ackWait) collect(
	ctx context.Context, patience time.Duration, took int, send func(context.Context, *Answer) error,
) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	sending, cancel := context.WithTimeout(ctx, patience+time.Second)
	defer cancel()
	p := &parts{send: func(a *Answer) bool { return send(sending, a) == nil }, next: Answer{Count: took}}
	for late := false; ; {
		if late {
			w.giveUp()
		}
		replies, complete := w.takeReady()
		for _, r := range replies {
			if !p.grow(50 + len(r.Payload.Data)) {
				return
			}
			p.next.Replies = append(p.next.Replies, r)
		}
		switch {
		case complete:
			p.end()
			return
		case !p.flush():
			return
		}
		select {
		case <-w.wake:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			late = true
		}
	}
}

// takeReady returns the replies that are ready, and whether they are the last: no socket is missing.
func (w *ackWait) takeReady() (replies []Reply, complete bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	replies, w.ready, w.bytes = w.ready, nil, 0
	return replies, len(w.missing) == 0
}

// give gives up a socket that did not take the message, or closed.
func (w *ackWait) give(s *Socket) { w.settle(s, Reply{Socket: s.id, Silent: true}) }

// giveUp gives up all missing sockets.
func (w *ackWait) giveUp() {
	w.mu.Lock()
	missing := w.missing
	w.missing = nil
	w.mu.Unlock()
	silent := make([]Reply, 0, len(missing))
	for id, s := range missing {
		s.unawait(w)
		silent = append(silent, Reply{Socket: id, Silent: true})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = append(w.ready, silent...)
}

// settle records the reply or silence of a socket, and reports whether it was missing.
func (w *ackWait) settle(s *Socket, r Reply) bool {
	if !w.note(r) {
		return false
	}
	s.unawait(w)
	return true
}

func (w *ackWait) note(r Reply) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.missing[r.Socket]; !ok || w.bytes+len(r.Payload.Data) > maxAnswerBytes {
		return false
	}
	delete(w.missing, r.Socket)
	w.ready = append(w.ready, r)
	w.bytes += len(r.Payload.Data)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

// await records that w misses s. It returns false if s is closed.
func (s *Socket) await(w *ackWait) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return false
	}
	s.awaiting.addWait(w)
	return true
}

// unawait records that w does not miss s any more.
func (s *Socket) unawait(w *ackWait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaiting.removeWait(w)
}

// awaiting are the acknowledged emissions that miss one socket: almost always none or one.
type awaiting struct {
	one    *ackWait // nil: none
	others map[*ackWait]struct{}
}

func (a *awaiting) addWait(w *ackWait) {
	if a.one == nil {
		a.one = w
		return
	}
	if a.others == nil {
		a.others = make(map[*ackWait]struct{})
	}
	a.others[w] = struct{}{}
}

func (a *awaiting) removeWait(w *ackWait) {
	if a.one == w {
		a.one = nil
	} else if delete(a.others, w); len(a.others) == 0 {
		a.others = nil
	}
}

// give gives up s for all of them.
func (a *awaiting) give(s *Socket) {
	if a.one != nil {
		a.one.give(s)
	}
	for w := range a.others {
		w.give(s)
	}
}

// open numbers an emission. It fails if there are too many.
func (s *acks) open(w *ackWait, most int) (number uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waits) >= most {
		return 0, false
	}
	if s.waits == nil {
		s.waits = make(map[uint64]*ackWait)
	}
	s.last++
	s.waits[s.last] = w
	return s.last, true
}

// forget ends the wait with the number.
func (s *acks) forget(number uint64, w *ackWait) {
	s.mu.Lock()
	delete(s.waits, number)
	s.mu.Unlock()
	w.giveUp()
}

// handleReply passes on a reply, and reports whether anybody waited for it.
func (s *Socket) handleReply(number uint64, r Reply) bool {
	acks := &s.ns.node.acks
	acks.mu.Lock()
	w := acks.waits[number]
	acks.mu.Unlock()
	return w != nil && w.settle(s, r)
}

// Reply passes on the client's reply to the acknowledged emission whose message had the number ack. Bindings call it,
// concurrently and also within Send. payload is as in [BoundTarget.Emit]. It returns [ErrDropped] if nobody waits for
// the reply (any more), or too many bytes of replies wait already.
func (s *Socket) Reply(ack uint64, payload any) error {
	n := s.ns.node
	p, err := n.payload(payload)
	if err != nil {
		return err
	}
	p.Data = append([]byte(nil), p.Data...)
	if !s.handleReply(ack, Reply{Socket: s.id, Payload: p}) {
		n.stats.drop(dropReply)
		return ErrDropped
	}
	return nil
}

// Refuse reports that the client will not reply to the acknowledged emission whose message had the number ack. The
// client counts as silent at once, so nobody waits for it until the deadline. Bindings call it, as Reply.
func (s *Socket) Refuse(ack uint64) error {
	if !s.handleReply(ack, Reply{Socket: s.id, Silent: true}) {
		s.ns.node.stats.drop(dropReply)
		return ErrDropped
	}
	return nil
}

// RefuseAll calls Refuse for every acknowledged emission that the client has not replied to.
func (s *Socket) RefuseAll() {
	s.mu.Lock()
	left := s.awaiting
	s.awaiting = awaiting{}
	s.mu.Unlock()
	left.give(s)
}

// Owes reports whether an acknowledged emission still waits for the client's reply. Bindings call it to decide whether
// to read on for the reply.
func (s *Socket) Owes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awaiting.one != nil || s.awaiting.others != nil
}
