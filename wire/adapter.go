package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// Adapter carries instructions between nodes over a [Bus]. It serves one node. It implements crosscast.Adapter, and
// Subscriber, Deliverer, Flusher, Prover, PeerObserver, Listener and Meter.
//
// Its goroutines, which Close ends and waits for: the writer (writer.go), the one that tells of the link's state
// (state.go), the supervisor of the link, for each link one that reads and delivers and one that writes subscriptions
// (link.go), one that reports lost peers (lost.go), and one that looks for another server while peers are silent
// (move.go). Those of a Start that failed end by themselves, when the bus lets them; the next Start waits for that.
type Adapter struct {
	bus     Bus
	dialect Dialect // nil: nodes' own frames
	o       Options
	optErr  error
	stats   stats

	refusals refusals

	mu      sync.Mutex          // guards what follows
	user    *crosscast.NodeInfo // the node that has the adapter; nil: none
	running bool                // Start returned nil
	gone    chan struct{}       // closed when everything of the latest start has stopped; nil: there was none
	closed  chan struct{}       // never replaced; closed, with mu held, by Close

	// What follows is of one start, and made anew by the next, with mu held. Until Start has returned nil nobody may use
	// it but that start, and AdapterStats with mu held.
	self    crosscast.NodeInfo
	handler crosscast.Handler

	noticeTo destination // of frames without instructions
	echoTo   destination // what this node publishes there, it hears

	writer   *writer
	echo     *echo
	subs     *subscriptions
	incoming *incoming
	mover    *mover
	inbox    *inbox // of an emitter
	state    *state

	ctx  context.Context // ends when the adapter stops
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// New returns an adapter over bus. Options are checked by Start.
func New(bus Bus, o Options) *Adapter {
	a := &Adapter{bus: bus, closed: make(chan struct{})}
	a.o, a.optErr = o.withDefaults()
	a.renew()
	return a
}

// renew makes what is of one start.
func (a *Adapter) renew() {
	a.noticeTo, a.echoTo = destination{}, destination{}
	a.writer = newWriter(a)
	a.echo, a.subs, a.incoming, a.inbox = &echo{}, &subscriptions{}, &incoming{}, &inbox{}
	a.mover, a.state = &mover{}, &state{}
	a.echo.init(a)
	a.subs.init(a)
	a.incoming.init(a)
	a.mover.init(a)
	a.state.init(a)
}

// Start implements crosscast.Adapter. One attempt is made; when it fails, so does Start. It returns by the end of ctx,
// whatever the bus does.
func (a *Adapter) Start(ctx context.Context, self crosscast.NodeInfo, h crosscast.Handler) error {
	if a.optErr != nil {
		return a.optErr
	}
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	if len(self.ID) != 8 {
		return fmt.Errorf("crosscast: node ID %q does not have 8 bytes", string(self.ID))
	}
	if self.Heartbeat <= 0 {
		self.Heartbeat = time.Second
	}
	if err := a.take(ctx, self); err != nil {
		return err
	}
	a.mu.Lock()
	a.renew()
	a.mu.Unlock()
	a.self, a.handler = self, h
	a.ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	start := a.startNode
	if self.EmitOnly {
		start = a.startEmitter
		a.echoTo = destination{node: self.ID}
	}
	if a.dialect != nil {
		a.startDialect()
	} else {
		a.startFrames()
	}
	a.state.publishing(crosscast.LinkConnecting, nil)
	a.wg.Go(a.state.run)
	err := start(ctx)
	if err == nil {
		a.state.drain(ctx) // what the node does next might depend on it
	}
	return a.settle(err)
}

// take makes the adapter a node's. When a start has failed before, it waits, bounded by ctx, for the end of it.
func (a *Adapter) take(ctx context.Context, self crosscast.NodeInfo) error {
	a.mu.Lock()
	if a.user != nil {
		defer a.mu.Unlock()
		return fmt.Errorf("crosscast: the adapter is in use by node %q (%s)", a.user.Name, a.user.ID)
	}
	a.user = &self
	before := a.gone
	a.mu.Unlock()
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
			a.mu.Lock()
			defer a.mu.Unlock()
			a.user = nil
			return fmt.Errorf("an earlier start has not ended yet: %w", ctx.Err())
		}
	}
	return nil
}

// settle ends Start. After an error the next node may have the adapter.
func (a *Adapter) settle(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.isClosed() {
		err = crosscast.ErrClosed
	}
	a.running = err == nil
	if err != nil {
		a.user = nil
		a.writer.halt()
		a.stop()
	}
	gone := make(chan struct{})
	a.gone = gone
	go func() {
		a.wg.Wait()
		close(gone)
	}()
	return err
}

