package crosscast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"unicode/utf8"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Commands to a target: its sockets, on every node, join, leave or are closed. A command takes effect on this node's
// sockets at once, even while the bus is down. It keeps its place among the emissions of this node: a message emitted
// before a disconnect arrives first.

// Command is executed by [BoundTarget.Do] for each socket, in this order.
type Command struct {
	Join       []string // rooms to join
	Leave      []string // rooms to leave
	Disconnect Reason   // close the socket, for this reason; empty: do not close it
}

// Changed is the outcome of a command.
type Changed struct {
	Sockets int            // number of sockets that it reached
	Nodes   map[NodeID]int // the same by node, if there were any; an empty ID stands for nodes not known by ID
}

// Join makes the target's sockets join rooms. It returns when this node's sockets have joined, and does not wait for
// subscriptions or peers; Do does. The errors are those of [BoundTarget.Emit].
func (t BoundTarget) Join(ctx context.Context, rooms ...string) error {
	return t.order(ctx, &Instruction{Kind: kind.Join, Rooms: rooms})
}

// Leave makes the target's sockets leave rooms. It does not wait, as Join.
func (t BoundTarget) Leave(ctx context.Context, rooms ...string) error {
	return t.order(ctx, &Instruction{Kind: kind.Leave, Rooms: rooms})
}

// Disconnect closes the target's sockets. It does not wait, as Join. An empty reason is an error, because an empty
// Command.Disconnect closes nothing. An application without reasons of its own passes [ReasonServer].
func (t BoundTarget) Disconnect(ctx context.Context, reason Reason) error {
	if reason == "" {
		return errNoReason
	}
	return t.order(ctx, &Instruction{Kind: kind.Disconnect, Reason: reason})
}

var errNoReason = errors.New("crosscast: Disconnect without a reason")

// order sends a command without waiting for anybody.
func (t *BoundTarget) order(ctx context.Context, inst *Instruction) error {
	n := t.ns.node
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	if err := t.command(inst); err != nil {
		return err
	}
	_, waits := t.ns.here().obey(inst)
	n.interests.want(waits)
	if !t.remote() {
		return nil
	}
	to := n.holders(&t.target)
	if to == nil {
		return n.publish(ctx, inst)
	}
	var err error
	for _, id := range to {
		one := *inst
		one.To = id
		err = errors.Join(err, n.publish(ctx, &one))
	}
	return err
}

