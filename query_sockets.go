package crosscast

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/crosscast/crosscast/internal/limit"
	"github.com/crosscast/crosscast/kind"
)

// Queries about the sockets in a target. Each has a deadline: the context's, or 5 s. A target that is Local queries
// only this node.

// Sockets queries the sockets in the target, on all nodes. f selects the fields of the answers; Fields{} selects all.
func (t BoundTarget) Sockets(ctx context.Context, f Fields) *Answers[SocketInfo] {
	q := t.query(ctx, &Question{Kind: kind.AskSockets, Fields: f.selected()})
	return &Answers[SocketInfo]{q, func(_ NodeID, a *Answer) []SocketInfo { return a.Sockets }}
}

// Rooms queries the rooms of the sockets in the target, with the number of these sockets in each. A room with sockets
// on several nodes comes once from each.
func (t BoundTarget) Rooms(ctx context.Context) *Answers[RoomCount] {
	q := t.query(ctx, &Question{Kind: kind.AskRooms})
	return &Answers[RoomCount]{q, func(_ NodeID, a *Answer) []RoomCount { return a.Rooms }}
}

// Count counts the sockets in the target, on all nodes. Only numbers travel. Together with an [*IncompleteError] it
// returns the count of the nodes that answered.
func (t BoundTarget) Count(ctx context.Context) (sockets int, err error) {
	q := t.query(ctx, &Question{Kind: kind.AskCount})
	a := Answers[int]{q, func(_ NodeID, a *Answer) []int { return []int{a.Count} }}
	for n := range a.All() {
		sockets += n
	}
	return sockets, a.Err()
}

// CountUsers counts the different users with a socket in the target, on all nodes. Sockets without a user do not
// count. Each node sends a salted hash of 8 bytes for each user. Two users with the same hash count as one: for a
// million users, that happens in one of 30 million queries.
func (t BoundTarget) CountUsers(ctx context.Context) (users int, err error) {
	q := t.query(ctx, &Question{Kind: kind.AskCount, Fields: kind.FieldUser, Salt: rand.Uint64()})
	a := Answers[uint64]{q, func(_ NodeID, a *Answer) []uint64 { return a.Users }}
	seen := make(map[uint64]struct{})
	for u := range a.All() {
		seen[u] = struct{}{}
	}
	return len(seen), a.Err()
}

// Has reports whether there is any socket in the target. It returns true as soon as one node has one. It looks at this
// node first.
func (t BoundTarget) Has(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if t.check("ask") == nil && t.ns.node.state.Load() != nodeClosed && t.ns.here().countMatching(&t.target) > 0 {
		return true, nil
	}
	q := t.query(ctx, &Question{Kind: kind.AskCount})
	a := Answers[int]{q, func(_ NodeID, a *Answer) []int { return []int{a.Count} }}
	for n := range a.All() {
		if n > 0 {
			return true, nil
		}
	}
	return false, a.Err()
}

// query queries all nodes about the target's sockets.
func (t *BoundTarget) query(ctx context.Context, question *Question) *query {
	n := t.ns.node
	if err := t.check("ask"); err != nil {
		return &query{failure: err}
	}
	inst := &Instruction{Kind: kind.Ask, Namespace: t.ns.name, Target: t.target, Question: question}
	to := []NodeID{}
	if t.remote() {
		to = n.holders(&t.target)
	}
	own := func(part func(*Answer) bool) { t.ns.here().answer(&inst.Target, question, part) }
	return n.query(ctx, inst, to, func(q *query) { q.own = own })
}

// remote reports whether the target may have sockets on other nodes.
func (t *BoundTarget) remote() bool {
	return !t.local && !t.target.isNobody() && !t.ns.node.holdsAll(&t.target)
}

// maxHolders is the largest number of nodes that are addressed one by one.
const maxHolders = 8

