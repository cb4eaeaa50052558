package crosscast

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/crosscast/crosscast/internal/guard"
	"github.com/crosscast/crosscast/internal/poison"
)

// An emission holds the state of one delivery. It is reused, so that a delivery allocates nothing.
type emission struct {
	inst     Instruction // for an emission of this node
	one      [1]SocketID // the target of Socket.Emit
	msg      Message
	sockets  []*Socket
	at, took int // index of the next socket, and number of sockets that took the message
	subs     []*Subscription
	queued   int      // number of subs that queued the message
	seen     []uint64 // a bit for each socket's slot, all zero between uses
}

var emissions = sync.Pool{New: func() any { return new(emission) }}

func newEmission() *emission { return emissions.Get().(*emission) }

func (e *emission) release() {
	if poison.On {
		e.poison()
		return
	}
	if e.inst.Kind != 0 {
		e.inst = Instruction{}
	}
	e.msg.Payload.Data, e.msg.Ack = nil, 0 // fill sets the other fields, which hold little
	e.msg.resetFrames()
	clear(e.sockets) // so that the pool keeps no socket alive
	e.sockets, e.at, e.took = e.sockets[:0], 0, 0
	clear(e.subs)
	e.subs, e.queued = e.subs[:0], 0
	emissions.Put(e)
}

// poison makes a message show that was kept after Send had returned. It is not used again.
func (e *emission) poison() {
	m := &e.msg
	m.resetFrames()
	m.Namespace, m.From, m.Event, m.Meta = poison.Text, poison.Text, poison.Text, nil
	m.Target = &Target{Rooms: []string{poison.Text}}
	m.Payload = Payload{EncodingJSON, strconv.AppendQuote(nil, poison.Text)}
}

// fill makes the message of inst.
func (e *emission) fill(n *Node, inst *Instruction) {
	m := &e.msg
	m.node = n
	m.Namespace, m.From, m.Target, m.Event = inst.Namespace, inst.From, &inst.Target, inst.Event
	m.Payload, m.Volatile, m.Meta = inst.Payload, inst.Volatile, inst.Meta
}

// deliver hands e.msg to the sockets and subscriptions of this node that are in its target. It collects them under the
// locks, one group at a time, and hands over afterwards. It returns the number of sockets that took the message.
func (ns *space) deliver(e *emission) (took int) {
	ns.collect(e)
	return ns.handOver(e, nil)
}

// anybody reports whether any recipient was collected.
func (e *emission) anybody() bool { return len(e.sockets) > 0 || len(e.subs) > 0 }

// handOver hands e.msg to the collected recipients. It returns the number of sockets that took the message, and calls
// refused, if not nil, for each of the others.
func (ns *space) handOver(e *emission, refused func(*Socket, error)) (took int) {
	if ns.node.observer != nil {
		defer e.observe(ns.node, time.Now())
	}
	if len(e.subs) > 0 {
		defer e.offer(ns.node) // also if a conn ends the goroutine
	}
	e.handOn(ns.node, refused)
	return e.took
}

// offer offers e.msg to subscriptions.
func (e *emission) offer(n *Node) {
	c := e.msg.Clone()
	for _, sub := range e.subs {
		if sub.handleMessage(c) {
			e.queued++
		}
	}
	n.stats.delivered.Add(uint64(e.queued))
}

// handOn hands e.msg to the remaining sockets. A conn that panics, or ends the goroutine, does not keep it from the
// others. One guard serves many conns, because a guard costs about as much as one conn.
func (e *emission) handOn(n *Node, refused func(*Socket, error)) {
	for e.at < len(e.sockets) {
		e.handSome(n, refused)
	}
	n.stats.delivered.Add(uint64(e.took))
}

// handSome hands e.msg to sockets, up to one whose conn panics.
func (e *emission) handSome(n *Node, refused func(*Socket, error)) {
	all := false
	defer func() {
		if !all {
			e.handlePanic(n, refused, guard.Recovered(recover()))
		}
	}()
	for ; e.at < len(e.sockets); e.at++ {
		s := e.sockets[e.at]
		var err error
		if s.connecting.Load() {
			err = s.sendEarly(&e.msg)
		} else {
			err = s.conn.Send(&e.msg)
		}
		if err == nil {
			e.took++
			continue
		}
		s.handleConnError(err)
		if refused != nil {
			refused(s, err)
		}
	}
	all = true
}

// handlePanic handles a conn that has panicked or, if err is nil, has ended the goroutine. In the second case it also
// goes on with the remaining sockets.
func (e *emission) handlePanic(n *Node, refused func(*Socket, error), err error) {
	exits := err == nil
	if exits {
		err = guard.ErrExit
	}
	s := e.sockets[e.at]
	e.at++
	if s.handleConnError(err) {
		n.report("Conn.Send", err)
	}
	if refused != nil {
		refused(s, err)
	}
	if exits {
		e.handOn(n, refused)
	}
}

