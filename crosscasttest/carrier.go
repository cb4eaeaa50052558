package crosscasttest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/activity"
	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/membus"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/wire"
)

// A bus is what the nodes of a cluster share.
type bus struct {
	hub  *membus.Hub
	busy activity.Counter
	lose atomic.Int64 // the number of emissions to lose
}

func newBus() *bus {
	b := &bus{hub: membus.New()}
	b.hub.Busy = &b.busy
	return b
}

// settle returns when nothing is under way. Instructions that wait for a link that was cut are not.
func (b *bus) settle(ctx context.Context, carriers []*carrier) error {
	for {
		before := b.busy.Changes()
		for _, c := range carriers {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
		if err := b.busy.Wait(ctx); err != nil {
			return err
		}
		if b.busy.Changes() == before { // else something was published after the flush, or might have been
			return nil
		}
	}
}

// A carrier is the adapter of one node: that of package wire, as on Redis, over a bus in memory. There are two
// differences: Publish returns when the bus has an instruction, so that nobody who joins later gets it; and the work is
// counted, so that Settle can wait for its end.
type carrier struct {
	*wire.Adapter
	bus    *bus
	port   *membus.Port
	losing chan struct{} // holds one while an emission is lost; no lock, because that might wait, also for a bubble's time

	mu       sync.Mutex // guards the following fields
	emitOnly bool
	up       context.Context // ends when the link is cut, and is replaced when it is not any more
	cut      context.CancelFunc
	link     crosscast.LinkStatus
	changed  chan struct{}         // closed by the next change of link, and replaced
	beat     crosscast.Instruction // a heartbeat of the node
}

// maxFrame allows any Options.MaxPayload below it.
const maxFrame = 1 << 30

func (b *bus) newCarrier(name string) *carrier {
	port := b.hub.Port(name)
	c := &carrier{
		Adapter: wire.New(port, wire.Options{MaxFrame: maxFrame}), bus: b, port: port,
		losing: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	c.up, c.cut = context.WithCancel(context.Background())
	return c
}

// Activity makes the node count its work.
func (c *carrier) Activity() *activity.Counter { return &c.bus.busy }

func (c *carrier) Start(ctx context.Context, s crosscast.AdapterStart) error {
	c.mu.Lock()
	c.emitOnly = s.EmitOnly
	c.mu.Unlock()
	s.Handler = linkWatcher{s.Handler, c}
	return c.Adapter.Start(ctx, s)
}

// A linkWatcher is a node that also lets its carrier know the state of the link.
type linkWatcher struct {
	crosscast.AdapterHandler
	carrier *carrier
}

func (w linkWatcher) Link(s crosscast.LinkStatus) {
	w.AdapterHandler.Link(s) // before the carrier knows, so that Settle waits for the hook after Cut and Heal
	c := w.carrier
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until the link is as ok wants it, or the node is closed.
func (c *carrier) await(ctx context.Context, ok func(crosscast.LinkStatus) bool) error {
	for {
		c.mu.Lock()
		s, changed := c.link, c.changed
		c.mu.Unlock()
		if ok(s) || errors.Is(s.Publishing.Err, crosscast.ErrClosed) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errtext.Errorf("%w: publishing is %s, subscribing is %s", ctx.Err(), s.Publishing.State, s.Subscribing.State)
		}
	}
}

// sever cuts the link, and returns when the node has noticed. An emitter notices with its next emission.
func (c *carrier) sever(ctx context.Context) error {
	emitOnly := c.noteDown()
	c.port.Down()
	if emitOnly {
		return nil
	}
	return c.await(ctx, func(s crosscast.LinkStatus) bool {
		return s.Publishing.State != reasons.LinkLive && s.Subscribing.State != reasons.LinkLive
	})
}

func (c *carrier) noteDown() (emitOnly bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut()
	return c.emitOnly
}

// repair ends sever, and returns when the link is live.
func (c *carrier) repair(ctx context.Context) error {
	c.port.Up()
	if err := c.await(ctx, crosscast.LinkStatus.Live); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up.Err() != nil {
		c.up, c.cut = context.WithCancel(context.Background())
	}
	return nil
}

// usable returns a context that ends when the link is cut, and whether the link is live now.
func (c *carrier) usable() (up context.Context, live bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up, c.up.Err() == nil && c.link.Live()
}

// flush waits until the bus has everything that was published, or the link is cut.
func (c *carrier) flush(ctx context.Context) error {
	up, _ := c.usable()
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(up, cancel)()
	_ = c.Flush(both) // it fails when both ends, and when the node is closed
	return ctx.Err()
}

func (c *carrier) Publish(ctx context.Context, inst *crosscast.Instruction) error {
	c.bus.busy.Begin()
	defer c.bus.busy.End(1)
	if inst.Kind.Control() {
		c.noteBeat(inst)
		return c.Adapter.Publish(ctx, inst)
	}
	_, live := c.usable()
	if live && c.bus.takesLoss(inst) {
		if _, err := c.publishLost(ctx, inst); !errors.Is(err, errLost) {
			return err
		}
		return nil
	}
	if err := c.Adapter.Publish(ctx, inst); err != nil || !live {
		return err
	}
	_ = c.flush(ctx) // inst is accepted, whether or not ctx has ended
	return nil
}

func (c *carrier) Deliver(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	c.bus.busy.Begin()
	defer c.bus.busy.End(1)
	if _, live := c.usable(); live && c.bus.takesLoss(inst) {
		return c.publishLost(ctx, inst)
	}
	return c.Adapter.Deliver(ctx, inst)
}

// noteBeat makes a heartbeat of a hello or heartbeat.
func (c *carrier) noteBeat(inst *crosscast.Instruction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beat = *inst
	c.beat.Kind, c.beat.To, c.beat.Target = kind.Heartbeat, "", crosscast.Target{Everyone: true}
}

// takesLoss reports whether inst is one of the emissions to lose.
func (b *bus) takesLoss(inst *crosscast.Instruction) bool {
	for n := b.lose.Load(); n > 0 && inst.Kind == kind.Emit; n = b.lose.Load() {
		if b.lose.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

var errLost = errors.New("crosscasttest: the bus has lost it")

// publishLost publishes inst in a batch of its own, which the bus loses without an answer. Peers learn of a loss from
// the node's next heartbeat. One more is published at once, so that Settle need not wait for it.
func (c *carrier) publishLost(ctx context.Context, inst *crosscast.Instruction) (crosscast.Receipt, error) {
	select {
	case c.losing <- struct{}{}:
		defer func() { <-c.losing }()
	case <-ctx.Done():
		return crosscast.Receipt{}, ctx.Err()
	}
	if err := c.flush(ctx); err != nil {
		return crosscast.Receipt{}, err
	}
	c.port.SetFate(func(wire.Frame) membus.Fate { return membus.Fate{Err: errLost, Lost: true} })
	receipt, err := c.Adapter.Deliver(ctx, inst)
	c.port.SetFate(nil)
	if !errors.Is(err, errLost) {
		c.bus.lose.Add(1) // it was refused, and did not reach the bus
		return receipt, err
	}
	c.mu.Lock()
	beat := c.beat
	c.mu.Unlock()
	if beat.Kind == kind.Heartbeat {
		_, _ = c.Adapter.Deliver(ctx, &beat) // Flush does not wait for heartbeats; if it fails, the next one carries the loss
	}
	return receipt, err
}
