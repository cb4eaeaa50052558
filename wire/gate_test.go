package wire

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/reasons"
)

// TestGateOpens: the gate is open while the link stands, publishing works, and no peer is waited for.
func TestGateOpens(t *testing.T) {
	g := newGate(newTestSession(full))
	now := time.Unix(1000, 0)
	check := func(what string, open bool, state crosscast.LinkState) {
		t.Helper()
		if got, cause := g.state(now, false); g.open(now) != open || got != state {
			t.Errorf("%s: open %v, %s (%v); want %v, %s", what, g.open(now), got, cause, open, state)
		}
	}
	check("at first", false, reasons.LinkConnecting)
	g.linkIsUp(nil, now)
	check("the first link", true, reasons.LinkLive)
	g.linkIsDown()
	check("the link is down", false, reasons.LinkHeld)
	if got, _ := g.state(now, true); got != reasons.LinkLive {
		t.Errorf("while the link is deaf: %s", got)
	}
	g.linkIsUp([]crosscast.NodeID{"a", "b"}, now.Add(2*time.Second))
	check("peers are waited for", false, reasons.LinkHeld)
	if g.heardFrom("a") || !g.heardFrom("b") || g.heardFrom("b") {
		t.Error("the last of the peers opens the gate, once")
	}
	check("peers are back", true, reasons.LinkLive)

	g.linkIsUp([]crosscast.NodeID{"a"}, now.Add(2*time.Second))
	if d := g.deadline(false); !d.Equal(now.Add(2 * time.Second)) {
		t.Errorf("looks again at %v", d)
	}
	now = now.Add(2 * time.Second)
	g.expire(now)
	check("waited for long enough", true, reasons.LinkLive)

	g.begins(now)
	now = now.Add(slowAfter*time.Second + 1)
	check("a batch without an answer", true, reasons.LinkDown)
	if g.proven(now) {
		t.Error("proven while a batch has no answer")
	}
	if broken := g.settle(&outcomes{links: -1, down: errors.New("why")}, false, now); !broken {
		t.Error("the connection has not failed")
	}
	check("publishing has failed", false, reasons.LinkDown)
	if g.probes(false, now) || !g.probes(false, now.Add(maxBackoff)) {
		t.Error("the next attempt is not a little later")
	}
	if broken := g.settle(&outcomes{links: -1, down: fmt.Errorf("%w: why", crosscast.ErrDenied)}, false, now); broken {
		t.Error("the connection has failed twice")
	}
	check("publishing is denied", false, reasons.LinkDenied)
	g.settle(&outcomes{links: 2, frames: 1}, false, now)
	check("publishing works again", true, reasons.LinkLive)
	if g.audience != 2 {
		t.Errorf("audience %d", g.audience)
	}
	g.settle(&outcomes{links: -1, notices: true, forbidden: crosscast.ErrDenied}, false, now)
	check("what goes to everyone is denied", true, reasons.LinkDenied)
	g.settle(&outcomes{links: 2, notices: true}, false, now)
	check("and is not any more", true, reasons.LinkLive)
	if g.probes(true, now.Add(time.Hour)) {
		t.Error("a node sends notices beside its heartbeats")
	}
}

// TestGateOfAnEmitter: an emitter needs no link. After an outage it waits until as many links as before hear it, and sends
// notices for that, and for a loss.
func TestGateOfAnEmitter(t *testing.T) {
	g := newGate(newTestSession(emitter))
	now := time.Unix(1000, 0)
	if !g.open(now) {
		t.Fatal("closed without a link")
	}
	g.settle(&outcomes{links: 3, frames: 1}, false, now)
	g.settle(&outcomes{links: -1, down: errors.New("why")}, false, now)
	g.settle(&outcomes{links: 1, frames: 1}, false, now)
	if g.open(now) || g.deadline(false).IsZero() || !g.probes(false, now.Add(maxBackoff)) {
		t.Error("does not wait for its peers")
	}
	g.settle(&outcomes{links: 2, frames: 1}, false, now)
	if g.open(now) {
		t.Error("one of the peers is not back")
	}
	g.settle(&outcomes{links: 3, frames: 1}, false, now)
	if !g.open(now) || g.probes(false, now.Add(maxBackoff)) {
		t.Error("waits for peers that are back")
	}
	if !g.probes(true, now.Add(maxBackoff)) {
		t.Error("tells nobody of a loss")
	}

	g.settle(&outcomes{links: -1, down: errors.New("why")}, false, now)
	g.settle(&outcomes{links: 1, frames: 1}, false, now)
	now = now.Add(g.gatherTime())
	g.expire(now)
	if !g.open(now) {
		t.Error("waits for ever")
	}
}
