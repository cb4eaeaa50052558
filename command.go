package crosscast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"unicode/utf8"
)

// Commands over a target: its sockets, wherever they are, join, leave, or are closed. A command takes effect on this
// node's sockets at once, also when the bus is down, and keeps its place among the emissions of this node: a message
// emitted before a disconnect arrives first.

// Command is what [BoundTarget.Do] has the sockets do, in this order.
type Command struct {
	Join       []string // rooms to join
	Leave      []string // rooms to leave
	Disconnect Reason   // close the socket, for this reason; empty: do not
}

// Changed is what became of a command.
type Changed struct {
	Sockets int            // how many sockets it reached
	Nodes   map[NodeID]int // the same by node, where there were any; under an empty ID for those not known by ID
}

// Join makes the target's sockets join rooms. It returns when this node's have, without waiting for subscriptions or
// peers; see Do for a form that does. The error is that of [BoundTarget.Emit].
func (t BoundTarget) Join(ctx context.Context, rooms ...string) error {
	return t.order(ctx, &Instruction{Kind: KindJoin, Rooms: rooms})
}

// Leave makes the target's sockets leave rooms, as Join.
func (t BoundTarget) Leave(ctx context.Context, rooms ...string) error {
	return t.order(ctx, &Instruction{Kind: KindLeave, Rooms: rooms})
}

// Disconnect closes the target's sockets, as Join. An empty reason is an error, because an empty Command.Disconnect
// closes nothing; an application without reasons of its own gives [ReasonServer].
func (t BoundTarget) Disconnect(ctx context.Context, reason Reason) error {
	if reason == "" {
		return errNoReason
	}
	return t.order(ctx, &Instruction{Kind: KindDisconnect, Reason: reason})
}

var errNoReason = errors.New("crosscast: Disconnect without a reason")

// order commands without waiting for anybody.
func (t *BoundTarget) order(ctx context.Context, in *Instruction) error {
	n := t.ns.node
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	if err := t.command(in); err != nil {
		return err
	}
	_, waits := t.ns.here().obey(in)
	n.interests.want(waits)
	if n.adapter == nil || !t.remote() {
		return nil
	}
	to := n.holders(&t.target)
	if to == nil {
		return n.publish(ctx, in)
	}
	var err error
	for _, id := range to {
		one := *in
		one.To = id
		err = errors.Join(err, n.publish(ctx, &one))
	}
	return err
}

// Do commands the target's sockets and waits until all peers have told that they did: after a Join everything that is
// emitted later to the rooms reaches the sockets, and "join these users, then emit to the room" loses nothing. The
// deadline is ctx's, or 5 s.
//
// Beside an [*IncompleteError] the counts of those who answered are right, and the nodes that it names may have done
// it or not. Any other error is one of an argument, ctx's or [ErrClosed], and nothing was done; or, after a Join, says
// as that of [Socket.Join] why this node's sockets may not hear the rooms yet, beside the counts of all: unlike there,
// they are in the rooms.
func (t BoundTarget) Do(ctx context.Context, c Command) (Changed, error) {
	var steps []*Instruction
	if len(c.Join) > 0 {
		steps = append(steps, &Instruction{Kind: KindJoin, Rooms: c.Join})
	}
	if len(c.Leave) > 0 {
		steps = append(steps, &Instruction{Kind: KindLeave, Rooms: c.Leave})
	}
	if c.Disconnect != "" {
		steps = append(steps, &Instruction{Kind: KindDisconnect, Reason: c.Disconnect})
	}
	for _, in := range steps {
		if err := t.command(in); err != nil {
			return Changed{}, err
		}
	}
	n := t.ns.node
	to := []NodeID{}
	if t.remote() {
		to = n.holders(&t.target)
	}
	ctx, cancel := deadline(ctx)
	defer cancel()
	var waits []*interest
	asked := make([]*ask, len(steps))
	for i, in := range steps { // all are under way before the first wait
		asked[i] = n.ask(ctx, in, to, func(q *ask) {
			count, more := t.ns.here().obey(in)
			n.interests.want(more)
			waits = append(waits, more...)
			q.own = func(part func(*Answer) bool) { part(&Answer{Count: count}) }
		})
	}
	changed := Changed{Nodes: make(map[NodeID]int)}
	var failure error
	for _, q := range asked {
		step := make(map[NodeID]int)
		q.read(func(from NodeID, a *Answer) bool {
			step[from] += a.Count // of several nodes, when they are not known by ID
			return true
		})
		for from, count := range step {
			if count > changed.Nodes[from] {
				changed.Nodes[from] = count
			}
		}
		if err := q.err(); failure == nil { // what keeps a node from one step keeps it from the others
			failure = err
		}
	}
	for _, count := range changed.Nodes {
		changed.Sockets += count
	}
	if err := n.interests.wait(ctx, waits); failure == nil {
		failure = err
	}
	return changed, failure
}

