package crosscast

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/crosscast/crosscast/internal/bounds"
)

// DrainOptions are for [Node.Drain]. The zero value has the defaults.
type DrainOptions struct {
	// Notice is the time for which the node still accepts sockets although it is not [Node.Ready], so that load
	// balancers see that before it refuses clients. Default: 5 s; at most 1 h; negative: none.
	Notice time.Duration
	// Window is the time after Notice in which the sockets are closed. Default: 20 s; at most 1 h; negative: none, so
	// all are closed at once. If the process stands still meanwhile, up to a second longer.
	Window time.Duration
}

const (
	defaultNotice = 5 * time.Second
	defaultWindow = 20 * time.Second
)

// Drain ends the node as Close does, but sends its clients away one after the other, so that the other nodes do not get
// all of them at once. It returns when the node is closed, with the result of Close:
//
//   - Ready returns [ErrDraining] from now on. Everything else goes on, for o.Notice.
//   - New sockets are refused: Connect returns [ErrDraining]. Package ws and socketio answer with HTTP status 503 before
//     the upgrade.
//   - The sockets of all namespaces are closed evenly over o.Window, in random order, with [ReasonDrained]. The
//     clients of package ws/client come back after a random time of up to 1 s, which they are told. Sockets that close
//     by themselves leave no hole: the others are closed evenly over the rest of the window.
//   - Then the node is closed: see Close.
//
// ctx bounds all of it, so it should leave some seconds for Close beyond o.Notice and o.Window. If ctx ends earlier, all
// sockets that are left are closed at once, with the same reason, and Close does not wait. Close ends a Drain at once. A
// Drain during another one changes nothing, and waits for the same end, bounded by its own ctx.
//
// Drain the node before http.Server.Shutdown. Shutdown closes the listener, so a load balancer would see errors during
// the notice, and it waits for requests that last, such as streams of events, which Drain ends through Conn.Close. It
// does not wait for websockets, because these are hijacked.
//
// Drain may be called concurrently, but not from within a hook or a handler that Close waits for. An error about an
// option changes nothing.
func (n *Node) Drain(ctx context.Context, o DrainOptions) error {
	if err := cmp.Or(
		bounds.Time("crosscast: DrainOptions.Notice", max(o.Notice, 1)),
		bounds.Time("crosscast: DrainOptions.Window", max(o.Window, 1)),
	); err != nil {
		return err
	}
	if !n.awaitStart(ctx) {
		return ctx.Err()
	}
	d, first := n.beginDrain(ctx)
	if d == nil { // it is closed already, or about to be
		return n.Close(ctx)
	}
	if !first {
		select {
		case <-d.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		return n.Close(ctx)
	}
	d.run(n, o)
	return n.Close(ctx)
}

// run closes all sockets but those that Close closes.
func (d *draining) run(n *Node, o DrainOptions) {
	defer close(d.done)
	defer d.cancel()
	notice, window := max(cmp.Or(o.Notice, defaultNotice), 0), max(cmp.Or(o.Window, defaultWindow), 0)
	began := time.Now()
	n.log.line(slog.LevelInfo, 0, "the node drains", "sockets", n.countSockets(), "notice", notice, "window", window)
	defer func() { d.noteEnd(n, time.Since(began)) }()
	if n.lookout == nil { // an emitter has no sockets
		d.wait(notice)
		n.refuseSockets()
		d.closeSockets(n, window)
	}
}

// noteEnd logs the end of the drain.
func (d *draining) noteEnd(n *Node, took time.Duration) {
	args := []any{"took", took.Round(time.Millisecond), "sent away", d.sent}
	if d.ctx.Err() == nil {
		n.log.line(slog.LevelInfo, 0, "the node has drained", args...)
		return
	}
	cause := "its context has ended"
	if n.isClosing() {
		cause = "Close was called"
	}
	n.log.line(slog.LevelWarn, 0, "the drain was cut short: the other sockets are closed at once", append(args, "cause", cause,
		"cure", "give Drain more time than its Notice and Window, and do not call Close meanwhile")...)
}

// draining is a Drain under way.
type draining struct {
	ctx    context.Context // ends with Drain's, and when the node begins to close
	cancel context.CancelFunc
	done   chan struct{} // closed when all sockets are closed, or Close closes them
	sent   int           // sockets that it has closed in their turn; for the goroutine of Drain alone
}

// beginDrain returns the drain under way, and whether this call has begun it. It returns nil if the node is closing.
func (n *Node) beginDrain(ctx context.Context) (d *draining, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closing != nil:
		return nil, false
	case n.drain.Load() != nil:
		return n.drain.Load(), false
	}
	d = &draining{done: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(ctx)
	n.drain.Store(d)
	return d, true
}

// refuseSockets makes Connect fail. Every socket that was opened before is in the namespaces when it returns.
func (n *Node) refuseSockets() {
	n.gate.Lock()
	defer n.gate.Unlock()
	n.refusing.Store(true)
}

// wait waits for a time, or until the drain ends.
func (d *draining) wait(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.ctx.Done():
	}
}

