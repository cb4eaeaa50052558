package crosscast

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crosscast/crosscast/internal/errtext"
)

const (
	minBatch    = 256  // names in one call of Subscribe, if few wait
	maxBatch    = 4096 // if many wait
	maxUnderWay = 3    // calls of Subscribe at the same time
	maxHeld     = 128  // interests handled in one hold of interests.mu, for which a delivery might be waiting
	askAhead    = 1024 // rooms from which a Join subscribes while it goes on
)

// An interest is a node's subscription, at its adapter, to the name of one group, and a part of that. It begins when the
// group gets its first member, and ends when the group has lingered without members. The interest of everyone in a
// namespace begins and ends with the namespace's space. Both the use of a group and the decision to end its interest
// change under the group's shard's lock: an ended interest is in no set, and a later group of that name has a new one.
// An interest does not end while a call subscribes it. One goroutine gives up the ended ones and begins the calls, so
// the new one is subscribed only after the old one was given up.
type interest struct {
	// Guarded by interests.mu:
	batch     *batch        // subscribes it now; nil: nothing under way
	idleSince time.Duration // counted from interests.began
	doubted   bool          // the bus has refused it since batch began, so the outcome of batch proves nothing
	lingering bool          // it is in interests.linger
	postponed bool          // it lingers again when batch has ended
	ended     bool          // given up; the group is in no set any more

	confirmed atomic.Bool // the adapter receives the name; written by the worker
}

// interested reports whether the node subscribes to g's name. Every node hears everyone in "/" anyway.
func (g *group) interested() bool {
	x := g.ns.node.interests
	return x != nil && (g.space != SpaceNamespace || x.every && g.ns.name != "/")
}

// A batch is the interests of one call of Subscribe. New interests join the last batch until the worker takes it. So
// the next batch fills while the calls under way wait, and no timer is needed. Several calls are under way, and the
// first batches are small, so that the bus has work while the outcome of another call is handled.
type batch struct {
	*parties               // until it is finished
	done     chan struct{} // for all who wait, but for Connects
	finished atomic.Bool   // done is closed, or about to be

	// Valid once finished is set:
	err    error            // for every name
	failed map[*group]error // or for some names
}

// parties are the lists of a batch, which are used again. interests.mu guards them.
type parties struct {
	interests []*group
	signals   []chan struct{} // of the Connects that wait
}

