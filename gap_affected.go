package crosscast

import "github.com/crosscast/crosscast/kind"

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
		switch t := &all[i].target; a.Space {
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
	return all
}

func (n *Node) emitToSockets(a *affected, inst Instruction) {
	e := newEmission()
	defer e.release()
	e.inst = inst
	e.inst.Namespace, e.inst.Target = a.space.name, a.target
	e.fill(n, &e.inst)
	a.space.collect(e)
	clear(e.subs)
	e.subs = e.subs[:0]
	a.space.handOver(e, nil)
}
