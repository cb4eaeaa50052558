package crosscast

import (
	"context"
	"time"

	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/kind"
)

// handler is the node as its adapter sees it: a type of its own, so that its methods are not the application's.
type handler Node

func (h *handler) Handle(inst *Instruction) {
	n := (*Node)(h)
	n.stats.in.Add(1)
	if n.observer != nil {
		n.handleObserved(inst)
		return
	}
	n.handleInstruction(inst)
}

func (n *Node) handleInstruction(inst *Instruction) {
	switch inst.Kind {
	case kind.Emit:
		ns := n.spaces.get(inst.Namespace)
		if ns == nil {
			n.stats.drop(dropUnwanted)
			n.reply(inst, &Answer{Last: true})
			return
		}
		if inst.Ref != "" {
			n.handleAckedEmit(ns, inst)
			return
		}
		e := newEmission()
		e.fill(n, inst)
		switch ns.collect(e); {
		case !e.anybody():
			n.stats.drop(dropUnwanted)
		case !inst.Payload.valid():
			n.dropInvalid(inst)
		default:
			ns.handOver(context.Background(), e, nil)
		}
		e.release()
	case kind.Hello, kind.Heartbeat:
		n.peers.hear(inst.sender(), inst.Meta, time.Now())
		if inst.Kind == kind.Hello {
			n.tell(n.control(kind.Heartbeat, inst.From))
		}
	case kind.Goodbye:
		n.peers.forget(inst.From)
	case kind.Join, kind.Leave, kind.Disconnect, kind.Ask, kind.Request:
		switch {
		case n.refuseExpired(inst):
		case inst.Kind == kind.Ask:
			n.handleAsk(inst)
		case inst.Kind == kind.Request:
			n.handleRequest(inst)
		default:
			n.handleCommand(inst)
		}
	case kind.Watch:
		n.presence.handleWatch(inst)
	case kind.Presence:
		n.presence.handleReport(inst)
	case kind.Answer:
		if !n.queries.handleAnswer(inst) {
			n.stats.drop(dropAnswer)
		}
	default:
		n.stats.drop(dropUnknown)
	}
}

func (h *handler) Gap(g Gap) {
	n := (*Node)(h)
	if g.Names == nil && g.ends() {
		n.outage.Store(nil)
	}
	if g.Origin == "" && g.controls() && n.lookout == nil { // all peers may have been missed: ask them to speak up
		n.tell(n.control(kind.Hello, ""))
	}
	if g.Reason == reasons.GapDenied && g.goesOn() {
		n.interests.doubt(g.Names)
	}
	n.presence.handleGap(&g)
	n.reportGap(g)
}

// reportGap tells the application of a gap.
func (n *Node) reportGap(g Gap) {
	n.stats.gaps.Add(1)
	n.stats.gapReasons.count(g.Reason)
	n.noteGap(&g)
	defer func() { // also when OnGap ends the goroutine
		for _, s := range n.subscriptionsIn(&g) {
			s.handleGap(g)
		}
	}()
	n.callGapHooks(g, func() {
		if n.hooks.onGap != nil {
			n.call("Options.OnGap", func() { n.hooks.onGap(n, g) })
		}
	})
}

// dropInvalid drops a peer's emission whose payload clients could not take. It is a gap of those whom it was for.
func (n *Node) dropInvalid(inst *Instruction) {
	why, text := dropInvalid, "is no JSON in UTF-8"
	switch {
	case !inst.Payload.known():
		why, text = dropEncoding, "is of an encoding of a later version"
	case inst.Payload.Encoding == EncodingMsgPack:
		text = "is no msgpack that JSON can say"
	}
	n.stats.drop(why)
	if n.log.invalid.due() {
		n.log.Warn("crosscast: a message is dropped, because its payload "+text+"; others are only counted for a while",
			"from", n.peers.inLog(inst.From), "namespace", inst.Namespace, "event", inst.Event)
	}
	names := inst.names()
	if names == nil {
		names = []Address{{Namespace: inst.Namespace, Space: SpaceNamespace}}
	}
	now := time.Now()
	n.reportGap(Gap{Origin: inst.From, Names: names, Since: now, Until: now, Reason: reasons.GapInvalid})
}

// subscriptionsIn returns the subscriptions that may have missed something in g.
func (n *Node) subscriptionsIn(g *Gap) []*Subscription {
	if g.Names == nil {
		return n.subscriptions()
	}
	var subs []*Subscription
	seen := make(map[*Subscription]bool)
	for _, a := range g.Names {
		ns := n.spaces.get(a.Namespace)
		if ns == nil {
			continue
		}
		for _, s := range ns.subscribers(a) {
			if !seen[s] {
				seen[s] = true
				subs = append(subs, s)
			}
		}
	}
	return subs
}

func (h *handler) Awaits(ref string) bool { return (*Node)(h).queries.awaits(ref) }

func (h *handler) Loss(l Loss) {
	n := (*Node)(h)
	n.stats.losses.Add(1)
	n.stats.lossReasons.count(l.Reason)
	n.noteLoss(&l)
	n.losses.record(l)
	if n.hooks.onLoss != nil {
		n.hooks.pace.gather(l)
	}
}