// wait waits for the end of b. For the Connect of s, if that is not nil, it returns ErrClosed once s is closed. Connects
// have a signal each, because they are many at the same time: on the channel that they share, each would wait for its
// lock.
func (b *batch) wait(ctx context.Context, s *Socket) error {
	if s == nil {
		select {
		case <-b.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ended := ctx.Done()
	for !b.finished.Load() {
		if s.closed.Load() {
			return ErrClosed
		}
		if ended == nil {
			<-s.rare.early.signal
			continue
		}
		select {
		case <-s.rare.early.signal:
		case <-ended:
			return ctx.Err()
		}
	}
	return nil
}

// outcome returns the error of one of b's interests, once b is finished; nil: it is confirmed.
func (b *batch) outcome(it *group) error {
	if b.err != nil {
		return b.err
	}
	return b.failed[it]
}

// A lingerer is an interest that is examined again at a certain time.
type lingerer struct {
	it *group
	at time.Time
}

// interests owns one goroutine, the worker, which calls Unsubscribe of the AdapterSubscriber, and begins the calls of
// Subscribe. A nil *interests subscribes to nothing.
type interests struct {
	sub    AdapterSubscriber
	node   *Node
	began  time.Time
	every  bool          // the adapter is a ForeignAdapter
	after  time.Duration // the time to linger
	cancel context.CancelFunc
	ended  chan struct{} // closed when the worker has ended
	wake   chan struct{} // capacity 1: there is a batch, or something lingers
	freed  chan struct{} // capacity maxUnderWay: a call has ended

	rares   sync.Pool // of *rare that have nothing but a signal, for sockets whose Connect waits
	parties sync.Pool // of *parties, empty

	mu      sync.Mutex // guards the following fields; locked after a shard's
	batches []*batch
	linger  []lingerer // by time
	stopped bool
}

func startInterests(n *Node, sub AdapterSubscriber, linger time.Duration) *interests {
	ctx, cancel := context.WithCancel(context.Background())
	x := &interests{
		sub: sub, began: time.Now(), every: n.foreign != nil, node: n, after: linger, cancel: cancel,
		ended: make(chan struct{}), wake: make(chan struct{}, 1),
		freed: make(chan struct{}, maxUnderWay),
	}
	go x.work(ctx)
	return x
}

// all reports whether namespaces and sockets have interests, too.
func (x *interests) all() bool { return x != nil && x.every }

// idle records that the interest's group, or space, is not in use any more.
func (x *interests) idle(it *group) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if it.ended { // the space was unused so briefly that it has ended since
		return
	}
	now := time.Now()
	it.idleSince = now.Sub(x.began)
	if !it.lingering {
		x.lingerLocked(it, now.Add(x.after))
	}
}

// lingerLocked makes it linger until at, or until the last one that already lingers, if that is earlier.
func (x *interests) lingerLocked(it *group, at time.Time) {
	it.lingering = true
	if n := len(x.linger); n == 0 {
		x.poke() // the worker waits without a timer
	} else if last := x.linger[n-1].at; at.Before(last) {
		at = last
	}
	x.linger = append(x.linger, lingerer{it, at})
}

// newRare returns what a socket needs while Connect waits.
func (x *interests) newRare() *rare {
	r, ok := x.rares.Get().(*rare)
	if !ok {
		r = &rare{early: early{signal: make(chan struct{}, 1)}}
	}
	r.waits = true
	return r
}

func (x *interests) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// wait subscribes to the unconfirmed interests, and waits for the confirmation. It returns nil early if the link is
// down: then the gap of that outage will cover the names.
func (x *interests) wait(ctx context.Context, its []*group) error { return x.waitUnless(ctx, nil, its) }

// waitUnless is wait for the Connect of s, if that is not nil: once s is closed, it returns ErrClosed.
func (x *interests) waitUnless(ctx context.Context, s *Socket, its []*group) error {
	if len(its) == 0 {
		return nil
	}
	start := time.Now()
	err := x.confirmUnless(ctx, s, its, false)
	if err == nil {
		x.node.stats.noteJoin(time.Since(start))
	}
	if errors.Is(err, ErrNotConnected) { // also if that is because the bus refuses the login
		return nil
	}
	return err
}

// confirm subscribes to its, and waits for the outcome. It skips confirmed ones unless again is set. A refusal is a
// [*NamesError] with the names. An error that matches [ErrNotConnected] means that nothing was refused. All
// subscriptions are requested before the first wait.
func (x *interests) confirm(ctx context.Context, its []*group, again bool) error {
	return x.confirmUnless(ctx, nil, its, again)
}

// confirmUnless is confirm, for waitUnless.
func (x *interests) confirmUnless(ctx context.Context, s *Socket, its []*group, again bool) error {
	if len(its) == 0 {
		return nil
	}
	var few [8]*batch
	asked, err := x.request(its, few[:0], again, s)
	if err != nil {
		return err
	}
	for i, b := range asked {
		if b == nil || i > 0 && b == asked[i-1] {
			continue
		}
		if err := b.wait(ctx, s); err != nil {
			return err
		}
	}
	var down error
	var refused map[Address]error
	for i, b := range asked {
		if b == nil {
			continue
		}
		err := b.outcome(its[i])
		switch {
		case err == nil:
		case errors.Is(err, ErrNotConnected):
			down = err
		case errors.Is(err, ErrClosed):
			return ErrClosed
		default:
			if refused == nil {
				refused = make(map[Address]error)
			}
			name := its[i].address()
			refused[name] = errtext.Errorf("%s: %w", name.text(), err)
		}
	}
	if refused != nil {
		return &NamesError{refused}
	}
	return down
}

// text describes a, for errors.
func (a Address) text() string {
	where := ""
	if a.Namespace != "/" {
		where = " of namespace " + strconv.Quote(a.Namespace)
	}
	switch a.Space {
	case SpaceRoom:
		return "room " + strconv.Quote(a.Name) + where
	case SpaceUser:
		return "user " + strconv.Quote(a.Name) + where
	case SpaceSocket:
		return "socket " + strconv.Quote(a.Name) + where
	}
	return "namespace " + strconv.Quote(a.Namespace)
}

// want subscribes to the unconfirmed interests, and does not wait.
func (x *interests) want(its []*group) {
	if len(its) > 0 {
		var few [8]*batch
		x.request(its, few[:0], false, nil)
	}
}

// request subscribes to its, and skips confirmed ones unless again is set. It appends to asked, for each of its, the
// batch that subscribes it, or nil. These batches wake the Connect of s, if that is not nil.
func (x *interests) request(its []*group, asked []*batch, again bool, s *Socket) ([]*batch, error) {
	stopped := false
	asked = slices.Grow(asked, len(its))
	x.eachLocked(its, func(it *group) {
		if stopped = stopped || x.stopped; stopped {
			return
		}
		if it.ended || it.confirmed.Load() && !again {
			asked = append(asked, nil)
			return
		}
		if it.batch == nil {
			it.batch = x.openBatchLocked()
			it.batch.interests = append(it.batch.interests, it)
		}
		if s != nil && (len(asked) == 0 || asked[len(asked)-1] != it.batch) {
			it.batch.signals = append(it.batch.signals, s.rare.early.signal)
		}
		asked = append(asked, it.batch)
	})
	x.poke()
	if stopped {
		return asked, ErrClosed
	}
	return asked, nil
}

// eachLocked calls f for each of its with x.mu held, and lets other goroutines lock it in between.
func (x *interests) eachLocked(its []*group, f func(it *group)) {
	for {
		n := min(len(its), maxHeld)
		x.mu.Lock()
		for _, it := range its[:n] {
			f(it)
		}
		x.mu.Unlock()
		if its = its[n:]; len(its) == 0 {
			return
		}
		runtime.Gosched() // otherwise this goroutine would lock mu again before a waiting one is awake
	}
}

// doubt marks names as unconfirmed because the bus refuses them, so that the next call subscribes again. nil: all
// names.
func (x *interests) doubt(names []Address) {
	if x == nil {
		return
	}
	spaces := &x.node.spaces
	if names == nil {
		for ns := range spaces.all() {
			ns.everyGroup(x.doubtGroupLocked)
		}
	}
	for _, a := range names {
		if ns := spaces.get(a.Namespace); ns != nil {
			ns.withGroup(a.Space, a.Name, x.doubtGroupLocked)
		}
	}
}

// doubtGroupLocked marks the interest of one group as unconfirmed.
func (x *interests) doubtGroupLocked(g *group) {
	if !g.interested() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	g.confirmed.Store(false)
	g.doubted = g.batch != nil
}

// batchSize returns the largest size of a batch behind others that wait.
func batchSize(others int) int {
	if others >= 4 {
		return maxBatch
	}
	return minBatch << others
}

// openBatchLocked returns the batch that takes new interests.
func (x *interests) openBatchLocked() *batch {
	if last := len(x.batches) - 1; last >= 0 && len(x.batches[last].interests) < batchSize(last) {
		return x.batches[last]
	}
	x.node.busy.Begin()
	b := &batch{done: make(chan struct{})}
	var spare bool
	if b.parties, spare = x.parties.Get().(*parties); !spare {
		b.parties = new(parties)
	}
	x.batches = append(x.batches, b)
	return b
}

// work begins calls of the AdapterSubscriber until ctx ends, and waits for them.
func (x *interests) work(ctx context.Context) {
	defer close(x.ended)
	underWay := 0 // calls of Subscribe
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		next := x.expire(ctx, time.Now())
		wake := x.wake
		if underWay == maxUnderWay {
			wake = nil
		} else if b := x.next(); b != nil {
			underWay++
			go func() {
				x.finish(b, x.ask(ctx, b))
				x.freed <- struct{}{}
			}()
			continue
		}
		timer.Stop()
		var due <-chan time.Time // never, if nothing lingers
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-wake:
		case <-x.freed:
			underWay--
		case <-due:
		case <-ctx.Done():
		}
	}
	x.mu.Lock()
	x.stopped = true
	x.mu.Unlock()
	for ; underWay > 0; underWay-- {
		<-x.freed
	}
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
	x.eachLocked(b.interests, func(it *group) { // b is out of the list, so no interest joins it any more
		names = append(names, it.address())
	})
	err := x.sub.Subscribe(ctx, names...)
	if err != nil && ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// finish wakes everyone who waits for b. Names that have failed may be requested again.