// drainTick is the time between two steps of a drain. No socket is late by more.
const drainTick = 10 * time.Millisecond

// closeSockets closes all sockets within the window. There are no new ones.
func (d *draining) closeSockets(n *Node, window time.Duration) {
	var all []*Socket
	for ns := range n.spaces.all() {
		all = append(all, ns.everySocket()...)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	closeSome := func(most int) {
		for most > 0 && len(all) > 0 {
			if all[0].end(ReasonDrained) {
				most--
				d.sent++
			}
			all[0], all = nil, all[1:]
		}
	}
	p := newDrainPace(time.Now(), window, len(all))
	last := p.end.Add(min(drainOverrun, window))
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	for len(all) > 0 && d.ctx.Err() == nil && p.at.Before(last) {
		select {
		case <-ticker.C:
			closeSome(p.due(time.Now(), n.countSockets()))
		case <-d.ctx.Done():
		}
	}
	early, turns := d.ctx.Err() != nil, d.sent
	if !n.isClosing() { // else Close closes them
		closeSome(len(all))
	}
	if early {
		d.sent = turns
	}
}

// drainOverrun is how much longer a drain might take, because the process stood still.
const drainOverrun = time.Second

// drainPace is how fast sockets are closed. It is pure data.
type drainPace struct {
	at, end time.Time // of the last step, and of the window
	fastest float64   // sockets a nanosecond
	credit  float64   // sockets that are due, less than one
}

// newDrainPace returns the pace of a drain that begins now. It is never more than twice the mean, or one socket a step.
func newDrainPace(now time.Time, window time.Duration, sockets int) drainPace {
	return drainPace{at: now, end: now.Add(window), fastest: max(2*float64(sockets)/float64(window), 1/float64(drainTick))}
}

// due returns how many of the open sockets are to be closed now: as many as make the rest of the window even. After a
// time in which the process stood still they are not closed all at once, also at the end of the window.
func (p *drainPace) due(now time.Time, open int) int {
	rate := p.fastest
	if left := p.end.Sub(p.at); left > 0 {
		rate = min(rate, float64(open)/float64(left))
	}
	p.credit += rate * float64(min(now.Sub(p.at), 2*drainTick))
	p.at = now
	due := int(p.credit)
	p.credit -= float64(due)
	return due
}

// countSockets counts the open sockets.
func (n *Node) countSockets() (sockets int) {
	for ns := range n.spaces.all() {
		ns.allShard.mu.Lock()
		sockets += len(ns.all.sockets)
		ns.allShard.mu.Unlock()
	}
	return sockets
}

// isClosing reports whether Close was called.
func (n *Node) isClosing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closing != nil
}

// Accepts returns nil if Connect takes new sockets now, and otherwise its error: [ErrDraining], [ErrClosed] or
// [ErrEmitOnly]. Bindings call it before they upgrade a request, which they can then still answer with status 503. It
// never waits, and may be called concurrently. Connect might fail all the same.
func (ns *Namespace) Accepts() error {
	n := ns.node
	switch {
	case n.deaf != nil:
		return n.deaf
	case n.state.Load() != nodeOpen:
		return ErrClosed
	case n.refusing.Load():
		return ErrDraining
	}
	return nil
}
