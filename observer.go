package crosscast

import (
	"context"
	"time"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/kind"
)

// An Observer sees what a node does, for metrics and traces. Set one in [Options]. Without one, nothing is measured and
// nothing is allocated.
//
// Its methods are called concurrently, on the goroutines that do the work, with no lock held. They hold up the work, so
// they must not block, and must not emit. A panic is logged and counted ([Stats].Panics), and changes nothing else.
//
// The texts and Meta of an argument are valid only during the call: strings.Clone makes a copy to keep. Later versions
// might add fields.
type Observer interface {
	// Emitted is called after each [BoundTarget.Emit], Deliver, EmitAck and [Socket.Emit] of this node, on the goroutine
	// that called it and with its ctx. At that moment the replies to an EmitAck are still missing.
	Emitted(ctx context.Context, e Emitted)

	// Delivered is called after a message was handed to sockets and subscriptions of this node. It is not called if the
	// target has none here. For a message of this node, it comes before Emitted, on the same goroutine. For a message of
	// a peer, it comes before Handled, on the goroutine of the adapter.
	Delivered(d Delivered)

	// Handled is called after an instruction of a peer was handled, on the goroutine of the adapter. Work for the peer
	// on other goroutines, such as answering a query, might still be under way.
	Handled(h Handled)
}

// Emitted is an emission of this node.
type Emitted struct {
	Namespace string
	Event     string
	Bytes     int // of the payload; 0 also if Err kept the payload from being read
	Meta      []KeyValue
	Err       error         // the error that the caller gets; for EmitAck only an error that kept it from emitting
	Duration  time.Duration // of the call, with the delivery to this node's sockets
}

// Delivered is a message that was handed to recipients of this node.
type Delivered struct {
	Namespace     string
	Event         string
	From          NodeID // the emitting node; empty: an external program
	Bytes         int    // of the payload
	Meta          []KeyValue
	Sockets       int           // sockets whose Conn.Send returned nil
	Refused       int           // sockets whose Conn.Send returned an error or panicked
	Subscriptions int           // subscriptions that queued the message
	Duration      time.Duration // of handing it over
}

// Handled is an instruction of a peer.
type Handled struct {
	Kind      kind.Kind
	From      NodeID // the peer; empty: an external program
	Namespace string
	Event     string // of an emission or a request
	Bytes     int    // of the payload
	Meta      []KeyValue
	Duration  time.Duration // on the goroutine of the adapter
}

// observeEmitted is called with an emission that began at the given time. The node has an observer.
func (n *Node) observeEmitted(ctx context.Context, e Emitted, began time.Time) {
	e.Duration = time.Since(began)
	defer n.caught("Observer.Emitted")
	n.observer.Emitted(ctx, e)
}

// observe is called after the delivery of e, which began at the given time. The node has an observer.
func (e *emission) observe(n *Node, began time.Time) {
	if !e.anybody() {
		return
	}
	m := &e.msg
	d := Delivered{
		Namespace: m.Namespace, Event: m.Event, From: m.From, Bytes: len(m.Payload.Data), Meta: m.Meta,
		Sockets: e.all.end - e.all.refused, Refused: e.all.refused, Subscriptions: e.queued, Duration: time.Since(began),
	}
	defer n.caught("Observer.Delivered")
	n.observer.Delivered(d)
}

// handleObserved is handleInstruction for a node with an observer.
func (n *Node) handleObserved(inst *Instruction) {
	defer n.observeHandled(inst, time.Now())
	n.handleInstruction(inst)
}

func (n *Node) observeHandled(inst *Instruction, began time.Time) {
	h := Handled{
		Kind: inst.Kind, From: inst.From, Namespace: inst.Namespace, Event: inst.Event,
		Bytes: len(inst.Payload.Data), Meta: inst.Meta, Duration: time.Since(began),
	}
	defer n.caught("Observer.Handled")
	n.observer.Handled(h)
}

// caught is deferred around a function of the application's. It does the same as [Node.call], without allocating.
func (n *Node) caught(what string) {
	if err := guard.Recovered(recover()); err != nil {
		n.report(what, err)
	}
}
