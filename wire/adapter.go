package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
)

// Adapter carries instructions between nodes over a [Bus]. It serves one node. It implements crosscast.Adapter and
// these optional interfaces: AdapterSubscriber, AdapterDeliverer, AdapterSizer, AdapterObserver and AdapterMeter.
type Adapter struct {
	bus       Bus
	newFormat func(*session) format
	o         Options
	optErr    error
	stats     stats
	refusals  refusals
	seen      *seenIDs
	together  *together // of the parts of one node; nil: the adapter is alone

	// run belongs to the latest start. The next start replaces it, even while calls of hooks of the failed one are under
	// way.
	run atomic.Pointer[run]

	mu      sync.Mutex          // guards the fields below
	user    *crosscast.NodeInfo // the node that has the adapter; nil: none
	running bool                // Start returned nil
	gone    chan struct{}       // closed when all goroutines of the latest start have ended; nil: no start yet
	closed  chan struct{}       // never replaced; closed, with mu held, by Close
}

// New returns an adapter over bus. Start checks the options.
func New(bus Bus, o Options) *Adapter {
	return newAdapter(bus, o, func(s *session) format { return &ownFrames{s} })
}

func newAdapter(bus Bus, o Options, newFormat func(*session) format) *Adapter {
	a := &Adapter{bus: bus, newFormat: newFormat, seen: new(seenIDs), closed: make(chan struct{})}
	a.o, a.optErr = o.withDefaults(bus)
	a.run.Store(a.newRun(context.Background(), crosscast.AdapterStart{}))
	return a
}

// Start implements crosscast.Adapter. It makes one attempt to connect, and fails if that fails. It returns by the end
// of ctx, even if the bus does not.
func (a *Adapter) Start(ctx context.Context, s crosscast.AdapterStart) error {
	if a.optErr != nil {
		return a.optErr
	}
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	if len(s.Self.ID) != 8 {
		return fmt.Errorf("crosscast: node ID %q does not have 8 bytes", string(s.Self.ID))
	}
	if s.Self.Heartbeat <= 0 {
		s.Self.Heartbeat = time.Second
	}
	if err := a.reserve(ctx, s.Self); err != nil {
		return err
	}
	r := a.newRun(ctx, s)
	r.prepare()
	a.run.Store(r)
	return a.settle(r, r.begin(ctx))
}

// reserve gives the adapter to a node. After a failed start it waits, until ctx ends, for that start's goroutines to
// end.
func (a *Adapter) reserve(ctx context.Context, self crosscast.NodeInfo) error {
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
			return errtext.Errorf("an earlier start has not ended yet: %w", ctx.Err())
		}
	}
	return nil
}

// settle ends Start. After an error another node may use the adapter.
func (a *Adapter) settle(r *run, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.isClosed() {
		err = crosscast.ErrClosed
	}
	a.running = err == nil
	r.started.Store(a.running)
	if err != nil {
		a.user = nil
		r.sender.halt()
		r.beginSender() // so that the instructions that hooks have published meanwhile get an outcome
		r.stop()
	}
	gone := make(chan struct{})
	a.gone = gone
	go func() {
		r.wg.Wait()
		close(gone)
	}()
	return err
}

// Publish implements crosscast.Adapter.
func (a *Adapter) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	return a.run.Load().sender.publish(ctx, inst, nil)
}

// Deliver implements crosscast.AdapterDeliverer.
func (a *Adapter) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	d := newDelivery()
	if err := a.run.Load().sender.publish(ctx, inst, d); err != nil {
		return crosscast.Receipt{}, err
	}
	select {
	case <-d.done:
		return d.receipt, d.err
	case <-ctx.Done():
		return crosscast.Receipt{}, errtext.Errorf("%w: %w", crosscast.ErrUncertain, ctx.Err())
	}
}

// Flush implements crosscast.AdapterDeliverer.
func (a *Adapter) Flush(ctx context.Context) error {
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	return a.run.Load().sender.flush(ctx)
}

// Subscribe implements crosscast.AdapterSubscriber. An emitter has no interest. One over a dialect may need it for
// answers, and then subscribes after Listen.
func (a *Adapter) Subscribe(ctx context.Context, names ...crosscast.Address) error {
	if !a.run.Load().ground.interest {
		return crosscast.ErrEmitOnly
	}
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	return a.run.Load().subs.subscribe(ctx, names)
}

// Unsubscribe implements crosscast.AdapterSubscriber.
func (a *Adapter) Unsubscribe(_ context.Context, names ...crosscast.Address) error {
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	a.run.Load().subs.unsubscribe(names)
	return nil
}

// Proven implements crosscast.AdapterObserver. It reports whether the link is up, the last batch was accepted, no batch
// has been in flight for long, and no echo is overdue.
func (a *Adapter) Proven() bool { return a.run.Load().mover.proven() }

// Close implements crosscast.Adapter. While the link is up it publishes the queue; frames that are left then are a
// Loss. Then it closes the bus, if that is an io.Closer.
func (a *Adapter) Close(ctx context.Context) error {
	a.mu.Lock()
	first := !a.isClosed()
	if first {
		close(a.closed)
	}
	running, gone := a.running, a.gone
	a.mu.Unlock()
	var err error
	if running {
		err = a.run.Load().end(ctx)
	}
	if gone != nil {
		select {
		case <-gone:
		case <-ctx.Done():
			err = errors.Join(err, ctx.Err())
		}
	}
	if c, ok := a.bus.(io.Closer); ok && first {
		if closeErr := closeBus(ctx, c); !errors.Is(err, closeErr) {
			err = errors.Join(err, closeErr)
		}
	}
	return err
}

// closeBus returns by the end of ctx. A client library might close its connections in turn, and wait for each.
func closeBus(ctx context.Context, c io.Closer) error {
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Adapter) isClosed() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}
