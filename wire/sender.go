package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/crosscast/crosscast"
)

// The sending half of the writer: what goes out when, and what becomes of it.

// run publishes until the adapter stops.
func (w *writer) run(ctx context.Context) {
	var out []Frame
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		now := time.Now()
		w.tellMoved()
		w.expire(now)
		batch := w.take(now)
		next := w.nextDeadline()
		done := w.stopping && len(batch) == 0
		if len(batch) > 0 {
			w.sending = now
		}
		w.note(now)
		w.mu.Unlock()
		if done {
			return
		}
		if len(batch) == 0 {
			w.sleep(timer, next)
			continue
		}
		out = out[:0]
		bytes := 0
		for _, f := range batch {
			out = append(out, Frame{Topic: f.topic.name, Data: f.buf})
			bytes += len(f.buf)
		}
		pubCtx, cancel := context.WithTimeout(ctx, w.timeout(bytes))
		sent := time.Now()
		w.a.bus.Publish(pubCtx, out)
		cancel()
		down := false
		for i := range out {
			down = down || out[i].Down
		}
		now = time.Now()
		w.pace.measure(bytes, now.Sub(sent), down, now)
		w.settle(batch, out, sent)
		clear(out)
	}
}

// sleep waits for a signal, or until next when it is set.
func (w *writer) sleep(timer *time.Timer, next time.Time) {
	if next.IsZero() {
		<-w.wake
		return
	}
	timer.Reset(time.Until(next))
	select {
	case <-w.wake:
		timer.Stop()
	case <-timer.C:
	}
}

// nextDeadline is when the writer has something to do without being signalled; zero: never. The caller holds mu.
func (w *writer) nextDeadline() (next time.Time) {
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if w.linkUp && (!w.publishing || w.probes()) {
		earlier(w.probeAt)
	}
	if len(w.waitFor) > 0 {
		earlier(w.waitUntil)
	}
	if !w.gathering.until.IsZero() {
		earlier(w.gathering.until)
	}
	if len(w.queue) > 0 && !w.up() {
		earlier(w.queue[0].opened.Add(w.a.o.MaxAge))
	}
	if due := w.noticeDue(); !due.IsZero() {
		earlier(due)
	}
	return next
}

// take removes what may be sent now from the queues, and numbers it. The caller holds mu.
func (w *writer) take(now time.Time) []*frame {
	batch := w.control
	w.control = nil
	if !w.gathering.is(now) {
		w.gathering.until = time.Time{}
	}
	if w.linkUp && (!w.publishing || w.probes()) && len(batch) == 0 && !now.Before(w.probeAt) {
		batch = append(batch, w.notice())
	}
	if due := w.noticeDue(); !due.IsZero() && !now.Before(due) {
		f := w.notice()
		f.heartbeat = true
		batch = append(batch, f)
	}
	if len(w.waitFor) > 0 && !now.Before(w.waitUntil) {
		w.waitFor = nil
	}
	if w.up() && !w.holds(now) && len(w.queue) > 0 {
		if (w.lossesTold != w.losses.count || w.pace.again) && !slices.ContainsFunc(batch, (*frame).toEveryone) {
			batch = append(batch, w.notice())
		}
		if !w.pace.again {
			batch = w.takeQueued(batch)
		}
	}
	for _, f := range batch {
		w.seal(f)
	}
	return batch
}

// holds reports whether the queue waits for peers to be back. The caller holds mu.
func (w *writer) holds(now time.Time) bool { return len(w.waitFor) > 0 || w.gathering.is(now) }

// notice is a frame without instructions that tells peers of losses, where frames do, and comes back as an echo. The
// caller holds mu.
func (w *writer) notice() *frame { return w.newFrame(w.topic(w.a.noticeTo), true, 0) }

// seal numbers a frame. The caller holds mu.
func (w *writer) seal(f *frame) {
	w.number++
	f.number, f.prev = w.number, f.topic.last
	if !f.control {
		f.topic.last = f.number
		if f.topic.open == f {
			f.topic.open = nil
		}
	}
	if w.a.dialect != nil {
		if f.control {
			_, f.buf = w.a.dialect.Echo(f.number)
		}
		return
	}
	if w.quiet != nil && f.heartbeat {
		w.quiet.announce(f, time.Now(), f.final)
	}
	if f.topic.carriesLosses() && w.losses.count > 0 {
		h := crosscast.FrameHeader{Origin: w.a.self.ID, Number: f.number, Previous: f.prev, Control: f.control}
		w.losses.describe(&h)
		if w.oldLosses() {
			h.Losses = nil
		}
		body := f.buf[plainHeader:]
		f.buf = append(crosscast.AppendFrameHeader(nil, &h), body...)
		return
	}
	crosscast.PatchFrameNumbers(f.buf, f.number, f.prev)
}

