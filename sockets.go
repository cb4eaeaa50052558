package crosscast

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"slices"
)

// Questions about the sockets in a target. Each has a deadline: the context's, or 5 s. A target that is Local asks this node only.

// Sockets asks which sockets are in the target, on all nodes. f says what to tell beside their IDs.
func (t BoundTarget) Sockets(ctx context.Context, f Fields) *Answers[SocketInfo] {
	q := t.ask(ctx, &Question{Kind: AskSockets, Fields: f})
	return &Answers[SocketInfo]{q, func(_ NodeID, a *Answer) []SocketInfo { return a.Sockets }}
}

// Rooms asks which rooms the sockets in the target are in, and how many of them in each. A room with sockets on several nodes comes
// once from each.
func (t BoundTarget) Rooms(ctx context.Context) *Answers[RoomCount] {
	q := t.ask(ctx, &Question{Kind: AskRooms})
	return &Answers[RoomCount]{q, func(_ NodeID, a *Answer) []RoomCount { return a.Rooms }}
}

// Count asks how many sockets are in the target. Only numbers travel. Beside an [*IncompleteError] it is the count of those who
// answered.
func (t BoundTarget) Count(ctx context.Context) (sockets int, err error) {
	q := t.ask(ctx, &Question{Kind: AskCount})
	a := Answers[int]{q, func(_ NodeID, a *Answer) []int { return []int{a.Count} }}
	for n := range a.All() {
		sockets += n
	}
	return sockets, a.Err()
}

// CountUsers asks how many different users have a socket in the target. Sockets without a user do not count. What travels is 8 bytes
// for each user of each node: salted hashes, so that the result may be too small by one in a case of bad luck that will not happen
// (for a million users once in 30 million questions).
func (t BoundTarget) CountUsers(ctx context.Context) (users int, err error) {
	q := t.ask(ctx, &Question{Kind: AskCount, Fields: FieldUser, Salt: rand.Uint64()})
	a := Answers[uint64]{q, func(_ NodeID, a *Answer) []uint64 { return a.Users }}
	seen := make(map[uint64]struct{})
	for u := range a.All() {
		seen[u] = struct{}{}
	}
	return len(seen), a.Err()
}

// Has asks whether there is any socket in the target. It returns true with the first node that has one, whatever the others say.
func (t BoundTarget) Has(ctx context.Context) (bool, error) {
	q := t.ask(ctx, &Question{Kind: AskCount})
	a := Answers[int]{q, func(_ NodeID, a *Answer) []int { return []int{a.Count} }}
	for n := range a.All() {
		if n > 0 {
			return true, nil
		}
	}
	return false, a.Err()
}

// ask asks question about the target's sockets.
func (t *BoundTarget) ask(ctx context.Context, question *Question) *ask {
	n := t.ns.node
	if err := t.check("ask"); err != nil {
		return n.failedAsk(err)
	}
	in := &Instruction{Kind: KindAsk, Namespace: t.ns.name, Target: t.target, Question: question}
	own := func(q *ask) {
		t.ns.answer(in, func(a *Answer) error {
			q.push(n.id, a)
			return nil
		})
	}
	var to []NodeID
	switch {
	case t.target.IsNobody():
		return n.ask(ctx, nil, nil, nil)
	case t.local || n.holdsAll(&t.target):
		return n.ask(ctx, nil, own, nil)
	case t.target.onlySockets():
		to = n.holders(t.target.Sockets)
	}
	return n.ask(ctx, in, own, to)
}

// holders returns the peers that hold sockets, which name them.
func (n *Node) holders(ids []SocketID) []NodeID {
	var nodes []NodeID
	for _, id := range ids {
		if node := id.Node(); node != n.id && !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// asked answers a peer's question.
func (n *Node) asked(in *Instruction) {
	question := *in
	question.Question = &Question{}
	if in.Question != nil {
		*question.Question = *in.Question
	}
	question.Target = *in.Target.clone()
	n.work(in, func(ctx context.Context, r *answerer) {
		ns := (*n.spaces.Load())[question.Namespace]
		if ns == nil {
			n.sendOrLog(ctx, r, &Answer{Last: true})
			return
		}
		if err := ns.answer(&question, func(a *Answer) error { return r.send(ctx, a) }); err != nil {
			n.log.Debug("crosscast: could not answer", "to", r.to, "error", err)
		}
	})
}

func (n *Node) sendOrLog(ctx context.Context, r *answerer, a *Answer) {
	if err := r.send(ctx, a); err != nil {
		n.log.Debug("crosscast: could not answer", "to", r.to, "error", err)
	}
}

// answer calls send with the parts of what this node has to say to a question.
func (ns *Namespace) answer(in *Instruction, send func(*Answer) error) error {
	e := newEmission()
	defer e.release()
	e.in = *in
	e.fill(&e.in)
	ns.collect(e)
	a := &Answer{Count: len(e.sockets)}
	size := 0
	// part sends what there is when it has grown enough.
	part := func(more int) error {
		if size += more; size < MaxAnswer {
			return nil
		}
		full := a
		a, size = &Answer{}, 0
		return send(full)
	}
	switch in.Question.Kind {
	case AskSockets:
		a.Count = 0
		for _, s := range e.sockets {
			info := s.info(in.Question.Fields)
			a.Sockets = append(a.Sockets, info)
			more := 40 + len(info.User) + len(info.Data)
			for _, r := range info.Rooms {
				more += 3 + len(r)
			}
			if err := part(more); err != nil {
				return err
			}
		}
	case AskRooms:
		a.Count = 0
		for room, sockets := range roomsOf(e.sockets) {
			a.Rooms = append(a.Rooms, RoomCount{room, sockets})
			if err := part(8 + len(room)); err != nil {
				return err
			}
		}
	case AskCount:
		if in.Question.Fields&FieldUser == 0 {
			break
		}
		for user := range usersOf(e.sockets) {
			a.Users = append(a.Users, userHash(in.Question.Salt, user))
			if err := part(8); err != nil {
				return err
			}
		}
	default:
		a.Err = "unknown question"
	}
	a.Last = true
	return send(a)
}

// info tells what is asked about s.
func (s *Socket) info(f Fields) SocketInfo {
	info := SocketInfo{ID: s.id}
	if f&FieldUser != 0 {
		info.User = s.user
	}
	if f&FieldRooms != 0 {
		info.Rooms = s.Rooms()
	}
	if f&FieldData != 0 && s.data != nil {
		// It did marshal when the socket connected. An application that has spoiled it since harms itself only.
		info.Data, _ = json.Marshal(s.data)
	}
	return info
}

func roomsOf(sockets []*Socket) map[string]int {
	rooms := make(map[string]int)
	for _, s := range sockets {
		for _, r := range s.Rooms() {
			rooms[r]++
		}
	}
	return rooms
}

func usersOf(sockets []*Socket) map[string]struct{} {
	users := make(map[string]struct{})
	for _, s := range sockets {
		if s.user != "" {
			users[s.user] = struct{}{}
		}
	}
	return users
}

// userHash is the same on every node, and, for want of the salt, cannot be made to collide by choosing names.
func userHash(salt uint64, user string) uint64 {
	var b [8 + MaxName]byte
	binary.BigEndian.PutUint64(b[:], salt)
	sum := sha256.Sum256(b[:8+copy(b[8:], user)])
	return binary.BigEndian.Uint64(sum[:])
}
