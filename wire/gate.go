package wire

import (
	"errors"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// gate decides whether waiting frames may go out now. It is pure data, like outbox: the sender calls it with mu held.
//
// It is open when all of these hold:
//   - the subscribing link is up;
//   - the last batch did not fail because of the connection;
//   - no peers are waited for. After an outage they have lost their links too, and frames that are sent before they
//     are back reach nobody.
type gate struct {
	*session

	linkUp     bool                          // the subscribing link stands
	publishing bool                          // the last batch did not fail because of the connection
	publishes  time.Time                     // since when; zero: since the start
	waitFor    map[crosscast.NodeID]struct{} // peers to be heard before the gate opens
	waitUntil  time.Time                     // at the latest
	gathering  gathering                     // of a node that does not hear its peers
	audience   int                           // links that got the last frame to everyone; -1: not known
	counted    time.Time                     // when that frame was sent

	probeAt time.Time // while not publishing, and while notices have a reason
	backoff backoff

	begun     bool      // publishing has worked once
	sending   time.Time // since when a batch is in flight; zero: none is
	failure   error     // why the connection failed with the last batch
	forbidden error     // why the bus refuses frames to everyone, though the connection works
}

func newGate(s *session) gate {
	return gate{session: s, publishing: !s.offline, audience: -1, linkUp: !s.presence.linked}
}

// up reports whether the link is up and the connection for publishing works.
func (g *gate) up() bool { return g.linkUp && g.publishing }

// holds reports whether the gate waits for peers.
func (g *gate) holds(now time.Time) bool { return len(g.waitFor) > 0 || g.gathering.is(now) }

// open reports whether waiting frames may go.
func (g *gate) open(now time.Time) bool { return g.up() && !g.holds(now) }

// linkIsUp notes that the link is up. The gate waits for peers, at most until then.
func (g *gate) linkIsUp(peers []crosscast.NodeID, until time.Time) {
	g.linkUp, g.begun = true, true
	g.probeAt = time.Time{}
	g.waitFor = nil
	if len(peers) > 0 {
		g.waitFor = make(map[crosscast.NodeID]struct{}, len(peers))
		for _, p := range peers {
			g.waitFor[p] = struct{}{}
		}
		g.waitUntil = until
	}
}

// linkIsDown closes the gate until the next link is up.
func (g *gate) linkIsDown() {
	g.linkUp = false
	if !g.format.numbered() { // nothing is sent twice, so a connection that has broken with the link must not get the queue
		g.publishing = false
	}
}

// heardFrom notes that a peer is back, and reports whether it was the last that the gate waited for.
func (g *gate) heardFrom(id crosscast.NodeID) bool {
	if len(g.waitFor) == 0 {
		return false
	}
	delete(g.waitFor, id)
	return len(g.waitFor) == 0
}

// expire ends waits that have taken too long.
func (g *gate) expire(now time.Time) {
	if !g.gathering.is(now) {
		g.gathering.until = time.Time{}
	}
	if len(g.waitFor) > 0 && !now.Before(g.waitUntil) {
		g.waitFor = nil
	}
}

// begins notes that the bus gets a batch.
func (g *gate) begins(now time.Time) { g.sending = now }

// settle enters the outcomes of a batch, and reports whether the connection has failed with it. untold means that peers
// have not been sent all losses.
func (g *gate) settle(o *outcomes, untold bool, now time.Time) (broken bool) {
	if o.notices {
		g.forbidden = o.forbidden
	}
	if o.links >= 0 {
		g.audience, g.counted = o.links, g.sending
	}
	g.sending = time.Time{}
	g.failure = o.down
	if o.down != nil {
		broken = g.publishing
		if broken {
			g.backoff.worked(now.Sub(g.publishes))
			g.publishing = false
		}
		g.probeAt = now.Add(g.backoff.next())
		return broken
	}
	back := !g.publishing // a refusal is an answer, too
	if back {
		g.publishing, g.publishes = true, now
	}
	g.begun = g.begun || o.frames > 0
	g.settleNotice(o.links, back, untold, now)
	return false
}

// deadline is when the gate must act next; zero: never.
func (g *gate) deadline(untold bool) (next time.Time) {
	if g.linkUp && (!g.publishing || g.hasReason(untold)) {
		next = g.probeAt
	}
	if len(g.waitFor) > 0 {
		next = earlier(next, g.waitUntil)
	}
	return earlier(next, g.gathering.until)
}

// probes reports whether a notice is due, as a test of the bus, or for another reason (see hasReason).
func (g *gate) probes(untold bool, now time.Time) bool {
	return g.linkUp && (!g.publishing || g.hasReason(untold)) && !now.Before(g.probeAt)
}

// hasReason reports whether a node without heartbeats needs to send a notice: to see whether its peers are back, or to
// send them its losses.
func (g *gate) hasReason(untold bool) bool {
	return !g.presence.beats && (!g.gathering.until.IsZero() || untold)
}

// settleNotice enters, for a node without heartbeats, how many links got the last frame to everyone; -1: unknown, or
// there was no such frame. If there is a reason for another notice, it waits for the back-off, whatever the last
// outcome was.
func (g *gate) settleNotice(links int, back, untold bool, now time.Time) {
	if g.presence.beats {
		return
	}
	if links >= 0 {
		g.gathering.heard(links, back, now, g.gatherTime())
	}
	switch {
	case !g.hasReason(untold):
		g.backoff.worked(now.Sub(g.publishes))
	case links >= 0 || !now.Before(g.probeAt):
		g.probeAt = now.Add(g.backoff.next())
	}
}

// state is the state of the publishing half, and its cause if it is not live. deaf means that the link is deaf.
func (g *gate) state(now time.Time, deaf bool) (crosscast.LinkState, error) {
	switch {
	case !g.begun && !(g.offline && g.failure != nil): // a start that waits for the bus returns the failure
		return reasons.LinkConnecting, nil
	case g.failure != nil && errors.Is(g.failure, crosscast.ErrDenied):
		return reasons.LinkDenied, g.failure
	case g.failure != nil:
		return reasons.LinkDown, g.failure
	case !g.sending.IsZero() && now.Sub(g.sending) > slowAfter*g.patience():
		return reasons.LinkDown, errStalled
	case g.forbidden != nil:
		return reasons.LinkDenied, g.forbidden
	case deaf:
		// The link is replaced again and again until it hears. That holds the queue for moments only, and is not
		// reported.
	case !g.open(now):
		return reasons.LinkHeld, errHeld
	}
	return reasons.LinkLive, nil
}

// proven reports whether the link is up, the last batch was accepted, and no batch has been in flight for long.
func (g *gate) proven(now time.Time) bool {
	return g.up() && (g.sending.IsZero() || now.Sub(g.sending) < g.patience())
}

// gathering is how a node that does not hear its peers waits for them after an outage. The bus works, but frames
// published now might reach nobody, because the peers have yet to reconnect. It ends when everyone's topic has as many
// links as before, or after session.gatherTime.
type gathering struct {
	audience int       // links that got the last frame to everyone
	until    time.Time // zero: not gathering
}

func (g *gathering) is(now time.Time) bool { return now.Before(g.until) }

// heard notes how many links got a frame to everyone. back means that it was the first accepted frame after an outage.
func (g *gathering) heard(links int, back bool, now time.Time, patience time.Duration) {
	if back && links < g.audience {
		g.until = now.Add(patience)
	}
	if g.is(now) && links < g.audience {
		return
	}
	g.audience, g.until = links, time.Time{}
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