// lose enters a loss for peers to hear of. The caller holds mu.
func (w *writer) lose(l *lostFrames) {
	if w.a.dialect == nil { // which could not tell
		w.losses.add(l.forPeers(), lossReason(l.err))
	}
}

func (w *writer) freeBytes(n int) {
	w.bytes -= n
	close(w.room)
	w.room = make(chan struct{})
}

// settle enters the outcomes of a batch.
func (w *writer) settle(batch []*frame, out []Frame, sent time.Time) {
	var lost []crosscast.Loss
	var done []*delivery
	var current lostFrames
	last := batch[len(batch)-1].number
	w.mu.Lock()
	told := w.losses.count // by the batch
	failed := func() {
		if current.from != 0 {
			w.lose(&current)
			lost = append(lost, current.forSelf())
		}
		current = lostFrames{}
	}
	var failure error // of the connection
	accepted := false
	var echo uint64
	refused := false // what would be one
	links := -1      // that got the last frame to everyone
	for i, f := range batch {
		err := out[i].Err
		if err == nil {
			accepted = true
			if !f.control {
				w.done.instructions += int(f.instructions)
			}
			w.a.stats.framesOut.Add(1)
			w.a.stats.bytesOut.Add(uint64(len(f.buf)))
			if f.topic.name == w.echoes {
				echo = f.number
			}
			if f.topic.name == w.notices {
				w.forbidden = nil
			}
			if f.toEveryone() {
				links = out[i].Receivers
			}
			if f.heartbeat && f.toEveryone() {
				w.losses.beat()
			}
			w.settleQuiet(f, sent)
			failed()
		} else {
			if out[i].Down && failure == nil {
				failure = err
			}
			if f.topic.name == w.notices && !out[i].Down && errors.Is(err, crosscast.ErrDenied) {
				w.forbidden = err
			}
			refused = refused || f.topic.name == w.echoes && !out[i].Down && errors.Is(err, crosscast.ErrRefused)
			err = outcome(err)
			if !f.control {
				if current.from != 0 && lossReason(current.err) != lossReason(err) {
					failed()
				}
				current.add(f, err)
			}
		}
		if !f.control {
			w.settled++
		}
		for _, d := range f.deliveries {
			d.frameDone(w.a, f, out[i].Receivers, err)
			if d.left == 0 {
				done = append(done, d)
			}
		}
	}
	failed()
	for i := len(batch) - 1; i >= 0; i-- {
		// Newest first, so that a topic ends at the last frame before the lost ones.
		if f := batch[i]; out[i].Err != nil && !f.control && f.topic.last == f.number {
			f.topic.last = f.prev
		}
	}
	for i, f := range batch {
		if out[i].Err == nil && f.toEveryone() {
			w.lossesTold = max(w.lossesTold, told)
		}
		w.recycle(f)
	}
	w.sending = time.Time{}
	now := time.Now()
	switch {
	case failure != nil:
		w.failure = failure
		if w.publishing {
			w.backoff.worked(now.Sub(w.publishes))
			w.publishing = false
			w.freeBytes(0) // those who wait for room must not wait for the connection
		}
		w.probeAt = now.Add(w.backoff.next())
	default: // a refusal is an answer, too
		back := !w.publishing
		if back {
			w.publishing, w.publishes = true, now
		}
		w.failure = nil
		w.begun = w.begun || accepted
		w.settleEmitter(links, back)
	}
	if links >= 0 {
		w.audience = links
	}
	w.done.at, w.done.number = now, last
	w.marks.add(w.done, w.a.self.Heartbeat)
	lost = w.loseMoved(lost)
	w.telling = len(lost) > 0
	w.note(now)
	w.mu.Unlock()

	if echo != 0 {
		w.a.echo.expect(echo, sent)
	} else if refused {
		w.a.echo.refuse(now)
	}
	w.finish(lost, done)
}

// finish reports losses, and only then lets those go who waited for an outcome. telling was set under the lock under
// which the outcomes were entered. Only the writer's goroutine calls it, so losses are told in their order.
func (w *writer) finish(lost []crosscast.Loss, done []*delivery) {
	for _, l := range lost {
		w.a.handler.Loss(l)
	}
	resolve(done)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.telling = false
	kept := w.flushers[:0]
	for _, f := range w.flushers {
		if w.flushed(f.target) {
			close(f.done)
		} else {
			kept = append(kept, f)
		}
	}
	clear(w.flushers[len(kept):])
	w.flushers = kept
}

func resolve(done []*delivery) {
	for _, d := range done {
		close(d.done)
	}
}

// flushed reports whether the first target frames have an outcome, and the Handler has heard of what was lost. The caller
// holds mu.
func (w *writer) flushed(target uint64) bool {
	return target <= w.settled && !w.telling && w.movedSince.IsZero()
}