// command completes and checks in.
func (t *BoundTarget) command(in *Instruction) error {
	in.Namespace, in.From, in.Target = t.ns.name, t.ns.node.id, t.target
	if err := t.check("command"); err != nil {
		return err
	}
	if len(in.Rooms) > MaxNames {
		return &LimitError{What: "rooms", Len: len(in.Rooms), Max: MaxNames}
	}
	if len(in.Reason) > MaxName {
		return &LimitError{What: "reason", Len: len(in.Reason), Max: MaxName}
	}
	if err := checkNames("room", in.Rooms); err != nil {
		return err
	}
	n := t.ns.node
	if n.onlyText && slices.ContainsFunc(in.Rooms, func(room string) bool { return !utf8.ValidString(room) }) {
		return errNoText
	}
	if n.adapter == nil || !t.remote() {
		return nil
	}
	return n.fits(in)
}

// commanded obeys a peer. What is asked for is done before the next instruction of that peer; only the answer waits,
// for the subscriptions of a join.
func (n *Node) commanded(in *Instruction) {
	n.noteCommand(in)
	a := &Answer{Last: true}
	var waits []*interest
	if ns := n.spaces.get(in.Namespace); ns != nil {
		a.Count, waits = ns.obey(in)
		n.interests.want(waits)
	}
	if in.Ref == "" || len(waits) == 0 {
		n.reply(in, a)
		return
	}
	n.work(n.answering, in, func(ctx context.Context, r *answerer) {
		if err := n.interests.wait(ctx, waits); err != nil {
			a.Err = err.Error()
		}
		r.send(ctx, a)
	})
}

// noteCommand counts a peer's command, and logs it: the first of a kind for a while at Info, so that one from a stranger
// shows, and the others at Debug.
func (n *Node) noteCommand(in *Instruction) {
	kind := in.Kind - KindJoin
	n.stats.commands[kind].Add(1)
	level := slog.LevelDebug
	if n.lines.commands[kind].due() {
		level = slog.LevelInfo
	}
	if !n.log.Enabled(n.ctx, level) {
		return
	}
	t := &in.Target
	n.log.Log(n.ctx, level, "crosscast: a peer commands sockets", "command", [...]string{"join", "leave", "disconnect"}[kind],
		"from", in.From, "namespace", in.Namespace, "everyone", t.Everyone, "rooms", firstOf(t.Rooms),
		"users", firstOf(t.Users), "sockets", firstOf(t.Sockets), "exceptions", t.HasExceptions(),
		"changes", firstOf(in.Rooms), "reason", string(in.Reason))
}

// firstOf is names as a line of the log lists them.
func firstOf[S ~string](names []S) string {
	const listed = 3
	text := fmt.Sprintf("%q", names[:min(len(names), listed)])
	if more := len(names) - listed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// obey carries out a command on this node's sockets. It waits for nothing, and calls nothing of the application's but
// conns: sockets end their memberships and their conns at once, and OnClose follows on a goroutine. It returns how
// many sockets it reached, and what a join has to wait for.
func (ns *space) obey(in *Instruction) (sockets int, waits []*interest) {
	if in.Kind == KindDisconnect {
		return disconnect(ns.matching(&in.Target), cmp.Or(in.Reason, ReasonServer)), nil
	}
	for _, s := range ns.matching(&in.Target) {
		done := false
		switch in.Kind {
		case KindJoin:
			var err error
			waits, _, err = s.join(in.Rooms, waits, false)
			done = err == nil // else it has closed meanwhile
		case KindLeave:
			done = s.Leave(in.Rooms...) == nil
		}
		if done {
			sockets++
		}
	}
	return sockets, waits
}

// disconnect closes sockets, and returns how many were open. A conn that ends the goroutine keeps no other from it.
func disconnect(sockets []*Socket, reason Reason) (open int) {
	i := 0
	defer func() {
		if i < len(sockets) {
			disconnect(sockets[i+1:], reason)
		}
	}()
	for ; i < len(sockets); i++ {
		if sockets[i].end(reason) {
			open++
		}
	}
	return open
}