// startFrames wants the topics on which a node, or an emitter, gets frames that it needs whatever it has interest in.
func (a *Adapter) startFrames() {
	if p, ok := a.bus.(Patchy); ok && p.Patchy() {
		a.writer.quiet = &quiet{}
		a.subs.hashed = hashedTopics{}
	}
	a.subs.add(destination{node: a.self.ID})
	if a.self.EmitOnly {
		return
	}
	a.subs.add(destination{})
	if a.o.Ingress {
		a.subs.add(destination{ingress: true})
	}
}

// startNode returns when the first link hears what it must, and the bus has accepted a notice.
func (a *Adapter) startNode(ctx context.Context) error {
	a.state.subscribing(crosscast.LinkConnecting, nil)
	l, err := a.connect(ctx, nil)
	if err != nil {
		return err
	}
	select {
	case <-l.resumed:
		err = a.startWriter(ctx)
	case <-l.broken:
		err = l.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		a.wg.Go(func() { a.supervise(l) })
		a.wg.Go(a.incoming.lose)
		a.wg.Go(a.mover.run)
		return nil
	}
	l.fail(err)
	a.linkDown(l)
	return err
}

// startWriter lets the writer run, and returns when the bus has accepted a notice.
func (a *Adapter) startWriter(ctx context.Context) error {
	w := a.writer
	w.mu.Lock()
	w.pace = newPace(max(min(a.self.Heartbeat, a.o.PublishTimeout)/4, time.Millisecond))
	w.notices, w.echoes = a.noticeTo.topic(a.o.Prefix), a.echoTo.topic(a.o.Prefix)
	d := w.probe(a.noticeTo)
	w.mu.Unlock()
	a.wg.Go(func() { w.run(a.ctx) })
	return d.wait(ctx)
}

// Publish implements crosscast.Adapter.
func (a *Adapter) Publish(ctx context.Context, in *crosscast.Instruction) error {
	return a.writer.publish(ctx, in, nil)
}

// Deliver implements crosscast.Deliverer.
func (a *Adapter) Deliver(ctx context.Context, in *crosscast.Instruction) (crosscast.Reach, error) {
	d := &delivery{done: make(chan struct{})}
	if err := a.writer.publish(ctx, in, d); err != nil {
		return crosscast.Reach{}, err
	}
	select {
	case <-d.done:
		return d.reach, d.err
	case <-ctx.Done():
		return crosscast.Reach{}, fmt.Errorf("%w: %w", crosscast.ErrUncertain, ctx.Err())
	}
}

// Flush implements crosscast.Flusher.
func (a *Adapter) Flush(ctx context.Context) error {
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	return a.flush(ctx)
}

func (a *Adapter) flush(ctx context.Context) error {
	w := a.writer
	w.mu.Lock()
	if w.flushed(w.opened) {
		w.mu.Unlock()
		return nil
	}
	f := flusher{target: w.opened, done: make(chan struct{})}
	w.flushers = append(w.flushers, f)
	w.mu.Unlock()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Subscribe implements crosscast.Subscriber. An emitter has no interest in anything; one that speaks a dialect may need
// it for answers, and subscribes after Listen.
func (a *Adapter) Subscribe(ctx context.Context, names ...crosscast.Address) error {
	if a.self.EmitOnly && a.dialect == nil {
		return crosscast.ErrEmitOnly
	}
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	return a.subs.subscribe(ctx, names)
}

// Unsubscribe implements crosscast.Subscriber.
func (a *Adapter) Unsubscribe(_ context.Context, names ...crosscast.Address) error {
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	a.subs.remove(names)
	return nil
}

// Proven implements crosscast.Prover: the link is up, what was published last was accepted, nothing has been under way for
// long, and no echo is overdue.
func (a *Adapter) Proven() bool {
	w := a.writer
	w.mu.Lock()
	up := w.up() && (w.sending.IsZero() || time.Since(w.sending) < a.echo.timeout())
	w.mu.Unlock()
	return up && !a.echo.overdue()
}

// Close implements crosscast.Adapter. While the link is up it publishes what is queued; what is left then is a Loss.
func (a *Adapter) Close(ctx context.Context) error {
	a.mu.Lock()
	if !a.isClosed() {
		close(a.closed)
	}
	running, gone := a.running, a.gone
	a.mu.Unlock()
	var err error
	if running {
		err = a.finish(ctx)
	}
	if gone == nil {
		return err
	}
	select {
	case <-gone:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// finish hands over what is queued while the link is up, and has everything stop.
func (a *Adapter) finish(ctx context.Context) error {
	w := a.writer
	w.mu.Lock()
	w.closing = true
	up := w.up()
	w.freeBytes(0) // wakes those who wait for room
	w.mu.Unlock()
	var err error
	if up {
		err = a.flush(ctx)
		w.lastWords(ctx)
	}
	w.halt()
	a.stop()
	return err
}

func (a *Adapter) isClosed() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}

// downError is what a caller is told who needs a link while there is none.
func (a *Adapter) downError() error {
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	return crosscast.ErrNotConnected
}

// hears reports whether this node itself is among the receivers of a topic.
func (a *Adapter) hears(topic string) bool { return a.subs.confirmed(topic) }