func (d *delivery) frameDone(a *Adapter, f *frame, receivers int, err error) {
	d.left--
	switch {
	case err != nil:
		d.fail(err)
	case receivers < 0:
		d.reach.Known = false
	default:
		if a.hears(f.topic.name) && receivers > 0 {
			receivers--
		}
		d.reach.Nodes += receivers
	}
	if !d.reach.Known {
		d.reach.Nodes = 0
	}
}

// fail enters why one of the frames did not go out. Of each of the two kinds the first error is kept.
func (d *delivery) fail(err error) {
	kind := crosscast.ErrRefused
	if errors.Is(err, crosscast.ErrUncertain) {
		kind = crosscast.ErrUncertain
	}
	switch {
	case d.err == nil:
		d.err = err
	case !errors.Is(d.err, kind):
		d.err = errors.Join(d.err, err)
	}
}

// outcome makes sure that an error of a bus is one of the two kinds.
func outcome(err error) error {
	if errors.Is(err, crosscast.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", crosscast.ErrUncertain, err)
}

// gatherTime is how long the queue waits, once the link stands, for peers to be back. While it waits nothing expires; that
// it is no more than half of what the link itself is waited for keeps what is delivered then from being much older.
func (a *Adapter) gatherTime() time.Duration { return min(2*a.echo.timeout(), a.o.MaxAge/2) }

// expire loses what has waited too long for the link, or everything when the adapter stops. The caller holds mu; the
// reports are made without it.
func (w *writer) expire(now time.Time) {
	n := 0
	for _, f := range w.queue {
		if !w.stopping && now.Sub(f.opened) < w.a.o.MaxAge {
			break
		}
		n++
	}
	if n == 0 || w.up() && !w.stopping {
		return
	}
	why := errExpired
	if w.stopping {
		why = errStopped
	}
	var lost lostFrames
	var done []*delivery
	bytes := 0
	for _, f := range w.queue[:n] {
		w.number++
		f.number = w.number
		if f.topic.open == f {
			f.topic.open = nil
		}
		lost.add(f, why)
		bytes += int(f.counted)
		w.settled++
		for _, d := range f.deliveries {
			d.frameDone(w.a, f, 0, why)
			if d.left == 0 {
				done = append(done, d)
			}
		}
		w.recycle(f)
	}
	w.queue = slices.Delete(w.queue, 0, n)
	w.freeBytes(bytes)
	w.lose(&lost)
	w.telling = true
	w.mu.Unlock()
	w.finish([]crosscast.Loss{lost.forSelf()}, done)
	w.mu.Lock()
}

var (
	errExpired = fmt.Errorf("%w: waited too long for the link to come back: %w", crosscast.ErrRefused, crosscast.ErrNotConnected)
	errStopped = fmt.Errorf("%w: %w before it could be published", crosscast.ErrRefused, crosscast.ErrClosed)
)

// linkDown keeps frames in the queue until the next link stands.
func (w *writer) linkDown() {
	w.mu.Lock()
	w.linkUp = false
	if w.a.dialect != nil { // nothing is sent twice, so a connection that has broken with the link must not get the queue
		w.publishing = false
	}
	done := w.dropControl()
	w.freeBytes(0) // those who wait for room must not wait for the link
	w.note(time.Now())
	w.mu.Unlock()
	w.signal()
	resolve(done)
}

// halt takes nothing more, loses what is queued, and ends the writer.
func (w *writer) halt() {
	w.mu.Lock()
	w.closing, w.stopping = true, true
	w.freeBytes(0) // wakes those who wait for room
	done := w.dropControl()
	w.mu.Unlock()
	resolve(done)
	w.signal()
}

// dropControl forgets hellos and heartbeats that were not sent, and returns who waits for them. The caller holds mu.
func (w *writer) dropControl() (done []*delivery) {
	for _, f := range w.control {
		for _, d := range f.deliveries {
			d.frameDone(w.a, f, 0, fmt.Errorf("%w: %w", crosscast.ErrRefused, crosscast.ErrNotConnected))
			done = append(done, d)
		}
	}
	w.control = nil
	return done
}

// linkIsUp lets the writer go on. After an outage it first waits for peers: they lost their links too, and what is sent
// before they are back reaches nobody.
func (w *writer) linkIsUp(peers []crosscast.NodeID, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.linkUp, w.begun = true, true
	w.probeAt = time.Time{}
	w.waitFor = nil
	if len(peers) > 0 {
		w.waitFor = make(map[crosscast.NodeID]struct{}, len(peers))
		for _, p := range peers {
			w.waitFor[p] = struct{}{}
		}
		w.waitUntil = until
	}
	w.note(time.Now())
	w.signal()
}

// heardFrom notes that a peer is there.
func (w *writer) heardFrom(id crosscast.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waitFor) == 0 {
		return
	}
	delete(w.waitFor, id)
	if len(w.waitFor) == 0 {
		w.signal()
	}
}
