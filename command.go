package crosscast

import (
	"context"
	"errors"
)

// Commands over a target: its sockets, wherever they are, join, leave, or are closed. A command takes effect on this node's sockets at
// once, also when the bus is down, and keeps its place among the emissions of this node: a message emitted before a disconnect
// arrives first.

// Command is what [BoundTarget.Do] has the sockets do.
type Command struct {
	Join       []string // rooms to join
	Leave      []string // rooms to leave
	Disconnect Reason   // close the socket, for this reason
}

// Changed is what became of a command.
type Changed struct {
	Sockets int            // how many sockets it reached
	Nodes   map[NodeID]int // the same by node, where there were any
}

// Join makes the target's sockets join rooms. It returns when this node's have, without waiting for subscriptions or peers; see Do
// for a form that does. The error is that of [BoundTarget.Emit].
func (t BoundTarget) Join(ctx context.Context, rooms ...string) error {
	return t.order(ctx, KindJoin, rooms, "")
}

// Leave makes the target's sockets leave rooms, as Join.
func (t BoundTarget) Leave(ctx context.Context, rooms ...string) error {
	return t.order(ctx, KindLeave, rooms, "")
}

// Disconnect closes the target's sockets, as Join. An empty reason is [ReasonServer].
func (t BoundTarget) Disconnect(ctx context.Context, reason Reason) error {
	return t.order(ctx, KindDisconnect, nil, reason)
}

// Do commands the target's sockets and waits until all peers have told that they did: after a Join everything that is emitted
// later to the rooms reaches the sockets, and "join these users, then emit to the room" loses nothing. The deadline is ctx's, or 5
// s. Beside an [*IncompleteError] the counts of those who answered are right.
func (t BoundTarget) Do(ctx context.Context, c Command) (Changed, error) {
	var orders []Instruction
	if len(c.Join) > 0 {
		orders = append(orders, Instruction{Kind: KindJoin, Rooms: c.Join})
	}
	if len(c.Leave) > 0 {
		orders = append(orders, Instruction{Kind: KindLeave, Rooms: c.Leave})
	}
	if c.Disconnect != "" {
		orders = append(orders, Instruction{Kind: KindDisconnect, Reason: c.Disconnect})
	}
	ctx, cancel := deadline(ctx)
	defer cancel()
	var changed Changed
	for i := range orders {
		in := &orders[i]
		in.Namespace, in.Target = t.ns.name, t.target
		step, err := t.do(ctx, in)
		if step.Sockets > changed.Sockets || changed.Nodes == nil {
			changed = step
		}
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

func (t *BoundTarget) do(ctx context.Context, in *Instruction) (Changed, error) {
	n := t.ns.node
	if err := t.checkOrder(in); err != nil {
		return Changed{}, err
	}
	if t.target.IsNobody() {
		return Changed{}, nil
	}
	var waits []*interest
	own := func(q *ask) {
		count, w := t.ns.obey(in)
		waits = w
		q.push(n.id, &Answer{Count: count, Last: true})
	}
	send := in
	if t.local || n.holdsAll(&t.target) {
		send = nil
	}
	q := n.ask(ctx, send, own, nil)
	type count struct {
		from    NodeID
		sockets int
	}
	a := Answers[count]{q, func(from NodeID, a *Answer) []count { return []count{{from, a.Count}} }}
	changed := Changed{Nodes: make(map[NodeID]int)}
	for c := range a.All() {
		if c.sockets > 0 {
			changed.Sockets += c.sockets
			changed.Nodes[c.from] += c.sockets
		}
	}
	return changed, errors.Join(a.Err(), n.interests.wait(ctx, waits))
}

// order commands without waiting for anybody.
func (t *BoundTarget) order(ctx context.Context, kind Kind, rooms []string, reason Reason) error {
	n := t.ns.node
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	in := &Instruction{Kind: kind, Namespace: t.ns.name, From: n.id, Target: t.target, Rooms: rooms, Reason: reason}
	if err := t.checkOrder(in); err != nil {
		return err
	}
	if t.target.IsNobody() {
		return nil
	}
	_, waits := t.ns.obey(in)
	n.interests.want(waits)
	if n.adapter == nil || t.local || n.holdsAll(&t.target) {
		return nil
	}
	return n.publish(ctx, in)
}

func (t *BoundTarget) checkOrder(in *Instruction) error {
	if err := t.check("command"); err != nil {
		return err
	}
	if len(in.Rooms) > MaxNames {
		return &LimitError{What: "rooms", Len: len(in.Rooms), Max: MaxNames}
	}
	if len(in.Reason) > MaxName {
		return &LimitError{What: "reason", Len: len(in.Reason), Max: MaxName}
	}
	return checkNames("room", in.Rooms)
}

// commanded obeys a peer. What is asked for is done before the next instruction of that peer; only the answer waits, for the
// subscriptions of a join.
func (n *Node) commanded(in *Instruction) {
	var count int
	var waits []*interest
	if ns := (*n.spaces.Load())[in.Namespace]; ns != nil {
		count, waits = ns.obey(in)
	}
	n.interests.want(waits)
	if in.Ref == "" {
		return
	}
	if len(waits) == 0 {
		n.tryAnswer(&answerer{n: n, to: in.From, ref: in.Ref}, &Answer{Count: count, Last: true})
		return
	}
	n.work(in, func(ctx context.Context, r *answerer) {
		a := &Answer{Count: count, Last: true}
		if err := n.interests.wait(ctx, waits); err != nil {
			a.Err = err.Error()
		}
		n.sendOrLog(ctx, r, a)
	})
}

// obey carries out a command on this node's sockets. It waits for nothing, and calls nothing of the application's: sockets end their
// memberships and their conns at once, and OnClose follows on a goroutine. It returns what a join has to wait for.
func (ns *Namespace) obey(in *Instruction) (sockets int, waits []*interest) {
	e := newEmission()
	defer e.release()
	e.in.Target, e.in.Namespace = in.Target, in.Namespace
	e.fill(&e.in)
	ns.collect(e)
	for _, s := range e.sockets {
		switch in.Kind {
		case KindJoin:
			more, err := s.join(in.Rooms, waits)
			if err != nil {
				continue // it has closed meanwhile
			}
			waits = more
		case KindLeave:
			if s.Leave(in.Rooms...) != nil {
				continue
			}
		case KindDisconnect:
			reason := in.Reason
			if reason == "" {
				reason = ReasonServer
			}
			if !s.end(reason) {
				continue
			}
		}
		sockets++
	}
	return sockets, waits
}