// fewExceptions is the number of excepted sockets up to which a search one by one is faster.
const fewExceptions = 8

// collect fills e.sockets and e.subs, each recipient once. A single group with no exceptions, or with a few excepted
// sockets as in a broadcast to all others, is copied. Any other target uses a set of the sockets seen, which starts
// with the exceptions.
func (ns *space) collect(e *emission) {
	t := e.msg.Target
	groups := len(t.Rooms) + len(t.Users)
	if t.Everyone {
		groups++
	}
	simple := groups <= 1 && (groups == 0) == (len(t.Sockets) > 0) && len(t.Sockets) <= 1 &&
		len(t.ExceptRooms) == 0 && len(t.ExceptUsers) == 0 && len(t.ExceptSockets) <= fewExceptions
	if !simple {
		for _, name := range t.ExceptRooms {
			ns.except(e, SpaceRoom, name)
		}
		for _, name := range t.ExceptUsers {
			ns.except(e, SpaceUser, name)
		}
		for _, id := range t.ExceptSockets {
			if s := ns.socket(id); s != nil {
				e.see(s)
			}
		}
	}
	if t.Everyone {
		ns.collectName(e, SpaceNamespace, "", simple)
	}
	for _, name := range t.Rooms {
		ns.collectName(e, SpaceRoom, name, simple)
	}
	for _, name := range t.Users {
		ns.collectName(e, SpaceUser, name, simple)
	}
	for _, id := range t.Sockets {
		if s := ns.socket(id); s != nil && (simple || e.see(s)) {
			e.sockets = append(e.sockets, s)
		}
	}
	if len(t.Rooms) > 1 {
		e.subs = unique(e.subs)
	}
	if !simple {
		clear(e.seen)
		e.seen = e.seen[:0]
		return
	}
	for _, id := range t.ExceptSockets {
		s := ns.socket(id)
		if s == nil {
			continue
		}
		if i := slices.Index(e.sockets, s); i >= 0 {
			last := len(e.sockets) - 1
			e.sockets[i], e.sockets[last] = e.sockets[last], nil
			e.sockets = e.sockets[:last]
		}
	}
}

// collectName collects the named group. It only copies under the group's lock, because the group might be large and
// other calls wait.
func (ns *space) collectName(e *emission, space Space, name string, simple bool) {
	from := len(e.sockets)
	ns.withGroup(space, name, func(g *group) {
		e.sockets = append(e.sockets, g.sockets...)
		e.subs = append(e.subs, g.subs...)
	})
	if simple {
		return
	}
	kept := e.sockets[:from]
	for _, s := range e.sockets[from:] {
		if e.see(s) {
			kept = append(kept, s)
		}
	}
	clear(e.sockets[len(kept):])
	e.sockets = kept
}

// except marks the named group's sockets as seen, so that they are not collected.
func (ns *space) except(e *emission, space Space, name string) {
	from := len(e.sockets)
	ns.withGroup(space, name, func(g *group) { e.sockets = append(e.sockets, g.sockets...) })
	for _, s := range e.sockets[from:] {
		e.see(s)
	}
	clear(e.sockets[from:])
	e.sockets = e.sockets[:from]
}

// fewSubscriptions is the number up to which a comparison with each other is faster than a map.
const fewSubscriptions = 32

// unique returns subs, each once.
func unique(subs []*Subscription) []*Subscription {
	kept := subs[:0]
	if len(subs) <= fewSubscriptions {
		for _, sub := range subs {
			if !slices.Contains(kept, sub) {
				kept = append(kept, sub)
			}
		}
		clear(subs[len(kept):])
		return kept
	}
	seen := make(map[*Subscription]struct{}, len(subs))
	for _, sub := range subs {
		if _, again := seen[sub]; !again {
			seen[sub] = struct{}{}
			kept = append(kept, sub)
		}
	}
	clear(subs[len(kept):])
	return kept
}

// see marks s as seen, and returns false if it was marked already. A slot that changes hands meanwhile can only hide a
// socket that connected after the start of the delivery.
func (e *emission) see(s *Socket) bool {
	word, bit := int(s.slot>>6), uint64(1)<<(s.slot&63)
	if word >= len(e.seen) {
		e.growSeen(word + 1)
	}
	if e.seen[word]&bit != 0 {
		return false
	}
	e.seen[word] |= bit
	return true
}

// growSeen makes room for n words. The words beyond the length are always zero.
func (e *emission) growSeen(n int) {
	e.seen = slices.Grow(e.seen, n-len(e.seen))[:n]
}