// holders returns the peers that hold t's sockets, by the IDs of the sockets. It returns nil if the target has anything
// else, if there are more than a few of them, or if peers are not known by ID.
func (n *Node) holders(t *Target) []NodeID {
	if n.foreign != nil || !t.onlySockets() {
		return nil
	}
	var nodes []NodeID
	for _, id := range t.Sockets {
		node := id.Node()
		if node == n.id || slices.Contains(nodes, node) {
			continue
		}
		if len(nodes) == maxHolders {
			return nil
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// handleAsk answers a peer's query.
func (n *Node) handleAsk(inst *Instruction) {
	ns := n.spaces.get(inst.Namespace)
	switch {
	case inst.Question != nil && inst.Question.Kind == kind.AskNodes:
		n.answerNodes(inst)
		return
	case inst.Question != nil && inst.Question.Kind == kind.AskStats:
		n.answerStats(inst)
		return
	case ns == nil || inst.Question == nil:
		n.reply(inst, &Answer{Last: true})
		return
	}
	if inst.Question.Kind == kind.AskCount && inst.Question.Fields&kind.FieldUser == 0 { // as little work as an emission
		n.reply(inst, &Answer{Count: ns.countMatching(&inst.Target), Last: true})
		return
	}
	target, question := inst.Target.clone(), *inst.Question
	n.work(n.jobs.answering, inst, func(ctx context.Context, r *answerer) {
		ns.answer(target, &question, func(a *Answer) bool { return r.send(ctx, a) == nil })
	})
}

// matching returns the sockets of this node that are in t.
func (ns *space) matching(t *Target) []*Socket {
	e := newEmission()
	defer e.release()
	e.msg.Target = t
	ns.collect(e)
	return slices.Clone(e.to.sockets)
}

// countMatching returns the number of this node's sockets that are in t.
func (ns *space) countMatching(t *Target) int {
	e := newEmission()
	defer e.release()
	e.msg.Target = t
	ns.collect(e)
	return len(e.to.sockets)
}

// answer calls send with the parts of this node's answer, until send returns false.
func (ns *space) answer(t *Target, question *Question, send func(*Answer) bool) {
	p := &parts{send: send}
	switch question.Kind {
	case kind.AskSockets:
		for _, s := range ns.matching(t) {
			info := s.info(question.Fields)
			if !p.grow(info.size()) {
				return
			}
			p.next.Sockets = append(p.next.Sockets, info)
		}
	case kind.AskRooms:
		for room, n := range roomsOf(ns.matching(t), (*Socket).Rooms) {
			if !p.grow(24 + len(room)) {
				return
			}
			p.next.Rooms = append(p.next.Rooms, RoomCount{room, n})
		}
	case kind.AskCount:
		if question.Fields&kind.FieldUser == 0 {
			p.next.Count = ns.countMatching(t)
			break
		}
		sockets := ns.matching(t)
		p.next.Count = len(sockets)
		for user := range usersOf(sockets, (*Socket).User) {
			if !p.grow(8) {
				return
			}
			p.next.Users = append(p.next.Users, userHash(question.Salt, user))
		}
	default:
		p.next.Err = "unknown question"
	}
	p.end()
}

// info describes s.
func (s *Socket) info(f kind.Fields) SocketInfo {
	info := SocketInfo{ID: s.id}
	if f&kind.FieldUser != 0 {
		info.User = s.user
	}
	if f&kind.FieldRooms != 0 {
		info.Rooms = s.Rooms()
	}
	if f&kind.FieldData != 0 {
		info.Data = append(info.Data, s.told.dataJSON...)
	}
	if f&kind.FieldHandshake != 0 {
		info.Handshake = append(info.Handshake, s.told.handshakeJSON...)
	}
	return info
}

func roomsOf[S any](sockets []S, rooms func(S) []string) map[string]int {
	counts := make(map[string]int)
	for _, s := range sockets {
		for _, r := range rooms(s) {
			counts[r]++
		}
	}
	return counts
}

func usersOf[S any](sockets []S, user func(S) string) map[string]struct{} {
	users := make(map[string]struct{})
	for _, s := range sockets {
		if u := user(s); u != "" {
			users[u] = struct{}{}
		}
	}
	return users
}

// userHash is the same on every node. Nobody who does not know the salt can choose names that collide.
func userHash(salt uint64, user string) uint64 {
	var b [8 + limit.Name]byte
	binary.BigEndian.PutUint64(b[:], salt)
	sum := sha256.Sum256(b[:8+copy(b[8:], user)])
	return binary.BigEndian.Uint64(sum[:])
}
