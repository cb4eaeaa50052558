package wire

import (
	"strconv"
	"sync"
	"time"
)

// echo proves that a link receives. Each frame that this node publishes to everyone comes back on its own subscription,
// in order. So an echo proves that nothing sent before it through that server is still missing. Emitters publish to
// their own inbox instead.
//
// There are three reasons for a missing echo:
//
//   - dead: no byte has arrived for a while, although the reader waits for one.
//   - deaf: the frame has not come, although the bus has answered a ping on the link, and the ping was written a while
//     after the bus had accepted the frame.
//   - late: the frame waits behind other bytes, or the reader is in a call of the application. This is no verdict:
//     nothing is concluded while bytes arrive or the reader does not read.
//
// "A while" is one heartbeat, at least minEcho. So an answer may overtake messages by that much. That happens where
// several servers pass messages on to each other. The first ping is written after half of that time. It makes an idle
// link answer, which is then not dead. A missing answer proves nothing.
//
// A node whose publishing fails has no echoes, but its link might work. So if no echo has come for a while, and none is
// awaited, answers to pings prove that received messages are not old. The link is dead if the bus refuses published
// frames, and nothing arrives on the link, not even an answer.
//
// Invariants:
//   - awaited has the frames that the bus has accepted and that did not come back, oldest first;
//   - a ping is written only while a frame is awaited, or if nothing has come back for more than a heartbeat;
//   - at most maxPings pings are without an answer;
//   - this code never waits for the application, and no verdict depends on the length of the application's calls.
type echo struct {
	*session
	state *linkState
	drew  func(number uint64) bool // reports whether this node has used a number

	mu      sync.Mutex
	link    *link     // resumed; nil while there is none; guarded by mu, like everything below
	heard   uint64    // highest number that came back on link
	heardAt time.Time // when
	proven  time.Time // when the last frame that came back was sent; before the first one, when link had resumed
	current time.Time // the later of two times: of that frame, and of the latest answered ping; messages are no older
	refused time.Time // when the bus last refused a frame to everyone
	trip    time.Duration
	awaited []awaited
	pings   []ping    // without an answer, oldest first
	pinged  time.Time // when the last ping was requested
	named   uint64    // the last name given to a ping
	timer   *time.Timer
	lookAt  time.Time     // when timer calls lookLocked; zero: it does not run
	waiting chan struct{} // made by allBack; closed when nothing is awaited
}

// awaited is a frame that must come back.
type awaited struct {
	number         uint64
	sent, accepted time.Time
}

// ping is a ping without an answer. Frames up to the number covers come before its answer, or are missing.
type ping struct {
	name   string
	covers uint64
	at     time.Time // when it was requested
}

func newEcho(s *session, state *linkState) *echo { return &echo{session: s, state: state} }

func (e *echo) beginLink(l *link) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link, e.heard, e.proven, e.current = l, 0, l.resumedAt, l.resumedAt
	e.pings, e.pinged, e.refused = e.pings[:0], time.Time{}, time.Time{}
	e.restLocked()
	if e.presence.hears { // emitters receive only answers, and prove the link before each query
		e.armLocked(e.staleLocked(), time.Now())
	}
}

func (e *echo) endLink() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link = nil
	e.restLocked()
	if e.timer != nil {
		e.timer.Stop()
		e.lookAt = time.Time{}
	}
}

// restLocked stops waiting.
func (e *echo) restLocked() {
	e.awaited = e.awaited[:0]
	if e.waiting != nil {
		close(e.waiting)
		e.waiting = nil
	}
}

// allBack returns a channel that is closed when no echo is awaited.
func (e *echo) allBack() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == nil {
		e.waiting = make(chan struct{})
	}
	waiting := e.waiting
	if len(e.awaited) == 0 {
		e.restLocked()
	}
	return waiting
}

// expect notes that the bus has accepted frame n, sent to everyone at the given time. A frame that was sent before the
// link resumed proves nothing. Its echo might have come already.
func (e *echo) expect(n uint64, sent time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link == nil || sent.Before(e.link.resumedAt) {
		return
	}
	if n <= e.heard {
		if n == e.heard {
			e.cameLocked(sent, e.heardAt)
		}
		return
	}
	now := time.Now()
	if len(e.awaited) == maxAwaited { // then several frames share one entry
		e.awaited = e.awaited[:maxAwaited-1]
	}
	e.awaited = append(e.awaited, awaited{n, sent, now})
	e.armLocked(now.Add(e.patience()/2), now)
}

// refuse notes that the bus has refused a frame to everyone at the given time. So it answers.
func (e *echo) refuse(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = now
}

// cameLocked notes that a frame sent at the given time has come back.
func (e *echo) cameLocked(sent, at time.Time) {
	e.proven, e.trip = later(e.proven, sent), at.Sub(sent)
	e.current = later(e.current, sent)
	e.stats.echoes.Observe(e.trip)
	e.state.echoHeard()
}

