package crosscast

import (
	"context"
	"iter"

	"github.com/crosscast/crosscast/kind"
)

// EmitAffected emits event with payload to the sockets of this node that might have missed something in g, each once:
// the sockets in the rooms and of the users that g names, and all sockets of the namespaces that it names. There may be
// any number of names. It reaches no other node, because a node that missed the same has a gap of its own. It reaches no
// [Subscription], because that has Receiver.OnGap.
//
// It does not wait. If it is called in Options.OnGap, the event arrives before anything later of that origin. payload is
// as for [BoundTarget.Emit]. An error means that nobody got the event: it is one of event, of payload, or [ErrClosed].
func (n *Node) EmitAffected(g Gap, event string, payload any) error {
	if n.state.Load() == nodeClosed {
		return ErrClosed
	}
	if err := checkName("event", event); err != nil {
		return err
	}
	p, err := n.payload(payload)
	if err != nil {
		return err
	}
	all := n.affected(&g)
	inTurn(len(all), func(i int) {
		n.emitToSockets(&all[i], Instruction{Kind: kind.Emit, From: n.id, Event: event, Payload: p})
	})
	return nil
}

// affected are a namespace's names in a gap.
type affected struct {
	space  *space
	target Target
}

// affected returns what g names of the namespaces that are in use here.
func (n *Node) affected(g *Gap) (all []affected) {
	if g.Names == nil {
		for ns := range n.spaces.all() {
			all = append(all, affected{ns, Target{Everyone: true}})
		}
		return all
	}
	index := make(map[*space]int)
	for _, a := range g.Names {
		ns := n.spaces.get(a.Namespace)
		if ns == nil {
			continue
		}
		i, known := index[ns]
		if !known {
			i = len(all)
			index[ns] = i
			all = append(all, affected{space: ns})
		}
		all[i].target.add(a)
	}
	return all
}

// add adds a name of the target's namespace, or the namespace.
func (t *Target) add(a Address) {
	switch a.Space {
	case SpaceNamespace:
		t.Everyone = true
	case SpaceRoom:
		t.Rooms = append(t.Rooms, a.Name)
	case SpaceUser:
		t.Users = append(t.Users, a.Name)
	case SpaceSocket:
		t.Sockets = append(t.Sockets, SocketID(a.Name))
	}
}

func (n *Node) emitToSockets(a *affected, inst Instruction) {
	e := newEmission()
	defer e.release()
	e.inst = inst
	e.inst.Namespace, e.inst.Target = a.space.name, a.target
	e.fill(n, &e.inst)
	a.space.collectSockets(e)
	a.space.handOver(context.Background(), e, nil)
}

// collectSockets is collect without subscriptions.
func (ns *space) collectSockets(e *emission) {
	ns.collect(e)
	clear(e.subs)
	e.subs = e.subs[:0]
}

// maxGapRooms is the number of rooms above which Affected names none.
const maxGapRooms = 16

// Affected returns the sockets of this node in the namespace that might have missed something in g, each once, and for
// each the rooms of g that it is in. The rooms are nil if g concerns the socket as a whole: g covers everything in the
// namespace, or names the socket or its user, or more than 16 of the socket's rooms. most is the number of these sockets;
// a few of them might have left meanwhile, and are not in the sequence.
//
// It is for bindings, which tell the clients in [Namespace.OnGap]: see [Socket.Conn]. The sequence can be ranged over
// once. rooms is valid until the next socket. No lock is held meanwhile. Names that g has in other namespaces do not
// count. Affected does not wait.
func (ns *Namespace) Affected(g Gap) (most int, sockets iter.Seq2[*Socket, []string]) {
	e, sp := newEmission(), ns.here()
	t := &e.inst.Target
	t.Everyone = g.Names == nil
	for _, a := range g.Names {
		if a.Namespace == ns.name {
			t.add(a)
		}
	}
	e.inst.Kind = kind.Emit
	e.fill(ns.node, &e.inst)
	sp.collectSockets(e)
	return len(e.to.sockets), func(yield func(s *Socket, rooms []string) bool) {
		if e == nil {
			return
		}
		used := e
		e = nil
		defer used.release()
		names := newGapNames(t)
		var buf [maxGapRooms]string
		for _, s := range used.to.sockets {
			if rooms, concerns := names.of(s, buf[:0]); concerns && !yield(s, rooms) {
				return
			}
		}
	}
}

// gapNames are the names of a gap in a namespace.
type gapNames struct {
	everyone bool
	rooms    map[string]struct{}
	users    map[string]struct{}
	sockets  map[SocketID]struct{}
}

func newGapNames(t *Target) *gapNames {
	return &gapNames{t.Everyone, setOf(t.Rooms), setOf(t.Users), setOf(t.Sockets)}
}

func setOf[T comparable](names []T) map[T]struct{} {
	set := make(map[T]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

// of returns the rooms that s is in now, or nil for everything, and whether the gap concerns s. It uses buf, which has
// room for maxGapRooms.
func (n *gapNames) of(s *Socket, buf []string) (rooms []string, concerns bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, false
	}
	_, user := n.users[s.user]
	_, socket := n.sockets[s.id]
	if n.everyone || user && s.user != "" || socket {
		return nil, true
	}
	for _, m := range s.members {
		if m.group.space != SpaceRoom {
			continue
		}
		if _, missed := n.rooms[m.group.name]; !missed {
			continue
		}
		if len(buf) == maxGapRooms {
			return nil, true
		}
		buf = append(buf, m.group.name)
	}
	return buf, len(buf) > 0
}
