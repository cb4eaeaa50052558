package crosscast

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch is how many names one call of Subscriber asks for.
const maxBatch = 4096

// An interest is what a node asks of its adapter for the sake of one group: to hear its name. It begins when the
// group gets its first member and ends when the group has lingered without any; that of everyone in a namespace begins
// with the namespace and does not end. Whether a group is in use changes under its shard's lock, and so does the
// decision to end its interest: an ended interest is in no map, and a group that comes after it has a new one, which
// can only be asked for after the old one was given up, because one goroutine does both.
type interest struct {
	group     *group
	confirmed atomic.Bool // the adapter hears the name; written by the worker

	// Guarded by interests.mu:
	batch     *batch // that asks for it now; nil: nothing under way
	lingering bool   // it is in interests.linger
	idleSince time.Time
	ended     bool // given up; the group is in no map any more
}

// A batch is the interests that one call asks for. New ones join the last batch until the worker takes it, so while
// one call waits the next batch fills, and no timer is needed.
type batch struct {
	interests []*interest
	done      chan struct{}
	err       error // valid once done is closed
}

// A lingerer is looked at again at a time.
type lingerer struct {
	it *interest
	at time.Time
}

// interests owns one goroutine, the only one that calls the Subscriber. A nil *interests asks for nothing.
type interests struct {
	sub    Subscriber
	node   *Node
	every  bool          // sub is Selective
	after  time.Duration // how long to linger
	cancel context.CancelFunc
	ended  chan struct{} // closed when the worker has ended
	wake   chan struct{}

	mu      sync.Mutex // guards what follows; locked after a shard's
	batches []*batch
	linger  []lingerer // by time
	stopped bool
}

func startInterests(n *Node, sub Subscriber, linger time.Duration) *interests {
	ctx, cancel := context.WithCancel(context.Background())
	x := &interests{
		sub: sub, node: n, after: linger, cancel: cancel,
		ended: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if sel, ok := sub.(Selective); ok {
		x.every = sel.Selective()
	}
	go x.work(ctx)
	return x
}

// all reports whether namespaces and sockets have interests, too.
func (x *interests) all() bool { return x != nil && x.every }

// of makes the interest of a new group.
func (x *interests) of(g *group) *interest {
	if x == nil {
		return nil
	}
	return &interest{group: g}
}

// idle notes that the interest's group is not in use any more; the shard of the group is locked.
func (x *interests) idle(it *interest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it.idleSince = time.Now()
	if !it.lingering {
		x.push(it, it.idleSince.Add(x.after))
	}
}

// push lets it linger until at, or until what lingers already is done with; x.mu is held.
func (x *interests) push(it *interest, at time.Time) {
	it.lingering = true
	if n := len(x.linger); n == 0 {
		x.poke() // the worker waits without a timer
	} else if last := x.linger[n-1].at; at.Before(last) {
		at = last
	}
	x.linger = append(x.linger, lingerer{it, at})
}

func (x *interests) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// wait asks for what is not confirmed yet, and waits for it. Everything is asked for before the first wait.
func (x *interests) wait(ctx context.Context, its []*interest) error {
	if len(its) == 0 {
		return nil
	}
	start := time.Now()
	var few [4]*batch
	wait, err := x.request(its, few[:0])
	if err != nil {
		return err
	}
	for _, b := range wait {
		select {
		case <-b.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err == nil {
			err = b.err
		}
	}
	if err == nil {
		x.node.stats.joined(time.Since(start))
	}
	return err
}

// want asks for what is not confirmed yet, and waits for nothing.
func (x *interests) want(its []*interest) {
	if len(its) > 0 {
		var few [4]*batch
		x.request(its, few[:0])
	}
}

// request asks for what is not confirmed yet, and appends the batches that do to wait.
func (x *interests) request(its []*interest, wait []*batch) ([]*batch, error) {
	x.mu.Lock()
	if x.stopped {
		x.mu.Unlock()
		return wait, ErrClosed
	}
	for _, it := range its {
		if it.confirmed.Load() || it.ended {
			continue
		}
		if it.batch == nil {
			it.batch = x.open()
			it.batch.interests = append(it.batch.interests, it)
		}
		if !slices.Contains(wait, it.batch) {
			wait = append(wait, it.batch)
		}
	}
	x.mu.Unlock()
	x.poke()
	return wait, nil
}

// open returns the batch that takes new interests; x.mu is held.
func (x *interests) open() *batch {
	if n := len(x.batches); n > 0 && len(x.batches[n-1].interests) < maxBatch {
		return x.batches[n-1]
	}
	x.node.busy.begin()
	b := &batch{done: make(chan struct{})}
	x.batches = append(x.batches, b)
	return b
}

// work calls the Subscriber until ctx ends.
func (x *interests) work(ctx context.Context) {
	defer close(x.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		next := x.expire(ctx, time.Now())
		if b := x.next(); b != nil {
			x.finish(b, x.ask(ctx, b))
			continue
		}
		timer.Stop()
		var due <-chan time.Time // never, while nothing lingers
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-x.wake:
		case <-due:
		case <-ctx.Done():
		}
	}
	x.mu.Lock()
	x.stopped = true
	x.mu.Unlock()
	for b := x.next(); b != nil; b = x.next() {
		x.finish(b, ErrClosed)
	}
}

// next takes the oldest batch; nil: there is none.
func (x *interests) next() *batch {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.batches) == 0 {
		return nil
	}
	b := x.batches[0]
	x.batches = slices.Delete(x.batches, 0, 1)
	return b
}

