package crosscast

import (
	"context"
	"time"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// A heart is the goroutine that publishes a node's heartbeats, and forgets peers that have none.
type heart struct {
	quit, ended chan struct{}
}

func startHeart(n *Node) *heart {
	h := &heart{make(chan struct{}), make(chan struct{})}
	n.beat()
	guard.Go(func() {
		t := time.NewTicker(n.heartbeat)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				n.tell(n.control(kind.Heartbeat, ""))
				n.beat()
				if n.times != nil {
					n.times.ping(n)
				}
			case <-h.quit:
				close(h.ended)
				return
			}
		}
	})
	return h
}

// stop ends the heart and waits for it, bounded by ctx.
func (h *heart) stop(ctx context.Context) {
	if h == nil {
		return
	}
	close(h.quit)
	select {
	case <-h.ended:
	case <-ctx.Done():
	}
}

// beat looks after the peers. The time is taken here: a tick may have waited for as long as this process stood still.
func (n *Node) beat() {
	observer, observes := n.adapter.(AdapterObserver)
	proven := !observes || observer.Proven()
	now := time.Now()
	if observes && proven {
		for _, id := range n.peers.late(now) {
			n.peers.heardAt(id, observer.Heard(id), now)
		}
	}
	since, paused, silent := n.peers.tick(now, n.heartbeat, proven)
	if paused {
		(*handler)(n).Gap(Gap{Since: since, Until: now, Reason: reasons.GapPaused})
	}
	for i := range silent {
		n.noteSilence(&silent[i])
	}
	for _, s := range silent {
		if observes && s.suspected {
			observer.Suspect(s.id, s.last)
		}
		if observes && s.expired {
			observer.Expire(s.id)
		}
	}
	n.presence.beat(now)
}

// info is what the node tells its peers about itself.
func (n *Node) info() NodeInfo { return NodeInfo{n.id, n.name, n.heartbeat} }

// sender returns the node that says inst, a hello or a heartbeat.
func (inst *Instruction) sender() NodeInfo {
	info := inst.Node
	info.ID = inst.From
	return info
}

// control makes an instruction between nodes: to one, or to everyone.
func (n *Node) control(k kind.Kind, to NodeID) *Instruction {
	return &Instruction{
		Kind: k, Namespace: "/", From: n.id, To: to, Target: Target{Everyone: to == ""}, Node: n.info(), Meta: n.meta,
	}
}

// tell publishes a hello or heartbeat, which never wait; none once the node is closed, as peers would take what comes after
// its goodbye for a sign of life. When it fails the link is down, and the next one is due soon.
func (n *Node) tell(inst *Instruction) {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.state.Load() == nodeClosed {
		return
	}
	if err := n.publish(context.Background(), inst); err != nil {
		n.log.Debug("crosscast: could not publish", "kind", inst.Kind, "error", err)
	}
}