func (x *interests) finish(b *batch, err error) {
	var names *NamesError
	if errors.As(err, &names) && len(names.Failed) > 0 {
		b.failed = b.match(names)
	} else {
		b.err = err
	}
	x.eachLocked(b.interests, func(it *group) {
		it.confirmed.Store(b.outcome(it) == nil && !it.doubted)
		it.batch, it.doubted = nil, false
		if it.postponed && !it.lingering {
			x.lingerLocked(it, time.Now())
		}
		it.postponed = false
	})
	b.finished.Store(true)
	close(b.done)
	for _, signal := range b.signals { // no Connect is added to them any more
		wake(signal)
	}
	clear(b.interests)
	clear(b.signals)
	*b.parties = parties{b.interests[:0], b.signals[:0]}
	x.parties.Put(b.parties)
	b.parties = nil
	x.node.busy.End(1)
}

// match finds the interests that a driver's error names.
func (b *batch) match(e *NamesError) map[*group]error {
	failed := make(map[*group]error, len(e.Failed))
	for _, it := range b.interests {
		if err := e.Failed[it.address()]; err != nil {
			failed[it] = err
		}
	}
	return failed
}

// expire ends the interests that have lingered long enough, and returns the time of the next look; zero: nothing
// lingers. An interest that was used meanwhile waits once more, at the end of the list, so it lingers for less than
// twice as long.
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
		if it.expire(now) {
			names = append(names, it.address())
		}
	}
	for part := range slices.Chunk(names, maxBatch) {
		if err := x.sub.Unsubscribe(ctx, part...); err != nil {
			x.node.log.Debug("crosscast: unsubscribe", "error", err)
		}
	}
	return next
}

// expire ends g and its interest if g has been unused for long enough.
func (g *group) expire(now time.Time) bool {
	x := g.ns.node.interests
	g.shard.mu.Lock()
	defer g.shard.mu.Unlock()
	if len(g.sockets) > 0 || g.subs != nil || !x.endLocked(g, now) {
		return false
	}
	if g.space != SpaceNamespace {
		g.leaveShardLocked()
	}
	return true
}

// endLocked ends it if it has lingered long enough. Its group is locked, and has no members.
func (x *interests) endLocked(it *group, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case it.lingering: // its group became idle again just now
		return false
	case it.batch != nil: // or the call might come after the one that gives it up
		it.postponed = true
		return false
	case x.began.Add(it.idleSince + x.after).After(now):
		x.lingerLocked(it, x.began.Add(it.idleSince+x.after))
		return false
	case it.space == SpaceNamespace && !it.ns.expire(): // it is in use
		return false
	}
	it.ended = true
	return true
}

// stop ends the worker and waits for it, bounded by ctx. Waiting calls get ErrClosed.
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
