package wire

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/crosscast/crosscast"
)

// Emitters: adapters of nodes with NodeInfo.EmitOnly. Publishing is as ever, but there is no link before the node asks
// something, and then it hears the node's inbox only. What nodes learn from what they hear an emitter does otherwise:
//
//   - that it is connected, and may publish: a notice at the start, which is accepted or not;
//   - that its link hears: a notice to its own inbox, before each question, which must come back;
//   - that peers are back after an outage: how many links get a notice to everyone, where the bus can tell.
//
// No heartbeat tells its losses, so it tells everyone of each at once.

// startEmitter is Start for an emitter. It returns when the bus has accepted a notice.
func (a *Adapter) startEmitter(ctx context.Context) error {
	a.inbox.init()
	w := a.writer
	w.mu.Lock()
	w.linkUp = true
	w.mu.Unlock()
	a.wg.Go(func() {
		select {
		case <-a.inbox.wanted:
			a.supervise(nil)
		case <-a.ctx.Done():
		}
	})
	return a.startWriter(ctx)
}

// probe queues a notice, and returns what waits for its outcome. The caller holds mu, and calls signal after it.
func (w *writer) probe(to destination) *delivery {
	d := &delivery{left: 1, done: make(chan struct{})}
	d.reach.Known = true
	if w.stopping { // nobody would send it
		d.err = fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrClosed)
		close(d.done)
		return d
	}
	f := w.newFrame(w.topic(to), true, 0)
	f.deliveries = append(f.deliveries, d)
	w.control = append(w.control, f)
	return d
}

func (d *delivery) wait(ctx context.Context) error {
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inbox is the state of an emitter's link.
type inbox struct {
	once   sync.Once
	wanted chan struct{} // closed by the first Listen

	mu      sync.Mutex // guards what follows
	link    *link      // nil: there is none
	err     error      // why not; nil: nobody tried yet
	changed chan struct{}
}

func (x *inbox) init() { x.wanted, x.changed = make(chan struct{}), make(chan struct{}) }

// note enters what became of the link. It is called by the supervisor, of nodes too, where nobody looks.
func (x *inbox) note(l *link, err error) {
	if x.changed == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.link, x.err = l, err
	close(x.changed)
	x.changed = make(chan struct{})
}

func (x *inbox) state() (*link, <-chan struct{}, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.link, x.changed, x.err
}

// Listen implements crosscast.Listener. The first call makes the link, which stays until Close.
func (a *Adapter) Listen(ctx context.Context) error {
	if !a.self.EmitOnly {
		return nil
	}
	if a.isClosed() {
		return crosscast.ErrClosed
	}
	a.inbox.once.Do(func() { close(a.inbox.wanted) })
	for {
		l, changed, err := a.inbox.state()
		if l != nil {
			return a.prove(ctx, l)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", crosscast.ErrNotConnected, err)
		}
		select {
		case <-changed:
		case <-a.closed:
			return crosscast.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// prove returns when l surely hears.
func (a *Adapter) prove(ctx context.Context, l *link) error {
	down := func() error { return fmt.Errorf("%w: %w", crosscast.ErrNotConnected, l.err) }
	select {
	case <-l.resumed:
	case <-l.broken:
		return down()
	case <-a.closed:
		return crosscast.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	w := a.writer
	w.mu.Lock()
	d := w.probe(a.echoTo)
	w.mu.Unlock()
	w.signal()
	if err := d.wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", crosscast.ErrNotConnected, err)
	}
	select { // the outcome of the notice began the wait for its echo, unless that was there before
	case <-a.echo.allBack():
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

// probes reports whether an emitter has a reason for a notice: to see whether its peers are back, or to tell them of
// losses. The caller holds mu.
func (w *writer) probes() bool {
	return w.a.self.EmitOnly && (!w.gathering.until.IsZero() || w.lossesTold != w.losses.count)
}

// oldLosses reports whether an emitter, which has no heartbeats to count, has told of each loss for long enough. Then
// only their count is told. The caller holds mu.
func (w *writer) oldLosses() bool {
	return w.a.self.EmitOnly && w.lossesTold == w.losses.count && time.Since(w.losses.last) > emitterMemory
}

// settleEmitter enters how many links got what went to everyone last; -1: it is not known, or nothing did. While there is
// a reason for another notice, that waits a little, whatever became of the last one. The caller holds mu.
func (w *writer) settleEmitter(links int, back bool) {
	if !w.a.self.EmitOnly {
		return
	}
	now := time.Now()
	if links >= 0 {
		w.gathering.heard(links, back, now, w.a.gatherTime())
	}
	switch {
	case !w.probes():
		w.backoff.worked(now.Sub(w.publishes))
	case links >= 0 || !now.Before(w.probeAt):
		w.probeAt = now.Add(w.backoff.next())
	}
}

// gathering is an emitter's wait for its peers after an outage: the bus works, but what is published now may reach
// nobody, because they have yet to connect again. It is over when as many links as before hear everyone's topic, or
// after the adapter's gatherTime. All fields are guarded by writer.mu.
type gathering struct {
	audience int       // links that got the last frame to everyone
	until    time.Time // zero: not gathering
}

func (g *gathering) is(now time.Time) bool { return now.Before(g.until) }

// heard notes how many links got a frame to everyone. back says that the bus has accepted it after an outage.
func (g *gathering) heard(links int, back bool, now time.Time, patience time.Duration) {
	if back && links < g.audience {
		g.until = now.Add(patience)
	}
	if g.is(now) && links < g.audience {
		return
	}
	g.audience, g.until = links, time.Time{}
}
