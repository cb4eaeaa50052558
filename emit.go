package crosscast

import (
	"context"
	"errors"

	"github.com/crosscast/crosscast/kind"
)

// Receipt is the outcome of one emission.
type Receipt struct {
	Sockets int  // number of sockets of this node that took it
	Nodes   int  // number of peers that it was handed to: an upper bound
	Known   bool // false: the bus does not count peers, and Nodes is 0
}

// Emit sends event with payload to the target. It serves the sockets of this node, queues an instruction for the peers
// and returns. It waits, bounded by ctx, only while the adapter's queue is full. If the node is the only one, or all
// the target's sockets are its own, it queues nothing.
//
// The payload is one of:
//
//   - nil: none.
//   - [Bytes]: binary. A bare []byte is refused, because it might be JSON.
//   - [json.RawMessage]: JSON, sent unchanged after validation.
//   - [Payload], or a value that makes one by a method Payload() Payload: sent unchanged; JSON and arguments are validated.
//   - any other value: marshalled as JSON, once.
//
// JSON that is not UTF-8 is an error, even if a MarshalJSON within a value has made it. Emit keeps nothing of the
// payload after it has returned.
//
// An error that matches [ErrTooLarge] or [ErrInvalidName], or one of the payload, means that nobody got the message.
// Any other error is the adapter's: this node's sockets got the message, and no peer gets it. A failure after Emit
// has returned nil is reported to Options.OnLoss. Emissions of one goroutine keep their order. There is no order
// between goroutines.
func (t BoundTarget) Emit(ctx context.Context, event string, payload any) error {
	_, err := t.emit(ctx, event, payload, false)
	return err
}

// Deliver is Emit, and waits, bounded by ctx, until the bus has accepted the message. The error is the outcome on the
// bus. The receipt is also valid together with an error.
func (t BoundTarget) Deliver(ctx context.Context, event string, payload any) (Receipt, error) {
	return t.emit(ctx, event, payload, true)
}

func (t *BoundTarget) emit(ctx context.Context, event string, payload any, wait bool) (Receipt, error) {
	n := t.ns.node
	if n.observer == nil {
		return t.send(ctx, event, payload, wait, nil)
	}
	o := n.observe(ctx, t.ns.name, event, t.meta)
	defer o.end()
	receipt, err := t.send(o.ctx, event, payload, wait, &o)
	o.e.Err = err
	return receipt, err
}

func (t *BoundTarget) send(ctx context.Context, event string, payload any, wait bool, o *observation) (
	receipt Receipt, err error,
) {
	n := t.ns.node
	if n.state.Load() == nodeClosed {
		return Receipt{}, ErrClosed
	}
	if err := t.check(event); err != nil {
		return Receipt{}, err
	}
	p, err := n.payload(payload)
	if err != nil {
		return Receipt{}, err
	}
	receipt.Known = true
	meta := o.read(len(p.Data), t.meta)
	if t.target.isNobody() {
		return receipt, nil
	}
	e := newEmission()
	defer e.release()
	// The rest of e.inst is zero. Setting all of it at once takes several times as long.
	e.inst.Kind, e.inst.Volatile, e.inst.Namespace, e.inst.From = kind.Emit, t.volatile, t.ns.name, n.id
	e.inst.Target, e.inst.Event, e.inst.Payload, e.inst.Meta = t.target, event, p, meta
	remote := t.remote()
	if remote {
		if err := n.fits(&e.inst, o); err != nil {
			return Receipt{}, err
		}
	}
	e.fill(n, &e.inst)
	receipt.Sockets = t.ns.here().deliver(ctx, e)
	if !remote {
		return receipt, nil
	}
	if wait {
		sockets := receipt.Sockets
		receipt, err = n.deliverRemote(ctx, &e.inst)
		receipt.Sockets = sockets
	} else {
		err = n.adapter.Publish(ctx, &e.inst)
		if t.volatile && errors.Is(err, ErrNotConnected) {
			return receipt, nil // the adapter has counted it
		}
	}
	if err == nil {
		n.stats.out.Add(1)
	}
	return receipt, err
}

// fits returns an error if the adapter would refuse inst for its size, also without the observer's pairs.
func (n *Node) fits(inst *Instruction, o *observation) error {
	few := targetNames(&inst.Target)+len(inst.Rooms) <= 1 && len(inst.Meta) == 0
	if n.sizer == nil || few && len(inst.Payload.Data) <= n.maxPayload/8 {
		return nil
	}
	err := n.sizer.Fits(inst)
	for err != nil && o.leaveOut(inst) {
		err = n.sizer.Fits(inst)
	}
	return err
}

func (n *Node) publish(ctx context.Context, inst *Instruction) error {
	err := n.adapter.Publish(ctx, inst)
	if err == nil {
		n.stats.out.Add(1)
	}
	return err
}

// deliverRemote publishes inst and waits for its outcome, if the adapter can report one.
func (n *Node) deliverRemote(ctx context.Context, inst *Instruction) (Receipt, error) {
	if d, ok := n.adapter.(AdapterDeliverer); ok {
		return d.Deliver(ctx, inst)
	}
	return Receipt{}, n.adapter.Publish(ctx, inst)
}
