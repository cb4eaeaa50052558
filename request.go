package crosscast

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
)

// Requests between servers: named handlers on nodes, called by their peers.

// A Request is what a [RequestHandler] is called with.
type Request struct {
	From    NodeID
	Name    string
	Payload Payload // valid during the call
}

// A RequestHandler answers a request of a peer. It runs on a goroutine of its own; ctx ends when the asker's deadline has passed or
// the node closes. What it returns is marshalled as by [BoundTarget.Emit]; an error travels back as text. When it panics, the asker
// gets an error, the panic is logged, and the node lives.
type RequestHandler func(ctx context.Context, r *Request) (any, error)

// handlers are a node's, by name.
type handlers struct {
	mu sync.RWMutex // guards what follows
	m  map[string]RequestHandler
}

// OnRequest registers the handler of requests named name; nil removes it. A node without a handler for a request answers that it has
// none.
func (n *Node) OnRequest(name string, h RequestHandler) error {
	if err := checkName("request", name); err != nil {
		return err
	}
	n.handlers.mu.Lock()
	defer n.handlers.mu.Unlock()
	if n.handlers.m == nil {
		n.handlers.m = make(map[string]RequestHandler)
	}
	if h == nil {
		delete(n.handlers.m, name)
	} else {
		n.handlers.m[name] = h
	}
	return nil
}

// Servers is whom a request is for: peers, never this node itself. It is a small value that may be kept and used concurrently.
type Servers struct {
	ns    *Namespace
	ids   []NodeID // nil: all
	rooms []string // nil: whether or not they have members
}

// Servers targets the given peers; without IDs, all.
func (ns *Namespace) Servers(ids ...NodeID) Servers {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return Servers{ns: ns, ids: slices.Compact(ids)}
}

// With limits the target to the peers that have a socket in at least one of rooms.
func (s Servers) With(rooms ...string) Servers {
	s.rooms = with(s.rooms, rooms)
	return s
}

// Response is one peer's answer to a request.
type Response struct {
	Node    NodeID
	Payload Payload
}

// Tell sends a request and asks for no answer. It returns as [BoundTarget.Emit] does.
func (s Servers) Tell(ctx context.Context, name string, payload any) error {
	in, err := s.instruction(name, payload)
	if err != nil {
		return err
	}
	n := s.ns.node
	switch {
	case n.state.Load() == nodeClosed:
		return ErrClosed
	case n.adapter == nil:
		return nil
	case len(s.ids) == 0:
		return n.publish(ctx, in)
	}
	for _, id := range s.ids {
		one := *in
		one.To = id
		if err := n.publish(ctx, &one); err != nil {
			return err
		}
	}
	return nil
}

// Ask sends a request and collects the answers of the peers that were asked and have a handler for it. Those whose handler failed, or
// that have none, or did not answer in time are in the [*IncompleteError]. The deadline is ctx's, or 5 s. Asking a peer that is
// not known is an error of that kind at once.
func (s Servers) Ask(ctx context.Context, name string, payload any) *Answers[Response] {
	n := s.ns.node
	in, err := s.instruction(name, payload)
	if err != nil {
		return responses(n.failedAsk(err))
	}
	if len(s.ids) == 0 {
		return responses(n.ask(ctx, in, nil, nil))
	}
	q := n.ask(ctx, in, nil, s.ids)
	q.strangers(s.ids)
	return responses(q)
}

func responses(q *ask) *Answers[Response] {
	return &Answers[Response]{q, func(from NodeID, a *Answer) []Response {
		if !a.Handled || a.Err != "" {
			return nil
		}
		return []Response{{from, a.Payload}}
	}}
}

var errUnknownNode = errors.New("crosscast: no such node")

// strangers fails the nodes among ids that were not asked because nobody knows them.
func (q *ask) strangers(ids []NodeID) {
	known := make(map[NodeID]bool)
	q.n.peers.with(func(all []NodeID) {
		for _, id := range all {
			known[id] = true
		}
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if _, waiting := q.waiting[id]; !waiting && !known[id] && q.failure == nil {
			q.fail(id, errUnknownNode)
		}
	}
}

func (s *Servers) instruction(name string, payload any) (*Instruction, error) {
	if err := checkName("request", name); err != nil {
		return nil, err
	}
	if err := checkNames("room", s.rooms); err != nil {
		return nil, err
	}
	if len(s.rooms) > MaxNames {
		return nil, &LimitError{What: "rooms", Len: len(s.rooms), Max: MaxNames}
	}
	n := s.ns.node
	p, err := n.payload(payload)
	if err != nil {
		return nil, err
	}
	return &Instruction{
		Kind: KindRequest, Namespace: s.ns.name, From: n.id, Event: name, Payload: p,
		Target: Target{Everyone: len(s.rooms) == 0, Rooms: s.rooms},
	}, nil
}

// requested answers a peer's request.
func (n *Node) requested(in *Instruction) {
	r := &Request{From: in.From, Name: in.Event, Payload: Payload{in.Payload.Encoding, append([]byte(nil), in.Payload.Data...)}}
	n.handlers.mu.RLock()
	h := n.handlers.m[in.Event]
	n.handlers.mu.RUnlock()
	reply := &answerer{n: n, to: in.From, ref: in.Ref}
	switch {
	case !in.Target.Everyone && !n.hasMember(in.Namespace, in.Target.Rooms):
		n.tryAnswer(reply, &Answer{Last: true})
	case h == nil:
		n.tryAnswer(reply, &Answer{Last: true, Err: fmt.Sprintf("no handler for %q", in.Event)})
	default:
		n.work(in, func(ctx context.Context, w *answerer) {
			a := n.handle(ctx, h, r)
			if w.ref != "" {
				n.sendOrLog(ctx, w, a)
			}
		})
	}
}

// handle calls h, which is the application's.
func (n *Node) handle(ctx context.Context, h RequestHandler, r *Request) (a *Answer) {
	a = &Answer{Last: true}
	defer func() {
		if v := recover(); v != nil {
			n.log.Error("crosscast: a request handler panicked", "request", r.Name, "panic", v, "stack", string(debug.Stack()))
			a = &Answer{Last: true, Err: "the handler panicked"}
		}
	}()
	v, err := h(ctx, r)
	if err == nil {
		a.Payload, err = n.payload(v)
	}
	if err != nil {
		a.Err = truncate(err.Error(), 1024)
		if a.Err == "" {
			a.Err = "failed"
		}
		return a
	}
	a.Handled = true
	return a
}

func truncate(s string, n int) string { return s[:min(len(s), n)] }

func (n *Node) hasMember(namespace string, rooms []string) bool {
	ns := (*n.spaces.Load())[namespace]
	if ns == nil {
		return false
	}
	for _, room := range rooms {
		sh := ns.shardOf(room)
		sh.mu.Lock()
		g := sh.groups[RoomSpace-1][room]
		has := g != nil && len(g.sockets) > 0
		sh.mu.Unlock()
		if has {
			return true
		}
	}
	return false
}
