package crosscast

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/kind"
)

// Close ends the node, in this order:
//
//   - It refuses new sockets and subscriptions.
//   - It closes all sockets. Their OnClose handlers run, which may still emit, and the handlers of conns end.
//   - The waiting calls of hooks are made. Queries under way end with [ErrClosed].
//   - It publishes a goodbye to the peers, hands the queue to the bus, and closes the adapter.
//   - The contexts of request handlers end.
//   - The waiting messages of subscriptions are delivered.
//
// It is bounded by ctx. If ctx ends first, the rest is done without waiting, the error matches ctx's, and running work
// ends by itself. If emissions were lost, the error matches a [*LossError] with the losses since Close began. Without
// Options.OnLoss, it also has the earlier ones that no Flush has returned. Only the first Close does anything; other
// calls wait for it, and return the same. Afterwards everything returns [ErrClosed].
//
// [Node.Drain] sends the clients away one after the other before that.
//
// Close the node before http.Server.Shutdown. Shutdown waits for long requests, such as streams of events, and Close ends
// them. Requests that come in between get [ErrClosed]; package ws and socketio answer them with HTTP status 503.
//
// Close must not be called from within a hook or a handler that it waits for, OnClose and OnMessage among them. If it is
// called before Start has returned, by a goroutine of a hook, it waits for Start. If ctx ends meanwhile, Close returns
// ctx's error, and the node is not closed.
func (n *Node) Close(ctx context.Context) error {
	if !n.awaitStart(ctx) {
		return ctx.Err()
	}
	n.mu.Lock()
	first := n.closing == nil
	if first {
		n.closing = make(chan struct{})
		if d := n.drain.Load(); d != nil {
			d.cancel()
		}
	}
	n.mu.Unlock()
	if first {
		n.closed = n.close(ctx)
		close(n.closing)
		return n.closed
	}
	select {
	case <-n.closing:
		return n.closed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitStart returns when Start is done, and reports whether that was before ctx ended: a hook may call Close earlier.
func (n *Node) awaitStart(ctx context.Context) bool {
	select {
	case <-n.started:
		return true
	default:
	}
	select {
	case <-n.started:
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *Node) close(ctx context.Context) error {
	told := 0 // losses
	if n.hooks.onLoss != nil {
		told = n.losses.count()
	}
	n.closeGate(nodeClosing)
	n.closeSockets()
	for _, f := range n.onClose { // nobody adds to it any more
		n.sockets.Go(func() { n.call("Node.OnClose", f) })
	}
	n.await(ctx, n.sockets.Wait)
	n.hooks.wait(ctx)
	n.presence.end(ctx)
	n.closeGate(nodeClosed)
	n.queries.close()
	n.interests.stop(ctx)
	err := n.leave(ctx, told)
	n.jobs.cancel()
	n.await(ctx, n.jobs.running.Wait)
	n.presence.out.wait(ctx)
	for _, s := range n.subscriptions() {
		s.lane.wait(ctx)
		s.Close()
	}
	n.hooks.end(ctx)
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	return err
}

// OnClose has f called by Close, once all sockets are being closed, on a goroutine of its own that Close waits for as
// for the handlers of conns. It is for bindings whose connections have something to end beside sockets. [ErrClosed]:
// the node is being closed, and f is not called.
func (n *Node) OnClose(f func()) error {
	return n.register(func() { n.onClose = append(n.onClose, f) })
}

// register calls add with mu held, unless the node is being closed.
func (n *Node) register(add func()) error {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() != nodeOpen {
		return ErrClosed
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	add()
	return nil
}

// closeGate enters a state after which nothing of what it forbids begins.
func (n *Node) closeGate(state int32) {
	n.gate.Lock()
	defer n.gate.Unlock()
	n.state.Store(state)
}

// spawn runs f on a goroutine that Close waits for, and reports whether it does: not when the node is closed.
func (n *Node) spawn(f func()) bool {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() == nodeClosed {
		return false
	}
	n.jobs.running.Go(f)
	return true
}

// leave takes the node out of the cluster. Of the first losses, told of them are known to the application.
func (n *Node) leave(ctx context.Context, told int) error {
	if !n.meets {
		return nil
	}
	n.heart.stop(ctx)
	var err error
	// Nobody misses an emitter, but a goodbye also tells everyone of losses that they have not heard of yet.
	if n.heart != nil || n.lookout != nil && n.losses.count() > 0 {
		err = n.publish(ctx, n.control(kind.Goodbye, "")) // the adapter hands it over when it closes
	}
	return errors.Join(err, n.adapter.Close(ctx), n.losses.rest(told))
}

// await calls wait, and returns when it has returned or ctx has ended.
func (n *Node) await(ctx context.Context, wait func()) {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// closers is how many OnClose handlers Node.Close runs at a time.
const closers = 64

// closeSockets begins to close all sockets.
func (n *Node) closeSockets() {
	var all []*Socket
	for ns := range n.spaces.all() {
		all = append(all, ns.everySocket()...)
	}
	done := make([]<-chan struct{}, len(all)) // nil: somebody else closed the socket
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(closers, len(all)) {
		wg.Add(1)
		guard.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				all[i].close(ReasonShutdown, func(ended <-chan struct{}) { done[i] = ended })
			}
			wg.Done()
		})
	}
	go func() {
		wg.Wait()
		for i, d := range done {
			if d != nil {
				<-d
				n.socketEnded(all[i])
			}
		}
	}()
}
