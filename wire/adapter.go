package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
)

// Adapter carries instructions over a [Bus]. It serves one node. It implements crosscast.Adapter, and Subscriber,
// Deliverer, Flusher, Prover, PeerObserver, Listener and Meter.
//
// Its goroutines, which Close ends and waits for: the writer (writer.go), the one that tells of the link's state
// (state.go), the supervisor of the link, for each link one that reads and delivers and one that writes subscriptions
// (link.go), one that reports lost peers (lost.go), and one that looks for another server while peers are silent
// (move.go).
type Adapter struct {
	bus     Bus
	dialect Dialect // nil: nodes' own frames
	o       Options
	optErr  error
	self    crosscast.NodeInfo
	handler crosscast.Handler

	noticeTo destination // of frames without instructions
	echoTo   destination // what this node publishes there, it hears

	writer   *writer
	echo     echo
	subs     subscriptions
	incoming incoming
	mover    mover
	inbox    inbox // of an emitter
	refusals refusals
	state    state
	stats    stats

	ctx    context.Context // ends when the adapter stops
	stop   context.CancelFunc
	wg     sync.WaitGroup
	closed chan struct{} // Close was called
	once   sync.Once     // closes closed
	gone   chan struct{} // everything has stopped
	ready  atomic.Bool   // Start returned nil
}

// New returns an adapter over bus. Options are checked by Start.
func New(bus Bus, o Options) *Adapter {
	a := &Adapter{bus: bus, closed: make(chan struct{}), gone: make(chan struct{})}
	a.o, a.optErr = o.withDefaults()
	a.writer = newWriter(a)
	a.echo.init(a)
	a.subs.init(a)
	a.incoming.init(a)
	a.state.init(a)
	a.mover.init(a)
	return a
}

// Start implements crosscast.Adapter. One attempt is made; when it fails, so does Start.
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
	if err := start(ctx); err != nil {
		a.stop()
		a.once.Do(func() { close(a.closed) })
		a.wg.Wait()
		close(a.gone)
		return err
	}
	a.ready.Store(true)
	go func() {
		a.wg.Wait()
		close(a.gone)
	}()
	return nil
}

// startFrames wants the topics on which a node, or an emitter, gets frames that it needs whatever it has interest in.
func (a *Adapter) startFrames() {
	a.writer.header = plainHeader
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

// startNode returns when the first link hears what it must.
func (a *Adapter) startNode(ctx context.Context) error {
	a.state.subscribing(crosscast.LinkConnecting, nil)
	l, err := a.connect(ctx, nil)
	if err != nil {
		return err
	}
	select {
	case <-l.resumed:
		a.wg.Go(func() { a.supervise(l) })
		a.wg.Go(func() { a.writer.run(a.ctx) })
		a.wg.Go(a.incoming.lose)
		a.wg.Go(a.mover.run)
		return nil
	case <-l.broken:
		err = l.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.fail(err)
	a.linkDown(l)
	return err
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
	if w.settled == w.opened {
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

// Proven implements crosscast.Prover: the link is up, what was published last was accepted, and no echo is overdue.
func (a *Adapter) Proven() bool {
	w := a.writer
	w.mu.Lock()
	up := w.up()
	w.mu.Unlock()
	return up && !a.echo.overdue()
}

// Close implements crosscast.Adapter. While the link is up it publishes what is queued; what is left then is a Loss.
func (a *Adapter) Close(ctx context.Context) error {
	a.once.Do(func() { close(a.closed) })
	if !a.ready.Load() {
		return nil
	}
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
	w.mu.Lock()
	w.stopping = true
	done := w.dropControl()
	w.mu.Unlock()
	w.finish(nil, done)
	w.signal()
	a.stop()
	select {
	case <-a.gone:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
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
