package crosscast

import (
	"context"
	"time"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// An Observer sees what a node does, for metrics and traces. Set one in [Options]. Without one, nothing is measured and
// nothing is allocated.
//
// Its methods are called concurrently, on the goroutines that do the work, with no lock held. They hold up the work, so
// they must not block, and must not emit. A panic is logged and counted ([Stats].Panics), and changes nothing else.
//
// The texts and Meta of an argument are valid only during the call: strings.Clone makes a copy to keep. Later versions
// might add fields. Module otel of the repository has an Observer for traces by OpenTelemetry.
type Observer interface {
	// Emitting is called at the beginning of each [BoundTarget.Emit], Deliver, EmitAck and [Socket.Emit] of this node, on
	// the goroutine that called it and with its ctx. e has the Namespace, the Event and the Meta of the application; the
	// other fields are zero. Emitted, the adapter, and for the sockets and subscriptions of this node Delivered, get the
	// returned context. It must be derived from ctx; nil: ctx itself.
	//
	// The returned pairs are added to the message's Meta, in their order, as far as they fit: see [BoundTarget.Meta] and
	// [AdapterSizer]. Those that do not fit are left out, which is no error. They must not be changed afterwards.
	Emitting(ctx context.Context, e Emitted) (context.Context, []KeyValue)

	// Emitted is called once after each Emitting, on the same goroutine and with the context of Emitting. At that moment
	// the replies to an EmitAck are still missing. It is also called if a function of the application's, such as a Conn,
	// panics in the caller's goroutine or ends it.
	Emitted(ctx context.Context, e Emitted)

	// Delivered is called after a message was handed to sockets and subscriptions of this node. It is not called if the
	// target has none here. For a message of this node, it comes before Emitted, on the same goroutine, and with the
	// context of Emitting; for [Node.EmitAffected], and for a message of a peer, ctx has no values. For a message of
	// a peer, it comes before Handled, on the goroutine of the adapter.
	Delivered(ctx context.Context, d Delivered)

	// Handled is called after an instruction of a peer was handled, on the goroutine of the adapter. Work for the peer
	// on other goroutines, such as answering a query, might still be under way.
	Handled(h Handled)
}

// Emitted is an emission of this node.
type Emitted struct {
	Namespace string
	Event     string
	Bytes     int           // of the payload; 0 also if Err kept the payload from being read
	Meta      []KeyValue    // that travel along, with the pairs of Observer.Emitting
	LeftOut   int           // number of pairs of Observer.Emitting that did not fit
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

// An observation is an emission of this node as its observer sees it. A nil one is of a node without an observer.
type observation struct {
	node  *Node
	ctx   context.Context // of Emitting
	more  []KeyValue      // of Emitting
	e     Emitted
	began time.Time
}

// observe begins an observation. The node has an observer.
func (n *Node) observe(ctx context.Context, namespace, event string, meta []KeyValue) observation {
	o := observation{node: n, ctx: ctx, e: Emitted{Namespace: namespace, Event: event, Meta: meta}}
	o.begin()
	o.e.Err = guard.ErrExit // if the emission does not return
	o.began = time.Now()
	return o
}

func (o *observation) begin() {
	defer o.node.caught("Observer.Emitting")
	ctx, more := o.node.observer.Emitting(o.ctx, o.e)
	if ctx != nil {
		o.ctx, o.more = ctx, more
		return
	}
	o.more = more
}

// end is deferred.
func (o *observation) end() {
	o.e.Duration = time.Since(o.began)
	defer o.node.caught("Observer.Emitted")
	o.node.observer.Emitted(o.ctx, o.e)
}

// read notes the payload's size. It returns the message's Meta: meta, which is the application's, and as many of the
// observer's pairs as there may be.
func (o *observation) read(bytes int, meta []KeyValue) []KeyValue {
	if o == nil {
		return meta
	}
	o.e.Bytes = bytes
	if len(o.more) == 0 {
		return meta
	}
	meta = append(make([]KeyValue, 0, limit.Meta), meta...)
	for _, kv := range o.more {
		if len(meta) < limit.Meta && max(len(kv.Key), len(kv.Value)) <= limit.Name {
			meta = append(meta, kv)
		} else {
			o.e.LeftOut++
		}
	}
	o.e.Meta = meta
	return meta
}

// leaveOut takes the last of the observer's pairs out of inst, and reports whether there was one.
func (o *observation) leaveOut(inst *Instruction) bool {
	if o == nil || o.e.LeftOut == len(o.more) {
		return false
	}
	o.e.LeftOut++
	o.e.Meta = o.e.Meta[:len(o.e.Meta)-1]
	inst.Meta = o.e.Meta
	return true
}

// observe is called after the delivery of e, which began at the given time. The node has an observer.
func (e *emission) observe(ctx context.Context, n *Node, began time.Time) {
	if !e.anybody() {
		return
	}
	m := &e.msg
	d := Delivered{
		Namespace: m.Namespace, Event: m.Event, From: m.From, Bytes: len(m.Payload.Data), Meta: m.Meta,
		Sockets: e.all.end - e.all.refused, Refused: e.all.refused, Subscriptions: e.queued, Duration: time.Since(began),
	}
	defer n.caught("Observer.Delivered")
	n.observer.Delivered(ctx, d)
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
