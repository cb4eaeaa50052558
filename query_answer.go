package crosscast

import (
	"context"
	"errors"
	"time"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Queries of the cluster, on the answering side. Nothing here makes Handle wait: slow work runs on goroutines, whose
// number is limited.

// An answerer sends the parts of this node's answer to one instruction of a peer.
type answerer struct {
	n    *Node
	to   NodeID
	ref  string
	part int
}

func (n *Node) answerer(inst *Instruction) *answerer {
	return &answerer{n: n, to: inst.From, ref: inst.Ref}
}

// send publishes one part. After an error no other part may follow. If the part was too large, the peer gets an error.
func (r *answerer) send(ctx context.Context, a *Answer) error {
	err := r.publish(ctx, a)
	if errors.Is(err, ErrTooLarge) {
		r.publish(ctx, &Answer{Last: true, Err: err.Error()})
	}
	if err != nil {
		r.n.log.Debug("crosscast: could not answer", "to", r.to, "error", err)
	}
	r.part++
	return err
}

func (r *answerer) publish(ctx context.Context, a *Answer) error {
	a.Part = r.part
	return r.n.publish(ctx, &Instruction{Kind: kind.Answer, Namespace: "/", From: r.n.id, To: r.to, Ref: r.ref, Answer: a})
}

// atOnce is the context of calls that must not wait.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// reply answers inst at once, if it needs an answer. If that would have to wait, a goroutine does it.
func (n *Node) reply(inst *Instruction, a *Answer) {
	if inst.Ref == "" {
		return
	}
	if err := n.answerer(inst).publish(atOnce, a); err != nil && errors.Is(err, context.Canceled) {
		n.work(n.jobs.answering, inst, func(ctx context.Context, r *answerer) { r.send(ctx, a) })
	}
}

// patienceOf is the time for which the sender of inst waits for its answer.
func patienceOf(inst *Instruction) time.Duration {
	if inst.TTL <= 0 {
		return defaultQuery
	}
	return min(inst.TTL, maxPatience)
}

// refuseExpired reports whether the sender of inst might not wait for an answer any more. If so, it gets an answer that
// says so.
func (n *Node) refuseExpired(inst *Instruction) bool {
	if inst.Ref == "" || inst.Late < patienceOf(inst) {
		return false
	}
	n.stats.drop(dropExpired)
	n.reply(&Instruction{From: inst.From, Ref: inst.Ref}, &Answer{Last: true, Err: expired})
	return true
}

// work runs f for an instruction of a peer, on a goroutine that takes one of places. f gets a context that ends with
// the asker's patience or this node. If no place is free, the asker gets an error.
func (n *Node) work(places places, inst *Instruction, f func(ctx context.Context, r *answerer)) {
	patience := patienceOf(inst)
	r, until := n.answerer(inst), time.Now().Add(patience-inst.Late)
	if !places.take(patience) {
		n.stats.drop(dropBusy)
		if r.ref != "" {
			r.publish(atOnce, &Answer{Last: true, Err: "too busy"})
		}
		return
	}
	n.busy.Begin()
	if !n.spawn(func() {
		defer n.busy.End(1)
		defer places.free()
		ctx, cancel := context.WithDeadline(n.jobs.ctx, until)
		defer cancel()
		if r.ref != "" && ctx.Err() == context.DeadlineExceeded { // this process stood still meanwhile
			n.stats.drop(dropExpired)
			r.publish(atOnce, &Answer{Last: true, Err: expired})
			return
		}
		f(ctx, r)
	}) {
		places.free()
		n.busy.End(1)
	}
}

// answerSize is the approximate memory of an answer.
func answerSize(a *Answer) int {
	n := 256 + 8*len(a.Users) + len(a.Payload.Data)
	for i := range a.Sockets {
		n += 100 + a.Sockets[i].size()
	}
	for i := range a.Rooms {
		n += 24 + len(a.Rooms[i].Room)
	}
	for i := range a.Replies {
		n += 80 + len(a.Replies[i].Payload.Data)
	}
	return n
}

// size is the approximate encoded size of s.
func (s *SocketInfo) size() int {
	n := 40 + len(s.User) + len(s.Data) + len(s.Handshake)
	for _, r := range s.Rooms {
		n += 16 + len(r)
	}
	return n
}

// parts collects the items of an answer, and sends them in parts of about limit.Answer bytes, or of one item.
type parts struct {
	send func(*Answer) bool
	next Answer
	size int
}

// grow makes room for an item of size bytes, and reports whether to go on.
func (p *parts) grow(size int) bool {
	if p.size+size > limit.Answer && !p.flush() {
		return false
	}
	p.size += size
	return true
}

// flush sends the collected items, and reports whether to go on.
func (p *parts) flush() bool {
	if p.size == 0 {
		return true
	}
	full := p.next
	p.next, p.size = Answer{}, 0
	return p.send(&full)
}

// end sends the last part.
func (p *parts) end() {
	last := p.next
	last.Last = true
	p.send(&last)
}