// Do commands the target's sockets, and waits until all peers have confirmed it. After a Join, every later emission to
// the rooms reaches the sockets, so an application can make users join and then emit to the room without loss. The
// deadline is ctx's, or 5 s.
//
// With an [*IncompleteError] the counts of the nodes that answered are correct. The nodes in the error might have
// executed the command. Any other error is one of an argument, ctx's or [ErrClosed], and means that nothing was done.
// One exception: after a Join, it might be an error as of [Socket.Join], because sockets of this node do not hear the
// rooms yet. Then the counts are valid. The sockets are in the rooms and stay there, unlike after a failed Socket.Join.
func (t BoundTarget) Do(ctx context.Context, c Command) (Changed, error) {
	var steps []*Instruction
	if len(c.Join) > 0 {
		steps = append(steps, &Instruction{Kind: kind.Join, Rooms: c.Join})
	}
	if len(c.Leave) > 0 {
		steps = append(steps, &Instruction{Kind: kind.Leave, Rooms: c.Leave})
	}
	if c.Disconnect != "" {
		steps = append(steps, &Instruction{Kind: kind.Disconnect, Reason: c.Disconnect})
	}
	for _, inst := range steps {
		if err := t.command(inst); err != nil {
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
	var waits []*group
	asked := make([]*query, len(steps))
	for i, inst := range steps { // all are under way before the first wait
		asked[i] = n.query(ctx, inst, to, func(q *query) {
			count, more := t.ns.here().obey(inst)
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
			step[from] += a.Count // of several nodes, if they are not known by ID
			return true
		})
		for from, count := range step {
			if count > changed.Nodes[from] {
				changed.Nodes[from] = count
			}
		}
		if err := q.err(); failure == nil { // a node that fails in one step fails in the others for the same reason
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

// command completes and checks inst.
func (t *BoundTarget) command(inst *Instruction) error {
	inst.Namespace, inst.From, inst.Target = t.ns.name, t.ns.node.id, t.target
	if err := t.check("command"); err != nil {
		return err
	}
	if len(inst.Rooms) > limit.Names {
		return &limit.Error{What: "rooms", Len: len(inst.Rooms), Max: limit.Names}
	}
	if len(inst.Reason) > limit.Name {
		return &limit.Error{What: "reason", Len: len(inst.Reason), Max: limit.Name, Bytes: true}
	}
	if err := checkNames("room", inst.Rooms); err != nil {
		return err
	}
	n := t.ns.node
	if n.onlyText && slices.ContainsFunc(inst.Rooms, func(room string) bool { return !utf8.ValidString(room) }) {
		return errNoText
	}
	if !t.remote() {
		return nil
	}
	return n.fits(inst, nil)
}

// handleCommand executes a peer's command. It is done before the next instruction of that peer. Only the answer waits,
// for the subscriptions of a join.
func (n *Node) handleCommand(inst *Instruction) {
	n.noteCommand(inst)
	a := &Answer{Last: true}
	var waits []*group
	if ns := n.spaces.get(inst.Namespace); ns != nil {
		a.Count, waits = ns.obey(inst)
		n.interests.want(waits)
	}
	if inst.Ref == "" || len(waits) == 0 {
		n.reply(inst, a)
		return
	}
	n.work(n.jobs.answering, inst, func(ctx context.Context, r *answerer) {
		if err := n.interests.wait(ctx, waits); err != nil {
			a.Err = err.Error()
		}
		r.send(ctx, a)
	})
}

// noteCommand counts a peer's command, and logs it. The first of a kind in a while is logged at Info, so that a
// stranger's command shows, and the others at Debug.
func (n *Node) noteCommand(inst *Instruction) {
	command := inst.Kind - kind.Join
	n.stats.commands[command].Add(1)
	level := slog.LevelDebug
	if n.log.commands[command].due() {
		level = slog.LevelInfo
	}
	if !n.log.Enabled(n.jobs.ctx, level) {
		return
	}
	t := &inst.Target
	n.log.Log(n.jobs.ctx, level, "crosscast: a peer commands sockets", "command", [...]string{"join", "leave", "disconnect"}[command],
		"from", n.peers.inLog(inst.From), "namespace", inst.Namespace, "everyone", t.Everyone, "rooms", firstOf(t.Rooms),
		"users", firstOf(t.Users), "sockets", firstOf(t.Sockets), "exceptions", t.hasExceptions(),
		"changes", firstOf(inst.Rooms), "reason", string(inst.Reason))
}

// firstOf formats names for a line of the log.
func firstOf[S ~string](names []S) string {
	const listed = 3
	text := fmt.Sprintf("%q", names[:min(len(names), listed)])
	if more := len(names) - listed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// obey executes a command on this node's sockets. It does not wait, and calls only conns of the application:
// memberships and conns end at once, and OnClose follows on a goroutine. It returns the number of sockets that it
// reached, and the interests for which a join must wait.
func (ns *space) obey(inst *Instruction) (sockets int, waits []*group) {
	if inst.Kind == kind.Disconnect {
		return disconnect(ns.matching(&inst.Target), cmp.Or(inst.Reason, ReasonServer)), nil
	}
	for _, s := range ns.matching(&inst.Target) {
		done := false
		switch inst.Kind {
		case kind.Join:
			var err error
			waits, _, err = s.join(inst.Rooms, waits, false)
			done = err == nil // otherwise it has closed meanwhile
		case kind.Leave:
			done = s.Leave(inst.Rooms...) == nil
		}
		if done {
			sockets++
		}
	}
	return sockets, waits
}

// disconnect closes sockets, and returns the number of open ones. If a conn ends the goroutine, the others are still
// closed.
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