// ask subscribes to the batch's names.
func (x *interests) ask(ctx context.Context, b *batch) error {
	names := make([]Address, 0, len(b.interests))
	x.mu.Lock()
	for _, it := range b.interests { // b is out of the list, so nothing is added to it any more
		if !it.ended {
			names = append(names, it.group.address())
		}
	}
	x.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	err := x.sub.Subscribe(ctx, names...)
	if err != nil && ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// finish lets everyone who waits for b go on. After an error its interests may be asked for again.
func (x *interests) finish(b *batch, err error) {
	x.mu.Lock()
	for _, it := range b.interests {
		it.batch = nil
		if err == nil && !it.ended {
			it.confirmed.Store(true)
		}
	}
	x.mu.Unlock()
	b.err = err
	close(b.done)
	x.node.busy.end(1)
}

// expire ends the interests that have lingered long enough, and returns when to look again; zero: nothing lingers. One
// that was in use meanwhile waits once more, at the end of the list, so it lingers for less than twice as long.
func (x *interests) expire(ctx context.Context, now time.Time) (next time.Time) {
	var names []Address
	for {
		x.mu.Lock()
		if len(x.linger) == 0 || x.linger[0].at.After(now) {
			if len(x.linger) > 0 {
				next = x.linger[0].at
			}
			x.mu.Unlock()
			break
		}
		it := x.linger[0].it
		x.linger[0].it = nil
		x.linger = x.linger[1:]
		it.lingering = false
		x.mu.Unlock()
		if it.group.expire(now) {
			names = append(names, it.group.address())
		}
	}
	for part := range slices.Chunk(names, maxBatch) {
		if err := x.sub.Unsubscribe(ctx, part...); err != nil {
			x.node.log.Debug("crosscast: unsubscribe", "error", err)
		}
	}
	return next
}

// expire ends g and its interest if g is not in use and has not been for long enough.
func (g *group) expire(now time.Time) bool {
	x, it := g.ns.node.interests, g.interest
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if len(g.sockets) > 0 || len(g.subs) > 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case it.lingering: // it became idle again just now
		return false
	case it.idleSince.Add(x.after).After(now):
		x.push(it, it.idleSince.Add(x.after))
		return false
	}
	it.ended = true
	delete(g.shard.groups[g.space-1], g.name)
	return true
}

// stop ends the worker and waits for it, bounded by ctx; whoever waits gets ErrClosed.
func (x *interests) stop(ctx context.Context) {
	if x == nil {
		return
	}
	x.cancel()
	select {
	case <-x.ended:
	case <-ctx.Done():
	}
}
