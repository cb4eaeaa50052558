package crosscast

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/poison"
)

// An emission holds the state of one delivery. It is reused, so that a delivery allocates nothing.
type emission struct {
	inst   Instruction // for an emission of this node
	one    [1]SocketID // the target of Socket.Emit
	msg    Message
	to     recipients
	own    recipients     // the memory of to while that is lent by a crowd
	lent   bool           // to must not be changed
	all    stretch        // of to
	rest   stretch        // of a large delivery: what nobody serves yet; guarded by the crew's mu
	helped sync.WaitGroup // for the parts that helpers serve
	subs   []*Subscription
	queued int      // number of subs that queued the message
	seen   []uint64 // a bit for each socket's slot, all zero between uses
}

// recipients are the sockets that a delivery has collected.
type recipients struct {
	sockets []*Socket
	conns   []Conn  // see crowd; shorter than sockets if the last ones are not of a crowd
	slots   []int32 // of a crowd; nil in an emission
}

func (r *recipients) clear() {
	clear(r.sockets)
	clear(r.conns)
	r.sockets, r.conns = r.sockets[:0], r.conns[:0]
}

// A stretch is a part of an emission's recipients that one goroutine serves.
type stretch struct {
	from    int // index of the first socket
	at, end int // indexes of the next socket and of the one behind the last
	refused int // number of sockets before at that did not take the message
}

var emissions = sync.Pool{New: func() any { return new(emission) }}

func newEmission() *emission { return emissions.Get().(*emission) }

func (e *emission) release() {
	if poison.On {
		e.poison()
		return
	}
	if e.inst.Kind != 0 {
		e.inst = Instruction{}
	}
	if e.msg.Payload.Encoding == EncodingMsgPack {
		e.msg.text.Store(nil)
	}
	e.msg.Payload.Data, e.msg.Ack = nil, 0 // fill sets the other fields, which hold little
	if e.msg.timed != nil {
		e.msg.timed = nil
	}
	e.msg.resetFrames()
	e.giveBack()
	e.to.clear() // so that the pool keeps no socket alive
	clear(e.subs)
	e.subs, e.queued = e.subs[:0], 0
	emissions.Put(e)
}

// poison makes a message show that was kept after Send had returned. It is not used again.
func (e *emission) poison() {
	m := &e.msg
	m.resetFrames()
	m.Namespace, m.From, m.Event, m.Meta = poison.Text, poison.Text, poison.Text, nil
	m.Target = &Target{Rooms: []string{poison.Text}}
	m.Payload = Payload{EncodingJSON, strconv.AppendQuote(nil, poison.Text)}
}

// fill makes the message of inst.
func (e *emission) fill(n *Node, inst *Instruction) {
	m := &e.msg
	m.node = n
	m.Namespace, m.From, m.Target, m.Event = inst.Namespace, inst.From, &inst.Target, inst.Event
	m.Payload, m.Volatile, m.Meta = inst.Payload, inst.Volatile, inst.Meta
}

// deliver hands e.msg to the sockets and subscriptions of this node that are in its target. It collects them under the
// locks, one group at a time, and hands over afterwards. It returns the number of sockets that took the message.
func (ns *space) deliver(ctx context.Context, e *emission) (took int) {
	ns.collect(e)
	return ns.handOver(ctx, e, nil)
}

// anybody reports whether any recipient was collected.
func (e *emission) anybody() bool { return len(e.to.sockets) > 0 || len(e.subs) > 0 }

// handOver hands e.msg to the collected recipients. It returns the number of sockets that took the message, and calls
// refused, if not nil, for each of the others. ctx is for the observer.
func (ns *space) handOver(ctx context.Context, e *emission, refused func(*Socket, error)) (took int) {
	if ns.node.observer != nil {
		defer e.observe(ctx, ns.node, time.Now())
	}
	if t := ns.node.times; t != nil {
		t.timed(&e.msg)
	}
	if len(e.subs) > 0 {
		defer e.offer(ns.node) // also if a conn ends the goroutine
	}
	e.all = stretch{end: len(e.to.sockets)}
	if refused == nil && e.all.end >= largeDelivery {
		ns.node.crew.serve(e)
	} else {
		e.handOn(ns.node, &e.all, refused)
	}
	return e.all.end - e.all.refused
}

// offer offers e.msg to subscriptions.
func (e *emission) offer(n *Node) {
	c := e.msg.Clone()
	for _, sub := range e.subs {
		if sub.handleMessage(c) {
			e.queued++
		}
	}
	n.stats.delivered.Add(uint64(e.queued))
}

// handOn hands e.msg to the remaining sockets of p. A conn that panics, or ends the goroutine, does not keep it from the
// others. One guard serves many conns, because a guard costs about as much as one conn.
func (e *emission) handOn(n *Node, p *stretch, refused func(*Socket, error)) {
	for p.at < p.end {
		e.handSome(n, p, refused)
	}
	n.stats.delivered.Add(uint64(p.end - p.from - p.refused))
}

// handSome hands e.msg to sockets of p, up to one whose conn panics.
func (e *emission) handSome(n *Node, p *stretch, refused func(*Socket, error)) {
	all := false
	defer func() {
		if !all {
			e.handlePanic(n, p, refused, guard.Recovered(recover()))
		}
	}()
	m := &e.msg
	for _, conn := range e.to.conns[min(p.at, len(e.to.conns)):min(p.end, len(e.to.conns))] {
		if err := conn.Send(m); err != nil {
			e.refuse(p, refused, err)
		}
		p.at++
	}
	for ; p.at < p.end; p.at++ {
		if err := e.to.sockets[p.at].sender().Send(m); err != nil {
			e.refuse(p, refused, err)
		}
	}
	all = true
}

// refuse handles the error of a Send to the next socket.
func (e *emission) refuse(p *stretch, refused func(*Socket, error), err error) {
	p.refused++
	s := e.to.sockets[p.at]
	s.handleConnError(err)
	if refused != nil {
		refused(s, err)
	}
}

// handlePanic handles a conn that has panicked or, if err is nil, has ended the goroutine. In the second case it also
// goes on with the remaining sockets.
func (e *emission) handlePanic(n *Node, p *stretch, refused func(*Socket, error), err error) {
	exits := err == nil
	if exits {
		err = guard.ErrExit
	}
	s := e.to.sockets[p.at]
	p.at++
	p.refused++
	if s.handleConnError(err) {
		n.report("Conn.Send", err)
	}
	if refused != nil {
		refused(s, err)
	}
	if exits {
		e.handOn(n, p, refused)
	}
}
