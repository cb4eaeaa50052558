package wire

import (
	"context"
	"sync"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/reasons"
)

// Emitters are adapters of nodes with NodeInfo.EmitOnly. They publish like others, but make no link before the node's
// first query, and then receive only the node's inbox. Other nodes learn three facts from their peers' frames. Emitters
// learn them in other ways:
//
//   - The emitter is connected, and may publish: the bus accepts a notice at the start.
//   - Its link receives: a notice to its own inbox comes back, before each query.
//   - The peers are back after an outage: enough links get a notice to everyone, if the bus can count them.
//
// An emitter has no heartbeats to carry its losses, so it publishes each to everyone at once.

// superviseWhenWanted makes the link at the first Listen, and replaces it from then on.
func (r *run) superviseWhenWanted() {
	select {
	case <-r.inbox.wanted:
		r.state.subscribing(reasons.LinkConnecting, nil)
		r.supervise(nil)
	case <-r.ctx.Done():
	}
}

// inbox is the state of an emitter's link.
type inbox struct {
	once   sync.Once
	wanted chan struct{} // closed by the first Listen

	mu      sync.Mutex // guards the fields below
	link    *link      // nil: there is none
	err     error      // why there is no link; nil: no attempt yet
	changed chan struct{}
}

func newInbox() *inbox { return &inbox{wanted: make(chan struct{}), changed: make(chan struct{})} }

// noteLink enters the state of the link. The supervisor calls it; only emitters read the result.
func (x *inbox) noteLink(l *link, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.link, x.err = l, err
	close(x.changed)
	x.changed = make(chan struct{})
}

func (x *inbox) current() (*link, <-chan struct{}, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.link, x.changed, x.err
}

// Listen implements crosscast.AdapterSubscriber. The first call makes the link, which stays until Close.
func (a *Adapter) Listen(ctx context.Context) error {
	r := a.run.Load()
	if r.presence.linked {
		return nil
	}
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	r.inbox.once.Do(func() { close(r.inbox.wanted) })
	for {
		l, changed, err := r.inbox.current()
		if l != nil {
			return r.prove(ctx, l)
		}
		if err != nil {
			return errtext.Errorf("%w: %w", crosscast.ErrNotConnected, err)
		}
		select {
		case <-changed:
		case <-r.closed:
			return crosscast.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// prove returns when an echo has proved that l works.
func (r *run) prove(ctx context.Context, l *link) error {
	down := func() error { return errtext.Errorf("%w: %w", crosscast.ErrNotConnected, l.err) }
	select {
	case <-l.resumed:
	case <-l.broken:
		return down()
	case <-r.closed:
		return crosscast.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.sender.probe(r.ground.echoes).wait(ctx); err != nil {
		return errtext.Errorf("%w: %w", crosscast.ErrNotConnected, err)
	}
	select { // the outcome of the notice has started the wait for its echo, unless the echo came before
	case <-r.echo.allBack():
	case <-l.broken:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-l.broken:
		return down()
	default:
		return nil
	}
}