// handleEcho notes that frame n has come back. A frame that was never sent belongs to another sender, and proves
// nothing.
func (e *echo) handleEcho(n uint64, now time.Time) {
	if !e.drew(n) {
		e.count(dropUndrawn)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.link == nil {
		return
	}
	if n > e.heard {
		e.heard, e.heardAt = n, now
	}
	if len(e.awaited) == 0 {
		return
	}
	i := 0
	for ; i < len(e.awaited) && e.awaited[i].number <= n; i++ {
		e.cameLocked(e.awaited[i].sent, now)
	}
	e.awaited = append(e.awaited[:0], e.awaited[i:]...)
	if len(e.awaited) == 0 {
		e.restLocked()
	}
}

// overdue reports whether an echo has been awaited for half a heartbeat.
func (e *echo) overdue() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.awaited) > 0 && time.Since(e.awaited[0].accepted) > e.patience()/2
}

// provenUntil returns when the last frame that came back was sent. Nothing from before that time is missing.
func (e *echo) provenUntil() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.proven
}

// noOlder returns a time from before the bus passed on what arrives now.
func (e *echo) noOlder() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}

// late returns the greatest possible age of a message that arrives now, if this process or the bus has stood still;
// otherwise 0. All messages from before the last frame that came back have arrived. Messages from before the last
// answered ping have arrived, too, except for those of one heartbeat. On a normal link that is about a heartbeat ago,
// and late returns 0. It compares two clocks, because one of them might stop while a machine sleeps.
func (e *echo) late(now time.Time) time.Duration {
	e.mu.Lock()
	current := e.current
	e.mu.Unlock()
	age := max(now.Sub(current), now.Round(0).Sub(current.Round(0)))
	if current.IsZero() || age < e.self.Heartbeat+e.patience()/2 {
		return 0
	}
	return age
}

// roundTrip is how long the last echo took; 0: there was none.
func (e *echo) roundTrip() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trip
}

// staleLocked returns when a ping is due, unless an echo or an answer comes first.
func (e *echo) staleLocked() time.Time { return e.current.Add(e.self.Heartbeat + e.patience()/4) }

// armLocked arranges a call of look at the given time or earlier.
func (e *echo) armLocked(at, now time.Time) {
	if !e.lookAt.IsZero() && !at.Before(e.lookAt) {
		return
	}
	e.lookAt = at
	if e.timer == nil {
		e.timer = time.AfterFunc(at.Sub(now), e.ring)
		return
	}
	e.timer.Reset(at.Sub(now))
}

func (e *echo) ring() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lookAt = time.Time{}
	e.lookLocked(time.Now())
}

// lookLocked acts when it is time: it pings, or finds the link dead.
func (e *echo) lookLocked(now time.Time) {
	switch {
	case e.link == nil:
	case len(e.awaited) > 0:
		e.lookForEchoLocked(now)
	case e.presence.hears:
		e.lookForLifeLocked(now)
	}
}

// lookForLifeLocked is lookLocked while no echo is awaited.
func (e *echo) lookForLifeLocked(now time.Time) {
	next := e.staleLocked()
	if !now.Before(next) {
		if len(e.pings) > 0 && e.refused.Sub(e.pings[0].at) >= e.patience() &&
			now.Sub(later(e.link.silentSince(now), e.pings[0].at)) >= e.patience() {
			e.link.fail(errDead)
			return
		}
		e.pingLocked(now)
		next = now.Add(e.patience() / 2)
	}
	e.armLocked(next, now)
}

// lookForEchoLocked is lookLocked while an echo is awaited.
func (e *echo) lookForEchoLocked(now time.Time) {
	accepted := e.awaited[0].accepted
	silent := later(e.link.silentSince(now), accepted)
	next := silent.Add(e.patience())
	if !now.Before(next) {
		e.link.fail(errDead)
		return
	}
	for _, due := range [...]time.Time{accepted.Add(e.patience() / 2), accepted.Add(e.patience())} {
		switch {
		case !e.pinged.Before(due): // it was written before
		case now.Before(due):
			if due.Before(next) {
				next = due
			}
		default:
			e.pingLocked(now)
		}
	}
	e.armLocked(next, now)
}

// pingLocked requests a ping. The frames that the bus had accepted a while before it must come before its answer.
func (e *echo) pingLocked(now time.Time) {
	if len(e.pings) == maxPings {
		return // the next answer makes room
	}
	var covers uint64
	for _, f := range e.awaited {
		if now.Sub(f.accepted) >= e.patience() {
			covers = f.number
		}
	}
	e.named++
	p := ping{strconv.FormatUint(e.named, 10), covers, now}
	e.pings, e.pinged = append(e.pings, p), now
	e.link.ping(p.name)
}

// handlePong handles the answer to a ping, an error or not. Earlier pings are not answered any more.
func (e *echo) handlePong(name string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, p := range e.pings {
		if p.name != name {
			continue
		}
		e.pings = append(e.pings[:0], e.pings[i+1:]...)
		e.current = later(e.current, p.at)
		if e.link != nil && p.covers > e.heard {
			e.link.fail(errDeaf)
			return
		}
		e.lookLocked(now)
		return
	}
}
